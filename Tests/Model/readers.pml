/* Readers of the near cache on other threads (Sources/Server/Readers, Sources/NearCache/Versions.swift).
 *
 * One key, which every transaction hits. A value is 1 + the number of transactions that it contains, kept in two halves
 * that are written and read one after the other; what was told (a NEARSIDE WAIT, a reply) and what a certificate
 * claims are numbers of transactions, too.
 *
 * Modelled: the event loop, which hears of transactions and takes the key out (by itself, or by clearing a group of it)
 * before it publishes the certificate and tells anybody; which fills; and which changes to another line of evidence,
 * under which values may contain less than before. The place of an entry that has left holds the bytes of another.
 * A reader, in single loads. A client that has been told asks the reader then.
 * Not modelled: the order in which processors show stores and loads (the fences' business: see Versions.swift); the
 * age of a certificate; several keys.
 * Bounds: 2 transactions (TXNS), 1 fill (FILLS), 1 change of the line, 1 look (LOOKS).
 */
#ifndef TXNS
#define TXNS 2
#endif
#ifndef FILLS
#define FILLS 1
#endif
#ifndef LOOKS
#define LOOKS 1
#endif
#define OTHER 15                   /* half a value of another key */

byte db;                           /* transactions committed */
byte heard, told;                  /* by the event loop; by clients, within this line */
/* What is shared. */
byte version, lo = OTHER, hi = OTHER, born, serial = 1, epoch, cert, line;
bit slot;

proctype Database() { do :: db < TXNS -> db++ :: else -> break od }

inline leave() {
  version++;
  slot = 0;
  lo = OTHER;
  hi = OTHER;
  version++
}

proctype Loop() {
  byte v, fills;
  bit changed;
  do
  :: db > heard ->
#ifdef CERTFIRST
       cert = 1 + db;
#endif
       v = db;
       if
       :: leave()
       :: d_step { serial++; epoch = serial }
       fi;
       heard = v;
       cert = 1 + heard;
       told = heard
  :: heard > 0 && cert == 0 && changed -> cert = 1 + heard
  :: fills < FILLS ->
       fills++;
       d_step { if :: v = 1 + heard :: v = 1 + db fi };
       if :: slot -> leave() :: else fi;
       version++;
       lo = v;
       born = serial;
       hi = v;
       slot = 1;
       version++
  :: !changed ->
       /* Transactions are lost, or were never seen: all that was known is given up. */
       changed = 1;
       d_step { cert = 0; told = 0 };
#ifndef NOLINE
       line++;
#endif
       d_step { heard = 0; db = 0 };
       if :: slot -> leave() :: else fi
  :: fills == FILLS && db == heard && changed -> break
  od
}

proctype Reader() {
  byte t, l, c, n, a, b, s, looks;
  do
  :: looks == LOOKS -> break
  :: looks < LOOKS ->
       looks++;
       d_step { t = told; l = line };
#ifndef CERTLATE
       c = cert;
#endif
       n = version;
#ifndef NOODD
       if :: n % 2 == 1 -> goto back :: else fi;
#endif
       if :: !slot -> goto back :: else fi;
       a = lo;
       s = born;
       b = hi;
#ifndef NOVERSION
       if :: version != n -> goto back :: else fi;
#endif
       if :: epoch > s -> goto back :: else fi;
#ifdef CERTLATE
       c = cert;
#endif
       if :: c == 0 || line != l -> goto back :: else fi;
       /* The answer. */
       assert(a == b);
       assert(a >= c && a >= 1 + t);
back:  skip;
       d_step { t = 0; l = 0; c = 0; n = 0; a = 0; b = 0; s = 0 }
  od
}

init { atomic { run Database(); run Loop(); run Reader() } }
