/* views.pml: which parts may be read: the rules R1-R7 with journal, checkpoint,
 * resync, replacement and a part that is rolled back to an old copy.
 *
 * See README.md beside this file for what is modelled and what is not. One
 * process is the whole world: the server is a straight program whose every
 * write to a medium is a step, and after each step it may be cut (env()).
 * Parts need no state "present": a start sees any set of them, and an error of
 * a part is a free choice of the server's path.
 *
 * An image is one block with the versions 1, 2, ...; a version that the client
 * got an answer for (and a flush) is nw. Reading less is the stale read.
 *
 * A view id is start * 8 + minor; the epoch of a start is ep[start]. So the id
 * of a view tells all ids before it (PREV), as the history in the record does.
 */

#ifndef N
#define N 3 /* parts, 2 or 3 */
#endif
#ifndef W
#define W 2 /* least number in sync for writing */
#endif
#ifndef READ
#define READ 1 /* parts needed to read */
#endif
#ifndef STARTS
#define STARTS 2 /* claims that are begun; a start that only reads is free */
#endif
#ifndef WRITES
#define WRITES 1
#endif
#ifndef CHANGES
#define CHANGES 1 /* drops and adds, beside the removals of a claim */
#endif
#ifndef SNAPS
#define SNAPS 0 /* 1: a part's medium may once be set back to an old copy */
#endif
#ifndef BLANKS
#define BLANKS 0 /* times that a part is replaced by a blank instance */
#endif

/* NO_JOURNAL: there is none, as in the search that faults.md 2.9 reports: a write
 * counts when it is in place on all members, a start has only the labels. */

/* What the rules say, unless a switch leaves it out. */
#if defined(NO_SQ)
#define R1(s, q) (COUNT(s) >= W)
#else
#define R1(s, q) (COUNT(s) >= W && COUNT((s) & (q)) >= W)
#endif
#if defined(NO_R7)
#define MAY_DROP(s, q) ((s) != 0)
#else
#define MAY_DROP(s, q) R1(s, q)
#endif
#if defined(NO_Q)
#define R3(s, q, there) (COUNT((s) & ~(there)) < W)
#else
#define R3(s, q, there) \
    (COUNT((s) & ~(there)) < W && COUNT((q) & ~(there)) < W)
#endif
/* R3 counts the members that are seen, or only those that R5 lets be used. A
 * part of another instance is not the member. */
#if N > 2
#define OTHER_2 ((ins[2] ^ ((vI[MEM] >> 2) & 1)) << 2)
#else
#define OTHER_2 0
#endif
#define OTHERS \
    ((ins[0] ^ (vI[MEM] & 1)) | \
     ((ins[1] ^ ((vI[MEM] >> 1) & 1)) << 1) | OTHER_2)
/* Without a journal that proves it nobody knows whether an add is complete: S of
 * its view and Q both may be the last complete one, and the view of a claim can
 * name only one. So such a claim needs all of S, which completes the add. */
#if defined(ADD_UNKNOWN)
#define KNOWN true
#else
#define KNOWN \
    (PROVES(k) || (vS[MEM] & ~vQ[MEM]) == 0 || (vS[MEM] & ~usable) == 0)
#endif
#if defined(R3_USABLE)
#define THERE usable
#else
#define THERE (seen & ~OTHERS)
#endif
/* R3: a journal proves that no newer view is elsewhere once a view that names it
 * was complete: it says so, or has a record. The older text: always. */
#if defined(JOURNAL_ALWAYS_PROVES)
#define PROVES(j) ((j) != NONE)
#else
#define PROVES(j) ((j) != NONE && used[j])
#endif
/* A returning part's chunk is good if its table says no less than that of S.
 * COPY_BACK: if it says the same; so it may be copied over with older bytes.
 * DIRTY_BY_CKPT: if S's table is no newer than the part's checkpoint. */
#if defined(COPY_BACK)
#define TABLE_OK(q, of_s) (tab[q] == (of_s))
#elif defined(DIRTY_BY_CKPT)
#define TABLE_OK(q, of_s) (ck[q] >= (of_s))
#else
#define TABLE_OK(q, of_s) (tab[q] >= (of_s))
#endif
/* R5 for a part one view behind, when no journal tells its checkpoint. */
#if defined(PREV_ANY_CKPT)
#define PREV_OK(i) true
#else
#define PREV_OK(i) (x != NONE || ck[i] >= newest)
#endif
/* R5 for a part that missed views but no data. */
#if defined(NO_ANCESTOR)
#define ANCESTOR_OK(i) false
#else
#define ANCESTOR_OK(i) (best == vid[i] && ck[i] >= newest)
#endif
/* R4: who promises. */
#if defined(PROMISE_USABLE)
#define PROMISERS usable
#else
#define PROMISERS (seen & (vS[MEM] | vQ[MEM]))
#endif
#if defined(NO_SQ) || defined(NO_Q) || defined(NO_CLAIM) || \
    defined(NO_R2) || defined(NO_R5) || defined(NO_R7)
#define INVARIANT(x) skip /* a switch must lead to a stale read */
#else
#define INVARIANT(x) assert(x)
#endif

#define TIE(x) INVARIANT(x)

#define ALL ((1 << N) - 1)
#define BIT(i) (1 << (i))
#define HAS(set, i) ((set) & (1 << (i)))
#define COUNT(set) (((set) & 1) + (((set) >> 1) & 1) + (((set) >> 2) & 1))
#define KEY(v) (ep[(v) >> 3] * 8 + ((v) & 7)) /* 0.0 is the least */
#define PREV(v) ((((v) & 7) > 1) -> ((v) - 1) : par[(v) >> 3])

/* Holders of a view: parts 0 to N - 1, the two journals (those of two hosts,
 * say), the server's memory, the old copy of part 0. */
#define J0 N
#define MEM (N + 2)
#define OLD (N + 3)
#define HOLDERS (N + 4)
#define NONE 2 /* no journal */

byte vid[HOLDERS];  /* 0: none */
byte vS[HOLDERS], vQ[HOLDERS];
byte vJ[HOLDERS];   /* UUID of the journal: the start that made it; 0 none */
byte vI[HOLDERS];   /* instance of each slot, a bit */

/* Media of the parts; OLD - the copy - has the index N here. */
byte pro[N + 1], ck[N + 1], tab[N + 1], dat[N + 1];
bit ins[N + 1];

/* Media of the journals. */
byte juid[2], rec[2]; /* rec: the newest record not yet let go; 0 none */
byte jck[2 * N];
bit used[2]; /* says that its view was complete, or has held a record */

byte begun; /* NO_JOURNAL: writes that were begun; nw: that are in place */

/* What ids mean; nobody's memory. */
byte ep[STARTS + 1], par[STARTS + 1];

/* The world's books. */
byte starts, nw, chg, blanks, epused;
bit snapped, restored, rolled;
byte lostkey;

/* The server's memory. */
byte seen, usable, k, st, done, bt, mck, syn;
bit serving, copied, closing;
byte adding; /* slot + 1 of the part that the pending view adds */

/* Scratch, zero between steps. */
byte p, i, x, best, newest;
bit ok;

inline copy_view(to, from)
{
    vid[to] = vid[from];
    vS[to] = vS[from];
    vQ[to] = vQ[from];
    vJ[to] = vJ[from];
    vI[to] = vI[from];
}

inline pick(set)
{
    if
    :: HAS(set, 0) -> p = 0
    :: HAS(set, 1) -> p = 1
#if N > 2
    :: HAS(set, 2) -> p = 2
#endif
    fi
}

inline next_minor()
{
    vid[MEM] = vid[MEM] + 1
}

inline store_label(q)
{
    INVARIANT(vid[q] == 0 || KEY(vid[MEM]) >= KEY(vid[q])); /* I1 */
    INVARIANT(ck[q] <= dat[q]); /* I8 */
    copy_view(q, MEM);
    pro[q] = (pro[q] > ep[vid[MEM] >> 3] -> pro[q] : ep[vid[MEM] >> 3]);
    if
    :: q == 0 -> rolled = 0; lostkey = 0
    :: else
    fi
}

/* I5, I7: what a client may be given now, from any part that may be asked. */
inline check_reads()
{
    i = 0;
    do
    :: i == N -> break
    :: i < N ->
        if
        :: HAS(vS[MEM] & usable, i) ->
            if
            :: k != NONE && rec[k] != 0 -> x = rec[k]
            :: else -> x = dat[i]
            fi;
            assert(x >= nw) /* no stale read */
        :: else
        fi;
        i++
    od;
    i = 0;
    x = 0
}

inline take_copy()
{
    d_step {
        snapped = 1;
        copy_view(OLD, 0);
        pro[N] = pro[0];
        ck[N] = ck[0];
        tab[N] = tab[0];
        dat[N] = dat[0];
        ins[N] = ins[0];
        printf("part 0 is copied\n")
    }
}

inline restore_copy()
{
    d_step {
        restored = 1;
        rolled = 1;
        lostkey = (KEY(vid[0]) > lostkey -> KEY(vid[0]) : lostkey);
        copy_view(0, OLD);
        pro[0] = pro[N];
        ck[0] = ck[N];
        tab[0] = tab[N];
        dat[0] = dat[N];
        ins[0] = ins[N];
        /* no longer needed: alike states meet */
        vid[OLD] = 0; vS[OLD] = 0; vQ[OLD] = 0; vJ[OLD] = 0; vI[OLD] = 0;
        pro[N] = 0; ck[N] = 0; tab[N] = 0; dat[N] = 0; ins[N] = 0;
        printf("part 0 is set back: view %d.%d ckpt %d data %d\n",
               vid[0] >> 3, vid[0] & 7, ck[0], dat[0])
    }
}

inline make_blank(q)
{
    d_step {
        blanks++;
        pro[q] = 0; ck[q] = 0; tab[q] = 0; dat[q] = 0;
        ins[q] = 1 - ins[q];
        if
        :: q == 0 && !restored ->
            lostkey = (KEY(vid[0]) > lostkey -> KEY(vid[0]) : lostkey)
        :: q == 0 && restored -> rolled = 0; lostkey = 0
        :: else
        fi;
        vid[q] = 0; vS[q] = 0; vQ[q] = 0; vJ[q] = 0; vI[q] = 0;
        printf("part %d is replaced by a blank one\n", q)
    }
}

#if defined(NO_JOURNAL)
#define CLIENT_WRITES(again) \
    :: serving && begun < WRITES && rec[k] == 0 -> \
        d_step { \
            begun++; \
            rec[k] = begun; \
            printf("write %d\n", begun) \
        }; \
        goto again
#else
#define CLIENT_WRITES(again) \
    :: serving && nw < WRITES -> \
        d_step { \
            nw++; \
            rec[k] = nw; \
            used[k] = 1; \
            printf("write %d\n", nw) \
        }; \
        goto again
#endif

/* What may come between two steps; again: where the server's path goes on. */
#define BETWEEN(again) \
    :: true -> printf("cut\n"); goto down \
    CLIENT_WRITES(again) \
    :: SNAPS && !snapped && vid[0] != 0 -> take_copy(); goto again

/* R3 and R5 for what is in seen. ok: the start may read. */
inline judge()
{
    /* the greatest view; of equal ones, that says "complete" or one that
     * does not: p tells which to prefer */
    best = HOLDERS;
    ok = 1;
    i = 0;
    do
    :: i == N -> break
    :: i < N ->
        if
        :: HAS(seen, i) ->
            if
            :: best == HOLDERS -> best = i
            :: best < HOLDERS && KEY(vid[i]) > KEY(vid[best]) ->
                best = i;
                ok = 1
            :: best < HOLDERS && KEY(vid[i]) == KEY(vid[best]) ->
                if
                :: vid[i] != vid[best] -> ok = 0 /* a tie: refused */
                :: vid[i] == vid[best] && p == 1 && vQ[i] == vS[i] ->
                    best = i
                :: vid[i] == vid[best] && p == 0 && vQ[i] != vS[i] ->
                    best = i
                :: else
                fi
            :: else
            fi
        :: else
        fi;
        i++
    od;
    TIE(ok || restored); /* a copy may have lost a promise */
    k = NONE;
    usable = 0;
    x = NONE; /* whose checkpoints are known */
    if
    :: ok ->
        copy_view(MEM, best);
        if
        :: vJ[MEM] == 0
        :: vJ[MEM] != 0 ->
            if
            :: juid[0] == vJ[MEM] -> k = 0
            :: juid[1] == vJ[MEM] && juid[0] != vJ[MEM] -> k = 1
            :: else -> ok = 0 /* needs its journal */
            fi;
            if
            :: ok && KEY(vid[J0 + k]) < KEY(vid[MEM]) -> ok = 0
            :: ok && KEY(vid[J0 + k]) >= KEY(vid[MEM]) ->
                copy_view(MEM, J0 + k);
                x = k
            :: else
            fi;
            if
            :: ok && vJ[MEM] == 0 -> k = NONE /* cut while detaching */
            :: else
            fi
        fi
    :: else
    fi;
    /* the greatest checkpoint in a label of this view or the one before */
    newest = 0;
    i = 0;
    do
    :: i == N || !ok -> break
    :: i < N && ok ->
        if
        :: HAS(seen, i) && ck[i] > newest &&
           (vid[i] == vid[MEM] || vid[i] == PREV(vid[MEM])) -> newest = ck[i]
        :: else
        fi;
        i++
    od;
    i = 0;
    do
    :: i == N || !ok -> break
    :: i < N && ok ->
        if
        :: HAS(seen, i) && HAS(vS[MEM], i) &&
           ins[i] == ((vI[MEM] >> i) & 1) ->
            /* best: is it an ancestor? */
            best = vid[MEM];
            do
            :: best == 0 || best == vid[i] -> break
            :: else -> best = PREV(best)
            od;
            if
#if defined(NO_R5)
            :: true -> usable = usable | BIT(i)
#else
            :: (vid[i] == vid[MEM] ||
                (vid[i] == PREV(vid[MEM]) && PREV_OK(i)) ||
                ANCESTOR_OK(i)) &&
               (x == NONE || ck[i] >= jck[x * N + i]) ->
                usable = usable | BIT(i)
#endif
            :: else
            fi
        :: else
        fi;
        i++
    od;
    if
    :: ok && !PROVES(k) && !R3(vS[MEM], vQ[MEM], THERE) -> ok = 0
    :: else
    fi;
    if
    :: ok && COUNT(usable) < READ -> ok = 0
    :: else
    fi;
    i = 0;
    x = 0;
    best = 0;
    newest = 0
}


/* What nothing refers to any more is made alike, so that states meet: a journal
 * that no label names can't be used, an id that nobody holds decides nothing. */
#define NAMED(u) \
    (vJ[0] == (u) || vJ[1] == (u) || vJ[N - 1] == (u) || vJ[OLD] == (u))
inline forget_journal(j)
{
    if
    :: juid[j] != 0 && !NAMED(juid[j]) ->
        juid[j] = 0; rec[j] = 0; used[j] = 0;
        jck[j * N] = 0; jck[j * N + 1] = 0; jck[j * N + N - 1] = 0;
        vid[J0 + j] = 0; vS[J0 + j] = 0; vQ[J0 + j] = 0; vJ[J0 + j] = 0;
        vI[J0 + j] = 0
    :: else
    fi
}

inline forget_starts()
{
    i = starts;
    do
    :: i == 0 -> break
    :: else ->
        x = 0;
        best = 0;
        do
        :: best == HOLDERS -> break
        :: best < HOLDERS && (vid[best] >> 3) == i -> x = 1; break
        :: else -> best++
        od;
        best = 0;
        do
        :: best > starts -> break
        :: best <= starts && (par[best] >> 3) == i -> x = 1; break
        :: else -> best++
        od;
        if
        :: x == 0 -> ep[i] = 0; par[i] = 0
        :: else
        fi;
        i--
    od;
    x = 0;
    best = 0
}

/* A part returns: only of our history. */
inline returns()
{
    best = vid[MEM];
    do
    :: best == 0 || best == vid[p] -> break
    :: else -> best = PREV(best)
    od;
    if
    :: vid[p] == 0 || (best == vid[p] && ins[p] == ((vI[MEM] >> p) & 1)) ->
        syn = p;
        do
        :: i == N -> break
        :: i < N ->
            if
            :: HAS(vS[MEM], i) && tab[i] > x -> x = tab[i]
            :: else
            fi;
            i++
        od;
        copied = (vid[p] != 0 && TABLE_OK(p, x));
        printf("part %d is syncing\n", p)
    :: else /* diverged */
    fi;
    x = 0;
    i = 0;
    best = 0;
    p = 0
}

/* Who gets the bytes of a batch. */
#define TARGETS (vS[MEM] | (copied << syn))

/* A step: one write to a medium and what decides on it. Only the states at
 * "skip" are kept. */
active proctype world()
{
    d_step {
        ep[0] = 1;
        i = 0;
        do
        :: i == N -> break
        :: i < N ->
            vid[i] = 1; /* view 0.1: made, all in sync, detached */
            vS[i] = ALL;
            vQ[i] = ALL;
            pro[i] = 1;
            i++
        od;
        i = 0
    }

down:
    skip;
    atomic {
        d_step { /* all that was only in memory */
            serving = 0; copied = 0; closing = 0; adding = 0;
            seen = 0; usable = 0; st = 0; done = 0; bt = 0; mck = 0; syn = N;
            k = NONE; p = 0; ok = 0; i = 0; x = 0;
            vid[MEM] = 0; vS[MEM] = 0; vQ[MEM] = 0; vJ[MEM] = 0; vI[MEM] = 0;
            forget_journal(0);
            forget_journal(1);
            forget_starts()
        };
        if
        :: SNAPS && !snapped && vid[0] != 0 -> take_copy(); goto down
        :: SNAPS && snapped && !restored -> restore_copy(); goto down
        :: blanks < BLANKS -> pick(ALL); make_blank(p); goto down
        /* O2: what is there, R3, R5 */
        :: seen = 1
        :: seen = 2
        :: seen = 3
#if N > 2
        :: seen = 4
        :: seen = 5
        :: seen = 6
        :: seen = 7
#endif
        fi;
        if
        :: p = 0
        :: p = 1
        fi;
        d_step {
            i = 0;
            do
            :: i == N -> break
            :: i < N ->
                if
                :: vid[i] == 0 -> seen = seen & ~BIT(i)
                :: else
                fi;
                i++
            od;
            i = 0;
            if
            :: seen == 0 -> ok = 0
            :: else -> judge()
            fi;
            p = 0;
#if !defined(ROLLBACK_LAST_WITNESS)
            if
            :: ok && rolled && lostkey > KEY(vid[MEM]) -> ok = 0
            :: else
            fi;
#endif
            if
            :: ok ->
                printf("start with parts %d: view %d.%d S %d Q %d, usable %d\n",
                       seen, vid[MEM] >> 3, vid[MEM] & 7, vS[MEM], vQ[MEM],
                       usable);
                check_reads()
            :: else
            fi
        };
        if
        :: !ok || starts == STARTS || !R1(vS[MEM] & usable, vQ[MEM]) ||
           !KNOWN ->
            goto down /* refused, or it only reads */
        :: else -> ok = 0
        fi;
        /* R4: claim */
        d_step {
            starts++;
            st = starts;
            ep[st] = ep[vid[MEM] >> 3];
            do
            :: i == N -> break
            :: i < N ->
                if
                :: HAS(seen, i) ->
#if !defined(NO_CLAIM)
                    if
                    :: pro[i] > ep[st] -> ep[st] = pro[i]
                    :: else
                    fi;
#endif
                    if
                    :: ep[vid[i] >> 3] > ep[st] -> ep[st] = ep[vid[i] >> 3]
                    :: else
                    fi
                :: else
                fi;
                i++
            od;
            i = 0;
            ep[st] = ep[st] + 1
        }
    }

promise:
    skip;
    atomic {
#if !defined(NO_CLAIM)
        if
        BETWEEN(promise)
        :: (PROMISERS & ~done) != 0 ->
            pick(PROMISERS & ~done);
            if
            :: d_step {
                   pro[p] = ep[st];
                   if
                   :: HAS(usable & vS[MEM], p) ->
                       store_label(p); /* R5: rolled forward */
                       pro[p] = ep[st]
                   :: else
                   fi;
                   done = done | BIT(p);
                   p = 0
               }
            :: d_step { /* it fails: as if it were not there */
                   seen = seen & ~BIT(p);
                   usable = usable & ~BIT(p);
                   p = 0
               }
            fi;
            goto promise
        :: (PROMISERS & ~done) == 0 -> done = 0
        fi;
        if
        :: (!PROVES(k) && !R3(vS[MEM], vQ[MEM], THERE)) ||
           COUNT(usable) < READ || !R1(vS[MEM] & usable, vQ[MEM]) ||
           !KNOWN ->
            goto down
        :: else
        fi;
#endif
        if
        :: k == NONE -> x = 1;
            if
            :: k = 0
            :: juid[0] != 0 || juid[1] != 0 -> k = 1
            fi
        :: k != NONE -> x = 0
        fi;
        d_step {
            /* the view of the claim: without those that can't be used */
            par[st] = vid[MEM];
            vid[MEM] = st * 8 + 1;
#if !defined(ADD_UNKNOWN)
            if
            :: (x || !PROVES(k)) && (vS[MEM] & ~vQ[MEM]) != 0 -> vQ[MEM] = vS[MEM]
            :: else
            fi;
#endif
            vS[MEM] = vS[MEM] & usable;
            seen = 0;
            if
            :: x ->
#if !defined(NO_JOURNAL)
                vJ[MEM] = st;
#endif
                juid[k] = st;
                rec[k] = 0;
                used[k] = 0
            :: else
            fi;
            do
            :: i == N -> break
            :: i < N ->
                if
                :: x -> jck[k * N + i] = ck[i]
                :: else
                fi;
                i++
            od;
            i = 0;
            x = 0;
            mck = 255;
            do
            :: i == N -> break
            :: i < N ->
                if
                :: HAS(vS[MEM], i) && jck[k * N + i] < mck ->
                    mck = jck[k * N + i]
                :: else
                fi;
                i++
            od;
            i = 0
        }
    }

    /* R2: the view in MEM to the journal, then to every member */
install:
    skip;
    atomic {
        if
        BETWEEN(install)
        :: true
        fi;
        d_step {
            INVARIANT(R1(vS[MEM], vQ[MEM])); /* I2, I14 */
            done = 0;
            usable = vS[MEM];
            if
#if defined(NO_JOURNAL)
            :: true
#elif defined(DETACH_LABELS_ONLY)
            :: closing
#endif
            :: else ->
                INVARIANT(juid[k] == st || /* I1 */
                          KEY(vid[MEM]) > KEY(vid[J0 + k]));
                copy_view(J0 + k, MEM);
                printf("journal %d: view %d.%d S %d Q %d\n", vJ[MEM],
                       vid[MEM] >> 3, vid[MEM] & 7, vS[MEM], vQ[MEM]);
#if !defined(STALE_JOURNAL_CKPT)
                if
                :: adding -> jck[k * N + adding - 1] = ck[adding - 1]
                :: else
                fi
#endif
            fi
        }
    }

members:
    skip;
    atomic {
        if
        BETWEEN(members)
        :: (vS[MEM] & ~done) != 0 ->
            pick(vS[MEM] & ~done);
            d_step {
                store_label(p);
                done = done | BIT(p);
                printf("label %d: view %d.%d S %d Q %d\n", p, vid[MEM] >> 3,
                       vid[MEM] & 7, vS[MEM], vQ[MEM]);
                p = 0
            };
            goto members
        :: chg < CHANGES && (vid[MEM] & 7) < 7 ->
            /* a member fails: the next view derives from the pending one */
            pick(vS[MEM]);
            if
            :: MAY_DROP(vS[MEM] & ~BIT(p), vQ[MEM]) ->
                d_step {
                    chg++;
                    vS[MEM] = vS[MEM] & ~BIT(p);
                    next_minor();
                    if
                    :: adding == p + 1 -> adding = 0
                    :: else
                    fi;
                    printf("member %d fails\n", p);
                    p = 0
                };
                goto install
            :: else -> goto down /* it waits for the part: alike a cut */
            fi
#if defined(NO_R2)
        :: done != 0
#else
        :: (vS[MEM] & ~done) == 0
#endif
        fi;
        d_step {
            done = 0;
            adding = 0;
            x = (vQ[MEM] != vS[MEM]);
            vQ[MEM] = vS[MEM];
            printf("view %d.%d takes effect\n", vid[MEM] >> 3, vid[MEM] & 7);
            if
            :: !serving && !closing ->
                INVARIANT(!HAS(epused, ep[st])); /* I6 */
                epused = epused | BIT(ep[st])
            :: else
            fi
        };
        if
        :: closing -> x = 0; goto down
        :: !closing -> x = 0; serving = 1; goto serve /* not rewritten yet */
        :: !closing && x == 1 -> x = 0; serving = 1
#if !defined(NO_JOURNAL)
        :: !closing && x == 0 -> serving = 1; used[k] = 1; goto serve
#endif
        fi;
#if !defined(NO_JOURNAL)
        vQ[J0 + k] = vQ[MEM];
        used[k] = 1
#endif
    }

lazy:
    skip;
    atomic {
        if
        BETWEEN(lazy)
        :: (vS[MEM] & ~done) != 0 ->
            pick(vS[MEM] & ~done);
            d_step {
                store_label(p);
                done = done | BIT(p);
                p = 0
            };
            goto lazy
        :: (vS[MEM] & ~done) == 0
        fi
    }

serve:
    skip;
    atomic {
        d_step {
            check_reads();
            done = 0; bt = 0; p = 0
        };
        if
        BETWEEN(serve)
        :: rec[k] != 0 -> bt = rec[k]
        :: rec[k] == 0 && (vid[MEM] & 7) < 7 ->
            d_step { /* O7: all is destaged */
                serving = 0;
                syn = N;
                copied = 0;
                closing = 1;
                next_minor();
                vJ[MEM] = 0;
                printf("closing\n")
            };
            goto install
        :: chg < CHANGES && (vid[MEM] & 7) < 7 -> /* O5: an error */
            pick(vS[MEM]);
            if
            :: MAY_DROP(vS[MEM] & ~BIT(p), vQ[MEM]) ->
                d_step {
                    chg++;
                    vS[MEM] = vS[MEM] & ~BIT(p);
                    next_minor();
                    printf("part %d is dropped\n", p);
                    p = 0
                };
                goto install
            :: else -> p = 0; goto serve /* R7 */
            fi
        :: chg < CHANGES && syn == N && vS[MEM] != ALL &&
           (vid[MEM] & 7) < 7 ->
            pick(ALL & ~vS[MEM]);
            d_step { returns() };
            goto serve
        :: syn != N && !copied ->
            pick(vS[MEM]); /* the source */
            d_step {
                dat[syn] = dat[p];
                copied = 1;
                p = 0;
                printf("part %d is copied over\n", syn)
            };
            goto serve
        :: syn != N && copied && chg < CHANGES && (vid[MEM] & 7) < 7 ->
            d_step { /* O6: table, label with checkpoint, the view */
                do
                :: i == N -> break
                :: i < N ->
                    if
                    :: HAS(vS[MEM], i) && tab[i] > x -> x = tab[i]
                    :: else
                    fi;
                    i++
                od;
                i = 0;
                tab[syn] = (x > tab[syn] -> x : tab[syn]);
                x = 0
            };
            goto added
        :: syn != N -> syn = N; copied = 0; goto serve /* it fails again */
        :: SNAPS && snapped && !restored && !HAS(vS[MEM], 0) && syn != 0 ->
            restore_copy();
            goto serve
        :: blanks < BLANKS && vS[MEM] != ALL ->
            pick(ALL & ~vS[MEM]);
            if
            :: p != syn -> make_blank(p)
            :: else
            fi;
            p = 0;
            goto serve
        fi
    }

    /* O4; an error: the batch is tried again later */
data:
    skip;
    atomic {
        if
        BETWEEN(data)
        :: goto serve
        :: (TARGETS & ~done) != 0 ->
            pick(TARGETS & ~done);
            d_step {
                dat[p] = bt;
                done = done | BIT(p);
                p = 0
            };
            goto data
        :: (TARGETS & ~done) == 0 -> done = 0
        fi
    }
tables:
    skip;
    atomic {
        if
        BETWEEN(tables)
        :: goto serve
        :: (vS[MEM] & ~done) != 0 ->
            pick(vS[MEM] & ~done);
            d_step {
                tab[p] = bt;
                done = done | BIT(p);
                p = 0
            };
            goto tables
        :: (vS[MEM] & ~done) == 0 -> done = 0
        fi
    }
labels:
    skip;
    atomic {
        if
        BETWEEN(labels)
        :: goto serve
        :: (vS[MEM] & ~done) != 0 ->
            pick(vS[MEM] & ~done);
            d_step {
                ck[p] = bt;
                INVARIANT(dat[p] >= ck[p]); /* I8 */
                INVARIANT(tab[p] >= ck[p]); /* I10 */
                done = done | BIT(p);
                p = 0
            };
            goto labels
        :: (vS[MEM] & ~done) == 0 -> done = 0
        fi;
        d_step {
            do
            :: i == N -> break
            :: i < N ->
                if
                :: HAS(vS[MEM], i) ->
                    INVARIANT(ck[i] >= bt); /* I9 */
                    jck[k * N + i] = ck[i]
                :: else
                fi;
                i++
            od;
            i = 0;
            mck = bt;
            if
            :: rec[k] == bt -> rec[k] = 0
            :: else
            fi;
#if defined(NO_JOURNAL)
            nw = bt;
#endif
            bt = 0;
            printf("destaged up to %d\n", mck)
        };
        goto serve
    }

added:
    skip;
    atomic {
        if
        BETWEEN(added)
        :: ck[syn] = (mck > ck[syn] -> mck : ck[syn])
        fi
    }
added_label:
    skip;
    atomic {
        if
        BETWEEN(added_label)
        :: true
        fi;
        d_step {
            chg++;
            adding = syn + 1;
            vS[MEM] = vS[MEM] | BIT(syn);
            vI[MEM] = (vI[MEM] & ~BIT(syn)) | (ins[syn] << syn);
            next_minor();
            printf("part %d is added\n", syn);
            syn = N;
            copied = 0
        };
        goto install
    }
}
