"""A directory that hangs, fails, is slow or loses what was not synced: a FUSE
file system of our own (tests/lib/faultfs.c)."""

import errno
import os
import pathlib
import shutil
import socket
import subprocess

import pytest

from nbdharness import BUILD, poll

PROGRAM = BUILD / "tests" / "lib" / "faultfs"


def need_faultfs():
    """Skip the test where such a file system can't be had."""
    if not PROGRAM.exists():
        pytest.skip("faultfs is not built: libfuse3-dev is missing")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse is not there, or not for us")
    if shutil.which("fusermount3") is None:
        pytest.skip("fusermount3 is missing (package fuse3)")


class FaultFs:
    """The directory `behind`, seen at `path`."""

    def __init__(self, behind, path, undo=False):
        self.behind, self.path = pathlib.Path(behind), pathlib.Path(path)
        self.behind.mkdir(exist_ok=True)
        self.path.mkdir(exist_ok=True)
        # Next to it, with a name that does not grow: the limit is 108 bytes.
        self.control = self.path.parent / f".{self.path.name}.ctl"
        self.control.unlink(missing_ok=True)
        self.log = open(self.path.parent / f"{self.path.name}.fuse.log", "wb")
        self.process = subprocess.Popen(
            [str(PROGRAM), str(self.behind), str(self.path),
             str(self.control), *(["--undo"] if undo else [])],
            stdout=self.log, stderr=self.log)
        poll(self._up, f"{self.path} is mounted")

    def _mounted(self):
        # Not os.path.ismount: that waits when it hangs.
        with open("/proc/self/mountinfo", encoding="utf-8") as f:
            return any(line.split()[4] == str(self.path) for line in f)

    def _up(self):
        if self.process.poll() is not None:
            pytest.skip("can't mount FUSE here: " + pathlib.Path(
                self.log.name).read_text(errors="replace").strip())
        return self._mounted() and self.control.exists()

    def ask(self, command):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.settimeout(30)
            s.connect(str(self.control))
            s.send(command.encode())
            return s.recv(64).decode()

    def tell(self, command):
        assert self.ask(command) == "ok", command

    def hang(self):
        """No call is answered until resume()."""
        self.tell("hang")

    def resume(self):
        """Nothing is wrong any more; what hung is done now."""
        self.tell("resume")

    def fail(self, error=errno.EIO, kind="all"):
        """Calls of this kind (all, read, write, sync) fail."""
        self.tell(f"fail {kind} {error}")

    def slow(self, milliseconds, kind="all"):
        self.tell(f"slow {milliseconds} {kind}")

    def waiting(self):
        """How many calls hang."""
        return int(self.ask("waiting"))

    def syncing(self):
        """How many syncs are under way."""
        return int(self.ask("syncing"))

    def lose_unsynced(self, kept=0, seed=0):
        """As after a power cut: nobody may have a file open. kept: percent of
        what was not synced that stays."""
        self.tell(f"lose {kept} {seed}")

    def unmount(self, force=False):
        """force: whatever hangs gets an error."""
        if force and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._mounted():
            subprocess.run(["fusermount3", "-u", *(["-z"] if force else []),
                            str(self.path)], check=True, timeout=60)
        self.process.wait(60)
        self.log.close()
        self.control.unlink(missing_ok=True)
