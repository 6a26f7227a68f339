/*
 * Floor: what lets a participant forget.
 *
 * Shows P8, with the parts of P3, P6 and P7 that it leans on: a participant
 * drops a finished reference once the cluster has called it finished, in one
 * write with a floor above it; a Prepare below the floor is refused in the very
 * write that would make the branch prepared. The leader calls it finished when it is
 * asked, or says in passing below which attempt everything is finished or can never
 * begin. One participant, IDS ids, an id may be begun again once it is forgotten. The participant's entry is that of
 * participant/journal.go (held, max, committed, refused), message by message.
 *
 * Safety: a forgotten branch is never done again; a Prepare that somebody still
 * waits for is never refused by the floor; a Commit never finds nothing while it
 * is owed; no prepared branch can be answered FORGOTTEN.
 * Liveness (weak fairness): `forgets`, everything finished is dropped in time.
 *
 * Left out: the other participants (whether they voted yes is a free choice),
 * digests, clients that are answered, late proposals (attempts.pml).
 *
 * The slow worker is a Prepare that was looked at before its work and is written
 * after: another endpoint of the same data, or a slow statement.
 * -DTOLD: the leader says in passing what is finished as well; -DLATE: that is heard later, perhaps under another leader.
 * -DLIVE: for `forgets`; a late Rollback leaves its tombstone once.
 * Bounds: -DMAXATT=n attempts over all ids, -DIDS=n, -DMAXELEC=n leader changes,
 * -DMAXCRASH=n. The network is a set: anything may come never, late, often.
 */
#ifdef TRACE
#define EV(...) printf(__VA_ARGS__);
#else
#define EV(...)
#endif
#ifndef MAXATT
#define MAXATT 3
#endif
#ifndef IDS
#define IDS 2
#endif
#ifndef MAXELEC
#define MAXELEC 1
#endif
#ifndef MAXCRASH
#define MAXCRASH 1
#endif

#define NONE  0
#define BEGUN 1
#define CMT   2
#define ABT   3
#define CFIN  4
#define AFIN  5

#define E_BEGIN   0
#define E_COMMIT  16
#define E_ABORT   32
#define E_FINISH  48
#define E_FORGET  64
#define E_BARRIER 80
#define ENTRY(k,a) ((k) + (a))

#define BIT(a)    (1 << (a))
#define HAS(m,a)  (((m) >> (a)) & 1)
#define WITHOUT(m,a) ((m) & (255 - BIT(a)))
#define ID(a)     HAS(aid,a)
#define LESS(a,b) (aterm[a] < aterm[b] || (aterm[a] == aterm[b] && (a) < (b)))
#define BELOW(a,t,s) (aterm[a] < (t) || (aterm[a] == (t) && (a) < (s)))
mtype = { begin, commit, abort, finish, forget, barrier };   /* for printing */

byte natt = 0, aterm[MAXATT + 1], aid = 0;

/* replicated state: a record each id, the begun set */
byte rst[IDS], ratt[IDS], begun = 0;
chan rlog = [6] of { byte };
byte elec = 0;

/* the leader's memory */
bool ready = true, prop[IDS];
byte pend[IDS];                    /* its Begin of unknown fate, + 1 */
/* a deposed leader that does not know it yet: its term, the ids it may begin */
byte sterm = 0, sfree = 0;
#ifdef BUG_P3_TWO_PENDING
#define SFREE(i) (elec > 0)
#else
#define SFREE(i) HAS(sfree,i)
#endif
#define FREE(i) (rst[i] == NONE && pend[i] == 0)

/* the network */
byte mPrep = 0, yes = 0, saidC = 0, saidA = 0, ack = 0;

/* the participant, durable */
byte held[IDS], mx[IDS];           /* attempt + 1 */
byte com = 0, ref = 0;
byte fterm = 0, fseq = 0;          /* the floor: below it is what has an older term, or this term and a lower number */
#ifdef LATE
byte wterm = 0, wseq = 0;          /* what was said last, and not heard yet: 0 0, nothing */
#endif
/* ... and in memory */
byte slow = 0;                     /* a Prepare that is at work, + 1 */
byte crashes = 0;

/* ghosts: what was committed here, called finished, forgotten here */
byte done = 0, fin = 0, dropped = 0;

inline sayC(x) { assert(!HAS(saidA,x)); saidC = saidC | BIT(x) }
inline sayA(x) { assert(!HAS(saidC,x)); saidA = saidA | BIT(x) }

#define OPEN(i) (pend[i] != 0 || rst[i] == BEGUN)
#ifdef BUG_P8_FLOOR_OVER_PREPARING
/* counts only what is on its way to the log */
#define OPENATT(i) (pend[i] - 1)
#define COUNTS(i) (pend[i] != 0)
#else
#define OPENATT(i) (pend[i] != 0 -> pend[i] - 1 : ratt[i])
#define COUNTS(i) OPEN(i)
#endif
#ifdef BUG_P8_FLOOR_BEFORE_BARRIER
#define FLOORKNOWN true
#else
#define FLOORKNOWN ready
#endif

/* the leader's floor, now, in t and s */
inline floor(t,s) {
  t = elec; s = natt; i = 0;
  do
  :: i < IDS ->
     if
     :: COUNTS(i) && BELOW(OPENATT(i),t,s) -> s = OPENATT(i); t = aterm[s]
     :: else
     fi; i++
  :: else -> break
  od; i = 0
}

inline owed() {                    /* what is undecided is not below the floor */
  assert(!(rst[0] == BEGUN && BELOW(ratt[0],fterm,fseq)));
#if IDS > 1
  assert(!(rst[1] == BEGUN && BELOW(ratt[1],fterm,fseq)))
#endif
}

inline apply(e) {
  a = e % 16; k = ID(a);
  if
  :: e / 16 == 0 ->
     if
     :: rst[k] == NONE && !HAS(begun,a) ->
        EV("EV apply what=begin a=%d\n", a)
        rst[k] = BEGUN; ratt[k] = a; begun = begun | BIT(a); owed()
     :: else
     fi;
     if :: pend[k] == a + 1 -> pend[k] = 0 :: else fi
  :: e / 16 == 1 || e / 16 == 2 ->
     if
     :: rst[k] == BEGUN && ratt[k] == a ->
        EV("EV apply what=%e a=%d\n", (e / 16 == 1 -> commit : abort), a)
        if :: e / 16 == 1 -> rst[k] = CMT; sayC(a) :: else -> rst[k] = ABT; sayA(a) fi
     :: else
     fi; prop[k] = false
  :: e / 16 == 3 ->
     if
     :: (rst[k] == CMT || rst[k] == ABT) && ratt[k] == a ->
        EV("EV apply what=finish a=%d\n", a)
        rst[k] = rst[k] + 2; fin = fin | BIT(a); ack = WITHOUT(ack,a)
     :: else
     fi; prop[k] = false
  :: e / 16 == 4 ->
     if
     :: rst[k] >= CFIN && ratt[k] == a ->
        EV("EV apply what=forget a=%d\n", a) rst[k] = NONE; ratt[k] = 0
     :: else
     fi; prop[k] = false
  :: else -> EV("EV apply what=barrier term=%d ok=%d\n", a, (a == elec)) if :: a == elec -> ready = true :: else fi
  fi;
  a = 0; k = 0
}

#ifdef BUG_P8_FINISH_EARLY
#define ACKED(a) true
#else
#define ACKED(a) HAS(ack,a)
#endif

#define SUBMIT(i) \
  :: atomic { ready && rst[i] == NONE && pend[i] == 0 && natt < MAXATT -> \
       EV("EV submit a=%d term=%d id=%d\n", natt, elec, i) \
       aterm[natt] = elec; aid = aid | (i << natt); mPrep = mPrep | BIT(natt); pend[i] = natt + 1; \
       rlog!ENTRY(E_BEGIN,natt); natt++ } \
  /* a deposed leader: it never begins */ \
  :: atomic { SFREE(i) && natt < MAXATT -> \
       EV("EV submit a=%d term=%d id=%d\n", natt, sterm, i) \
       sfree = WITHOUT(sfree,i); aterm[natt] = sterm; aid = aid | (i << natt); mPrep = mPrep | BIT(natt); natt++ }
#define LEAD(i) \
  :: atomic { ready && rst[i] == BEGUN && !prop[i] && HAS(yes,ratt[i]) -> prop[i] = true; rlog!ENTRY(E_COMMIT,ratt[i]) } \
  :: atomic { ready && rst[i] == BEGUN && !prop[i] -> prop[i] = true; rlog!ENTRY(E_ABORT,ratt[i]) } \
  :: atomic { ready && (rst[i] == CMT || rst[i] == ABT) && !prop[i] && ACKED(ratt[i]) -> prop[i] = true; rlog!ENTRY(E_FINISH,ratt[i]) } \
  :: atomic { ready && rst[i] >= CFIN && !prop[i] -> prop[i] = true; rlog!ENTRY(E_FORGET,ratt[i]) }
#define INQUIRY(a) \
  :: atomic { ready && natt > a && !HAS(saidA,a) && !HAS(begun,a) && aterm[a] <= elec && pend[ID(a)] != a + 1 -> \
       EV("EV answer a=%d outcome=abort\n", a) sayA(a) }

active proctype Cluster() {
  byte e, n, a, k; bool keep;
end:
  do
  :: atomic { nempty(rlog) -> rlog?e; apply(e); e = 0 }
  :: atomic { elec < MAXELEC ->
       if
       :: ready -> sterm = elec; sfree = FREE(0);
#if IDS > 1
          sfree = sfree | (FREE(1) << 1)
#endif
       :: else
       fi;
       elec++; n = len(rlog); keep = true;
       do
       :: n > 0 -> rlog?e; n--;
          if :: keep -> if :: rlog!e :: keep = false fi :: else fi
       :: n == 0 -> break
       od;
       EV("EV elect term=%d kept=%d\n", elec, len(rlog))
#ifndef BUG_P8_FLOOR_STUCK
       pend[0] = 0;
#if IDS > 1
       pend[1] = 0;
#endif
#endif
       prop[0] = false;
#if IDS > 1
       prop[1] = false;
#endif
       ready = false; rlog!ENTRY(E_BARRIER,elec); e = 0; keep = false }
  SUBMIT(0)
  LEAD(0)
#if IDS > 1
  SUBMIT(1)
  LEAD(1)
#endif
  INQUIRY(0)
  INQUIRY(1)
#if MAXATT > 2
  INQUIRY(2)
#endif
#if MAXATT > 3
  INQUIRY(3)
#endif
  od
}

#define FINISHEDHERE(a) (HAS(com | ref,a) || (mx[ID(a)] != 0 && !LESS(mx[ID(a)]-1,a)))
#define EXECUTABLE(a) (!BELOW(a,fterm,fseq) && !FINISHEDHERE(a) && held[ID(a)] == 0)

inline remember(a) { if :: mx[ID(a)] == 0 || LESS(mx[ID(a)]-1,a) -> mx[ID(a)] = a + 1 :: else fi }
inline hold(a) {
  EV("EV prepared a=%d\n", a)
  assert(!HAS(done,a));              /* its work is not done twice */
  held[ID(a)] = a + 1
}

#ifdef BUG_P6_CHECKED_ON_ARRIVAL
#define WRITABLE(a) (held[ID(a)] == 0)
#else
#define WRITABLE(a) EXECUTABLE(a)
#endif

#ifdef LIVE   /* a late Rollback is not repeated for ever */
#define AGAIN(a) !HAS(dropped,a)
#else
#define AGAIN(a) true
#endif
#define PART(a) \
  /* Prepare: at once, or by the slow worker; a newer one takes over */ \
  :: atomic { HAS(mPrep,a) && EXECUTABLE(a) -> hold(a) } \
  :: atomic { HAS(mPrep,a) && EXECUTABLE(a) && slow == 0 -> EV("EV arrives a=%d\n", a) slow = a + 1 } \
  :: atomic { HAS(mPrep,a) && !BELOW(a,fterm,fseq) && !FINISHEDHERE(a) && held[ID(a)] != 0 && LESS(held[ID(a)]-1,a) -> \
       EV("EV takeover a=%d from=%d\n", a, held[ID(a)]-1) held[ID(a)] = a + 1 } \
  :: atomic { held[ID(a)] == a + 1 && !HAS(yes,a) -> EV("EV vote a=%d\n", a) yes = yes | BIT(a) } \
  /* Commit */ \
  :: atomic { HAS(saidC,a) && held[ID(a)] == a + 1 -> \
       EV("EV commit a=%d\n", a) held[ID(a)] = 0; com = com | BIT(a); done = done | BIT(a); remember(a) } \
  :: atomic { HAS(saidC,a) && held[ID(a)] == 0 && !HAS(com,a) && !HAS(fin,a) -> EV("EV hazard a=%d\n", a) assert(false) } \
  /* Rollback, here or not */ \
  :: atomic { HAS(saidA,a) && held[ID(a)] == a + 1 -> \
       EV("EV rollback a=%d\n", a) held[ID(a)] = 0; ref = ref | BIT(a); remember(a) } \
  :: atomic { HAS(saidA,a) && held[ID(a)] == 0 && !HAS(ref,a) && AGAIN(a) -> \
       EV("EV tombstone a=%d\n", a) assert(!HAS(com,a)); ref = ref | BIT(a); remember(a) } \
  :: atomic { !HAS(ack,a) && ratt[ID(a)] == a && (rst[ID(a)] == CMT && HAS(com,a) || rst[ID(a)] == ABT && HAS(ref,a)) -> \
       EV("EV ack a=%d\n", a) ack = ack | BIT(a) } \
  /* an inquiry that would be answered FORGOTTEN */ \
  :: atomic { held[ID(a)] == a + 1 && HAS(begun,a) && !(rst[ID(a)] != NONE && ratt[ID(a)] == a) -> \
       EV("EV forgotten a=%d\n", a) assert(false) }

active proctype Part() {
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
  :: atomic { slow != 0 -> if :: WRITABLE(slow-1) -> hold(slow-1) :: else fi; slow = 0 }
  :: atomic { crashes < MAXCRASH -> EV("EV crash\n") crashes++; slow = 0;
#ifdef BUG_P8_FLOOR_VOLATILE
       fterm = 0; fseq = 0
#endif
     }
  od
}

#ifdef BUG_P8_DROP_UNFINISHED
#define MAYDROP(a) BELOW(a,t,s)
#else
#ifdef BUG_P8_DROP_WITHOUT_FLOOR
#define MAYDROP(a) HAS(fin,a)
#else
/* finished, or an aborted attempt that can never begin */
#define MAYDROP(a) (BELOW(a,t,s) && (HAS(fin,a) || HAS(ref,a) && !HAS(begun,a) && aterm[a] <= elec && pend[ID(a)] != a + 1))
#endif
#endif
#define DROP(a) \
  if :: HAS(com | ref,a) && MAYDROP(a) -> \
     EV("EV drop a=%d\n", a) com = WITHOUT(com,a); ref = WITHOUT(ref,a); dropped = dropped | BIT(a) :: else fi
/* max guards only what the floor does not guard already */
#ifdef BUG_P8_DROP_WITHOUT_FLOOR
#define UNGUARDED(i) true
#else
#define UNGUARDED(i) BELOW(mx[i]-1,fterm,fseq)
#endif
#define UNMAX(i) \
  if :: mx[i] != 0 && UNGUARDED(i) && ((com | ref) & (i == 0 -> 255 - aid : aid)) == 0 -> mx[i] = 0 :: else fi

/* asks about what is finished; the answer has the floor with it */
active proctype Forget() {
  byte t, s, i;
end:
  do
  :: atomic { FLOORKNOWN && (com | ref) != 0 ->
       floor(t,s);
#ifndef BUG_P8_DROP_WITHOUT_FLOOR
       if
       :: fterm < t || (fterm == t && fseq < s) -> EV("EV floor term=%d lowest=%d\n", t, s) fterm = t; fseq = s
       :: else
       fi;
       owed();
#endif
       DROP(0); DROP(1);
#if MAXATT > 2
       DROP(2);
#endif
#if MAXATT > 3
       DROP(3);
#endif
       UNMAX(0);
#if IDS > 1
       UNMAX(1);
#endif
#ifdef REACH
       /* a branch that was committed and forgotten, its id committed again, after a leader change and a crash */
       assert(!(HAS(dropped & done,0) && ID(0) == ID(1) && HAS(done,1) && elec == MAXELEC && crashes == MAXCRASH));
#endif
       t = 0; s = 0 }
  od
}

#ifdef TOLD
#ifdef BUG_P8_TOLD_UNFINISHED
#define OWED(i) OPEN(i)
#else
#define OWED(i) (OPEN(i) || rst[i] == CMT || rst[i] == ABT)
#endif
#define LOWER(i) \
  if \
  :: OWED(i) && BELOW(OWEDATT(i),t,s) -> s = OWEDATT(i); t = aterm[s] \
  :: else \
  fi
#define OWEDATT(i) (pend[i] != 0 -> pend[i] - 1 : ratt[i])

/* below which all is finished, now, in t and s */
inline finishedbelow(t,s) {
  t = elec; s = natt;
  LOWER(0);
#if IDS > 1
  LOWER(1)
#endif
}
#define ISTOLD(a,t,s) (HAS(com | ref,a) && BELOW(a,t,s))
#if MAXATT > 3
#define ANYTOLD(t,s) (ISTOLD(0,t,s) || ISTOLD(1,t,s) || ISTOLD(2,t,s) || ISTOLD(3,t,s))
#elif MAXATT > 2
#define ANYTOLD(t,s) (ISTOLD(0,t,s) || ISTOLD(1,t,s) || ISTOLD(2,t,s))
#else
#define ANYTOLD(t,s) (ISTOLD(0,t,s) || ISTOLD(1,t,s))
#endif
#define DROPTOLD(a) \
  if :: ISTOLD(a,t,s) -> \
     EV("EV drop a=%d\n", a) com = WITHOUT(com,a); ref = WITHOUT(ref,a); dropped = dropped | BIT(a) :: else fi

#define HEAR(t,s) \
  if \
  :: ANYTOLD(t,s) -> \
     EV("EV told term=%d lowest=%d\n", t, s) \
     if :: fterm < t || (fterm == t && fseq < s) -> fterm = t; fseq = s :: else fi; \
     owed(); \
     DROPTOLD(0); DROPTOLD(1); DROPTOLD2; DROPTOLD3; \
     TOLDREACHED; \
     UNMAX(0); UNMAX1 \
  :: else \
  fi
#ifdef REACH_TOLD
/* of a commit, under another leader than that of its attempt */
#define TOLDREACHED assert(!(HAS(dropped & done,0) && elec > aterm[0]))
#else
#define TOLDREACHED skip
#endif
#if MAXATT > 2
#define DROPTOLD2 DROPTOLD(2)
#else
#define DROPTOLD2 skip
#endif
#if MAXATT > 3
#define DROPTOLD3 DROPTOLD(3)
#else
#define DROPTOLD3 skip
#endif
#if IDS > 1
#define UNMAX1 UNMAX(1)
#else
#define UNMAX1 skip
#endif

/* hears in passing what is finished, and drops it without a question */
active proctype Told() {
  byte t, s;
end:
  do
#ifdef LATE
  :: atomic { ready && wterm == 0 && wseq == 0 -> finishedbelow(t,s); wterm = t; wseq = s; t = 0; s = 0 }
  :: atomic { wterm != 0 || wseq != 0 -> t = wterm; s = wseq; wterm = 0; wseq = 0; HEAR(t,s); t = 0; s = 0 }
#else
  :: atomic { ready && (com | ref) != 0 -> finishedbelow(t,s); HEAR(t,s); t = 0; s = 0 }
#endif
  od
}

#endif

/* the last attempt is forgotten in time */
ltl forgets { [] (HAS(com | ref,MAXATT-1) -> <> !HAS(com | ref,MAXATT-1)) }
