"""What bench/run and bench/compare share: options, and a place to work."""
import argparse
import contextlib
import fnmatch
import os
import pathlib
import shutil
import signal
import sys
import tempfile

import memory
from common import progress
from systems import BASE, ELSEWHERE, MEMORY
from workloads import BY_KEY, SCALES, WARM, WORKLOADS, chosen

SOURCES = pathlib.Path(__file__).resolve().parents[1]
COPIES = 3  # of a volume: what is written at once
PROGRAMS = ("fio", "nbdkit", "nbdcopy", "df", "sync")


def parser(name, text):
    p = argparse.ArgumentParser(
        prog=name, description=text,
        epilog="Workloads: %s." % ", ".join(w.key for w in WORKLOADS))
    how = p.add_mutually_exclusive_group()
    for scale, says in (
            ("quick", "small and short: does it work? (under 3 minutes)"),
            ("full", "as the targets ask, about two hours"),
            ("tiny", "smaller still: for the test of this program")):
        how.add_argument("--" + scale, action="store_const", const=scale,
                         dest="scale", help=says)
    p.set_defaults(scale="medium")
    p.add_argument("--dir", type=pathlib.Path, default="/var/tmp",
                   help="where the volumes lie while it runs, on the medium "
                   "to measure; needs 18 times --size (default: "
                   "%(default)s)")
    p.add_argument("--workloads", metavar="KEY,…",
                   help="only these (see below; patterns)")
    for option, kind, says in (
            ("size", int, "of each volume, MiB"),
            ("journal", int, "of lsvd, MiB"),
            ("ram", int, "ram= of lsvd, MiB"),
            ("runs", int, "of which medians are taken"),
            ("seconds", float, "of a timed run"),
            ("sustained", float, "seconds of the long one"),
            ("requests", int, "of a counted run")):
        p.add_argument("--" + option, type=kind, help=says)
    p.add_argument("--json", type=pathlib.Path, metavar="FILE",
                   help="all numbers, for programs")
    return p


def scale_of(p, args):
    scale = SCALES[args.scale]
    for name in vars(scale):
        if getattr(args, name, None) is not None:
            setattr(scale, name, getattr(args, name))
    if (scale.size < 64 or scale.journal < 16 or scale.ram < 2
            or scale.runs < 1 or scale.seconds <= 0 or scale.sustained <= 0
            or scale.requests < 1):
        p.error("too small")
    for program in PROGRAMS:
        if shutil.which(program) is None:
            p.error("%s is not installed" % program)
    return scale


def matching(p, what, words, keys):
    """The keys that a list of patterns names, in their order."""
    wanted = set()
    for word in words.split(","):
        found = fnmatch.filter(keys, word.strip())
        if not found:
            p.error("no %s %s; there are: %s" % (what, word,
                                                 ", ".join(keys)))
        wanted.update(found)
    return [k for k in keys if k in wanted]


def workloads_of(p, args):
    if args.workloads is None:
        return chosen(args.scale)
    keys = matching(p, "workload", args.workloads, list(BY_KEY))
    return chosen(args.scale, keys)


def systems_of(p, args, everything, quick, workloads):
    """Those to be measured, and why the others are not. What targets are
    multiples of comes along."""
    keys = [s.key for s in everything]
    if args.systems is not None:
        wanted = matching(p, "system", args.systems, keys)
        why_not = "not among --systems"
    elif args.scale in ("quick", "tiny"):
        wanted, why_not = quick, "left out by --%s" % args.scale
    else:
        wanted, why_not = keys, ""
    present, absent = [], []
    for s in everything:
        why = s.missing() if s.key in wanted or s.key == BASE else why_not
        if s.key == MEMORY and any(w.state == WARM for w in workloads):
            why = s.missing()
        if why is None:
            present.append(s)
        else:
            absent.append((s.name, why))
            progress("not measured: %s: %s" % (s.name, why))
    if BASE not in [s.key for s in present]:
        p.error("%s: %s" % [a for a in absent if a[0] == "nbdkit file"][0])
    return present, absent + list(ELSEWHERE.items())


@contextlib.contextmanager
def workplace(args, scale):
    """A directory that goes when we go, even if we are asked to; and how the
    machine is."""
    def leave(number, frame):
        sys.exit(128 + number)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    with tempfile.TemporaryDirectory(prefix="lsvd-bench.", dir=args.dir,
                                     ignore_cleanup_errors=True) as path:
        load = os.getloadavg()[0]
        first, again = memory.first_use(COPIES * scale.size)
        yield pathlib.Path(path), {
            "load_before": load, "memory_first": first, "memory_again": again}
