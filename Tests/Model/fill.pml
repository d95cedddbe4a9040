/* The fill race: R1 to R5, V5, P2, P3 and the canary (P11) of protocol.md, sections 0 to 2.3.
 *
 * One key; every transaction changes it. A value is 0 (absent) or 1 + the set of transactions it contains.
 *
 * Modelled: a commit that is in the log, flushed (decodable) and visible in separate steps; a reader's lease,
 * snapshot and fill in separate steps; tailers that acquire the slot, take Redis over, decode, look at a snapshot,
 * write by compare-and-set on (token, g, n), acknowledge V, watch the transactions that were invisible when the slot
 * was acquired, and may stop at any step and wake later with what they knew (ZOMBIE: a second tailer).
 * Events: Redis goes back to an image of itself (LOSS) or forgets everything (FLUSH); the slot is advanced or
 * made anew by somebody else, or goes back (SLOT); PostgreSQL loses acknowledged asynchronous commits (CRASH); a
 * standby that lacks the end of the log is promoted, and its positions start again from there (FAILOVER).
 * Not modelled: what lies in Redis from an older generation is unreachable at once (purge.pml has the steps); fence
 * groups (groups.pml); freshness of hits (near.pml); chunks of a transaction, standbys as a source of fills, watched
 * transactions that roll back, time.
 * Bounds: 2 transactions (TXNS), 1 reader (READERS) with ROUNDS reads, 1 tailer that restarts any number of times,
 * or 2; each event once; GENS generations.
 */
#ifndef TXNS
#define TXNS 2
#endif
#if defined(CRASH) || defined(FAILOVER)
#define IDS (TXNS + 1)              /* one that is lost, and others at its position */
#else
#define IDS TXNS
#endif
#ifndef READERS
#define READERS 1
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef GENS
#define GENS 4
#endif
#define max(a, b) ((a) > (b) -> (a) : (b))

/* ---- PostgreSQL ---- */
byte last, flushed;                 /* positions 1..last are in the log, 1..flushed can be decoded */
byte at[4];                        /* the transaction at a position, as a bit */
byte begun;                        /* transactions that have begun to commit */
byte vis;                          /* the set of visible transactions */
byte tl = 1;                       /* timeline */
byte boot;                         /* a crash or a promotion ends every connection */
byte canary = 1;                   /* the generation in the UNLOGGED row, 0 = emptied */
bit slot = 1;
byte owner;                        /* the tailer whose walsender holds the slot */
byte confirmed;                    /* the slot's confirmed_flush_lsn */
#define seen(p) ((vis & at[p]) != 0)
#define upto2(p) (at[0] | (p >= 1 -> at[1] : 0) | (p >= 2 -> at[2] : 0))
#if TXNS == 3
#define upto(p) (upto2(p) | (p >= 3 -> at[3] : 0))
#else
#define upto(p) upto2(p)
#endif

/* ---- Redis ---- */
typedef Redis {
  byte g = 1, tok, n, W, V, F, b, tl = 1;   /* g = 0: there is no hash */
  bit wt;
  byte v, vg = 1                             /* the value and the generation under which it was filled */
}
Redis R, image;
byte lastG = 1;
bit imaged;

proctype Database() {
end:
  do
  :: atomic { begun < IDS && last < TXNS -> begun++; last++; at[last] = 1 << (begun - 1)
#ifndef CRASH
       ; flushed = last
#endif
     }
#ifdef CRASH
  :: d_step { flushed < last -> flushed++ }
#endif
  :: d_step { last >= 1 && !seen(1) -> vis = vis | at[1] }     /* visible before or after it is decoded, in any order */
  :: d_step { last >= 2 && !seen(2) -> vis = vis | at[2] }
#if TXNS == 3
  :: d_step { last >= 3 && !seen(3) -> vis = vis | at[3] }
#endif
  od
}

/* ---- a tailer ---- */
#ifdef NOTOK
#define mine true
#else
#define mine (R.tok == me)
#endif
#ifdef NOCAS
#define counted true
#else
#define counted (R.n == n)
#endif
#define fenced (!mine || R.g != g)
/* Why a takeover makes a new generation, beside NOSTATE and a slot of its own making. */
#define otherTimeline (R.tl != myTl)
#if defined(NOHOLE)
#define hole false
#elif defined(HOLEW)
#define hole (C > R.W)
#else
#define hole (C > R.V)
#endif
#ifdef NOWT
#define watchOpen false
#else
#define watchOpen R.wt
#endif
#ifdef NOINC
#define sameIncarnation true
#define otherCanary false
#else
#define sameIncarnation (canary == g)
#define otherCanary (old != g)
#endif
/* SQL is asked on the connection that was opened for this acquisition; one that is lost ends the acquisition. */
#define connected (myBoot == boot)
#ifdef RECONNECT
#define mayUpsert true             /* RECONNECT: the canary is written on whatever connection there is by then */
#else
#define mayUpsert connected
#endif
/* V of the tailer: all it has decoded since C up to there is visible. */
#define clear(p) (p > TXNS || p <= C || p > pos || seen(p))
#define look() (!clear(1) -> 0 : (!clear(2) -> 1 : (!clear(3) -> 2 : pos)))

/* n. What is counted before the image cannot matter, and the first one after it is all that the token's holder needs;
 * COUNT = 2 lets another tailer bring n back to what the holder expects. */
#ifndef COUNT
#define COUNT 1
#endif
inline count() { if :: imaged && R.n < COUNT -> R.n++ :: else fi; n = R.n }

inline forget() { state = 0; g = 0; n = 0; pos = 0; C = 0; v = 0; watch = 0; due = 0; created = 0; old = 0; myTl = 0; myBoot = 0;
  if :: owner == me -> owner = 0 :: else fi }

/* State 4 follows: upsert the canary. */
inline newgen(was, W0, V0, watching) {
  if
  :: R.g != was || (R.g != 0 && !mine) || (R.g != 0 && R.tl > myTl) || lastG == GENS -> forget()
  :: else ->
       lastG++; g = lastG; n = 0; due = 0;
       R.g = g; R.tok = me; R.n = 0; R.W = W0; R.V = V0; R.b = 0; R.tl = myTl;
#ifdef FLOORV
       R.F = V0;
#else
       R.F = W0;
#endif
       R.wt = (watching != 0);
       state = 4
  fi
}

proctype Tailer(byte me) {
  byte state;                      /* 0 standby, 1 acquired, 3 new generation needed, 4 canary to be written, 5 active */
  byte g, n, pos, C, v, old, myTl, myBoot;
  byte watch;                      /* transactions that were invisible when the slot was acquired */
  byte due;                        /* to be applied: 1 V alone, 2 a decoded transaction */
  bit created;
end:
  do
  /* STANDBY -> ACQUIRE: slot made if it is missing, START_REPLICATION, then C, the snapshot and the canary. */
  :: d_step { state == 0 && owner == 0 ->
       if :: !slot -> slot = 1; confirmed = flushed; created = 1 :: else fi;
       owner = me; myTl = tl; myBoot = boot; C = confirmed; pos = C;
       watch = upto(last) & (255 - vis);
       old = canary; state = 1
     }
  /* TAKEOVER: one script, and the decision. */
  :: d_step { state == 1 ->
       if
       :: R.g == 0 -> g = 0; state = 3
       :: R.g != 0 && R.tl > myTl -> forget()
       :: else ->
            R.tok = me; g = R.g; n = R.n; v = R.V;
            if
            :: created || otherTimeline || hole || watchOpen || otherCanary -> state = 3
            :: else -> state = 5; watch = 0
#ifdef NOWT
               ; R.wt = 0
#endif
            fi
       fi
     }
  :: d_step { state == 3 ->
#ifdef NOWATCH
       watch = 0;
#endif
       v = C; newgen(g, C, C, watch)
     }
  :: d_step { state == 4 -> if :: mayUpsert -> canary = g; state = 5 :: else -> forget() fi }
  /* ACTIVE: decode, or look at a snapshot; then apply. */
  :: d_step { state == 5 && owner == me && !due && pos < flushed -> pos++; v = max(v, look()); due = 2 }
  :: d_step { state == 5 && connected && !due && look() > v -> v = look(); due = 1 }
  :: atomic { state == 5 && due ->
       if
       :: d_step { R.g == 0 -> forget() }
       :: d_step { R.g != 0 && fenced ->
#ifdef RETAKE
            if :: owner == me && R.g == g -> R.tok = me; n = R.n :: else -> forget() fi
#else
            forget()
#endif
          }
       :: R.g != 0 && !fenced && !counted ->         /* REGRESSED */
            if
            :: d_step { newgen(g, pos, v, watch) }   /* at once, in place */
            :: d_step { forget() }                   /* or from the slot */
            fi
       :: d_step { R.g != 0 && !fenced && counted ->
            if :: due == 2 && pos > R.W -> R.b = pos :: else fi;
            if :: due == 2 -> R.v = 0 :: else fi;
            R.W = max(R.W, pos);
            R.V = max(R.V, v);
            count(); due = 0
          }
       fi
     }
  /* V is acknowledged. */
  :: d_step { state == 5 && owner == me && !due && v > confirmed && v <= flushed -> confirmed = v }
  /* A beat: the canary, and the watch. */
#ifndef NOINC
  :: d_step { state == 5 && connected && canary != g -> newgen(g, pos, v, watch) }
#endif
  :: d_step { state == 5 && connected && watch != 0 && (watch & (255 - vis)) == 0 && !fenced ->
       if
       :: (watch & upto(C)) != 0 -> watch = 0; newgen(g, pos, v, 0)   /* committed, but not delivered */
       :: else -> watch = 0; if :: counted -> R.wt = 0; count() :: else -> forget() fi
       fi
     }
  :: d_step { state != 0 -> forget() }               /* crash, or the lost connection is noticed */
#ifdef ZOMBIE
  :: d_step { owner == me -> owner = 0 }             /* the walsender is ended; the tailer does not know yet */
#endif
  /* The property, while the compare-and-set holds: a value contains all that is applied; if that is everything, it
   * is what the database holds. */
  :: d_step { state == 5 && owner == me && R.g == g && R.tok == me && R.n == n && sameIncarnation && !R.wt && !due &&
         R.v != 0 && R.vg == R.g ->
       assert(((R.v - 1) & upto(pos)) == upto(pos));
       assert(pos != last || vis != upto(last) || R.v - 1 == vis)
     }
  od
}

/* ---- a reader: lease, then a snapshot, then one fill script ---- */
#ifdef NOGCHK
#define otherGeneration false
#else
#define otherGeneration (R.g != g)
#endif
proctype Reader() {
  byte g, s, value, round;
  do
  :: round == ROUNDS -> break
  :: else ->
#ifdef STAMPW
       d_step { R.g != 0 -> g = R.g; s = R.W };
#else
       d_step { R.g != 0 -> g = R.g; s = R.V };
#endif
       value = 1 + vis;
       d_step {
         if
         :: R.g == 0 || otherGeneration || s < R.F || R.b > s     /* NOSTATE, GEN, FLOOR, FENCE */
         :: else -> R.v = value; R.vg = R.g
         fi;
         g = 0; s = 0; value = 0; round++
       }
  od
}

/* ---- what goes wrong, each once ---- */
#ifdef LOSS
proctype Loss() {
  d_step { imaged = 1; image.g = R.g; image.tok = R.tok; image.n = R.n; image.W = R.W; image.V = R.V; image.F = R.F;
    image.b = R.b; image.tl = R.tl; image.wt = R.wt; image.v = R.v; image.vg = R.vg }
  d_step { R.g = image.g; R.tok = image.tok; R.n = image.n; R.W = image.W; R.V = image.V; R.F = image.F;
    R.b = image.b; R.tl = image.tl; R.wt = image.wt; R.v = image.v; R.vg = image.vg }
}
#endif
#ifdef FLUSH
proctype Flush() {
  d_step { R.g = 0; R.tok = 0; R.n = 0; R.W = 0; R.V = 0; R.F = 0; R.b = 0; R.tl = 0; R.wt = 0; R.v = 0 }
}
#endif
#ifdef TTLFENCE
proctype Expiry() { R.b != 0 -> R.b = 0 }            /* TTLFENCE: fences are keys of their own and are evicted */
#endif
#ifdef SLOT
proctype Somebody() {
  if                               /* consumed by another client, or dropped and made again */
  :: d_step { owner == 0 && confirmed < flushed -> confirmed = flushed }
  :: d_step { owner == 0 && confirmed > 0 -> confirmed-- }   /* after a crash it is where a checkpoint left it */
  fi
}
#endif
#ifdef CRASH
proctype Crash() {
  d_step {
    vis = vis & upto(flushed);                       /* what was not flushed is lost, though readers saw it */
    do :: last > flushed -> at[last] = 0; last-- :: else -> break od;
    vis = upto(last); canary = 0; owner = 0; boot++
  }
}
#endif
#ifdef FAILOVER
proctype Failover() {
  atomic {
    tl++; slot = 0; owner = 0; canary = 0; confirmed = 0; boot++;
    do :: last > 0 -> at[last] = 0; last-- :: break od; /* the standby had the log up to here */
    flushed = last; vis = upto(last)
  }
}
#endif

init {
  atomic {
    byte i;
    if :: true :: R.v = 1 fi;
    run Database(); run Tailer(1);
#ifdef ZOMBIE
    run Tailer(2);
#endif
    do :: i < READERS -> run Reader(); i++ :: else -> break od;
    i = 0;
#ifdef LOSS
    run Loss();
#endif
#ifdef FLUSH
    run Flush();
#endif
#ifdef TTLFENCE
    run Expiry();
#endif
#ifdef SLOT
    run Somebody();
#endif
#ifdef CRASH
    run Crash();
#endif
#ifdef FAILOVER
    run Failover();
#endif
  }
}
