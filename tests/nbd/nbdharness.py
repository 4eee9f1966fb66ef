"""Volumes, servers and damage for the tests in this folder.

Everything runs from the build directory (environment LSVD_BUILD) in a
directory of the test's own. Waiting is always for a condition, with a
deadline; never a sleep in the hope that something has happened.
"""

import ctypes
import hashlib
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import time

import nbd

BUILD = pathlib.Path(os.environ.get(
    "LSVD_BUILD", pathlib.Path(__file__).resolve().parents[2] / "build"))
PLUGIN = BUILD / "plugin" / "nbdkit-lsvd-plugin.so"
LSVD = BUILD / "admin" / "lsvd"
REPAIR = BUILD / "repair" / "lsvd-repair"

# How many parts may be away, and the volume be written: while it serves, and
# when it starts after a clean stop (of two copies one alone proves nothing).
SPARE = {"r1": 0, "r2": 1, "r3": 1, "ec21": 1, "ec42": 1}
SPARE_AT_START = {**SPARE, "r2": 0}
# The same, and it is served at all, also where nothing is known of it: one away
# more might have gone on alone.
PROVEN_AT_START = {"r1": 0, "r2": 0, "r3": 1, "ec21": 1, "ec42": 4}

KIB = 1024
MIB = 1024 * KIB
DEADLINE_S = 60

# name: (arguments of create, parts, parts that may be lost)
POLICIES = {
    "r1": (["--replicas", "1"], 1, 0),
    "r2": (["--replicas", "2"], 2, 1),
    "r3": (["--replicas", "3"], 3, 2),
    "ec21": (["--ec", "2+1"], 3, 1),
    "ec42": (["--ec", "4+2"], 6, 2),
}


def poll(condition, what, deadline_s=DEADLINE_S, step_s=0.02):
    """Wait until condition() is true; return what it returned."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s: {what}")
        time.sleep(step_s)  # between two looks, not instead of one


def run(*command, check=True, timeout=120, **kwargs):
    done = subprocess.run([str(c) for c in command], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=timeout, check=False, **kwargs)
    if check and done.returncode != 0:
        raise AssertionError(f"{command}: {done.returncode}\n"
                             f"{done.stdout}{done.stderr}")
    return done


def one_line(text):
    """The text without its newline; it must be exactly one line."""
    lines = text.rstrip("\n").split("\n")
    assert len(lines) == 1, text
    return lines[0]


def random_bytes(count, seed):
    chance, parts = random.Random(seed), []
    for at in range(0, count, 16 * MIB):  # randbytes has a limit
        parts.append(chance.randbytes(min(16 * MIB, count - at)))
    return b"".join(parts)


def random_file(path, count, seed):
    path.write_bytes(random_bytes(count, seed))
    return path


def tree_state(*roots):
    """Every name below the roots, with type, size and content."""
    state = {}
    for root in roots:
        for path in sorted(pathlib.Path(root).rglob("*")):
            info = path.lstat()
            digest = ""
            if path.is_file() and not path.is_symlink():
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
            state[str(path)] = (info.st_mode, info.st_size * path.is_file(),
                                digest)
    return state


def has_faults():
    """Does the plugin know fault=?"""
    return b"\0fault\0" in PLUGIN.read_bytes()


def set_rules(path, text):
    """Of fault=: as a whole, for a server looks at them at any time. It does so
    every 50 ms, when it is to do something."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def away(volume, letters):
    """Rename the roots of these parts; as an unplugged disk."""
    for letter in letters:
        root = volume.roots[letter]
        root.rename(root.with_name(root.name + "-away"))


def back(volume, letters):
    for letter in letters:
        root = volume.roots[letter]
        root.with_name(root.name + "-away").rename(root)


class Opened:
    """Counts how often a file is opened, by anybody."""
    IN_OPEN, EVENT_BYTES = 0x20, 16

    def __init__(self, path):
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_NONBLOCK)
        assert libc.inotify_add_watch(self.fd, bytes(path), self.IN_OPEN) >= 0
        self.count = 0

    def reached(self, count):
        try:
            self.count += len(os.read(self.fd, 4096)) // self.EVENT_BYTES
        except BlockingIOError:
            pass
        return self.count >= count


class Server:
    """A running nbdkit with our plugin."""

    def __init__(self, work, *parameters, options=(), filters=(), port=None,
                 check=True, prefix=()):
        serial = len(list(work.glob("nbdkit-*.log")))
        self.socket = work / f"{serial}.sock"
        self.pidfile = work / f"{serial}.pid"
        self.log_path = work / f"nbdkit-{serial}.log"
        self.port = port
        where = ["-p", str(port), "-i", "localhost"] if port else \
            ["-U", str(self.socket)]
        self.command = [
            *prefix, "nbdkit", "-f", "-P", str(self.pidfile), *where, *options,
            *[f"--filter={f}" for f in filters], str(PLUGIN),
            *[str(p) for p in parameters]]
        self.log_file = open(self.log_path, "wb")
        self.process = subprocess.Popen(self.command, stdout=self.log_file,
                                        stderr=self.log_file)
        if check:
            poll(self._up, f"{self.command} serves", step_s=0.005)

    def _up(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{self.command} ended: "
                                 f"{self.process.returncode}\n{self.log()}")
        try:
            return self.pidfile.read_text().endswith("\n") and self._answers()
        except FileNotFoundError:
            return False

    def _answers(self):
        """The pidfile is there a moment earlier than the control socket; who
        is accepted as a client finds both."""
        h = nbd.NBD()
        h.set_opt_mode(True)
        try:
            self._dial(h)
            h.opt_abort()
        except nbd.Error:
            return False
        return True

    def _dial(self, h):
        if self.port:
            h.connect_tcp("localhost", str(self.port))
        else:
            h.connect_unix(str(self.socket))

    def log(self):
        return self.log_path.read_text(errors="replace")

    def uri(self, export="", scheme="nbd"):
        if self.port:
            return f"{scheme}://localhost:{self.port}/{export}"
        return f"{scheme}+unix:///{export}?socket={self.socket}"

    def connect(self, export="", contexts=False):
        h = nbd.NBD()
        h.set_export_name(export)
        if contexts:
            h.add_meta_context("base:allocation")
        self._dial(h)
        return h

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log_file.close()

    def stop(self, timeout=DEADLINE_S, sig=signal.SIGTERM):
        """End it as a supervisor does; it must end well."""
        self.process.send_signal(sig)
        self.process.wait(timeout)
        self.log_file.close()
        assert self.process.returncode == 0, self.log()

    def wait_or_up(self):
        """Wait until it serves (True) or has ended (False)."""
        poll(lambda: self.process.poll() is not None or
             self.pidfile.exists() and self.pidfile.read_text(), "either")
        return self.process.poll() is None

    def wait(self, timeout=DEADLINE_S):
        self.process.wait(timeout)
        self.log_file.close()
        return self.process.returncode

    def rss_high_bytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        line = [s for s in status.splitlines() if s.startswith("VmHWM")][0]
        return int(line.split()[1]) * KIB


class Volume:
    """A volume whose parts lie under roots of their own."""

    def __init__(self, place, policy, name, size, chunk, block):
        arguments, self.part_count, self.tolerance = POLICIES[policy]
        self.place, self.policy, self.name = place, policy, name
        self.size, self.chunk, self.block = size, chunk, block
        self.letters = "abcdefghijklmnopqrst"[:self.part_count]
        self.roots = {x: place.root(f"root-{x}") for x in self.letters}
        self.cache = place.cache
        parts = []
        for letter, root in self.roots.items():
            parts += ["--part", f"{letter}={root}"]
        run(LSVD, "create", name, size, *arguments, *parts, "--cache",
            self.cache, "--chunk-size", chunk, "--block-size", block,
            *place.create_options)

    def where(self):
        """Options of the tools."""
        found = [f"--data={r}" for r in self.roots.values() if r.is_dir()]
        return [*found, f"--cache={self.cache}"]

    def parameters(self):
        """Parameters of the plugin."""
        found = [f"data={r}" for r in self.roots.values() if r.is_dir()]
        return [self.name, *found, f"cache={self.cache}"]

    def serve(self, *parameters, **kwargs):
        return self.place.serve(*self.parameters(), *parameters, **kwargs)

    def number(self):
        return self.info()["number"]

    def part_dir(self, letter):
        dirs = list(self.roots[letter].glob(f"[0-9]*/{letter}"))
        assert len(dirs) == 1, dirs
        return dirs[0]

    def chunk_file(self, letter, chunk):
        return self.part_dir(letter) / str(chunk)

    def info(self):
        return json.loads(run(LSVD, "info", self.name, "--json",
                              *self.where()).stdout)

    def repair(self, command, *arguments, check=False, timeout=120):
        return run(REPAIR, command, *arguments, *self.where(), check=check,
                   timeout=timeout)

    def verify(self, expect=0, *arguments):
        done = self.repair("verify", self.name, "--json", *arguments)
        assert done.returncode == expect, done.stdout + done.stderr
        return json.loads(done.stdout) if done.stdout else None

    def rebuild(self):
        done = self.repair("rebuild", self.name)
        assert done.returncode == 0, done.stdout + done.stderr

    def status(self):
        """What its server says; None while it can't be asked."""
        done = run(LSVD, "status", self.name, "--json", *self.where(),
                   check=False)
        return json.loads(done.stdout) if done.stdout.startswith("{") \
            else None

    def part_status(self, letter):
        found = self.status()
        return found and [p for p in found["parts"]
                          if p["part"] == letter][0]

    def wait_healthy(self):
        try:
            poll(lambda: (self.status() or {}).get("healthy") is True,
                 "all parts are in sync", step_s=0.1)
        except AssertionError as e:
            events = run(LSVD, "events", self.name, *self.where(),
                         check=False)
            raise AssertionError(f"{e}\n{self.status()}\n{events.stdout}"
                                 f"{events.stderr}") from e

    def wait_dropped(self, letter):
        poll(lambda: (self.part_status(letter) or {"state": "ok"})["state"]
             != "ok", f"part {letter} is dropped", step_s=0.1)

    def mend(self):
        """Serve it until all parts are in sync."""
        server = self.serve()
        self.wait_healthy()
        server.stop()

    def content(self, **kwargs):
        """All bytes, read through a server of its own."""
        server = self.serve(**kwargs)
        data = read_all(server.connect(), self.size)
        server.stop()
        return data

    def fill(self, seed):
        """Give all of it random content and stop: all is in the parts."""
        data = random_bytes(self.size, seed)
        server = self.serve()
        write_all(server.connect(), data)
        server.stop()
        return data


class Place:
    """A directory of one test, and what was started in it."""

    def __init__(self, path):
        self.path = path
        self.servers = []
        self.create_options = []
        self.cache = self.root("cache")

    def root(self, name):
        path = self.path / name
        path.mkdir(exist_ok=True)
        return path

    def volume(self, policy="r1", name="mydevice1", size=32 * MIB,
               chunk=256 * KIB, block=4 * KIB):
        return Volume(self, policy, name, size, chunk, block)

    def serve(self, *parameters, **kwargs):
        server = Server(self.path, *parameters, **kwargs)
        self.servers.append(server)
        return server

    def refused(self, *parameters, **kwargs):
        """A server that must not start; its one line of complaint (before
        which it may have warned of copies that it passed over)."""
        server = self.serve(*parameters, check=False, **kwargs)
        assert not server.wait_or_up(), server.log()
        assert server.wait() != 0
        lines = [x for x in server.log().splitlines()
                 if not x.startswith("nbdkit: error: lsvd: warning: ")]
        return one_line("\n".join(lines))

    def end(self):
        for server in self.servers:
            server.kill()


def read_all(h, size, step=4 * MIB):
    return b"".join(h.pread(min(step, size - at), at)
                    for at in range(0, size, step))


def write_all(h, data, step=2 * MIB):
    for at in range(0, len(data), step):
        h.pwrite(data[at:at + step], at)
    h.flush()


def extents(h, count, offset=0):
    """[(bytes, is_hole)] of a range, all of it."""
    found = []

    def entry(_context, _offset, entries, _error):
        found.extend((entries[i], bool(entries[i + 1] & nbd.STATE_HOLE))
                     for i in range(0, len(entries), 2))

    at = offset
    while at < offset + count:
        found.clear()
        h.block_status(offset + count - at, at, entry)
        for length, hole in found:
            length = min(length, offset + count - at)
            yield length, hole
            at += length


def first_difference(a, b):
    """Where two byte strings differ, for a message one can read."""
    if a == b:
        return None
    for i, (x, y) in enumerate(zip(a, b)):
        if x != y:
            return i
    return min(len(a), len(b))


def assert_same(got, want):
    assert first_difference(got, want) is None, \
        f"first difference at {first_difference(got, want)}, " \
        f"lengths {len(got)} {len(want)}"
