/*
 * Attempts: two-phase commit in which an id may be begun many times.
 *
 * Shows P2 (overlapped order, pipelined Decide), P3, P6, P7, P9 for one client
 * id, submitted again by a retry and, once forgotten, by a second life with the
 * same or another digest. Each Begin has an attempt, made by the leader of its
 * term: unique, ordered by (term, order of making). There are no tombstones in
 * the log: what is never forgotten is the set of begun attempts.
 *
 * Raft is shown by its promise only, as in twophase.pml. The network is a set
 * of true statements that only grows, so anything sent may arrive never, once,
 * often, late, in any order, at either participant. What the cluster once said
 * of an attempt is saidC or saidA, decision and messages in one.
 *
 * Every step changes the state for good, so no run is endless: "eventually"
 * is checked in the states where a run stops (-DLIVE, see Final).
 *
 * Left out: read-only votes, the floor, locks, more ids than one (models of
 * their own); votes are kept across terms; Finish and Forget are one step; one
 * deposed leader at a time.
 *
 * Bounds: -DMAXATT=n attempts, -DMAXELEC=n leader changes, -DMAXCRASH=n crashes,
 * -DMAXLATE=n proposals made late by a forgotten worker, in whatever term.
 * Switches: -DCALM nobody votes no, no deadline, client lives: it is never told
 * abort; -DLIVE; -DREACH_... must fail; -DBUG_P<rule>_... must fail;
 * -DTRACE prints events, one a line (README.md); -DWALK is for random walks.
 */
#ifdef TRACE
#define EV(...) printf(__VA_ARGS__);
#else
#define EV(...)
#endif
#ifdef WALK   /* a random walk shall not lose its client and its leaders at once */
#define OFTEN (natt > elec + gone)
#else
#define OFTEN true
#endif
mtype = { begin, commit, abort, forget, barrier };   /* for printing */

#ifndef MAXATT
#define MAXATT 3
#endif
#ifndef MAXELEC
#define MAXELEC 2
#endif
#ifndef MAXCRASH
#define MAXCRASH 1
#endif
#ifndef MAXLATE
#define MAXLATE 1
#endif

#define NONE  0
#define BEGUN 1
#define CMT   2
#define ABT   3
#define IDLE  0
#define WORK  1
#define PREP  2

#define E_BEGIN   0
#define E_COMMIT  16
#define E_ABORT   32
#define E_FORGET  48
#define E_BARRIER 64
#define ENTRY(k,a) ((k) + 4*(a) + elec)    /* kind, attempt, term of the entry */

#define BIT(a)    (1 << (a))
#define HAS(m,a)  (((m) >> (a)) & 1)
#define LIFE(a)   HAS(alife,a)
#define DIG(a)    HAS(adig,a)
/* attempt a is newer than attempt m-1; m = 0 is none */
#define NEWER(a,m) ((m) == 0 || aterm[a] > aterm[(m)-1] || (aterm[a] == aterm[(m)-1] && (a) > (m)-1))

/* attempts made so far */
byte natt = 0, aterm[MAXATT + 1], alife = 0, adig = 0;

/* replicated state: the record of the id, the begun set */
byte rst = NONE, ratt = 0, begun = 0;
chan rlog = [10] of { byte };
byte elec = 0;                          /* the term */

/* the leader's memory */
bool ready = true, pC = false, pA = false, pF = false;
byte pend = 0;                          /* its Begin of unknown fate, + 1 */

/* a deposed leader that does not know it yet: its copy, its term */
bool st = false;
byte sterm, sbegun, srst, sratt, spend;

/* the network */
byte mPrep = 0, saidC = 0, saidA = 0, mNo = 0;

/* client */
byte life = 0, told[2];
bool gone = false, forgot = false;
#define ASKS (told[life] == NONE && !gone)

/* participants, durable but for WORK */
byte pst[2], patt[2], pmax[2], cm[2], cml[2], yes[2], ack[2];
byte crashes = 0, late = 0;
#ifdef BUG_P6_TAKEOVER_VOLATILE
byte datt[2];
#endif
bool quiet = false;                     /* the faults have ended */

#define ALLYES(a) (HAS(yes[0],a) && HAS(yes[1],a))
#define ALLACK(a) (HAS(ack[0],a) && HAS(ack[1],a))

inline sayC(x) { assert(!HAS(saidA,x)); saidC = saidC | BIT(x) }
inline sayA(x) { assert(!HAS(saidC,x)); saidA = saidA | BIT(x) }

#ifdef BUG_P2_DECIDE_OTHER
#define MATCH(a) (rst == BEGUN)
#else
#define MATCH(a) (rst == BEGUN && ratt == (a))
#endif

#ifdef BUG_P3_LATE_BEGIN
#define TERMOK true
#else
#define TERMOK (e % 4 == aterm[a])
#endif
#ifdef BUG_P3_BEGIN_TWICE
#define FIRST(a) true
#else
#define FIRST(a) (!HAS(begun,a))
#endif
inline apply(e) {
  a = (e / 4) % 4;
  if
  :: e / 16 == 0 ->
     if
     :: rst == NONE && TERMOK && FIRST(a) ->
        EV("EV apply what=begin a=%d ok=1\n", a)
        rst = BEGUN; ratt = a; begun = begun | BIT(a)
     :: else -> EV("EV apply what=begin a=%d ok=0\n", a) skip
     fi;
     if :: pend == a + 1 -> pend = 0 :: else fi
  :: e / 16 == 1 ->
     EV("EV apply what=commit a=%d ok=%d\n", a, MATCH(a))
     if :: MATCH(a) -> rst = CMT; sayC(ratt) :: else fi
  :: e / 16 == 2 ->
     EV("EV apply what=abort a=%d ok=%d\n", a, MATCH(a))
     if :: MATCH(a) -> rst = ABT; sayA(ratt) :: else fi
  :: e / 16 == 3 ->
     EV("EV apply what=forget a=%d ok=%d\n", a, (rst >= CMT && ratt == a))
     if
     :: rst >= CMT && ratt == a ->
        if :: rst == CMT -> assert(HAS(cm[0],a) && HAS(cm[1],a)) :: else fi;
        rst = NONE; ratt = 0; pC = false; pA = false; pF = false; forgot = true;
        ack[0] = ack[0] & (255 - BIT(a)); ack[1] = ack[1] & (255 - BIT(a))
     :: else
     fi
  :: e / 16 == 4 ->
     EV("EV apply what=barrier term=%d ok=%d\n", e % 4, (e % 4 == elec))
     if :: e % 4 == elec -> ready = true :: else fi
  fi;
  a = 0
}

/* make an attempt for the client's request, of term t */
inline make(t) {
  EV("EV submit a=%d term=%d current=%d life=%d digest=%d\n", natt, t, (t == elec), life, ldig)
  aterm[natt] = t;
  alife = alife | (life << natt);
  adig = adig | (ldig << natt);
  mPrep = mPrep | BIT(natt);
  natt++
}

inline tell(x) {
#ifdef CALM
  assert(x != ABT);
#endif
  EV("EV tell life=%d outcome=%e\n", life, (x == CMT -> commit : abort))
  told[life] = x
}

/* a leader of term t with that copy may say that attempt a is aborted */
#ifdef BUG_P7_PENDING_IS_ABORT
#define NEVER(a,t,bg,pd) (!HAS(bg,a) && aterm[a] <= (t))
#else
#ifdef BUG_P7_HIGHER_TERM
#define NEVER(a,t,bg,pd) (!HAS(bg,a) && (pd) != (a)+1)
#else
#define NEVER(a,t,bg,pd) (!HAS(bg,a) && (aterm[a] < (t) || (aterm[a] == (t) && (pd) != (a)+1)))
#endif
#endif
#ifdef BUG_P7_BEFORE_BARRIER
#define MAYSAY true
#else
#define MAYSAY ready
#endif

#define CUR(a) (pend == (a)+1 || (rst == BEGUN && ratt == (a)))

#ifdef BUG_P3_ANSWER_BY_ID
#define ANSWER_BY_ID(a) \
  :: atomic { natt > a && rst == CMT && ratt != a && !HAS(saidC,a) -> EV("EV answer a=%d deposed=0 outcome=commit\n", a) sayC(a) } \
  :: atomic { natt > a && rst == ABT && ratt != a && !HAS(saidA,a) -> EV("EV answer a=%d deposed=0 outcome=abort\n", a) sayA(a) }
#else
#define ANSWER_BY_ID(a)
#endif
#ifdef CALM
#define MAYABORT(a) HAS(mNo,a)
#else
#define MAYABORT(a) true
#endif

#ifdef BUG_P7_NO_INQUIRY
#define INQUIRY(a)
#else
#define INQUIRY(a) :: atomic { MAYSAY && natt > a && !HAS(saidA,a) && NEVER(a,elec,begun,pend) -> \
  EV("EV answer a=%d deposed=0 outcome=abort\n", a) sayA(a) }
#endif
#define LEADER(a) \
  :: atomic { ready && natt > a && CUR(a) && !pC && ALLYES(a) -> EV("EV propose what=commit a=%d\n", a) pC = true; rlog!ENTRY(E_COMMIT,a) } \
  :: atomic { ready && natt > a && CUR(a) && !pA && MAYABORT(a) -> EV("EV propose what=abort a=%d\n", a) pA = true; rlog!ENTRY(E_ABORT,a) } \
  /* inquiries: never begun, never will be */ \
  INQUIRY(a) \
  :: atomic { !quiet && st && natt > a && !HAS(saidA,a) && NEVER(a,sterm,sbegun,spend) -> \
       EV("EV answer a=%d deposed=1 outcome=abort\n", a) sayA(a) } \
  ANSWER_BY_ID(a) \
  /* a worker of some earlier moment proposes now what it meant to then */ \
  :: atomic { !quiet && late < MAXLATE && natt > a -> EV("EV late what=begin a=%d\n", a) late++; rlog!ENTRY(E_BEGIN,a) } \
  :: atomic { !quiet && late < MAXLATE && natt > a && ALLYES(a) -> EV("EV late what=commit a=%d\n", a) late++; rlog!ENTRY(E_COMMIT,a) } \
  LATEABORT(a)
#ifdef CALM
#define LATEABORT(a)
#else
#define LATEABORT(a) :: atomic { !quiet && late < MAXLATE && natt > a -> EV("EV late what=abort a=%d\n", a) late++; rlog!ENTRY(E_ABORT,a) }
#endif

bit ldig = 0;
active proctype Cluster() {
  byte e, n, a; bool keep;
end:
  do
  :: atomic { nempty(rlog) -> rlog?e; apply(e); e = 0 }
  /* a change of leader; the old one may live on for a while */
  :: atomic { !quiet && elec < MAXELEC && OFTEN ->
       if
       :: ready -> st = true; sterm = elec; sbegun = begun; srst = rst; sratt = ratt; spend = pend
       :: st || !ready
       fi;
       elec++; n = len(rlog); keep = true;
       do
       :: n > 0 -> rlog?e; n--;
          if :: keep -> if :: rlog!e :: keep = false fi :: else fi
       :: n == 0 -> break
       od;
       EV("EV elect term=%d kept=%d\n", elec, len(rlog))
       pend = 0; pC = false; pA = false; pF = false; ready = false;
       rlog!ENTRY(E_BARRIER,0); e = 0; keep = false
     }
  /* a request: Begin and Prepare together */
  :: atomic { ready && ASKS && rst == NONE && pend == 0 && natt < MAXATT ->
       pend = natt + 1; pC = false; pA = false; pF = false;
       n = natt; make(elec); rlog!ENTRY(E_BEGIN,n); n = 0 }
  :: atomic { !quiet && st && ASKS && srst == NONE && spend == 0 && natt < MAXATT ->
       spend = natt + 1; make(sterm) }
#ifdef BUG_P10_LATE_SUBMIT
  /* a request of the first life, delayed until the id was forgotten */
  :: atomic { ready && forgot && life == 0 && rst == NONE && pend == 0 && natt < MAXATT ->
       pend = natt + 1; pC = false; pA = false; pF = false;
       n = natt; make(elec); rlog!ENTRY(E_BEGIN,n); n = 0 }
#endif
  :: atomic { ready && ASKS && rst >= CMT -> assert(LIFE(ratt) == life); tell(rst) }
#ifdef BUG_P7_STALE_CLIENT
  :: atomic { st && ASKS && srst >= CMT -> assert(LIFE(sratt) == life); tell(srst) }
#endif
  :: atomic { ready && rst >= CMT && !pF && ALLACK(ratt) && !ASKS -> EV("EV propose what=forget a=%d\n", ratt) pF = true; rlog!ENTRY(E_FORGET,ratt) }
  LEADER(0)
  LEADER(1)
#if MAXATT > 2
  LEADER(2)
#endif
#if MAXATT > 3
  LEADER(3)
#endif
#ifndef CALM
  :: atomic { ASKS && OFTEN -> EV("EV gone life=%d\n", life) gone = true }
#endif
  /* the id is used again */
  :: atomic { life == 0 && forgot && rst == NONE && pend == 0 && !ASKS ->
       life = 1; gone = false; if :: ldig = 0 :: ldig = 1 fi;
       EV("EV again life=1 digest=%d\n", ldig) skip }
#ifdef LIVE
  :: atomic { !quiet -> EV("EV quiet\n") quiet = true }
#endif
  od
}

inline remember(a) { if :: NEWER(a,pmax[p]) -> pmax[p] = a + 1 :: else fi }
inline refuse(a) {
  EV("EV refuse p=%d a=%d\n", p, a)
  remember(a);
#ifdef CALM
  mNo = mNo | BIT(a)
#endif
}
inline commitHere() {
  EV("EV commit p=%d a=%d\n", p, patt[p])
  assert(HAS(begun,patt[p]));
  assert(!HAS(cml[p],LIFE(patt[p])));           /* once a life */
  assert(told[LIFE(patt[p])] != ABT);
  assert(!HAS(rolled,patt[p]));
#ifdef REACH_LIFE2
  assert(!(LIFE(patt[p]) == 1 && elec == MAXELEC && crashes == MAXCRASH && cml[0] + cml[1] == 4));
#endif
  cm[p] = cm[p] | BIT(patt[p]); cml[p] = cml[p] | BIT(LIFE(patt[p]));
  remember(patt[p]); pst[p] = IDLE; patt[p] = 0
}
inline rollbackHere() {
  EV("EV rollback p=%d a=%d\n", p, patt[p])
  assert(!HAS(cm[0] | cm[1],patt[p]));
  rolled = rolled | BIT(patt[p]);
#ifdef BUG_P6_ROLLBACK_NOT_REMEMBERED
  rolled = 0;
#else
  remember(patt[p]);
#endif
  pst[p] = IDLE; patt[p] = 0
}
byte rolled = 0;

#ifdef BUG_P6_OLD_PREPARE
#define OLDER_OK(a) true
#else
#define OLDER_OK(a) NEWER(a,pmax[p])
#endif
#ifdef BUG_P3_SETTLE_BY_ID
#define ABORTED_FOR saidA
#else
#define ABORTED_FOR HAS(saidA,patt[p])
#endif
#ifdef BUG_P5_ACK_BEFORE_SYNC
#define ACKC(a) (HAS(saidC,a))
#else
#define ACKC(a) HAS(cm[p],a)
#endif

#ifdef BUG_P6_NO_TAKEOVER
#define SAMEWORK(a) false
#else
#define SAMEWORK(a) (DIG(a) == DIG(patt[p]))
#endif
#ifdef CALM
/* a Prepare that comes too late gets a vote against it (which matters while it is current) */
#define TOOLATE(a) \
  :: atomic { natt > a && CUR(a) && HAS(mPrep,a) && !HAS(mNo,a) && !HAS(cm[p],a) && !(pst[p] != IDLE && patt[p] == a) && \
       (!NEWER(a,pmax[p]) || (pst[p] == PREP && !NEWER(a,patt[p]+1))) -> EV("EV toolate p=%d a=%d\n", p, a) mNo = mNo | BIT(a) }
#else
#define TOOLATE(a)
#endif

#define PART(a) \
  TOOLATE(a) \
  :: atomic { pst[p] == IDLE && HAS(mPrep,a) && !HAS(cm[p],a) && OLDER_OK(a) -> EV("EV execute p=%d a=%d\n", p, a) pst[p] = WORK; patt[p] = a } \
  /* an older branch meets a newer attempt */ \
  :: atomic { pst[p] == PREP && HAS(mPrep,a) && NEWER(a,patt[p]+1) && NEWER(a,pmax[p]) -> \
       if :: SAMEWORK(a) -> EV("EV takeover p=%d a=%d from=%d\n", p, a, patt[p]) patt[p] = a :: else -> refuse(a) fi } \
  /* a rollback or an answer for what is not here */ \
  :: atomic { pst[p] == IDLE && HAS(saidA,a) && NEWER(a,pmax[p]) -> EV("EV tombstone p=%d a=%d\n", p, a) remember(a) } \
  :: atomic { HAS(saidC,a) && !HAS(cm[p],a) && !(pst[p] == PREP && patt[p] == a) -> \
       EV("EV lost p=%d a=%d\n", p, a) assert(false) } \
  /* acknowledgements matter only while the record is there */ \
  :: atomic { rst == CMT && ratt == a && ACKC(a) && !HAS(ack[p],a) -> EV("EV ack p=%d a=%d\n", p, a) ack[p] = ack[p] | BIT(a) } \
  ACKA(a)
#ifdef BUG_P6_ROLLBACK_NOT_REMEMBERED
#define ACKA(a) :: atomic { rst == ABT && ratt == a && !(pst[p] != IDLE && patt[p] == a) && !HAS(ack[p],a) -> EV("EV ack p=%d a=%d\n", p, a) ack[p] = ack[p] | BIT(a) }
#else
#define ACKA(a) :: atomic { rst == ABT && ratt == a && !NEWER(a,pmax[p]) && !(pst[p] != IDLE && patt[p] == a) && !HAS(ack[p],a) -> EV("EV ack p=%d a=%d\n", p, a) ack[p] = ack[p] | BIT(a) }
#endif

proctype Part(byte p) {
end:
  do
  PART(0)
  PART(1)
#if MAXATT > 2
  PART(2)
#endif
#if MAXATT > 3
  PART(3)
#endif
  :: atomic { pst[p] == WORK -> EV("EV prepared p=%d a=%d\n", p, patt[p]) pst[p] = PREP;   /* sync */
#ifdef BUG_P6_TAKEOVER_VOLATILE
       datt[p] = patt[p]
#endif
     }
#ifndef CALM
  :: atomic { pst[p] == WORK -> refuse(patt[p]); pst[p] = IDLE; patt[p] = 0 }
#endif
  :: atomic { !quiet && pst[p] == WORK && crashes < MAXCRASH -> EV("EV crash p=%d a=%d\n", p, patt[p]) crashes++; pst[p] = IDLE; patt[p] = 0 }
#ifdef BUG_P6_TAKEOVER_VOLATILE
  :: atomic { pst[p] == PREP && patt[p] != datt[p] && crashes < MAXCRASH -> EV("EV crash p=%d a=%d\n", p, patt[p]) crashes++; patt[p] = datt[p] }
#endif
  :: atomic { pst[p] == PREP && !HAS(yes[p],patt[p]) -> EV("EV vote p=%d a=%d\n", p, patt[p]) yes[p] = yes[p] | BIT(patt[p]) }
  :: atomic { pst[p] == PREP && HAS(saidC,patt[p]) -> commitHere() }
  :: atomic { pst[p] == PREP && ABORTED_FOR -> rollbackHere() }
  /* an inquiry that would be answered FORGOTTEN */
  :: atomic { pst[p] == PREP && HAS(begun,patt[p]) && !(rst != NONE && ratt == patt[p]) -> EV("EV forgotten p=%d a=%d\n", p, patt[p]) assert(false) }
#ifdef REACH_TAKEOVER
  :: atomic { HAS(cm[p],1) && HAS(yes[p],0) && HAS(yes[1-p],0) && adig == 0 && alife == 0 -> assert(false) }
#endif
  od
}

#ifdef LIVE
/* the faults have ended and nothing more can happen */
active proctype Final() {
end:
  timeout -> atomic {
    assert(pst[0] == IDLE && pst[1] == IDLE);            /* every branch is settled */
    assert(rst == NONE && pend == 0);                    /* every record forgotten */
    assert(told[0] != CMT || (HAS(cml[0],0) && HAS(cml[1],0)));
    assert(told[1] != CMT || (HAS(cml[0],1) && HAS(cml[1],1)));
    assert(natt == MAXATT || !ASKS)                      /* and the client knows */
  }
}
#endif

init { atomic { run Part(0); run Part(1) } }
