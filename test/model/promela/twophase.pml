/*
 * Two-phase commit with a replicated coordinator log.
 *
 * Shows P1, P4, P5, P9, and P2 to P8 in part: one transaction, NP participants,
 * one client, a Raft group that is assumed correct and shown only by what it
 * promises: a log of entries that are first appended by the leader of the day and
 * later applied, in order, by a deterministic state machine (fsm). A change of
 * leader keeps an arbitrary prefix of the entries not yet applied, drops the
 * rest, forgets everything the old leader held in memory and appends a barrier.
 *
 * The network is the weakest there is: a message once sent may arrive never,
 * once or often, late, and in any order. It is kept as a set; a message stays in
 * it and can be received again until the network loses it (MAXLOSS times).
 *
 * Safety: nobody commits while another's prepared work was undone; a participant
 * commits once, and only what it prepared; the first decision applied stays; the
 * client is never told the opposite of what a participant did.
 * Liveness (weak fairness): doubt, answer, acked, at the end.
 *
 * Left out: attempts (attempts.pml): an inquiry about an id that the log does not
 * know is answered by a logged abort, a tombstone, which attempts make unneeded.
 *
 * Variants (choose one, default is the plain order of writes):
 *   -DOVERLAP   prepares leave before the begin record is committed
 *   -DNOBEGIN   no begin record at all: the decision is the only write
 * Bounds: -DMAXELEC=n leader changes, -DMAXCRASH=n participant crashes,
 *   -DMAXREP=n late prepares executed again by a participant,
 *   -DMAXLOSS=n messages lost for good (a lost one can be sent again).
 * Switches: -DREACH must fail; -DBUG_P<rule>_... must fail; -DTRACE prints events.
 */
#ifdef TRACE
#define EV(...) printf(__VA_ARGS__);
#else
#define EV(...)
#endif
mtype = { commit, abort };   /* for printing */

#ifndef NP
#define NP 2
#endif
#ifndef MAXELEC
#define MAXELEC 2
#endif
#ifndef MAXCRASH
#define MAXCRASH 2
#endif
#ifndef MAXREP
#define MAXREP 1
#endif
#ifndef MAXLOSS
#define MAXLOSS 1
#endif
#if NP == 2
#define FULL 3
#else
#define FULL 7
#endif
#if defined(OVERLAP) || defined(NOBEGIN)
#define EARLYPREPARE
#endif

mtype = { NONE, BEGUN, CMT, ABT };
mtype = { E_BEGIN, E_COMMIT, E_ABORT, E_FORGET, E_BARRIER };
mtype = { IDLE, WORK, PREP, DONE };

/* replicated state */
mtype fsm = NONE;
chan  rlog = [8] of { mtype };
byte  elec = 0;

/* the leader's memory, lost at each change of leader */
bool ready = true, started = false;
bool pC = false, pA = false, pF = false;

/* the network: bit p is set once such a message was sent to or by p */
byte mPrep, mOldPrep, mYes, mNo, mCmt, mAbt, mAck, mInq;
bool req = false;
mtype told = NONE;
bool forgot = false;          /* the outcome is known to all and no longer kept */

/* participants */
mtype pst[NP] = IDLE;
byte  ncm[NP], execs[NP];
byte  cm, rb;                 /* who committed, whose prepared work was undone */
byte  crashes = 0;
mtype dec = NONE;             /* ghost: the first decision ever applied */
#ifdef BUG_P6_TOMBSTONE_DROPPED
bit regrown = 0;
#endif
#ifdef BUG_P7_STALE_READ
bool  stale = false;
mtype staleview = NONE;
#endif

#define BIT(p)      (1 << (p))
#define HAS(m,p)    ((m) & BIT(p))
#define UNDECIDED   (fsm == NONE || fsm == BEGUN)
#ifdef BUG_P6_VOTE_COUNTED_TWICE
#define ALLYES      (mYes != 0)
#else
#define ALLYES      (mYes == FULL)
#endif
#ifdef BUG_P8_FORGET_EARLY
#define ACKED       (mAck != 0)
#else
#define ACKED       (mAck == FULL)
#endif

inline apply(e) {
  if
  :: e == E_BEGIN ->
     if :: fsm == NONE && !forgot -> EV("EV apply what=begin\n") fsm = BEGUN :: else fi
  :: e == E_COMMIT ->
     if
#ifdef NOBEGIN
     :: fsm == NONE || fsm == BEGUN ->
#else
     :: fsm == BEGUN ->
#endif
        EV("EV apply what=commit\n")
        assert(dec != ABT); dec = CMT; fsm = CMT
#ifdef BUG_P4_LAST_WINS
     :: fsm == ABT -> EV("EV apply what=commit\n") fsm = CMT
#endif
     :: else
     fi
  :: e == E_ABORT ->
     if
#ifdef BUG_P7_INQUIRY_IS_LOGGED
     :: UNDECIDED ->
#else
     :: UNDECIDED && !forgot ->       /* a forgotten id gets no tombstone */
#endif
        EV("EV apply what=abort\n")
        assert(dec != CMT); dec = ABT; fsm = ABT
     :: else
     fi
  :: e == E_FORGET -> EV("EV apply what=forget\n") fsm = NONE; started = false; forgot = true
  :: e == E_BARRIER -> ready = true
  fi
}

active proctype Raft() {
  mtype e; byte n; bool keep;
end:
  do
  :: atomic { nempty(rlog) -> rlog?e; apply(e); e = 0 }
  :: atomic { elec < MAXELEC -> elec++;
       n = len(rlog); keep = true;
       do
       :: n > 0 -> rlog?e; n--;
          if :: keep -> if :: rlog!e :: keep = false fi :: else fi
       :: n == 0 -> break
       od;
       EV("EV elect term=%d kept=%d\n", elec, len(rlog))
#ifdef BUG_P7_STALE_READ
       stale = true; staleview = fsm;
#endif
#ifdef BUG_P10_ERROR_IS_ABORT
       /* the old leader takes the failed write of its commit for an abort */
       if :: pC && told == NONE -> EV("EV tell outcome=abort\n") told = ABT; req = false :: else fi;
#endif
       started = false; pC = false; pA = false; pF = false;
       mOldPrep = mOldPrep | mPrep; mPrep = 0; mYes = 0; mNo = 0;
       ready = false; rlog!E_BARRIER; e = 0; keep = false
     }
  od
}

active proctype Leader() {
  byte p;
end:
  do
  /* a client's request, first time or repeated at a new leader */
  :: atomic { ready && req && !started && fsm == NONE && told == NONE && !forgot ->
       EV("EV submit\n")
       started = true;
#ifndef NOBEGIN
       rlog!E_BEGIN;
#endif
#ifdef EARLYPREPARE
       mPrep = FULL
#endif
     }
  /* begun: send the prepares, again if lost; a new leader does so and resumes */
#ifdef BUG_P9_NO_RESUME
  :: atomic { ready && fsm == BEGUN && started && mPrep != FULL -> mPrep = FULL }
#else
  :: atomic { ready && fsm == BEGUN && mPrep != FULL -> started = true; mPrep = FULL }
#endif
#ifdef EARLYPREPARE
  :: atomic { ready && started && fsm == NONE && !forgot && mPrep != FULL -> mPrep = FULL }
#endif
  /* all voted yes: ask the log for commit */
  :: atomic { ready && started && UNDECIDED && !pC && ALLYES ->
       EV("EV propose what=commit\n")
       pC = true; rlog!E_COMMIT;
#ifdef BUG_P1_EARLY_SEND
       EV("EV sends what=commit\n") mCmt = FULL;
#endif
#ifdef BUG_P1_EARLY_REPLY
       EV("EV tell outcome=commit\n") told = CMT; req = false;
#endif
     }
  /* a no, a timeout or an operator: ask the log for abort, even beside a commit */
  :: atomic { ready && started && UNDECIDED && !pA -> EV("EV propose what=abort\n") pA = true; rlog!E_ABORT }
#ifdef BUG_P4_ABORT_UNLOGGED
  /* a new leader aborts an in-doubt transaction without writing it down */
  :: atomic { fsm == BEGUN && !started && elec > 0 && mAbt != FULL -> EV("EV sends what=rollback\n") mAbt = FULL }
#endif
  /* an inquiry about a transaction the log does not know */
#ifdef BUG_P2_GUESSED_ABORT
  :: atomic { ready && mInq && !started && fsm == NONE && (mAbt & mInq) != mInq ->
       EV("EV answer outcome=abort\n") mAbt = mAbt | mInq }
#else
#ifdef BUG_P7_INQUIRY_IS_LOGGED
  :: atomic { ready && mInq && fsm == NONE && !pA -> EV("EV propose what=abort\n") pA = true; rlog!E_ABORT }
#else
  :: atomic { ready && mInq && fsm == NONE && !pA && !forgot -> EV("EV propose what=abort\n") pA = true; rlog!E_ABORT }
#endif
#endif
#ifdef BUG_P7_STALE_READ
  /* a deposed leader answers from its own copy */
  :: atomic { stale && mInq && staleview != CMT && staleview != ABT &&
       (mAbt & mInq) != mInq -> EV("EV answer outcome=abort deposed=1\n") mAbt = mAbt | mInq }
#endif
  /* what the log decided is told to all, by whoever has applied it */
  :: atomic { fsm == CMT && mCmt != FULL -> mCmt = FULL }
  :: atomic { fsm == ABT && mAbt != FULL -> mAbt = FULL }
  :: atomic { fsm == CMT && told == NONE -> EV("EV tell outcome=commit\n") told = CMT; req = false }
  :: atomic { fsm == ABT && told == NONE -> EV("EV tell outcome=abort\n") told = ABT; req = false }
  /* forget a commit once every participant has acknowledged it */
  :: atomic { ready && fsm == CMT && ACKED && told != NONE && !pF ->
       pF = true; rlog!E_FORGET }
#ifdef BUG_P6_TOMBSTONE_DROPPED
  /* a tombstone is dropped while an old prepare may still be under way */
  :: atomic { fsm == ABT && regrown == 0 -> EV("EV drops what=tombstone\n") regrown = 1; fsm = NONE; dec = NONE;
       started = false; pA = false; pC = false; mYes = 0;
       mOldPrep = mOldPrep | mPrep; mPrep = 0; told = NONE; req = true }
#endif
  od
}

/* loses any one message that is under way */
#define LOSE(m,b) :: atomic { lost < MAXLOSS && (m & b) -> EV("EV lose\n") m = m - b; lost++ }
#define LOSEANY(b) LOSE(mPrep,b) LOSE(mYes,b) LOSE(mCmt,b) LOSE(mAbt,b) LOSE(mAck,b) LOSE(mInq,b)
byte lost = 0;
active proctype Network() {
end:
  do
  LOSEANY(1)
  LOSEANY(2)
#if NP == 3
  LOSEANY(4)
#endif
  od
}

/* asks once, and may die before it is answered */
bool gone = false;
active proctype Client() {
  atomic { req = true };
  if :: atomic { told == NONE -> EV("EV gone\n") gone = true; req = false }
     :: true
  fi
}

inline commitHere(p) {
  EV("EV commit p=%d\n", p)
#ifdef REACH
  assert(!(cm == FULL - BIT(p) && elec == MAXELEC && crashes == MAXCRASH));
#endif
  pst[p] = DONE; ncm[p]++; cm = cm | BIT(p);
  assert(rb == 0);                     /* nobody's prepared work was undone */
  assert(ncm[p] == 1);                 /* it is done once */
  assert(told != ABT)                  /* and the client was not told otherwise */
}
inline rollbackHere(p) {
  EV("EV rollback p=%d\n", p)
  pst[p] = IDLE; rb = rb | BIT(p);
  assert(cm == 0);                     /* nobody committed */
  assert(told != CMT)                  /* and the client was not told so */
}

proctype Part(byte p) {
end:
  do
  :: atomic { pst[p] == IDLE && execs[p] < 1 + MAXREP && (HAS(mPrep,p) || HAS(mOldPrep,p)) -> EV("EV execute p=%d\n", p) execs[p]++; pst[p] = WORK }
#ifdef BUG_P6_COMMIT_NOT_REMEMBERED
  /* the record of a finished commit is not kept */
  :: atomic { pst[p] == DONE && execs[p] < 1 + MAXREP && (HAS(mPrep,p) || HAS(mOldPrep,p)) -> EV("EV execute p=%d\n", p) execs[p]++; pst[p] = WORK }
#endif
#ifdef BUG_P5_VOTE_BEFORE_SYNC
  :: atomic { pst[p] == WORK && HAS(mPrep,p) && !HAS(mYes,p) -> EV("EV vote p=%d\n", p) mYes = mYes | BIT(p) }
#endif
  :: atomic { pst[p] == WORK -> EV("EV prepared p=%d\n", p) pst[p] = PREP; rb = rb & (FULL - BIT(p)) }   /* fsync */
#ifdef BUG_P5_VOTE_BEFORE_SYNC
  :: atomic { pst[p] == WORK && !HAS(mYes,p) -> EV("EV refuse p=%d\n", p) pst[p] = IDLE; mNo = mNo | BIT(p) }
#else
  :: atomic { pst[p] == WORK -> EV("EV refuse p=%d\n", p) pst[p] = IDLE; mNo = mNo | BIT(p) }          /* refuse */
#endif
  :: atomic { pst[p] == WORK && crashes < MAXCRASH -> EV("EV crash p=%d\n", p) crashes++; pst[p] = IDLE }
  :: atomic { pst[p] == PREP && HAS(mPrep,p) && !HAS(mYes,p) -> EV("EV vote p=%d\n", p) mYes = mYes | BIT(p) }
#ifndef BUG_P7_NO_INQUIRY
  :: atomic { pst[p] == PREP && !HAS(mInq,p) -> EV("EV asks p=%d\n", p) mInq = mInq | BIT(p) }
#endif
  :: atomic { pst[p] == PREP && HAS(mCmt,p) -> commitHere(p) }
  :: atomic { pst[p] == PREP && HAS(mAbt,p) -> rollbackHere(p) }
#ifdef BUG_P5_DECIDES_ALONE
  /* tired of waiting, it decides alone */
  :: atomic { pst[p] == PREP -> rollbackHere(p) }
#endif
  :: atomic { pst[p] == DONE && !HAS(mAck,p) -> EV("EV ack p=%d\n", p) mAck = mAck | BIT(p) }
  /* told to commit what it never prepared or no longer has: lost work */
  :: atomic { pst[p] == IDLE && HAS(mCmt,p) -> EV("EV lost p=%d\n", p) assert(false) }
  od
}

init { atomic { run Part(0); run Part(1);
#if NP == 3
  run Part(2)
#endif
} }

/* a participant in doubt does not stay so */
ltl doubt  { [] ((pst[0] == PREP) -> <> (pst[0] != PREP)) }
/* a client that waits gets an answer */
ltl answer { <> (told != NONE || gone) }
/* a client that was told commit will see it everywhere */
#if NP == 3
ltl acked  { [] ((told == CMT) -> <> (pst[0] == DONE && pst[1] == DONE && pst[2] == DONE)) }
#else
ltl acked  { [] ((told == CMT) -> <> (pst[0] == DONE && pst[1] == DONE)) }
#endif
