"""What is measured: lsvd and its peers, all with their files in one place.

A System owns a directory; it can make its volume anew, start a server for it,
and put the page cache into a known state. What a flush means for it stands
beside it, since nothing is compared that does not sync when the other does.
"""
import contextlib
import os
import re
import shutil
import signal
import subprocess

from common import Failed, MIB, call, wait_until
from counts import Usage, usage_of

START_SECONDS = 60
STOP_SECONDS = 300  # it destages all that its journal holds
DRAIN_SECONDS = 300


class Server:
    """A server of one volume, in the foreground, on a Unix socket."""

    def __init__(self, directory, words, ready, export="", leaves=False,
                 environment=None):
        self.socket = directory / "socket"
        self.log = directory / "log"
        self.uri = "nbd+unix:///%s?socket=%s" % (export, self.socket)
        for path in (self.socket, ready):
            path.unlink(missing_ok=True)
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([str(w) for w in words],
                                            stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL,
                                            env={**os.environ,
                                                 **(environment or {})})
        try:
            # One that goes into the background ends with 0 before it is up.
            wait_until(lambda: ready.exists() or self.process.poll()
                       not in ((None, 0) if leaves else (None,)),
                       "start of " + words[0], START_SECONDS)
            if not ready.exists():
                raise Failed("%s: %s" % (words[0], self.complaint()))
        except BaseException:
            self.kill()
            raise

    def is_dead(self):
        return self.process.poll() is not None

    def complaint(self):
        """The line of its log that tells most."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return ([x for x in lines if "error" in x] or lines or [""])[0]

    def usage(self):
        """What it and its children have used up so far."""
        return usage_of(self.process.pid)

    def kill(self):
        if not self.is_dead():
            self.process.kill()
        self.process.wait()

    def stop(self):
        if self.is_dead():
            raise Failed("the server died: " + self.complaint())
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed("the server did not stop")
        # qemu-nbd and others may die of the signal.
        if code not in (0, -signal.SIGTERM):
            raise Failed("the server ended with %d: %s" % (code,
                                                           self.complaint()))


class Daemon:
    """A server that left us; as a subprocess.Popen."""

    def __init__(self, pid):
        self.pid = pid

    def poll(self):
        try:
            with open("/proc/%d/stat" % self.pid) as stat:
                state = stat.read().rpartition(")")[2].split()[0]
        except OSError:
            return 0
        return 0 if state == "Z" else None

    def send_signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGTERM)  # so that it ends its children, too

    def wait(self, timeout=STOP_SECONDS):
        try:
            wait_until(lambda: self.poll() is not None, "its end", timeout)
        except Failed:
            raise subprocess.TimeoutExpired("nbd-server", timeout)
        return 0


class NoServer:
    """The file itself: nothing between it and the client."""

    def __init__(self, path):
        self.path = path
        self.process = None

    def complaint(self):
        return ""

    def usage(self):
        return Usage()

    def kill(self):
        pass

    def stop(self):
        pass


class System:
    """A peer. Below are the real ones."""
    needs = ()           # programs
    plugins = ()         # of nbdkit, named as nbdkit names them
    redundancy = "none"
    durability = "a flush is an fdatasync of the file"
    syncs = True         # when a client flushes
    keeps = True         # its volume outlives the server
    page_cache = True    # data goes through it
    policy = None        # of lsvd
    copies = 1.0         # bytes stored per byte

    def __init__(self, key, name, scale):
        self.key, self.name, self.scale = key, name, scale
        self.root = None
        self.filled = False
        self.environment = {}  # of its next server, beside our own

    def missing(self):
        """Why it can't be measured here, or None."""
        for program in self.needs:
            if shutil.which(program) is None:
                return "%s is not installed" % program
        for plugin in self.plugins:
            done = subprocess.run(["nbdkit", "--dump-plugin", plugin],
                                  capture_output=True)
            if done.returncode != 0:
                return "nbdkit has no plugin %s here" % plugin
        return None

    def make_anew(self, directory):
        self.root = directory / self.key
        for path in (self.root, self.root.with_name(self.key + "-away")):
            if path.exists():
                shutil.rmtree(path)
        self.root.mkdir()
        self.filled = False
        self.create()

    def create(self):
        with open(self.root / "disk", "wb") as disk:
            disk.truncate(self.scale.size * MIB)

    def start(self):
        raise NotImplementedError

    def nbdkit(self, *words):
        ready = self.root / "pid"
        return Server(self.root, ["nbdkit", "-f", "-U", self.root / "socket",
                                  "-P", ready, *words], ready,
                      environment=self.environment)

    def settle(self, server):
        """Wait until nothing that was answered is still to be done."""

    def counters(self, server):
        """The server's own, if it has any."""
        return {}

    def make_cold(self):
        """Write back, and forget what the page cache has of its files."""
        for path in self.root.rglob("*"):
            if path.is_file() and not path.is_symlink():
                fd = os.open(path, os.O_RDONLY)
                os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)
        call("sync", "-f", self.root)


class Lsvd(System):
    needs = ("nbdkit",)
    volumes = ("v",)
    durability = "a flush is an fdatasync of the journal"

    def __init__(self, key, name, scale, build, policy):
        super().__init__(key, name, scale)
        self.build, self.policy = build, policy
        self.plugin = build / "plugin" / "nbdkit-lsvd-plugin.so"
        self.program = build / "admin" / "lsvd"
        self.redundancy, self.copies, self.options = POLICIES[policy]

    def missing(self):
        for path in (self.plugin, self.program):
            if not path.exists():
                return "%s is missing: build first" % path
        return super().missing()

    def where(self):
        return ["--data", self.root, "--cache", self.root / "cache"]

    def create(self):
        (self.root / "cache").mkdir()
        for name in self.volumes:
            call(self.program, "create", name, "%dM" % self.scale.size,
                 *self.options, "--journal-size", "%dM" % self.scale.journal,
                 *self.where())

    def start(self):
        server = self.nbdkit(self.plugin, "v", "data=%s" % self.root,
                             "cache=%s" % (self.root / "cache"),
                             "ram=%dM" % self.scale.ram, "scrub=0")
        try:  # nbdkit writes its pid a moment before the plugin is asked
            wait_until(lambda: server.is_dead() or self.answers(server),
                       "answer of the server", START_SECONDS)
        except BaseException:
            server.kill()
            raise
        return server

    def answers(self, server):
        try:
            return bool(self.counters(server))
        except Failed:
            return False

    def counters(self, server):
        text = call(self.program, "metrics", "v", *self.where())
        return {key: float(value) for key, value in re.findall(
            r'^lsvd_(\w+)\{volume="v"\} (\S+)$', text, re.M)}

    def settle(self, server):
        wait_until(lambda: self.counters(server)["dirty_chunks"] == 0,
                   "destaging", DRAIN_SECONDS, 0.05)

    def part(self, letter):
        found = [p.parent for p in self.root.glob("*/%s/.label" % letter)]
        if len(found) != 1:
            raise Failed("part %s: found %d" % (letter, len(found)))
        return found[0]

    def take_part_away(self):
        """One that data is read from."""
        part = self.part("a")
        away = self.root.with_name(self.key + "-away")
        part.rename(away)
        return part, away

    def bring_part_back(self, part, away):
        away.rename(part)
        server = self.start()
        try:
            wait_until(lambda: self.counters(server)["healthy"] == 1,
                       "return of the part", DRAIN_SECONDS, 0.05)
        finally:
            server.stop()


class File(System):
    needs = ("nbdkit",)
    plugins = ("file",)

    def start(self):
        return self.nbdkit("file", self.root / "disk")


class Memory(System):
    needs = ("nbdkit",)
    plugins = ("memory",)
    durability = "nothing is kept, a flush does nothing"
    syncs = keeps = page_cache = False

    def create(self):
        pass

    def start(self):
        return self.nbdkit("memory", "%dM" % self.scale.size)


class Null(Memory):
    plugins = ("null",)

    def start(self):
        return self.nbdkit("null", "%dM" % self.scale.size)


class Qemu(System):
    needs = ("qemu-nbd",)

    def __init__(self, key, name, scale, cache):
        super().__init__(key, name, scale)
        self.cache = cache
        self.page_cache = cache != "none"
        if cache == "none":
            self.durability += ", O_DIRECT"

    def serve(self, *words):
        ready = self.root / "pid"
        return Server(self.root, [
            "qemu-nbd", "--persistent", "--shared=16", "--socket",
            self.root / "socket", "--pid-file", ready, *words], ready)

    def start(self):
        aio = ["--aio=native"] if self.cache == "none" else []
        return self.serve("--cache=" + self.cache, *aio, "--format=raw",
                          self.root / "disk")


class Quorum(Qemu):
    redundancy = "3 copies, read by vote of 2"
    durability = "a flush is an fdatasync of all three files"
    copies = 3.0

    def disks(self):
        return [self.root / ("disk%d" % i) for i in range(3)]

    def create(self):
        for path in self.disks():
            with open(path, "wb") as disk:
                disk.truncate(self.scale.size * MIB)

    def start(self):
        options = ["driver=quorum", "vote-threshold=2"]
        for i, path in enumerate(self.disks()):
            child = "children.%d." % i
            options += [child + "driver=raw", child + "file.driver=file",
                        child + "file.filename=" + str(path).replace(
                            ",", ",,")]
        return self.serve("--cache=" + self.cache, "--image-opts",
                          ",".join(options))


class NbdServer(System):
    needs = ("nbd-server",)
    durability = "a flush is an fsync of the file"

    def start(self):
        config = self.root / "config"
        config.write_text(
            "[generic]\nunixsock = %s\n[v]\nexportname = %s\n"
            "filesize = %d\nflush = true\nfua = true\n"
            % (self.root / "socket", self.root / "disk",
               self.scale.size * MIB))
        pid = self.root / "pid"
        pid.unlink(missing_ok=True)
        server = Server(self.root, ["nbd-server", "-C", config, "-p", pid],
                        self.root / "socket", "v", leaves=True)
        try:  # with -d it would serve one client only
            wait_until(lambda: pid.exists() and pid.read_text().strip(),
                       "pid of nbd-server", START_SECONDS)
            server.process.wait(START_SECONDS)
            server.process = Daemon(int(pid.read_text()))
        except BaseException:
            server.kill()
            raise
        return server


class Raw(System):
    needs = ("fio",)
    durability = "a flush is an fsync of the file, O_DIRECT"
    page_cache = False

    def start(self):
        return NoServer(self.root / "disk")


# policy -> redundancy, bytes stored per byte, options of lsvd create
POLICIES = {
    "1": ("none", 1.0, ["--replicas", "1"]),
    "3": ("3 copies", 3.0, ["--replicas", "3"]),
    "ec": ("EC 4+2", 1.5, ["--ec", "4+2"]),
}
POLICY_NAMES = {"1": "lsvd 1 copy", "3": "lsvd 3 copies",
                "ec": "lsvd EC 4+2"}
BASE, MEMORY = "file", "memory"
# Named in each report, since people ask.
ELSEWHERE = {
    "Ceph, Gluster": "need daemons and clusters of their own",
}


def all_systems(scale, build):
    """In the order of the report."""
    return [
        File(BASE, "nbdkit file", scale),
        *[Lsvd("lsvd-" + p, POLICY_NAMES[p], scale, build, p)
          for p in POLICIES],
        Quorum("quorum", "qemu quorum of 3", scale, "writeback"),
        Qemu("qemu", "qemu-nbd writeback", scale, "writeback"),
        Qemu("qemu-none", "qemu-nbd none", scale, "none"),
        NbdServer("nbd-server", "nbd-server", scale),
        Raw("raw", "raw file", scale),
        Memory(MEMORY, "nbdkit memory", scale),
        Null("null", "nbdkit null", scale),
    ]


def is_limit(system):
    """It shows what is possible, and is nobody's peer: nothing lies between
    it and the client, or it keeps nothing."""
    return system.key == "raw" or not system.syncs
