"""What is run, on what state, and what is aimed at.

Every measurement makes the state that it needs by itself; none depends on
what ran before. Sizes come from Scale.
"""
import dataclasses

from common import BLOCK, MIB


@dataclasses.dataclass
class Scale:
    size: int         # of the volume, MiB
    journal: int      # of lsvd, MiB
    ram: int          # of lsvd, MiB
    seconds: float    # of a timed run
    sustained: float  # of the long one
    runs: int
    requests: int     # of a counted run, at a depth
    refill: bool      # the whole volume before each run that writes

    @property
    def working_set(self):
        """Fits ram= with all its overhead. MiB."""
        return self.ram // 2

    @property
    def burst(self):
        """User data of which the journal keeps half free: records have
        headers. MiB."""
        return self.journal // 2


SCALES = {
    "full": Scale(2048, 512, 512, 5, 60, 3, 20000, True),
    "medium": Scale(1024, 256, 256, 3, 15, 3, 20000, True),
    "quick": Scale(64, 16, 16, 0.3, 1, 1, 1000, False),
    "tiny": Scale(64, 16, 16, 0.4, 0.4, 1, 200, False),  # does it work at all?
}

# How a volume is before the client comes. All are drained and synced.
FRESH = "fresh"        # made anew, never written
FILLED = "1M fill"     # just written from end to end by 1 MiB requests
FILLED_4K = "4K fill"  # … by 4 KiB requests
WARM = "warm"          # working set read twice
COLD = "cold"          # neither server nor page cache has any of it
DEGRADED = "degraded"  # cold, and the directory of a part moved away


@dataclasses.dataclass
class Workload:
    key: str
    name: str
    state: str
    unit: str                 # "IOPS", "MB/s" or "us": a median latency
    fio: tuple = ()
    copy: str = ""            # instead of fio: nbdcopy "in" or "out"
    amount: str = "seconds"   # or "sustained", "burst", "twice", "volume"
    few: int = 1              # counted requests are fewer by this
    only: str = ""            # "redundant" lsvd, "disk" (keeps its data)
    when: str = "always"      # or "medium" (and full), "full"
    counted: bool = True

    @property
    def writes(self):
        return "write" in self.key

    @property
    def small_is_good(self):
        return self.unit == "us"

    @property
    def block(self):
        return MIB if "--bs=1M" in self.fio else BLOCK

    def fits(self, system):
        if self.only == "redundant":
            return system.policy is not None and system.policy != "1"
        if self.copy and system.key == "raw":
            return False
        return system.keeps or self.only != "disk"

    def limits(self, scale):
        """Options of fio for where, and for how much."""
        region = scale.working_set if self.state == WARM else scale.size
        words = ["--size=%dM" % region]
        if self.amount in ("seconds", "sustained"):
            seconds = getattr(scale, self.amount)
            return words + ["--time_based",
                            "--runtime=%dms" % (seconds * 1000)]
        if self.amount == "burst":
            return words + ["--io_size=%dM" % scale.burst]
        if self.amount == "twice":
            return words + ["--io_size=%dM" % (2 * scale.journal)]
        return words

    def counted_limits(self, scale):
        """The same for the run that is counted: a number of requests."""
        region = scale.working_set if self.state == WARM else scale.size
        requests = max(scale.requests // self.few, 50)
        if self.block == MIB:
            requests = scale.size // 4
        return ["--size=%dM" % region,
                "--io_size=%d" % (requests * self.block)]


RANDREAD = ("--rw=randread", "--bs=4k", "--norandommap")
RANDWRITE = ("--rw=randwrite", "--bs=4k", "--norandommap")
ZIPF = ("--random_distribution=zipf:0.99",)


def small_writes(state, suffix, when):
    """The rows that the fill of the volume decides (see performance.md). What
    has no disk has no fill."""
    only = "disk" if state == FILLED_4K else ""
    return [
        Workload("write-burst" + suffix,
                 "4K random write QD64, burst within the journal", state,
                 "IOPS", (*RANDWRITE, "--iodepth=64"), amount="burst",
                 only=only, when=when),
        Workload("write-flush-1" + suffix,
                 "4K random write + flush each, QD1, p50", state, "us",
                 (*RANDWRITE, "--iodepth=1", "--fsync=1"), few=20,
                 only=only, when=when),
        Workload("write-flush-32" + suffix,
                 "4K random write QD32, flush every 32", state, "IOPS",
                 (*RANDWRITE, "--iodepth=32", "--fsync=32"), only=only,
                 when=when),
    ]


WORKLOADS = [
    Workload("seq-write", "1M sequential write QD8, whole volume, flush",
             FRESH, "MB/s",
             ("--rw=write", "--bs=1M", "--iodepth=8", "--end_fsync=1"),
             amount="volume"),
    Workload("seq-write-again", "the same over a volume that is full",
             FILLED, "MB/s",
             ("--rw=write", "--bs=1M", "--iodepth=8", "--end_fsync=1"),
             amount="volume", when="full"),
    Workload("seq-read", "1M sequential read QD8, cold", COLD, "MB/s",
             ("--rw=read", "--bs=1M", "--iodepth=8"), amount="volume",
             only="disk"),
    *small_writes(FILLED, "", "always"),
    Workload("write-sustained", "4K random write QD64, sustained", FILLED,
             "IOPS", (*RANDWRITE, "--iodepth=64"), amount="sustained",
             only="disk", counted=False),
    Workload("write-zipf", "4K random write QD64, Zipf 0.99, twice the "
             "journal", FILLED, "IOPS",
             (*RANDWRITE, *ZIPF, "--iodepth=64"), amount="twice",
             counted=False, when="medium"),
    Workload("write-flush-4x1", "4K random write + flush each, "
             "4 connections × QD1", FILLED, "IOPS",
             (*RANDWRITE, "--iodepth=1", "--fsync=1", "--numjobs=4"),
             few=20, when="medium"),
    *small_writes(FILLED_4K, "-4k", "full"),
    Workload("read", "4K random read QD64, in RAM", WARM, "IOPS",
             (*RANDREAD, "--iodepth=64")),
    Workload("read-1", "4K random read QD1, in RAM, p50", WARM, "us",
             (*RANDREAD, "--iodepth=1"), few=4),
    Workload("read-4x16", "4K random read, 4 connections × QD16, in RAM",
             WARM, "IOPS", (*RANDREAD, "--iodepth=16", "--numjobs=4"),
             few=4),
    Workload("read-cold", "4K random read QD64, cold", COLD, "IOPS",
             (*RANDREAD, "--iodepth=64"), only="disk"),
    Workload("read-degraded", "4K random read QD64, cold, degraded",
             DEGRADED, "IOPS", (*RANDREAD, "--iodepth=64"),
             only="redundant"),
    Workload("copy-in-write", "nbdcopy of an image into it, flush", FRESH,
             "MB/s", copy="in", amount="volume", when="medium",
             counted=False),
    Workload("copy-out", "nbdcopy out of it, cold", COLD, "MB/s",
             copy="out", amount="volume", when="medium", only="disk",
             counted=False),
]
BY_KEY = {w.key: w for w in WORKLOADS}


@dataclasses.dataclass
class Target:
    """At least so many times what it is compared with."""
    workload: str
    than: str                # key of a system; or a workload of its own
    at_least: dict           # policy -> ratio
    limit: str = ""          # what null or the raw disk gave, for context

    @property
    def than_itself(self):
        return self.than in BY_KEY


def same(ratio):
    return {"1": ratio, "3": ratio, "ec": ratio}


TARGETS = [
    Target("read", "memory", same(1.0), "1.0-1.1 (null)"),
    Target("read-1", "memory", same(1.0), "1.3 (null)"),
    Target("read-4x16", "memory", same(1.0)),
    Target("write-burst", "file", same(5.0), "8.4 (null)"),
    Target("write-sustained", "file", {"1": 1.5, "3": 1.0, "ec": 0.7}),
    Target("write-flush-1", "file", same(2.2), "2.7 (raw)"),
    Target("write-flush-32", "file", same(4.5), "5.5 (raw)"),
    Target("seq-write", "file", {"1": 1.3, "3": 0.75, "ec": 1.3},
           "2.55 (raw; /3 and /1.5 by bytes)"),
    Target("seq-read", "file", same(1.4), "1.5 (raw)"),
    Target("read-degraded", "read-cold", {"3": 0.9, "ec": 0.6}),
    # After a fill by 4 KiB requests the page cache is faster: what is fair
    # then is measured against the raw disk.
    Target("write-burst-4k", "raw", same(0.8)),
    Target("write-flush-32-4k", "raw", same(0.55)),
]


@dataclasses.dataclass
class CountTarget:
    """A bound on a figure that noise can't touch, or hardly."""
    workload: str
    name: str
    figure: str              # key of figures.figures()
    at_most: float
    times: str = ""          # "copies" of the policy; or a system's figure
    beyond: str = ""         # system whose figure is taken off first


COUNT_TARGETS = [
    # Connections begin and threads start in each counted run, too.
    *[CountTarget(key, "system calls of ours per hit, beyond nbdkit memory",
                  "own", 0.01, beyond="memory")
      for key in ("read", "read-1", "read-4x16")],
    # Tables and labels that it looks into meanwhile are copied, too.
    *[CountTarget(key, "copies of the payload per hit", "copies", 1.01)
      for key in ("read", "read-1", "read-4x16")],
    *[CountTarget(key, "server CPU, times nbdkit file", "cpu_100k", 1.2,
                  times="file")
      for key in ("read", "read-1", "read-4x16")],
    CountTarget("write-flush-1", "syncs of the journal per flush",
                "journal_syncs", 1.0),
    CountTarget("write-flush-32", "syncs of the journal per flush",
                "journal_syncs", 1.0),
    CountTarget("write-flush-4x1", "syncs of the journal per flush",
                "journal_syncs", 1.0),
    CountTarget("seq-write", "bytes written per byte, times the redundancy",
                "written", 1.05, times="copies"),
    CountTarget("write-sustained", "journal bytes per byte", "journal", 1.3),
    CountTarget("write-sustained", "p99.9 of a write, times p50",
                "tail", 20.0),
    CountTarget("write-sustained", "longest time without progress, s",
                "gap", 1.0),
]


def chosen(scale_name, keys=None):
    if keys:
        return [w for w in WORKLOADS if w.key in keys]
    level = {"always": 0, "medium": 1, "full": 2}
    have = {"tiny": 0, "quick": 0, "medium": 1, "full": 2}[scale_name]
    return [w for w in WORKLOADS if level[w.when] <= have]
