/* A SET without a token: protocol.md, "Product decisions", number 4 (plainSet "window", and AGED for "aged"); N4.
 *
 * One key on one host. A flow of an application asks for the key, is told that it is absent, reads the database and
 * sends a SET that names nothing of this; the sidecar must find a stamp that is not younger than the read. A value
 * is the number of transactions it contains; what is stored must contain all that are applied.
 *
 * Modelled: a clock of ticks; the table of misses with their stamps; a record of (g, V) for each tick; a SET that
 * lies in the socket while the sidecar is stopped; misses answered by bypass, which have no stamp; a new generation
 * (NEWGEN); a sidecar that dies and loses its table (RESTART); flows that read without a miss of their own (AGED).
 * Not modelled: late visibility (fill.pml: here V follows what is visible); the fill's script beyond its checks; the
 * file that tells of the predecessor (its last touch is taken as known); a full table; other hosts.
 * Bounds: 2 transactions (TXNS), 2 flows (FLOWS), 6 ticks (TICKS + 1), tau = 2 ticks.
 */
#ifndef TXNS
#define TXNS 2
#endif
#ifndef FLOWS
#define FLOWS 2
#endif
#ifndef TICKS
#define TICKS 5
#endif
#define TAU 2

byte now;                          /* this host's clock */
byte db, V, b, g = 1, F, v;        /* visible transactions; of Redis: V, bucket, generation, floor, 1 + value */
byte hG[TICKS + 1], hV[TICKS + 1]; /* the record that was taken as a tick began */
byte start;                        /* the tick at which the sidecar was started; 0: there was none before it */

/* The table of misses, in the order of their making. g = 0: answered by bypass, without a stamp. */
byte size, mT[FLOWS + 1], mG[FLOWS + 1], mV[FLOWS + 1];
bit gone[FLOWS + 1];

proctype Clock() {
end:
  do :: d_step { now < TICKS -> now++; hG[now] = g; hV[now] = V } od
}

proctype Tail() {                  /* commits, then is applied: fence, deletion, V */
end:
  do
  :: db < TXNS -> db++
  :: d_step { V < db -> V++; b = V; v = 0 }
  od
}

inline judge() {                   /* (sG, sV): the stamp of a SET dated e; sG = 0 refuses */
  sG = 0; i = 0;
#ifdef AGED
  if :: e >= TAU -> sG = hG[e - TAU]; sV = hV[e - TAU] :: else fi;
#else
  if
  :: now - e >= TAU                /* too long in the socket */
#ifndef START0
  :: now - e < TAU && start != 0 && e < start + TAU    /* what the predecessor answered cannot be dated */
#endif
  :: else ->
       do
       :: i < size && !gone[i] && mT[i] + TAU > e ->
            sG = mG[i]; sV = mV[i];
#ifdef FIRSTSET
            gone[i] = 1;           /* FIRSTSET: an entry leaves by use */
#endif
#ifdef NEWEST
            i++
#else
            break                  /* the oldest one decides */
#endif
       :: i < size && !(!gone[i] && mT[i] + TAU > e) -> i++
       :: i == size ->
#ifndef NEWEST
            if :: e >= TAU && e - TAU >= start -> sG = hG[e - TAU]; sV = hV[e - TAU] :: else fi;
#endif
            break
       od
  fi;
#endif
  i = 0
}

proctype Flow(byte id) {
  byte t, e, s, sG, sV, i;
#ifdef THRU
  bit own = (id == 0);             /* the others read without a miss of their own */
#else
  bit own = 1;
#endif
  if
  :: d_step { own && v == 0 ->     /* GET: absent */
       t = now; mT[size] = now; mG[size] = g; mV[size] = V; size++ }
#ifdef BYPASS
  :: d_step { own -> t = now;      /* GET: bypassed, whatever Redis holds */
#ifndef SKIPBYPASS
       mT[size] = now; mG[size] = 0; size++
#endif
     }
#endif
  :: d_step { !own -> t = now }
  fi;
  s = 1 + db;                      /* the read */
#ifdef LATE
  d_step { true ->
#else
  d_step { now - t < TAU ->        /* the contract: from the miss (with THRU from the read) to the SET in less than tau */
#endif
    e = now };
  if
  :: true                          /* the connection was last seen empty just now */
  :: e > t -> e--                  /* or a tick ago */
  fi;
  atomic {
#ifdef PAUSE
    e = now;                       /* PAUSE: dated when it is processed */
#endif
    d_step { judge();
      if
      :: sG == g && sV >= F && sV >= b -> v = s; assert(v - 1 >= V)
      :: else
      fi;
      t = 0; e = 0; s = 0; sG = 0; sV = 0
    }
  }
}

#ifdef NEWGEN
proctype Generation() {
  d_step {
    g++; F = V; b = 0; v = 0;
#ifdef BYGEN
    gone[0] = size > 0; gone[1] = size > 1;            /* BYGEN: entries leave when the generation does */
#endif
  }
}
#endif
#ifdef RESTART
proctype Restart() { d_step { now > 0 -> start = now; size = 0; gone[0] = 0; gone[1] = 0 } }
#endif

init {
  atomic {
    byte i;
    hG[0] = 1;
    run Clock(); run Tail();
    do :: i < FLOWS -> run Flow(i); i++ :: else -> break od;
    i = 0;
#ifdef NEWGEN
    run Generation();
#endif
#ifdef RESTART
    run Restart()
#endif
  }
}
