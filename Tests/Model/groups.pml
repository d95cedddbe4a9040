/* Fence groups and pending deletions: protocol.md, "Product decisions", number 10.
 *
 * One key is covered by two groups, A and B (prefix rules such as category:7:*). A transaction hits the key itself,
 * A or B. To hit a group is one script of the tailer: it raises the group's fence bucket, enters (group, X) in the
 * state's field pd, writes the journal and moves W. What Redis holds for the key is then a miss until a sweep in
 * counted steps, begun from cursor 0 after the entry, has reached the end and a compare-and-set has taken the entry
 * out.
 *
 * Modelled: late visibility (V behind W), leases, whole-value and merging fills, replies that show the value
 * replaced, a deletion of a group by the application (DEL), Redis going back to an image of itself, in place or on
 * another server (LOSS: another order of keys, a new connection), the tailer's compare-and-set and its new
 * generation, one near cache fed by the journal (NEAR).
 * Not modelled: two tailers, the slot, PostgreSQL's crash (fill.pml); the steps of the purge that follows a new
 * generation (purge.pml); evidence and the chain of the journal (near.pml); tags that only the loaded row knows
 * (they are one more fence of the key here, A or B); the hash that puts groups into shared buckets (it only raises
 * more).
 * Bounds: 2 transactions (TXNS), 2 readers (READERS) with one read and one fill each, 1 image, 1 loss, 1 DEL; a
 * SCAN of two steps.
 *
 * A value is 0 (absent) or 1 + the set of changes it contains. It has two halves, as a hash that two HSETs make.
 */
#ifndef TXNS
#define TXNS 2
#endif
#ifndef READERS
#define READERS 2
#endif
#define EXT 8                      /* the change that the application tells of by its DEL, not through the log */
#define max(a, b) ((a) > (b) -> (a) : (b))
#define upto(x) (((1 << (x)) - 1) & concerns)   /* the transactions with position <= x that concern the key */
#define has(v, set) ((((v) - 1) & (set)) == (set))
#define stamp(v, d) ((v) * 4 + (d))  /* V||d */
#define visible(i) ((vis >> ((i) - 1)) & 1)
/* V: all commits up to it are visible; it is not beyond p, the last one decoded. */
#define prefix(p) (p >= 1 && visible(1) -> (p >= 2 && visible(2) -> (p >= 3 && visible(3) -> 3 : 2) : 1) : 0)

typedef Redis {
  byte g = 1, n, W, V, F, d, jl;   /* as in the specification, 2.1 */
  byte c = 1;                      /* generation whose purge has finished */
  byte bK, bA, bB;                 /* fence buckets of the key and of its two groups */
  byte pA, pB;                     /* pd: X of the pending deletion, 0 = none */
  byte v1, v2;                     /* the value's halves */
  byte need                        /* ghost: the changes that this server has been told of */
}
Redis R, image;
bit imaged, lost;
byte vis;                          /* the set of visible changes */
byte kind[4];                      /* what a transaction hits: 0 the key, 1 A, 2 B, 3 A then B, 4 B then A */
byte concerns = 7;                 /* the transactions that change the key's value */
bit byA = 1;                       /* A covers the key; B always does */
bit spot;                          /* where a SCAN meets the key: in its first or its second step */
byte cursor;                       /* the sweep: 0 none, 1 and 2 its next step, 3 at its end */
byte done;                         /* readers that have ended */
byte started;
bit quiet;                         /* all is over, the tailer holds the state */
byte near, ng = 1, pos, told;      /* near cache: entry, generation, journal position; ghost: changes told of */

#define trusted (R.c == R.g)
#define covered ((byA && R.pA != 0) || R.pB != 0)

/* Invariant I: what a reader would take for a hit contains every change that Redis has been told of; what the near
 * cache holds, every change up to the journal position consumed. And no half of a value stays. */
#define holds(v, set) (v == 0 || has(v, set))
proctype Watch() {
end:
  if
  :: trusted && !covered && !(holds(R.v1, R.need) && holds(R.v2, R.need)) -> assert(false)
  :: !holds(near, told) -> assert(false)
  :: quiet && trusted && !covered && (R.v1 == 0) != (R.v2 == 0) -> assert(false)
  fi
}

proctype Database() {                /* before or after the tailer decodes the commit, in any order */
end:
  do
  :: !visible(1) -> vis = vis | 1
  :: TXNS >= 2 && !visible(2) -> vis = vis | 2
  :: TXNS >= 3 && !visible(3) -> vis = vis | 4
  od
}

/* ---- the tailer: every step is one script that passes or fails its compare-and-set on (g, n) ---- */
byte tg = 1, tn;
#ifdef NOCAS
#define cas true
#else
#define cas (R.g == tg && R.n == tn)
#endif
/* n. All that can ever matter is whether something was counted between the image and the loss. */
inline count() { if :: imaged && !lost -> R.n = 1; tn = 1 :: else fi }

inline hit(bucket, entry) {        /* a transaction with position X hits a group */
#ifndef NOGROUPFENCE
  bucket = stamp(X, 0);
#endif
#ifndef NOPD
  entry = stamp(X, 0);
#endif
#ifndef NOJGROUP
  R.jl++
#endif
}

inline take(entry, begunWith) {    /* the entry leaves pd if the sweep began with it and it was not raised since */
  if
#if defined(PDRAISED)
  :: begunWith != 0 -> entry = 0
#elif defined(PDSCALAR)
  :: entry <= max(sA, sB) -> entry = 0
#else
  :: begunWith != 0 && entry == begunWith -> entry = 0
#endif
  :: else
  fi
}

proctype Tailer() {
  byte X;                          /* the last position applied */
  bit second;                      /* the first script of transaction X + 1 is done */
  byte sA, sB;                     /* the entries of pd with which the sweep began */
end:
  do
  :: d_step { X < TXNS && cas ->    /* apply */
       X++;
       if
       :: X <= R.W                 /* delivered again: its fences are raised already */
       :: else ->
            if
            :: kind[X] == 0 -> R.bK = stamp(X, 0); R.v1 = 0; R.v2 = 0; R.jl++
            :: kind[X] == 1 || kind[X] == 3 + second -> hit(R.bA, R.pA)
            :: kind[X] == 2 || kind[X] == 4 - second -> hit(R.bB, R.pB)
            fi
       fi;
       second = (kind[X] >= 3 && !second);
       if
       :: second -> X--            /* only the last script of a transaction moves W */
       :: else -> R.W = max(R.W, X); R.V = max(R.V, prefix(X)); R.need = R.need | upto(X)
       fi;
       count()
     }
  :: d_step { cas && prefix(X) > R.V -> R.V = prefix(X); count() }   /* V published (decision 12) */
  :: d_step { cursor == 0 && covered -> sA = R.pA; sB = R.pB; cursor = 1 }     /* a sweep begins */
  :: d_step { (cursor == 1 || cursor == 2) && cas ->                           /* SCAN and UNLINK in one script */
       if :: spot == cursor - 1 && ((byA && sA != 0) || sB != 0) -> R.v1 = 0; R.v2 = 0 :: else fi;
       cursor++;
#ifndef NOCOUNT
       count()
#endif
     }
#ifdef PDEARLY
  :: d_step { cursor != 0 && cas ->
#else
  :: d_step { cursor == 3 && cas ->                                            /* entries taken out */
#endif
       take(R.pA, sA); take(R.pB, sB);
       sA = 0; sB = 0; cursor = 0; count()
     }
#ifdef PDNOCAS
  :: d_step { cursor == 3 && !cas -> take(R.pA, sA); take(R.pB, sB); sA = 0; sB = 0; cursor = 0 }
#endif
#ifdef PDRIDE                      /* PDRIDE: an entry made meanwhile rides on the sweep under way */
  :: d_step { cursor == 2 && (R.pA != sA || R.pB != sB) -> sA = R.pA; sB = R.pB }
#endif
  :: d_step { !cas ->              /* Redis went back: a new generation; nothing is carried over */
       tg++; tn = 0; cursor = 0; sA = 0; sB = 0;
#ifndef CHUNK
       second = 0;                 /* the whole transaction again */
#endif
       R.g = tg; R.n = 0; R.W = X; R.V = prefix(X); R.F = stamp(X, 0); R.d = 0; R.jl = 0;
       R.bK = 0; R.bA = 0; R.bB = 0; R.pA = 0; R.pB = 0; R.need = upto(X)
     }
  :: d_step { !trusted && cas -> R.v1 = 0; R.v2 = 0; R.c = R.g; count() }   /* purge.pml has its steps */
  :: atomic { cas && X == TXNS && done == READERS && trusted && !covered -> quiet = 1; break }
  od
}

/* ---- readers: state with pd, then value, then a miss is loaded and filled ---- */
proctype Reader(byte id) {
  byte g, V, need, jl, v, s;
  bit cover, ok;
  atomic { started == id -> started++ };  /* readers are alike: one order of beginning is enough */
#ifdef PDAFTER
  v = R.v1;
  atomic { g = R.g; V = stamp(R.V, R.d); need = R.need; jl = R.jl; cover = !trusted || covered };
#else
  atomic { g = R.g; V = stamp(R.V, R.d); need = R.need; jl = R.jl; cover = !trusted || covered; ok = lost };
  atomic { v = R.v1; if :: ok != lost -> goto over :: else -> ok = 0 fi };  /* one connection, or MULTI: purge.pml */
#endif
#ifdef PDIGNORE
  cover = (R.c != g);
#endif
  if
  :: atomic { v != 0 && !cover -> assert(has(v, need)) };   /* a hit */
     goto keep
  :: else
  fi;
  s = 1 + vis;                                               /* the snapshot, after the lease */

#define refused (R.g != g || V < R.F || R.bK > V || (byA && R.bA > V) || R.bB > V)
  if
  :: d_step { true ->                                        /* whole value: SET, or SET … GET */
       if
       :: refused -> v = 0
       :: else ->
#ifndef NOUNLINK
            if :: !trusted || covered -> R.v1 = 0; R.v2 = 0 :: else fi;
#endif
            assert(holds(R.v1, R.need));                     /* the reply of SET … GET shows this */
            R.v1 = s; R.v2 = s; v = s; jl = R.jl
       fi
     }
  :: d_step { true ->                                        /* whole value: SET … NX */
       if
       :: refused -> v = 0
       :: else ->
#ifndef NOUNLINK
            if :: !trusted || covered -> R.v1 = 0; R.v2 = 0 :: else fi;
#endif
            if
            :: R.v1 == 0 && R.v2 == 0 -> R.v1 = s; R.v2 = s; v = s; jl = R.jl
            :: else -> v = 0
            fi
       fi
     }
#ifdef MERGE                                                 /* a value made by two merging commands */
#ifdef MERGECOV
#define unmergeable (refused || !trusted)
#else
#define unmergeable (refused || !trusted || covered)
#endif
  :: d_step { true -> v = 0; if :: unmergeable :: else -> R.v1 = s; ok = 1 fi };
     d_step {
#ifdef NOBAR
       if :: unmergeable :: else -> R.v2 = s fi
#else
       if :: !ok || unmergeable :: else -> R.v2 = s fi       /* a refused one bars those that follow */
#endif
     }
#endif
  fi;

keep:
#ifdef NEAR                                                  /* into the near cache, if nothing moved */
  atomic { if :: v != 0 && g == ng && jl >= pos -> near = v :: else fi };
#endif
over:
  atomic { done++; g = 0; V = 0; need = 0; jl = 0; v = 0; s = 0; cover = 0; ok = 0 }
}

#ifdef NEAR
proctype Follower() {                                 /* consumes the journal */
end:
  do
  :: d_step { R.g != ng || R.jl != pos ->
       if
       :: R.g != ng || R.jl != pos -> near = 0               /* every entry of this model covers the key */
       fi;
       ng = R.g; pos = R.jl; told = R.need
     }
  :: d_step { R.g == ng && R.jl == pos && told != R.need -> told = R.need }
  od
}
#endif

#ifdef DEL
proctype Application() {                              /* changes something of its own, then deletes a group */
  vis = vis | EXT;
  atomic {
    R.d++;
    if
    :: byA -> R.bA = max(R.bA, stamp(R.V, R.d)); R.pA = max(R.pA, stamp(R.V, R.d))
    :: R.bB = max(R.bB, stamp(R.V, R.d)); R.pB = max(R.pB, stamp(R.V, R.d))
    fi;
    R.jl++; R.need = R.need | EXT
  }
}
#endif

#ifdef LOSS
proctype Nemesis() {
  d_step { imaged = 1; image.g = R.g; image.n = R.n; image.W = R.W; image.V = R.V; image.F = R.F; image.d = R.d;
    image.jl = R.jl; image.c = R.c; image.bK = R.bK; image.bA = R.bA; image.bB = R.bB; image.pA = R.pA; image.pB = R.pB;
    image.v1 = R.v1; image.v2 = R.v2; image.need = R.need }
  atomic {
    lost = 1; R.g = image.g; R.n = image.n; R.W = image.W; R.V = image.V; R.F = image.F; R.d = image.d;
    R.jl = image.jl; R.c = image.c; R.bK = image.bK; R.bA = image.bA; R.bB = image.bB; R.pA = image.pA; R.pB = image.pB;
    R.v1 = image.v1; R.v2 = image.v2; R.need = image.need;
    if
    :: true                                                  /* in place: the connection lives on */
    :: spot = 1 - spot;                                      /* another server, with another order of keys */
#ifndef CURSOR
       if :: cursor != 0 -> cursor = 1 :: else fi            /* new connection: the sweep begins again */
#endif
    fi
  }
}
#endif

init {
  atomic {
    byte i = 1;
    if :: true :: R.v1 = 1; R.v2 = 1 fi;                     /* a value of before all transactions */
    if :: spot = 0 :: spot = 1 fi;
    if :: byA = 0 :: byA = 1 fi;
    do :: i <= TXNS -> if :: kind[i] = 0 :: kind[i] = 1 :: kind[i] = 2 :: kind[i] = 3 :: kind[i] = 4 fi;
       if :: kind[i] == 1 && !byA -> concerns = concerns - (1 << (i - 1)) :: else fi; i++
    :: else -> break od;
    run Watch(); run Database(); run Tailer();
    i = 0;
    do :: i < READERS -> run Reader(i); i++ :: else -> break od;
    i = 0;
#ifdef NEAR
    run Follower();
#endif
#ifdef DEL
    run Application();
#endif
#ifdef LOSS
    run Nemesis()
#endif
  }
}
