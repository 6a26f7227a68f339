/*
 * Read-only votes, and votes over leader changes.
 *
 * Shows P9: a vote counts only in the term that asked, Decide carries the votes,
 * READ_ONLY branches get no phase 2 and owe no acknowledgement; and the row of
 * P7 for them: a late Prepare may leave something behind at a participant whose
 * counted vote was READ_ONLY, and an inquiry about it is answered ABORT. One
 * transaction that began, two participants. A Prepare that is run again may end
 * otherwise than before, as long as nothing is held: PREPARED or READ_ONLY. The
 * only vote ABORTED is that of a call that broke because its leader was lost.
 *
 * Safety: what was voted READ_ONLY never commits; what was counted as PREPARED is
 * never rolled back when the others commit; a Commit finds its branch; no leader
 * change makes an abort. Liveness (weak fairness): `finishes`.
 *
 * Left out: Begin and attempts (attempts.pml), crashes (a branch is durable or
 * was never there), Forget. -DLATE has it, and a Prepare that comes after it at a
 * participant that has not heard of the floor: such a branch is FORGOTTEN. So a
 * READ_ONLY voter leans on the retention being longer than a Prepare lives.
 *
 * -DLIVE: for `finishes`; a vote READ_ONLY that was overtaken is not counted.
 * Bounds: -DMAXELEC=n leader changes, -DMAXREP=n Prepares run again a participant.
 */
#ifdef TRACE
#define EV(...) printf(__VA_ARGS__);
#else
#define EV(...)
#endif
#ifndef MAXELEC
#define MAXELEC 2
#endif
#ifndef MAXREP
#define MAXREP 2
#endif
mtype = { none, prepared, readonly, aborted, commit, abort };

#define BEGUN 0
#define CMT   1
#define ABT   2
#define FIN   3
#define GONE  4
#define IDLE  0
#define PREP  1
#define DONE  2
#define BACK  3       /* rolled back, or a tombstone */
#define BIT(a)   (1 << (a))
#define HAS(m,a) (((m) >> (a)) & 1)

byte rst = BEGUN, ro = 0;                       /* the record; who voted READ_ONLY, as Decide carried it */
bool committed = false;                         /* ghosts: it was a commit, with these READ_ONLY votes */
byte counted = 0;
chan rlog = [4] of { byte };                    /* 0..3 commit with those READ_ONLY, 4 abort, 5 finish, 8 + term barrier */
byte elec = 0;

bool ready = true, prop = false;                /* the leader's memory */
mtype got[2] = none;

byte asked = 0, vY[2], vR[2], vN[2];            /* the network: bit t is set once it was sent in term t */
byte mCmt = 0, mAbt = 0, ack = 0;               /* bit p */

byte pst[2] = IDLE, execs[2];

#ifdef BUG_P9_VOTE_OF_OLD_TERM
#define ASKEDNOW(v) ((v) != 0)
#else
#define ASKEDNOW(v) HAS(v,elec)
#endif
#define YES(p)  (got[p] == prepared || got[p] == readonly)
#define ROMASK  ((got[0] == readonly -> 1 : 0) + (got[1] == readonly -> 2 : 0))
#ifdef BUG_P9_READ_ONLY_OWES
#define OWED 3
#else
#define OWED (rst == ABT -> 3 : 3 - ro)
#endif

inline apply(e) {
  if
  :: e < 4 && rst == BEGUN ->
     EV("EV apply what=commit readonly=%d\n", e)
     rst = CMT; committed = true; counted = e;
#ifdef BUG_P9_VOTES_NOT_IN_DECIDE
     ro = (ready -> e : 0)              /* only the leader that counted them knows */
#else
     ro = e
#endif
  :: e == 4 && rst == BEGUN -> EV("EV apply what=abort\n") rst = ABT; assert(false)   /* failover aborts nothing */
  :: e == 5 && (rst == CMT || rst == ABT) -> EV("EV apply what=finish\n") rst = FIN
  :: e >= 8 -> EV("EV apply what=barrier term=%d\n", e - 8) if :: e == 8 + elec -> ready = true :: else fi
  :: else
  fi;
  if :: e < 8 -> prop = false :: else fi
}

#ifdef LIVE   /* votes do not overtake each other for ever */
#define MAYCOUNT(p) (got[p] == none)
#else
#define MAYCOUNT(p) (got[p] != readonly)
#endif
#define LEADER(p) \
  :: atomic { ready && rst == BEGUN && !prop && got[p] != prepared && ASKEDNOW(vY[p]) -> EV("EV counts p=%d vote=prepared\n", p) got[p] = prepared } \
  :: atomic { ready && rst == BEGUN && !prop && MAYCOUNT(p) && ASKEDNOW(vR[p]) -> EV("EV counts p=%d vote=readonly\n", p) got[p] = readonly } \
  :: atomic { ready && rst == BEGUN && !prop && got[p] != aborted && ASKEDNOW(vN[p]) -> EV("EV counts p=%d vote=aborted\n", p) got[p] = aborted } \
  :: atomic { rst == CMT && !HAS(ro,p) && !HAS(mCmt,p) -> mCmt = mCmt | BIT(p) } \
  :: atomic { rst == ABT && !HAS(mAbt,p) -> mAbt = mAbt | BIT(p) } \
  :: atomic { ready && rst == CMT && pst[p] == PREP && HAS(ro,p) && !HAS(ANSWER,p) -> EV("EV answer p=%d outcome=%e\n", p, (TOCOMMIT -> commit : abort)) ANSWER = ANSWER | BIT(p) } \
  :: atomic { rst == FIN && committed && pst[p] == PREP && HAS(ro,p) && !HAS(ANSWER,p) -> EV("EV answer p=%d outcome=%e\n", p, (TOCOMMIT -> commit : abort)) ANSWER = ANSWER | BIT(p) }
#ifdef BUG_P9_READ_ONLY_TOLD_COMMIT
#define ANSWER mCmt
#define TOCOMMIT true
#else
#define ANSWER mAbt
#define TOCOMMIT false
#endif

active proctype Cluster() {
  byte e, n; bool keep;
end:
  do
  :: atomic { nempty(rlog) -> rlog?e; apply(e); e = 0 }
  :: atomic { elec < MAXELEC ->
       elec++; n = len(rlog); keep = true;
       do
       :: n > 0 -> rlog?e; n--;
          if :: keep -> if :: rlog!e :: keep = false fi :: else fi
       :: n == 0 -> break
       od;
       EV("EV elect term=%d kept=%d\n", elec, len(rlog))
#ifdef BUG_P9_VOTES_NOT_IN_DECIDE
       ro = 0;
#endif
       got[0] = none; got[1] = none; prop = false; ready = false; rlog!8 + elec; e = 0; keep = false }
#ifdef BUG_P9_NO_RESUME
  :: atomic { ready && rst == BEGUN && elec == 0 && !HAS(asked,elec) -> asked = asked | BIT(elec) }
#else
  :: atomic { ready && rst == BEGUN && !HAS(asked,elec) -> EV("EV prepare term=%d\n", elec) asked = asked | BIT(elec) }
#endif
  :: atomic { ready && rst == BEGUN && !prop && YES(0) && YES(1) -> prop = true; rlog!ROMASK }
  :: atomic { ready && rst == BEGUN && !prop && (got[0] == aborted || got[1] == aborted) -> prop = true; rlog!4 }
  LEADER(0)
  LEADER(1)
  :: atomic { ready && (rst == CMT || rst == ABT) && !prop && (ack & OWED) == OWED -> prop = true; rlog!5 }
#ifdef LATE
  :: atomic { rst == FIN -> EV("EV forget\n") rst = GONE }
#endif
  od
}

#define RUNS (asked != 0 && execs[p] < 1 + MAXREP && pst[p] == IDLE)
#define PREPARE(t) \
  :: atomic { HAS(asked,t) && RUNS -> execs[p]++; \
       if \
       :: EV("EV prepared p=%d term=%d\n", p, t) pst[p] = PREP; vY[p] = vY[p] | BIT(t) \
       :: EV("EV readonly p=%d term=%d\n", p, t) vR[p] = vR[p] | BIT(t) \
       :: t < elec -> EV("EV aborted p=%d term=%d\n", p, t) vN[p] = vN[p] | BIT(t) \
       fi } \
  :: atomic { HAS(asked,t) && pst[p] == PREP && !HAS(vY[p],t) -> EV("EV repeats p=%d term=%d\n", p, t) vY[p] = vY[p] | BIT(t) }

proctype Part(byte p) {
end:
  do
  PREPARE(0)
  PREPARE(1)
#if MAXELEC > 1
  PREPARE(2)
#endif
  /* every try before this one got no vote through: the work is done once more */
  :: atomic { HAS(asked,elec) && rst == BEGUN && execs[p] == 1 + MAXREP && pst[p] == IDLE && !HAS(vY[p] | vR[p],elec) -> \
       EV("EV readonly p=%d term=%d\n", p, elec) vR[p] = vR[p] | BIT(elec) }
  :: atomic { pst[p] == PREP && HAS(mCmt,p) ->
       EV("EV commit p=%d\n", p)
       assert(committed && !HAS(counted,p));         /* not what was voted READ_ONLY */
       pst[p] = DONE }
  :: atomic { pst[p] == PREP && HAS(mAbt,p) ->
       EV("EV rollback p=%d\n", p)
       assert(!(committed && !HAS(counted,p)));      /* not what the others commit with */
       pst[p] = BACK }
  :: atomic { (pst[p] == IDLE || pst[p] == BACK) && HAS(mCmt,p) -> EV("EV hazard p=%d\n", p) assert(false) }
  :: atomic { pst[p] == IDLE && HAS(mAbt,p) -> EV("EV tombstone p=%d\n", p) pst[p] = BACK }
  :: atomic { (pst[p] == DONE || pst[p] == BACK) && !HAS(ack,p) -> ack = ack | BIT(p) }
  :: atomic { rst == GONE && pst[p] == PREP && !HAS(mCmt | mAbt,p) -> EV("EV forgotten p=%d\n", p) assert(false) }
#ifdef REACH
  :: atomic { elec == MAXELEC && rst == FIN && pst[p] == BACK && pst[1-p] == DONE && execs[p] == 1 + MAXREP -> assert(false) }
#endif
  od
}

init { atomic { run Part(0); run Part(1) } }

ltl finishes { [] (rst != FIN -> <> (rst == FIN)) }
