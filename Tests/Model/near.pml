/* The near cache and its feed: R6, N1 to N3, N6 and D7, D12, D13 of protocol.md, and sections 2.3 (beat) and 2.4.
 *
 * One key, which a transaction hits or not. A value is 0 (absent) or 1 + the number of transactions it contains.
 * There is no clock: a moment of the follower is the number of transactions acknowledged before it, and evidence of
 * a moment m promises that a hit contains at least those.
 *
 * Modelled: a tailer that samples the insert position, applies, and stores a beat; a follower's poll (moment, state,
 * journal, processing) and its reads (state, value, processing), each in separate steps and on connections of their
 * own; a journal that is trimmed (TRIM); Redis going back to an image of itself (LOSS), noticed by the tailer's
 * compare-and-set only when it writes next.
 * Not modelled: races of a fill (fill.pml): here a fill stores what is committed at that moment; several tailers;
 * late visibility; DDL; the clock itself, TTLs; what is served beyond the bound.
 * Bounds: 2 transactions (TXNS), 3 beats a generation (BEATS), 1 read (READS), any number of polls, 1 image, 1 loss.
 */
#ifndef TXNS
#define TXNS 2
#endif
#ifndef BEATS
#define BEATS 3
#endif
#ifndef READS
#define READS 1
#endif
#ifdef ONEBEAT
#define BACK 1
#else
#define BACK 2
#endif
#define OLDEST (BEATS - BACK)      /* the last beat that can be evidence */
#define max(a, b) ((a) > (b) -> (a) : (b))
/* A value holds what a claim of 1 + m promises: the last transaction up to m that hits the key. */
#define last(m) (m >= 3 && hits[3] -> 3 : (m >= 2 && hits[2] -> 2 : (m >= 1 && hits[1] -> 1 : 0)))
#define contains(v, claim) (v == 0 || claim == 0 || v - 1 >= last(claim - 1))

bit hits[4];                       /* whether a transaction hits the key; if not, its journal entry evicts another */
byte db;                           /* transactions committed and acknowledged */
typedef Redis { byte g = 1, n, W, h, jl, jmin = 1, evicts, v }
/* jmin: the oldest entry that the journal still has; evicts: bit j is set if entry j names the key. */
Redis R, image;
bit imaged, lost;

/* The follower. */
byte g = 1, pos, A, lh;            /* generation, journal position, position consumed, last beat seen */
byte near;                         /* the near entry */
byte seen[3];                      /* evidence: 1 + the moment of the newest poll that returned this h; 0 none */
byte cert;                         /* 1 + the moment that near hits may claim; 0 none */
bit poisoned;

/* The newest evidence of a beat that lies BACK beats behind this one. */
#define upto(list, i) (i >= 2 && list[2] != 0 -> list[2] : (i >= 1 && list[1] != 0 -> list[1] : list[0]))
inline note(h, m) { if :: h <= OLDEST -> seen[h] = m :: else fi }
#define copy sent[0] = seen[0]; sent[1] = seen[1]; sent[2] = seen[2]
#define drop sent[0] = 0; sent[1] = 0; sent[2] = 0
#define evidence(list, h) (h < BACK -> 0 : upto(list, h - BACK))

/* A near hit contains what was acknowledged before the moment it claims, and all up to A. */
proctype Watch() {
end:
  if
  :: !poisoned && !contains(near, cert) -> assert(false)
  :: !poisoned && !contains(near, 1 + A) -> assert(false)
  fi
}

proctype Database() { do :: db < TXNS -> db++ :: db == TXNS -> break od }

/* ---- the tailer ---- */
byte tg = 1, tn;
#ifdef NOCAS
#define cas true
#else
#define cas (R.g == tg && R.n == tn)
#endif
/* n. All that can ever matter is whether something was counted between the image and the loss. */
inline count() { if :: imaged && !lost -> R.n = 1; tn = 1 :: else fi }

proctype Tailer() {
  byte at, L, next;                /* applied; 1 + the position sampled for a beat, 0 none */
end:
  do
  :: d_step { at < db && cas ->    /* apply */
       at++; R.W = max(R.W, at); R.jl++;
       if
       :: hits[at] -> R.v = 0; R.evicts = R.evicts | (1 << R.jl)
       :: else -> R.evicts = R.evicts & (255 - (1 << R.jl))
       fi;
       count()
     }
  :: d_step { L == 0 -> L = 1 + db }                     /* sampled after the reply of the beat before */
#ifdef PIPE
  :: d_step { L != 0 && next == 0 -> next = 1 + db }     /* PIPE: while that beat is still on its way */
#endif
#ifdef BEATANY
  :: d_step { L != 0 && R.h < BEATS && cas ->            /* BEATANY: a beat that waits for nothing */
#else
  :: d_step { L != 0 && 1 + at >= L && R.h < BEATS && cas ->
#endif
       R.h++; R.W = max(R.W, at); L = next; next = 0; count()
     }
  :: d_step { !cas && tg < 3 ->    /* REGRESSED: a new generation; old values are unreachable (purge.pml) */
       tg++; tn = 0; L = 0; next = 0;
       R.g = tg; R.n = 0; R.W = at; R.h = 0; R.jl = 0; R.jmin = 1; R.evicts = 0; R.v = 0
     }
  od
}

/* ---- the follower polls ---- */
inline restart() {
  near = 0; cert = 0; i = 0;
  do :: i <= OLDEST -> seen[i] = 0; i++ :: else -> break od;
  i = 0
}

proctype Poller() {
  byte m, pg, ph, pW, pj;          /* moment, and the state as read */
  byte tip, i;                     /* the last entry of the journal's answer, 0 = it is empty */
  bit broken, evict;
end:
  do                               /* the moment is the latest that can be claimed: just before the state is read */
  :: d_step { m = 1 + db; pg = R.g; ph = R.h; pW = R.W; pj = R.jl;
#ifdef DEEP
     };
     d_step {
#endif
                                   /* XREAD from pos, and the answer's processing, which is the follower's own affair */
       i = max(pos + 1, R.jmin);
       broken = (i > pos + 1);     /* the first entry does not name pos as its predecessor */
       do :: R.g == g && i <= R.jl -> tip = i; evict = evict | ((R.evicts >> i) & 1); i++ :: else -> break od;
       i = 0;
       if
       :: pg != g -> restart(); g = pg; pos = pj; A = pW; lh = ph; note(ph, m); poisoned = 0
       :: pg == g && poisoned
       :: pg == g && !poisoned && (ph < lh || pj < pos || pW < A) ->
#ifdef NOREGR
            pos = pj; A = pW; lh = ph; note(ph, m)
#else
            restart(); poisoned = 1
#endif
       :: else ->
            if
#ifndef NOCHAIN
            :: tip != 0 && broken -> near = 0; pos = pj
#endif
            :: else ->
                 if :: evict -> near = 0 :: else fi;
                 if :: tip != 0 -> pos = tip :: else fi
            fi;
            note(ph, m); lh = ph;
            if
            :: pos >= pj -> A = pW; cert = max(cert, evidence(seen, ph))
            :: else
            fi
       fi;
       m = 0; pg = 0; ph = 0; pW = 0; pj = 0; tip = 0; broken = 0; evict = 0
     }
  od
}

#ifdef NOCHECK
#define accepted (rh >= lh && !poisoned)
#else
#define accepted (rh >= lh && rj >= pos && !poisoned)
#endif
/* ---- the follower reads: state, then value, then what it makes of them ---- */
proctype Reader() {
  byte rg, rh, rW, rj, v, round;
  byte sent[3];                     /* the evidence there was when the read was sent: it may claim no other */
  bit was;
  do
  :: round == READS -> break
  :: else ->
     d_step {
#ifndef LATEEVIDENCE
       copy;
#endif
       rg = R.g; rh = R.h; rW = R.W; rj = R.jl; was = lost };
     d_step {
       if
       :: R.v == 0 && R.g == rg -> R.v = 1 + db; rj = R.jl; rh = R.h; rW = R.W  /* a miss, loaded and filled */
       :: else
       fi;
       v = R.v;
       if :: was != lost -> v = 0 :: else fi             /* one connection, or MULTI: purge.pml */
     };
     d_step {
       if
       :: v != 0 && rg == g && accepted ->
#ifdef LATEEVIDENCE
            copy;
#endif
            assert(contains(v, evidence(sent, rh)) && contains(v, 1 + rW));
            near = v
       :: else
       fi;
       rg = 0; rh = 0; rW = 0; rj = 0; v = 0; was = 0; drop; round++
     }
  od
}

#ifdef TRIM
proctype Trim() { atomic { R.jl > 0 -> if :: R.jmin = R.jl :: R.jmin = R.jl + 1 fi } }
#endif
#ifdef LOSS
proctype Loss() {
  d_step { imaged = 1; image.g = R.g; image.n = R.n; image.W = R.W; image.h = R.h; image.jl = R.jl;
    image.jmin = R.jmin; image.evicts = R.evicts; image.v = R.v };
  d_step { lost = 1; R.g = image.g; R.n = image.n; R.W = image.W; R.h = image.h; R.jl = image.jl;
    R.jmin = image.jmin; R.evicts = image.evicts; R.v = image.v }
}
#endif

init {
  atomic {
    byte i;
    if :: near = 1 :: true fi;     /* filled before all transactions */
    if :: R.v = 1 :: true fi;
    if :: hits[1] = 1 :: true fi;
    if :: hits[2] = 1 :: true fi;
    if :: hits[3] = 1 :: TXNS < 3 fi;
    run Watch(); run Database(); run Tailer(); run Poller(); run Reader();
#ifdef TRIM
    run Trim();
#endif
#ifdef LOSS
    run Loss();
#endif
  }
}
