/*
 * Locks: several transactions that want the same keys at several participants.
 *
 * Shows P12 as participant/kv has it (rule L1 of lock.go): whoever waits for a
 * key is older than its holder, and whoever finds that it is not, dies; this is
 * restored at every change of holders or queue. A prepared branch is never the
 * victim. A retry keeps the age of the first try.
 *
 * NT transactions want the keys of both participants, in any order, and try
 * again for as long as they die. A vote once given is remembered by the leader.
 * A crash of a participant loses who waits and keeps who is prepared. -DTAKEOVER:
 * after a failover a newer attempt, which is younger, takes a transaction over;
 * its prepared branch stays as old as it was (inherit of prepare.go).
 *
 * Safety: no deadlock (no invalid end state), L1, and whoever is told to commit
 * still holds its locks. Liveness (weak fairness, -DLIVE: everybody begins a new
 * transaction for ever): `through`, every transaction gets through.
 *
 * Left out: shared locks and upgrades, plain reads (tests of participant/kv), the
 * log, lost messages, deadlines: nothing here needs a lock time-out.
 */
#ifdef TRACE
#define EV(...) printf(__VA_ARGS__);
#else
#define EV(...)
#endif
#ifndef NT
#define NT 3
#endif
#ifndef MAXCRASH
#define MAXCRASH 1
#endif
#ifndef MAXTAKE
#define MAXTAKE 1
#endif

#define OUT   0       /* not here: not asked yet, or asked again after a crash */
#define WAITS 1
#define HELD  2       /* locked and prepared */
#define DIED  3
#define B(p,t) b[(p)*NT + (t)]

byte b[2*NT];
byte age[NT];                      /* of the transaction: 0 is the oldest */
byte votes[NT];                    /* bit p: the leader has p's yes */
byte crashes = 0;
bool wants = true;                 /* transaction 0 is not through yet */

#ifdef TAKEOVER
byte bage[2*NT], newest = NT - 1, takes = 0;
#define AGE(p,t) bage[(p)*NT + (t)]
#else
#define AGE(p,t) age[t]
#endif

/* grants p's key to the oldest that waits, and lets die who may not wait */
inline settle(p) {
  d_step {
    h = NT; o = NT; i = 0;
    do
    :: i < NT ->
       if :: B(p,i) == HELD -> h = i
          :: B(p,i) == WAITS && (o == NT || AGE(p,i) < AGE(p,o)) -> o = i
          :: else fi; i++
    :: else -> break
    od;
    if :: h == NT && o < NT -> EV("EV granted t=%d p=%d\n", o, p) B(p,o) = HELD; h = o :: else fi;
#if !defined(BUG_P12_WAITS_FOR_ANY) && !defined(BUG_P12_NOT_CHECKED_AGAIN)
    i = 0;
    do
    :: i < NT ->
       if :: h < NT && B(p,i) == WAITS && AGE(p,h) < AGE(p,i) -> EV("EV dies t=%d p=%d\n", i, p) B(p,i) = DIED :: else fi; i++
    :: else -> break
    od;
#endif
    h = 0; o = 0; i = 0
  }
}

inline ask(p,t) {
  EV("EV asks t=%d p=%d age=%d\n", t, p, age[t])
  B(p,t) = WAITS;
#ifdef TAKEOVER
  AGE(p,t) = age[t];
#endif
#ifdef BUG_P12_WOUNDS
  /* the older one takes the lock away from a younger one */
  i = 0;
  do
  :: i < NT -> if :: B(p,i) == HELD && AGE(p,t) < AGE(p,i) -> EV("EV wounded t=%d p=%d\n", i, p) B(p,i) = DIED :: else fi; i++
  :: else -> break
  od;
  i = 0;
#endif
#ifdef BUG_P12_NOT_CHECKED_AGAIN
  /* whether it may wait is looked at on arrival only */
  i = 0;
  do
  :: i < NT -> if :: B(p,i) == HELD && AGE(p,i) < AGE(p,t) -> EV("EV dies t=%d p=%d\n", t, p) B(p,t) = DIED :: else fi; i++
  :: else -> break
  od;
  i = 0;
#endif
  settle(p)
}

/* t becomes the youngest */
inline renew(t) {
  i = 0;
  do
  :: i < NT -> if :: age[i] > age[t] -> age[i]-- :: else fi; i++
  :: else -> break
  od;
  i = 0; age[t] = NT - 1
}

/* the Prepare of a newer attempt ends one of an older attempt that waits, or
   the transaction is of two ages and may wait for what waits for it */
#if defined(TAKEOVER) && !defined(BUG_P12_OLD_PREPARE_WAITS_ON)
#define OLDWAITS(p,t) (B(p,t) == WAITS && AGE(p,t) != age[t])
#else
#define OLDWAITS(p,t) false
#endif
#define BRANCH(p) \
  :: atomic { !leaving && (B(p,t) == OUT || OLDWAITS(p,t)) -> ask(p,t) } \
  :: atomic { !leaving && B(p,t) == HELD && !(votes[t] & (1 << p)) -> votes[t] = votes[t] | (1 << p) } \
  :: atomic { leaving && B(p,t) != OUT -> \
       if :: votes[t] == 3 -> EV("EV commit t=%d p=%d\n", t, p) assert(B(p,t) == HELD) :: else -> EV("EV rollback t=%d p=%d\n", t, p) fi; \
       B(p,t) = OUT; settle(p) }

proctype Txn(byte t) {
  byte h, o, i; bool leaving = false;
  do
  BRANCH(0)
  BRANCH(1)
  :: atomic { !leaving && votes[t] == 3 -> EV("EV decide t=%d outcome=commit\n", t) leaving = true; if :: t == 0 -> wants = false :: else fi }
  :: atomic { !leaving && votes[t] != 3 && (B(0,t) == DIED || B(1,t) == DIED) -> EV("EV decide t=%d outcome=abort\n", t) leaving = true }
#ifdef TAKEOVER
  :: atomic { !leaving && takes < MAXTAKE ->
       EV("EV takeover t=%d\n", t)
       takes++; newest++; age[t] = newest;
     }
#endif
  :: atomic { leaving && B(0,t) == OUT && B(1,t) == OUT ->
       leaving = false;
       if
       :: votes[t] == 3 ->
          votes[t] = 0;
#ifdef LIVE
          renew(t); if :: t == 0 -> wants = true :: else fi
#else
          break
#endif
       :: else -> votes[t] = 0;                     /* once more, as old as before */
#ifdef BUG_P12_AGE_NOT_INHERITED
          renew(t)
#endif
       fi }
  od
}

inline crash(p) {
  EV("EV crash p=%d\n", p)
  i = 0;
  do
  :: i < NT -> if :: B(p,i) == WAITS -> B(p,i) = OUT :: else fi; i++
  :: else -> break
  od;
  i = 0
}
active proctype Crash() {
  byte i;
end:
  do
  :: atomic { crashes < MAXCRASH -> crashes++; if :: crash(0) :: crash(1) fi }
#ifdef REACH
  /* after a crash, each waits for a younger one */
  :: atomic { crashes == MAXCRASH && B(0,0) == WAITS && B(0,1) == HELD && B(1,1) == WAITS && B(1,2) == HELD -> assert(false) }
#endif
  /* L1 */
  :: atomic { (B(0,0) == WAITS && B(0,1) == HELD && AGE(0,1) < AGE(0,0)) || (B(1,1) == WAITS && B(1,0) == HELD && AGE(1,0) < AGE(1,1)) ->
#if defined(BUG_P12_WAITS_FOR_ANY) || defined(BUG_P12_NOT_CHECKED_AGAIN)
       false
#else
       assert(false)
#endif
     }
  od
}

init { byte t; atomic {
  do
  :: t < NT -> age[t] = t; run Txn(t); t++
  :: else -> break
  od } }

ltl through { [] (wants -> <> !wants) }
