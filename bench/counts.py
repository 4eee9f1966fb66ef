"""What a server used up: from /proc, and counted by perf or strace.

Usage is read before and after each timed run and costs nothing. Counter is at
work only in runs that are not timed. All count the server and its children.
"""
import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time

from common import Failed

TICKS = os.sysconf("SC_CLK_TCK")
# nbdkit and nbd-server read and write their sockets; lsvd and nbdkit file use
# neither call on files.
SOCKET = ("read", "write", "recvfrom", "sendto", "recvmsg", "sendmsg", "poll")
SYNC = ("fdatasync", "fsync")
TRACED = {"socket": SOCKET, "sync": SYNC, "futex": ("futex",)}


@dataclasses.dataclass
class Usage:
    cpu_seconds: float = 0
    read_calls: int = 0    # syscr of /proc/PID/io: read and its like, of
    write_calls: int = 0   # files and (by read and write) of sockets
    given_bytes: int = 0   # wchar: to write and its like
    disk_read_bytes: int = 0
    disk_written_bytes: int = 0
    peak_mib: float = 0    # VmHWM
    rss_mib: float = 0

    def since(self, before):
        """Used up in between; memory: as it is now."""
        sums = {f.name: getattr(self, f.name) - getattr(before, f.name)
                for f in dataclasses.fields(self)}
        sums.update(peak_mib=self.peak_mib, rss_mib=self.rss_mib)
        return Usage(**sums)


def children(pid):
    """The process and all that came from it and are still there."""
    found = [pid]
    for parent in found:
        for path in pathlib.Path("/proc/%d/task" % parent).glob(
                "*/children"):
            with contextlib.suppress(OSError):
                found += [int(x) for x in path.read_text().split()]
    return found


def number(pattern, text):
    found = re.search(pattern, text, re.M)
    return int(found.group(1)) if found else 0


def usage_of(pid):
    """Children that ended are in what their parent has been charged with."""
    total = Usage()
    for one in children(pid):
        proc = pathlib.Path("/proc/%d" % one)
        with contextlib.suppress(OSError):  # ended meanwhile
            fields = proc.joinpath("stat").read_text().rpartition(")")[2]
            total.cpu_seconds += sum(
                int(x) for x in fields.split()[11:15]) / TICKS
            status = proc.joinpath("status").read_text()
            total.rss_mib += number(r"^VmRSS:\s+(\d+)", status) / 1024
            total.peak_mib += number(r"^VmHWM:\s+(\d+)", status) / 1024
            io = proc.joinpath("io").read_text()
            total.read_calls += number(r"^syscr: (\d+)", io)
            total.write_calls += number(r"^syscw: (\d+)", io)
            total.given_bytes += number(r"^wchar: (\d+)", io)
            total.disk_read_bytes += number(r"^read_bytes: (\d+)", io)
            total.disk_written_bytes += number(r"^write_bytes: (\d+)", io)
    return total


class Perf:
    """perf stat with tracepoints; exact, includes threads that end."""
    name = "perf stat"
    what = "all system calls"

    def __init__(self, pid):
        self.out = tempfile.NamedTemporaryFile("r", prefix="lsvd-perf.")
        control, self.control = os.pipe()
        self.ack, ack = os.pipe()
        events = ["raw_syscalls:sys_enter", "context-switches"]
        for names in TRACED.values():
            events += ["syscalls:sys_enter_" + n for n in names]
        self.process = subprocess.Popen(
            ["perf", "stat", "-x", ",", "-o", self.out.name, "-D", "-1",
             "--control", "fd:%d,%d" % (control, ack), "-e",
             ",".join(events), "-p",
             ",".join(str(x) for x in children(pid))],
            pass_fds=(control, ack), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        os.close(control)
        os.close(ack)
        try:
            self.say(b"enable\n")
        except Failed:
            self.close()
            raise

    def say(self, word):
        """Returns when it has heard: what follows is counted, or is not."""
        try:
            os.write(self.control, word)
            heard = os.read(self.ack, 16)
        except OSError:
            heard = b""
        if not heard.startswith(b"ack"):
            raise Failed("perf stat: refused")

    def end(self):
        try:
            self.say(b"disable\n")
        finally:
            self.close()
        counted = {}
        for line in self.out:
            fields = line.split(",")
            if len(fields) > 2:  # "<not counted>": it never ran
                event = fields[2].removeprefix("syscalls:sys_enter_")
                counted[event] = int(fields[0]) if fields[0].isdigit() else 0
        result = {"syscalls": counted["raw_syscalls:sys_enter"],
                  "switches": counted["context-switches"]}
        for group, names in TRACED.items():
            result[group] = sum(counted.get(n, 0) for n in names)
        return result

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.wait()
        os.close(self.control)
        os.close(self.ack)


class Switches(threading.Thread):
    """Context switches from /proc/PID/task/*/status, looked at again and
    again, since those of a thread go with it: what it did after the last
    look is lost."""
    EVERY_SECONDS = 0.02

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid = pid
        self.ended = threading.Event()
        self.first, self.last = self.look(), {}
        self.start()

    def look(self):
        seen = {}
        for pid in children(self.pid):
            for task in pathlib.Path("/proc/%d/task" % pid).glob("*"):
                with contextlib.suppress(OSError):
                    seen[task.name] = sum(int(x) for x in re.findall(
                        r"^\w+_ctxt_switches:\s+(\d+)",
                        task.joinpath("status").read_text(), re.M))
        return seen

    def run(self):
        while True:
            self.last.update(self.look())
            if self.ended.wait(self.EVERY_SECONDS):
                break

    def end(self):
        self.ended.set()
        self.join()
        return sum(n - self.first.get(task, 0)
                   for task, n in self.last.items())


class Strace:
    """strace -c: exact, and slow."""
    name = "strace -c"
    what = "all system calls"

    def __init__(self, pid):
        self.out = tempfile.NamedTemporaryFile("r", prefix="lsvd-strace.")
        self.process = subprocess.Popen(
            ["strace", "-f", "-c", "-o", self.out.name,
             *["-p%d" % x for x in children(pid)]],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL, text=True)
        if "attached" not in self.process.stderr.readline():
            self.process.kill()
            self.process.wait()
            raise Failed("strace: refused")
        threading.Thread(target=self.process.stderr.read,
                         daemon=True).start()
        self.switches = Switches(pid)

    def end(self):
        switches = self.switches.end()
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        calls = {line.split()[-1]: int(line.split()[3])
                 for line in self.out
                 if re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+\d+ ", line)}
        calls.pop("total", None)
        result = {"syscalls": sum(calls.values()), "switches": switches}
        for group, names in TRACED.items():
            result[group] = sum(calls.get(n, 0) for n in names)
        return result


class Proc:
    """Without either: what /proc counts."""
    name = "/proc/PID/io"
    what = "read and write calls only"

    def __init__(self, pid):
        self.pid = pid
        self.before = usage_of(pid)
        self.switches = Switches(pid)

    def end(self):
        switches = self.switches.end()
        used = usage_of(self.pid).since(self.before)
        return {"syscalls": used.read_calls + used.write_calls,
                "switches": switches}


class Copies:
    """What a server copies in memory, by build/bench/libcopies.so, which has to
    be in its environment from the start and costs time."""

    def __init__(self, library):
        self.file = tempfile.NamedTemporaryFile(prefix="lsvd-copies.")
        self.file.write(bytes(16))
        self.file.flush()
        self.environment = {"LD_PRELOAD": str(library),
                            "LSVD_COPIES": self.file.name}

    def copied_bytes(self):
        calls_and_bytes = pathlib.Path(self.file.name).read_bytes()
        return struct.unpack("=QQ", calls_and_bytes)[1]


def start_counting(counter, pid):
    """perf refuses when a thread ends as it comes to it, as those of the last
    connection do."""
    for attempts_left in range(9, -1, -1):
        try:
            return counter(pid)
        except Failed:
            if attempts_left == 0:
                raise
            time.sleep(0.05)


def choose_counter():
    """The best that works here, tried on a process of our own."""
    for counter in (Perf, Strace):
        program = counter.name.split()[0]
        if shutil.which(program) is None:
            continue
        victim = subprocess.Popen(["sleep", "60"])
        try:
            counter(victim.pid).end()
            return counter
        except (Failed, KeyError):
            pass
        finally:
            victim.kill()
            victim.wait()
    return Proc


