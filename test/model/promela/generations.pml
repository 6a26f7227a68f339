/*
 * Generations: the cluster's state is restored from a backup, or a lost quorum
 * is recovered with what one node has: the log loses its end.
 *
 * Shows P14. One id, two participants. The cluster of generation 0 runs
 * transaction 1; a backup of its state is taken at some time; at some later time
 * a cluster of generation 1 is made from it, while the old one may go on as long
 * as anybody listens. The client, whose id the new cluster may not know, submits
 * it again with the same content: transaction 2.
 *
 * What the new cluster may say of an attempt of an older generation is only what
 * was decided in the backup. A branch of an older generation is kept for an
 * operator, neither rolled back nor taken over; what was committed in an older
 * generation is not done again.
 *
 * Safety: nobody's prepared work is undone while the other committed it, and an
 * id's work is committed once a participant.
 *
 * -DOLDSTOPS: the old cluster is gone once it is restored; its messages are not.
 * Left out: terms and leader changes within a generation, loss of the backup
 * itself, what the operator does then, ids that a participant has forgotten.
 */
#ifdef TRACE
#define EV(...) printf(__VA_ARGS__);
#else
#define EV(...)
#endif
mtype = { unknown, preparing, committed, aborted };

#define BIT(p)   (1 << (p))
#define HAS(m,p) (((m) >> (p)) & 1)

mtype rst = unknown, backup = unknown;      /* transaction 1 in the old cluster and in its backup */
bool  taken = false, restored = false;
mtype rec = unknown, rst2 = unknown;        /* transactions 1 and 2 in the new cluster */

/* the network, by transaction; old is from the old cluster, new from the new one */
bool  mPrep1 = false, mPrep2 = false;
byte  yes1 = 0, yes2 = 0, no2 = 0, asks = 0;
bool  oldC = false, oldA = false, newC = false, newA = false, newC2 = false, newA2 = false;

/* participants */
byte  held[2], gen[2], com[2], ref[2];      /* 0, or 1 or 2: the transaction; com and ref are sets */
byte  work[2];                              /* ghost: whose work the held branch is */
byte  did = 0, undid = 0;                   /* ghosts: who committed and who undid the work of transaction 1 */

#ifdef BUG_P14_ATTEMPT_WITHOUT_GENERATION
/* the new cluster counts its attempts from where the backup ended, as the old one did */
#define SECOND 1
#else
#define SECOND 2
#endif

#ifdef OLDSTOPS
#define RUNS !restored
#else
#define RUNS true
#endif
active proctype Old() {
end:
  do
  :: atomic { RUNS && rst == unknown -> EV("EV submit t=1\n") rst = preparing; mPrep1 = true }
  :: atomic { RUNS && rst == preparing && yes1 == 3 -> EV("EV decide generation=0 t=1 outcome=committed\n") rst = committed; oldC = true }
  :: atomic { RUNS && rst == preparing -> EV("EV decide generation=0 t=1 outcome=aborted\n") rst = aborted; oldA = true }
  :: atomic { !taken -> EV("EV backup t=1 state=%e\n", rst) taken = true; backup = rst }
  od
}

active proctype New() {
end:
  do
  :: atomic { taken && !restored -> EV("EV restore t=1 state=%e\n", backup) restored = true; rec = backup }
  /* what was decided before the backup is a fact */
  :: atomic { restored && rec == committed && !newC -> newC = true }
  :: atomic { restored && rec == aborted && !newA -> newA = true }
#ifdef BUG_P14_JUDGES_OLDER_GENERATION
  /* it does not know the attempt, so it never began: as with attempts of its own generation (P7) */
  :: atomic { restored && rec == unknown && asks != 0 && !newA -> EV("EV answer t=1 outcome=aborted\n") newA = true }
#endif
#ifdef BUG_P14_RESUMES_OLDER_GENERATION
  /* it drives what it finds undecided, and the budget ends */
  :: atomic { restored && rec == preparing -> EV("EV decide generation=1 t=1 outcome=aborted\n") rec = aborted }
#endif
  :: atomic { restored && rec == unknown && rst2 == unknown -> EV("EV submit t=2\n") rst2 = preparing; mPrep2 = true }
  :: atomic { rst2 == preparing && yes2 == 3 -> EV("EV decide generation=1 t=2 outcome=committed\n") rst2 = committed; newC2 = true }
  :: atomic { rst2 == preparing -> EV("EV decide generation=1 t=2 outcome=aborted\n") rst2 = aborted; newA2 = true }
  od
}

inline settleCommit(t) {
  EV("EV commit p=%d t=%d\n", p, t)
  assert(com[p] == 0);                      /* the id's work is done once */
  com[p] = com[p] | BIT(t); held[p] = 0;
  if :: work[p] == 1 -> did = did | BIT(p); assert((undid & (3 - BIT(p))) == 0) :: else fi;
  work[p] = 0
}
inline settleRollback(t) {
  EV("EV rollback p=%d t=%d\n", p, t)
  ref[p] = ref[p] | BIT(t); held[p] = 0;
  if :: work[p] == 1 -> undid = undid | BIT(p); assert((did & (3 - BIT(p))) == 0) :: else fi;
  work[p] = 0
}

#ifdef BUG_P14_TAKES_OVER_OLDER_GENERATION
#define TAKESOVER true
#else
#define TAKESOVER false
#endif
#ifdef BUG_P14_DONE_AGAIN
#define DONEBEFORE false
#else
#define DONEBEFORE (com[p] != 0)
#endif

proctype Part(byte p) {
end:
  do
  /* of generation 0: refused once generation 1 was heard of */
  :: atomic { gen[p] == 0 && mPrep1 && held[p] == 0 && com[p] == 0 && ref[p] == 0 -> EV("EV prepared p=%d t=1\n", p) held[p] = 1; work[p] = 1 }
  :: atomic { held[p] == 1 && work[p] == 1 && !HAS(yes1,p) -> yes1 = yes1 | BIT(p) }
  :: atomic { gen[p] == 0 && oldC && held[p] == 1 -> settleCommit(1) }
  :: atomic { gen[p] == 0 && oldA && held[p] == 1 -> settleRollback(1) }
  :: atomic { held[p] == 1 && !HAS(asks,p) -> asks = asks | BIT(p) }
  /* of generation 1 */
  :: atomic { restored && gen[p] == 0 -> EV("EV hears p=%d generation=1\n", p) gen[p] = 1 }
  :: atomic { gen[p] == 1 && newC && held[p] == 1 -> settleCommit(1) }
  :: atomic { gen[p] == 1 && newA && held[p] == 1 -> settleRollback(1) }
  :: atomic { gen[p] == 1 && mPrep2 && held[p] == 0 && !HAS(com[p] | ref[p],SECOND) && !DONEBEFORE && !HAS(ref[p],2) ->
       EV("EV prepared p=%d t=2\n", p) held[p] = SECOND; work[p] = 2 }
#ifdef BUG_P14_ATTEMPT_WITHOUT_GENERATION
  :: atomic { gen[p] == 1 && mPrep2 && held[p] == 1 && !HAS(yes2,p) -> EV("EV repeats p=%d t=2\n", p) yes2 = yes2 | BIT(p) }
#else
  :: atomic { gen[p] == 1 && mPrep2 && held[p] == 1 && TAKESOVER -> EV("EV takeover p=%d t=2\n", p) held[p] = 2 }
#endif
  :: atomic { gen[p] == 1 && held[p] == SECOND && mPrep2 && !HAS(yes2,p) -> yes2 = yes2 | BIT(p) }
  :: atomic { gen[p] == 1 && newC2 && held[p] == SECOND -> settleCommit(SECOND) }
  :: atomic { gen[p] == 1 && newA2 && held[p] == SECOND -> settleRollback(SECOND) }
#ifdef REACH
  /* the first was committed before the backup and the news came from the new cluster */
  :: atomic { gen[0] == 1 && rec == committed && com[0] == 2 && com[1] == 2 && gen[1] == 1 && !oldC -> assert(false) }
  :: atomic { rst2 == committed && com[0] == 4 && com[1] == 4 && rst == aborted -> assert(false) }
#endif
  od
}

init { atomic { run Part(0); run Part(1) } }
