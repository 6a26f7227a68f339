/*
 * One phase: a transaction with one branch, whose participant decides.
 *
 * Shows P17, the one exception to P1: Begin says so and is applied before the
 * call leaves; the leader repeats the call, also after a failover, until it hears
 * COMMITTED or ABORTED, and logs that as the Decide. To give up it sends Rollback,
 * which leaves a tombstone or finds the marker. What the model adds to the rule's
 * words: ABORTED to this call is final, so it is said only once a tombstone is
 * durable, and the commit's own write looks for one.
 *
 * Safety: the work is done at most once; what the log decides and what the client
 * is told is what the participant did. Liveness (weak fairness): `decided`.
 *
 * Left out: attempts, the floor, Forget (models of their own), the inside of the
 * participant's database: the marker is in the transaction that does the work.
 *
 * Bounds: -DMAXELEC=n leader changes, -DMAXCRASH=n crashes in the work.
 */
#ifdef TRACE
#define EV(...) printf(__VA_ARGS__);
#else
#define EV(...)
#endif
#ifndef MAXELEC
#define MAXELEC 2
#endif
#ifndef MAXCRASH
#define MAXCRASH 2
#endif
mtype = { unknown, preparing, committed, aborted };
mtype = { E_BEGIN, E_COMMIT, E_ABORT, E_REFUSE, E_BARRIER };

mtype rst = unknown;                 /* the record */
chan  rlog = [5] of { mtype };
byte  elec = 0;

bool ready = true, started = false, prop = false, mine = false;   /* the leader's memory; mine: begun in its term */

bool mCall = false, mRollback = false, mCommitted = false, mAborted = false;   /* the network */
bool mPrepare = false, mNo = false;

mtype told = unknown;
bool req = true, gaveup = false;     /* the client; it may abort its id */

bool marker = false, tomb = false;   /* the participant, durable */
byte works = 0, done = 0, crashes = 0;

#ifdef BUG_P17_BEGIN_DOES_NOT_SAY
#define ONEPHASE mine                /* whoever did not begin it takes it for an ordinary one */
#else
#define ONEPHASE true
#endif

inline decide(x) {
  EV("EV apply what=%e\n", x)
  rst = x;
  assert(x != aborted || done == 0);   /* what was committed is not aborted */
  assert(x != committed || done == 1)
}

inline apply(e) {
  if
  :: e == E_BEGIN && rst == unknown -> EV("EV apply what=begin\n") rst = preparing
  :: e == E_COMMIT && rst == preparing -> decide(committed)
  :: (e == E_ABORT && rst == preparing) || (e == E_REFUSE && rst == unknown) -> decide(aborted)
  :: e == E_BARRIER -> EV("EV apply what=barrier term=%d\n", elec) ready = true
  :: else
  fi;
  if :: e == E_COMMIT || e == E_ABORT -> prop = false :: else fi
}

active proctype Cluster() {
  mtype e; byte n; bool keep;
end:
  do
  :: atomic { nempty(rlog) -> rlog?e; apply(e); e = 0 }
  :: atomic { elec < MAXELEC ->
       elec++; n = len(rlog); keep = true;
       do
       :: n > 0 -> rlog?e; n--;
          if :: keep && e != E_BARRIER -> if :: rlog!e :: keep = false fi :: else fi
       :: n == 0 -> break
       od;
       EV("EV elect term=%d kept=%d\n", elec, len(rlog))
       started = false; prop = false; mine = false; ready = false; rlog!E_BARRIER; e = 0; keep = false }
  :: atomic { ready && req && !started && rst == unknown ->
       EV("EV submit term=%d\n", elec)
       started = true; mine = true; rlog!E_BEGIN;
#ifdef BUG_P17_CALL_BEFORE_BEGIN
       mCall = true
#endif
     }
  :: atomic { ready && gaveup && !started && rst == unknown -> EV("EV refuse\n") started = true; rlog!E_REFUSE }
  /* the call, again at a new leader */
#ifdef BUG_P17_NOT_REPEATED
  :: atomic { ready && rst == preparing && ONEPHASE && mine && !mCall -> EV("EV call term=%d\n", elec) mCall = true }
#else
  :: atomic { ready && rst == preparing && ONEPHASE && !mCall -> EV("EV call term=%d\n", elec) mCall = true }
#endif
  :: atomic { ready && rst == preparing && !ONEPHASE && !mPrepare -> EV("EV prepare term=%d\n", elec) mPrepare = true }
  :: atomic { ready && rst == preparing && !prop && mCommitted -> prop = true; rlog!E_COMMIT }
  :: atomic { ready && rst == preparing && !prop && mAborted -> prop = true; rlog!E_ABORT }
  :: atomic { ready && rst == preparing && !prop && mNo -> prop = true; rlog!E_ABORT }
  /* the budget ends */
#ifdef BUG_P17_GIVES_UP_ALONE
  :: atomic { ready && rst == preparing && !prop -> prop = true; rlog!E_ABORT }
#else
#ifndef BUG_P17_NOT_REPEATED
  :: atomic { ready && rst == preparing && !mRollback -> EV("EV givesup term=%d\n", elec) mRollback = true }
#endif
#endif
  :: atomic { (rst == committed || rst == aborted) && told == unknown -> EV("EV tell outcome=%e\n", rst) told = rst; req = false;
       assert((told == committed) == (done == 1)) }
  :: atomic { req && told == unknown -> EV("EV gone\n") req = false }
  :: atomic { !req && told == unknown && !gaveup -> EV("EV abort\n") gaveup = true }
#ifdef BUG_P17_NO_ANSWER_IS_ABORT
  /* the call broke, and the client is told so */
  :: atomic { rst == preparing && mCall && told == unknown -> EV("EV tell outcome=aborted\n") told = aborted; req = false; assert(done == 0) }
#endif
  od
}

inline commits() {
  EV("EV commits\n")
  done++;
  assert(done == 1);                   /* once */
  assert(told != aborted && rst != aborted);
#ifndef BUG_P17_NO_MARKER
  marker = true;
#endif
  mCommitted = true
}
#ifdef BUG_P17_CHECKED_ON_ARRIVAL
#define NOTOMB true
#else
#define NOTOMB !tomb
#endif

active proctype Part() {
end:
  do
  :: atomic { mCall && !marker && !tomb && works == 0 -> EV("EV works\n") works = 1 }
  :: atomic { works == 1 && NOTOMB && !marker ->
       works = 0;
       if
       :: commits()
       :: EV("EV fails\n")
#ifndef BUG_P17_ABORTED_NOT_KEPT
          tomb = true;
#endif
          mAborted = true
       fi }
  :: atomic { works == 1 && (tomb || marker) -> works = 0 }
  :: atomic { works == 1 && crashes < MAXCRASH -> EV("EV crash\n") crashes++; works = 0 }
  /* the call again: what came of it */
  :: atomic { mCall && marker && !mCommitted -> mCommitted = true }
  :: atomic { mCall && tomb && !mAborted -> mAborted = true }
  /* Rollback */
  :: atomic { mRollback && !marker && !tomb -> EV("EV rollback\n")
#ifndef BUG_P17_ROLLBACK_LEAVES_NOTHING
       tomb = true;
#endif
       mAborted = true }
  :: atomic { mRollback && marker && !mCommitted -> mCommitted = true }
  /* an ordinary Prepare finds a finished branch */
  :: atomic { mPrepare && marker && !mNo -> EV("EV votesno\n") mNo = true }
#ifdef REACH
  :: atomic { elec == MAXELEC && crashes == MAXCRASH && mRollback && told == committed && done == 1 -> assert(false) }
#endif
  od
}

ltl decided { [] (rst == preparing -> <> (rst != preparing)) }
