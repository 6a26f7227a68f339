/*
 * Incarnations: other data turn up under a participant's name, restored from a
 * backup or made anew, while the registered data may be as healthy as ever.
 *
 * Shows P14. One name with two bodies of data: 0 is registered, 1 is a copy of it
 * of an earlier time. Messages to the name may reach either. Two transactions
 * follow each other; every other participant votes yes. The registry has the
 * incarnation that messages carry; data refuse what is meant for another one.
 *
 * Safety: data vote for a transaction only if they hold everything that was
 * acknowledged as committed under their name before, or an operator has accepted
 * them. Liveness (weak fairness): `goeson`, data that turn up do not stop the
 * registered data.
 *
 * Left out: what the operator looks at, endpoints, the log.
 */
#ifdef TRACE
#define EV(...) printf(__VA_ARGS__);
#else
#define EV(...)
#endif
mtype = { waiting, preparing, committed, finished };

#define BIT(p)   (1 << (p))
#define HAS(m,p) (((m) >> (p)) & 1)

mtype rst[2] = waiting;
byte  acked = 0;                      /* transactions whose commit was acknowledged */

/* the registry */
byte  incarnation = 0;
bool  pending = false, accepted = false;

/* the data: 1 is a copy of 0 */
byte  held[2], done[2];               /* sets of transactions */
bool  copied = false, up[2];

byte  yes = 0, hazard = 0;

/* the registry's incarnation is in every message; data check it */
#ifdef BUG_P14_NO_INCARNATION
#define MINE(d) true
#else
#ifdef BUG_P14_RESTORED_UNDER_OLD_NAME
#define MINE(d) (incarnation == 0)
#else
#define MINE(d) (incarnation == (d))
#endif
#endif
#ifdef BUG_P14_PENDING_STOPS
#define OPEN (!pending)
#else
#define OPEN true
#endif

#define TXN(t) \
  :: atomic { rst[t] == waiting && (t == 0 || rst[0] == finished) && OPEN -> EV("EV submit t=%d incarnation=%d\n", t, incarnation) rst[t] = preparing } \
  :: atomic { rst[t] == preparing && HAS(yes,t) -> EV("EV decide t=%d outcome=committed\n", t) rst[t] = committed } \
  :: atomic { rst[t] == committed && HAS(acked,t) -> rst[t] = finished }

active proctype Cluster() {
end:
  do
  TXN(0)
  TXN(1)
  od
}

/* somebody starts the copy; it announces itself */
active proctype Registry() {
end:
  do
  :: atomic { !copied -> EV("EV copy done=%d\n", done[0]) copied = true; held[1] = held[0]; done[1] = done[0] }
  :: atomic { copied && !up[1] -> EV("EV starts data=1\n") up[1] = true; pending = true;
#ifdef BUG_P14_ANNOUNCE_REPLACES
       incarnation = 1
#endif
     }
#ifndef NOOPERATOR
  :: atomic { pending && !accepted -> EV("EV accept\n") accepted = true; pending = false; incarnation = 1 }
#endif
  od
}

#define BRANCH(t) \
  :: atomic { up[d] && rst[t] == preparing && MINE(d) && !HAS(held[d] | done[d],t) -> \
       EV("EV prepared data=%d t=%d\n", d, t) \
       assert(accepted || (acked & done[d]) == acked);    /* nothing acknowledged is missing */ \
       held[d] = held[d] | BIT(t) } \
  :: atomic { up[d] && rst[t] == preparing && MINE(d) && HAS(held[d],t) && !HAS(yes,t) -> EV("EV vote data=%d t=%d\n", d, t) yes = yes | BIT(t) } \
  :: atomic { up[d] && rst[t] == committed && MINE(d) && HAS(held[d],t) -> \
       EV("EV commit data=%d t=%d\n", d, t) held[d] = held[d] & (3 - BIT(t)); done[d] = done[d] | BIT(t) } \
  :: atomic { up[d] && rst[t] == committed && MINE(d) && HAS(done[d],t) && !HAS(acked,t) -> EV("EV ack data=%d t=%d\n", d, t) acked = acked | BIT(t) } \
  /* no trace: a hazard, recorded and alarmed (P6) */ \
  :: atomic { up[d] && rst[t] == committed && MINE(d) && !HAS(held[d] | done[d],t) && !HAS(acked,t) -> \
       EV("EV hazard data=%d t=%d\n", d, t) hazard = hazard | BIT(t); rst[t] = finished }

proctype Data(byte d) {
end:
  do
  BRANCH(0)
  BRANCH(1)
#ifdef REACH
  :: atomic { accepted && HAS(done[1],1) && !HAS(done[1],0) && acked == 3 -> assert(false) }
#endif
  od
}

init { atomic { up[0] = true; run Data(0); run Data(1) } }

ltl goeson { [] (rst[1] != finished -> <> (rst[1] == finished)) }
