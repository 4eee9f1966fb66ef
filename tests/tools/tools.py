"""What the tests of lsvd, lsvd-repair and demo share.

LSVD_BUILD names the build directory (default: build in the sources).
"""
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import nbd

SOURCES = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("LSVD_BUILD", SOURCES / "build"))
PLUGIN = BUILD / "plugin" / "nbdkit-lsvd-plugin.so"
TIMEOUT = 120


class Result:
    """How a program ended."""

    def __init__(self, done):
        self.code = done.returncode
        self.out = done.stdout
        self.err = done.stderr

    def json(self):
        return json.loads(self.out)

    def failed_with_one_line(self, program, code, *words):
        """It ended with code, printed one line, and names the things."""
        lines = self.err.splitlines()
        assert self.code == code, self.err
        assert self.out == ""
        assert len(lines) == 1, self.err
        assert lines[0].startswith(program + ": ")
        for word in words:
            assert word in lines[0]


def run(*words, cwd=None):
    return Result(subprocess.run([str(w) for w in words], cwd=cwd, text=True,
                                 capture_output=True, timeout=TIMEOUT,
                                 stdin=subprocess.DEVNULL))


def poll(condition, what, deadline_s=60):
    """Wait until condition() is true; return what it returned."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, "not in time: " + what
        time.sleep(0.01)  # between two looks, not instead of one


class Server:
    """A running nbdkit with our plugin."""

    def __init__(self, path, *words):
        self.socket = path / "nbd.sock"
        self.log_path = path / "nbdkit.log"
        self.socket.unlink(missing_ok=True)
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                ["nbdkit", "-f", "-U", self.socket]
                + [str(w) for w in words], stdout=log, stderr=log)
        poll(lambda: self.process.poll() is not None or self._answers(),
             "nbdkit is up")
        assert self.process.poll() is None, self.log()

    def _answers(self):
        """A pidfile would be there a moment earlier than the control socket;
        who is accepted as a client finds that, too."""
        h = nbd.NBD()
        h.set_opt_mode(True)
        try:
            h.connect_unix(str(self.socket))
            h.opt_abort()
        except nbd.Error:
            return False
        return True

    def log(self):
        return self.log_path.read_text(errors="replace")

    def uri(self, export=""):
        return "nbd+unix:///%s?socket=%s" % (export, self.socket)

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(TIMEOUT)
        assert how == signal.SIGKILL or code == 0, self.log()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.stop(signal.SIGTERM if kind is None else signal.SIGKILL)


def connect(path):
    """To a Unix socket, however long its path is."""
    directory = os.open(path.parent, os.O_PATH)
    try:
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(30)
        s.connect("/proc/self/fd/%d/%s" % (directory, path.name))
        return s
    finally:
        os.close(directory)


def say(path, line):
    """Send bytes to a Unix socket; the lines of the answer."""
    with connect(path) as s:
        try:
            s.sendall(line)
        except BrokenPipeError:
            pass  # it has heard enough; what it said is still there
        got = b""
        while True:
            try:
                piece = s.recv(65536)
            except ConnectionResetError:
                break
            if not piece:
                break
            got += piece
    return [json.loads(x) for x in got.decode().splitlines()]


class World:
    """Roots, a cache directory, and the programs bound to them."""

    def __init__(self, path):
        self.path = path
        self.cache = path / "cache"
        self.roots = [path / ("disk%d" % i) for i in range(1, 5)]
        for directory in [self.cache] + self.roots:
            directory.mkdir()

    def where(self):
        return ["--data", self.roots[0], "--data", self.roots[1],
                "--cache", self.cache]

    def lsvd(self, *words):
        return run(BUILD / "admin" / "lsvd", *words, *self.where())

    def repair(self, *words):
        return run(BUILD / "repair" / "lsvd-repair", *words, *self.where())

    def parts(self, count):
        """Options that put each part in a root of its own."""
        return [w for letter, root in zip("abcd"[:count], self.roots)
                for w in ("--part", "%s=%s" % (letter, root))]

    def create(self, name, *policy, size="16M", parts=3):
        done = self.lsvd("create", name, size, "--chunk-size", "256K",
                         *policy, *self.parts(parts))
        assert done.code == 0, done.err
        return done

    def plugin_words(self, name):
        return [PLUGIN, name, "data=%s" % self.roots[0],
                "data=%s" % self.roots[1], "cache=%s" % self.cache]

    def serve(self, name, *words):
        return Server(self.path, *self.plugin_words(name), *words)

    def controls(self):
        return sorted(self.cache.glob("*.control"))

    def while_served(self, name, command):
        """Run a shell command beside a server; $uri is where it is."""
        return run("nbdkit", "-U", "-", *self.plugin_words(name),
                   "--run", command)

    def fill(self, name, count=6 << 20):
        """Copy random bytes to the front; returns them."""
        data = os.urandom(count)
        image = self.path / "image"
        image.write_bytes(data)
        done = self.while_served(name, "nbdcopy %s \"$uri\"" % image)
        assert done.code == 0, done.err
        return data

    def client(self, name, code):
        """Run Python with a connection h to the served volume."""
        script = self.path / "client.py"
        script.write_text("import nbd, sys\nh = nbd.NBD()\n"
                          "h.connect_uri(sys.argv[1])\n" + code + "\n")
        return self.while_served(name, "/usr/bin/python3 '%s' \"$uri\""
                                 % script)

    def read_fails(self, name, offset, count=4096):
        """Reading there is an I/O error."""
        done = self.client(name, "h.pread(%d, %d)" % (count, offset))
        return done.code != 0 and "EIO" in done.err

    def read(self, name, count):
        image = self.path / "read"
        done = self.while_served(name, "nbdcopy \"$uri\" %s" % image)
        assert done.code == 0, done.err
        return image.read_bytes()[:count]

    def part(self, letter, number=11):
        root = self.roots["abcd".index(letter)]
        return root / str(number) / letter

    def chunks(self, letter):
        """The chunk files of a part, in order."""
        return sorted((p for p in self.part(letter).iterdir()
                       if p.name.isdigit()), key=lambda p: int(p.name))

    def files(self):
        """Every path under the roots and the cache."""
        return sorted(str(p.relative_to(self.path))
                      for top in self.roots + [self.cache]
                      for p in top.rglob("*"))
