/* Generation and purge: protocol.md, "Product decisions", number 2.
 *
 * One key with its plain name, so that a value of an older generation lies in Redis until the purge finds it. Such a
 * value must never be trusted. A value is described by the generation under which it was filled, 0 = absent.
 *
 * Modelled: two tailers that take over from one another at any moment and may go on with what they knew; the purge
 * in steps, each a SCAN and an UNLINK in one script, and c := g after the last; new generations at any moment;
 * readers (state, then value; a miss is filled, perhaps much later); a value that vanishes without being counted in
 * n (VANISH: eviction, expiry, an application's DEL, a zombie's late UNLINK); Redis going back to an image of itself
 * (LOSS), in place (DEBUG RELOAD, a replica's swapdb) or on another server (new connections, another order of keys).
 * Not modelled: transactions and fences inside a generation (fill.pml), pending deletions (groups.pml), whether a
 * new generation is begun when it must be (fill.pml), merging commands (groups.pml).
 * Bounds: 3 generations (GENS), 1 reader of 2 rounds (ROUNDS), a SCAN of two steps, 1 loss, 1 vanishing.
 */
#ifndef GENS
#define GENS 3
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
typedef Redis { byte g = 1, c = 1, tok = 1, n, v }
Redis R, image;
byte lastG = 1;
bit imaged, lost;
bit spot;                          /* where a SCAN meets the key: in its first or its second step */
byte cursor[3], g[3] = 1, n[3];    /* of each tailer; cursor: 0 none, 1 and 2 the next step, 3 at its end */
byte oldCursor;                         /* RESUME: the cursor that the last tailer left */
bit found[3];                      /* SPLIT: what a SCAN beside the script has found */
bit filled;                        /* SKIPMARK: the key was filled in this generation */
#ifdef NOC
#define trusted true
#else
#define trusted (R.c == R.g)
#endif

proctype Watch() {                 /* what is trusted was filled in this generation */
end: R.c == R.g && R.v != 0 && R.v < R.g -> assert(false)
}

#define cas (R.tok == me && R.g == g[me] && R.n == n[me])
/* n. All that can ever matter is whether something was counted between the image and the loss. */
inline count() { if :: imaged && !lost -> R.n = 1 :: else fi; n[me] = R.n }

#if defined(SETCANY)
#define maySet true
#elif defined(SETCOWN)
#define maySet (R.g == g[me])
#elif defined(SETCNON)
#define maySet (R.g == g[me] && R.tok == me)
#else
#define maySet cas
#endif
#ifdef CEARLY
#define atEnd (cursor[me] != 0)
#else
#define atEnd (cursor[me] == 3)
#endif

proctype Tailer(byte me) {
end:
  do
  :: d_step { R.tok != me ->       /* takeover */
       R.tok = me; g[me] = R.g; n[me] = R.n; found[me] = 0;
#ifdef RESUME
       cursor[me] = (R.c != R.g -> (oldCursor > 1 -> oldCursor : 1) : 0)
#else
       cursor[me] = (R.c != R.g -> 1 : 0)
#endif
     }
  :: d_step { R.tok == me && R.g == g[me] && lastG < GENS ->      /* a new generation, for whatever reason */
       lastG++;
#ifdef CARRY
       R.c = (R.c == R.g -> lastG : 0);
       cursor[me] = (R.c == lastG -> 0 : 1);
#else
       R.c = 0; cursor[me] = 1;
#endif
       R.g = lastG; R.n = 0; g[me] = lastG; n[me] = 0; found[me] = 0; oldCursor = 1; filled = 0
     }
#ifdef SPLIT
  :: d_step { (cursor[me] == 1 || cursor[me] == 2) && !found[me] -> found[me] = (spot == cursor[me] - 1 && R.v != 0);
       if :: !found[me] -> cursor[me]++ :: else fi }
  :: d_step { found[me] && cas -> R.v = 0; found[me] = 0; cursor[me]++; count() }
#else
  :: d_step { (cursor[me] == 1 || cursor[me] == 2) && cas ->      /* one step */
       if
#ifdef SKIPMARK
       :: spot == cursor[me] - 1 && !filled -> R.v = 0
#else
       :: spot == cursor[me] - 1 -> R.v = 0
#endif
       :: else
       fi;
       cursor[me]++; oldCursor = cursor[me];
#ifndef NOCOUNT
       count()
#endif
     }
#endif
  :: d_step { atEnd && maySet -> R.c = R.g; count(); cursor[me] = 0 }
  :: d_step { cursor[me] == 3 && !cas -> cursor[me] = 0 }          /* FENCED or REGRESSED: all is forgotten */
  od
}

proctype Reader() {
  byte rg, v, round;
  bit trust, was, cancelled;
  do
  :: round == ROUNDS -> break
  :: else ->
#ifdef VALFIRST
     v = R.v;
     d_step { rg = R.g; trust = trusted };
#else
     d_step { rg = R.g; trust = trusted; was = lost };
#ifdef RELOAD
     v = R.v;                      /* RELOAD: the connection outlives the data between state and value */
#else
     d_step { v = R.v; if :: was != lost -> v = 0; cancelled = 1 :: else fi };   /* one connection, or MULTI */
#endif
#endif
     if
     :: d_step { v != 0 && trust -> assert(v >= rg) }              /* a hit */
     :: cancelled
     :: else ->                                                    /* a miss with a lease of rg; then the fill */
          d_step {
            if
#ifdef NOGCHK
            :: true ->
#else
            :: R.g == rg ->
#endif
                 if
#ifndef NOUNLINK
                 :: !trusted -> R.v = 0
#endif
                 :: else
                 fi;
                 assert(R.v == 0 || R.v >= R.g);                   /* the reply of SET … GET shows this */
                 R.v = rg; filled = 1
            :: else
            fi
          }
     fi;
     d_step { rg = 0; v = 0; trust = 0; was = 0; cancelled = 0; round++ }
  od
}

#ifdef VANISH
proctype Vanish() { R.v != 0 -> R.v = 0 }
#endif
#ifdef LOSS
proctype Loss() {
  d_step { imaged = 1; image.g = R.g; image.c = R.c; image.tok = R.tok; image.n = R.n; image.v = R.v };
  atomic {
    lost = 1; R.g = image.g; R.c = image.c; R.tok = image.tok; R.n = image.n; R.v = image.v;
    if
    :: true                        /* in place */
    :: spot = 1 - spot;            /* another server; a cursor dies with its connection */
#ifndef CURSOR
       if :: cursor[1] != 0 -> cursor[1] = 1 :: else fi;
       if :: cursor[2] != 0 -> cursor[2] = 1 :: else fi
#endif
    fi
  }
}
#endif

init {
  atomic {
    if :: R.v = 1 :: true fi;
    if :: spot = 0 :: spot = 1 fi;
    run Watch(); run Tailer(1); run Tailer(2); run Reader();
#ifdef VANISH
    run Vanish();
#endif
#ifdef LOSS
    run Loss();
#endif
  }
}
