#!/usr/bin/python3
"""worstday: fio writes at full load and verifies what it wrote, while one part
after the other suffers what parts suffer.

usage: worstday.py [--policy r3] [--dir DIR] [--gentle]

A part's directory is moved away and back; a part hangs; its disk is full; its
files hold wrong bytes; an old copy is put in its place; it is lost and replaced.
Then all of it once more, with kill -9 of the server in the middle of each:
while the part is away, while it is filled, with the old copy, while the new one
is filled (--gentle: without all that). Each time fio must get no error and find
no wrong byte, and all parts must be in sync again by themselves; in the end a
full verification must find nothing. After a kill fio begins anew: that what had
been answered is still there is what the thrasher checks (thrash.py).

What is printed: how many runs of fio have ended, the p99 and the longest of the
requests of the last ones, the lag of a part, and what was copied to it.
"""

import argparse
import errno
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "nbd"))

# pylint: disable=wrong-import-position
from faultfs import FaultFs, need_faultfs
from nbdharness import KIB, LSVD, MIB, REPAIR, Place, poll, read_all, run

SIZE = 256 * MIB
CHUNK = 4 * MIB
PART_TIMEOUT_S = 3
FEW = 6  # chunks, of 64
FIO = ["fio", "--name=worstday", "--ioengine=nbd", "--rw=randwrite", "--bs=4k",
       "--iodepth=32", "--verify=crc32c", "--verify_fatal=1", "--do_verify=1",
       "--verify_backlog=4096", "--output-format=json",
       "--percentile_list=50:99"]


class Load(threading.Thread):
    """fio, again and again: each run writes and verifies."""

    def __init__(self, path, server, chunks=None):
        super().__init__()
        self.path, self.uri = path, server.uri()
        self.mibs = (chunks * CHUNK if chunks else SIZE) // MIB
        self.ending, self.killed = False, False
        self.runs, self.error, self.p99, self.longest = 0, None, [], []

    def run(self):
        while not self.ending and not self.error:
            self._once()

    def _once(self):
        done = subprocess.run(
            FIO + [f"--uri={self.uri}", f"--size={self.mibs}m",
                   f"--io_size={min(48, self.mibs)}m",
                   "--randrepeat=0", f"--randseed={self.runs}"],
            cwd=self.path, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            self.ending = True
            if not self.killed:
                self.error = done.stdout[-2000:] + done.stderr[-1000:]
            return
        job = json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]
        times = job["write"]["clat_ns"]
        self.p99.append(times["percentile"]["99.000000"] / 1e6)
        self.longest.append(max(times["max"],
                                job["read"]["clat_ns"]["max"]) / 1e6)
        self.runs += 1

    def check(self):
        if self.error:
            raise AssertionError(f"fio: {self.error}")

    def one_more(self):
        """Until a run has begun after this call and ended."""
        want = self.runs + 2
        poll(lambda: self.runs >= want or not self.is_alive(), "a run of fio",
             180, 0.1)
        self.check()

    def end(self):
        self.ending = True
        self.join()
        self.check()


class Day:
    def __init__(self, path, policy):
        self.path, self.begun = path, time.monotonic()
        self.place = Place(path)
        self.faulty = FaultFs(path / "root-b.behind", path / "root-b")
        self.volume = self.place.volume(policy, size=SIZE, chunk=CHUNK)
        self.server = self.load = None
        self.resync = None  # as fast as it goes
        self.serve()

    def say(self, *what):
        print(f"{time.monotonic() - self.begun:6.1f} s", *what, flush=True)

    def where(self, data="--data={}", cache="--cache={}"):
        """All roots, whether they are there or not: one may come back, and to
        look at one that hangs takes for ever."""
        return [*(data.format(root) for root in self.volume.roots.values()),
                cache.format(self.volume.cache)]

    def tool(self, program, command, *arguments, **kwargs):
        return run(program, command, self.volume.name, *arguments,
                   *self.where(), timeout=300, **kwargs)

    # the server and its clients

    def serve(self):
        self.server = self.place.serve(
            self.volume.name, *self.where("data={}", "cache={}"),
            f"part-timeout={PART_TIMEOUT_S}", "ram=64M",
            *([f"resync-rate={self.resync}"] if self.resync else []))

    def start(self, chunks=None):
        self.load = Load(self.path, self.server, chunks)
        self.load.start()

    def kill(self, when):
        self.load.killed = True
        self.server.kill()
        self.load.join()
        self.serve()
        self.start()
        self.say("kill -9", when)

    # what is seen of it

    def status(self):
        """Its server may be busy being killed: until it answers."""
        def ask():
            return self.tool(LSVD, "status", "--json", check=False).stdout
        return json.loads(poll(lambda: (text := ask()).startswith("{") and
                               text, "an answer to status", 60, 0.1))

    def part(self, letter):
        return [p for p in self.status()["parts"] if p["part"] == letter][0]

    def dropped(self, letter):
        poll(lambda: self.part(letter)["state"] != "ok", f"{letter} dropped",
             40, 0.05)

    def in_sync(self, after):
        poll(lambda: self.load.error or self.status()["healthy"],
             f"in sync {after}", 150, 0.1)
        self.load.check()
        copied = self.status()["counters"]["resynced_chunks"]
        self.say(f"in sync {after}; chunks copied since the start: {copied}")
        return copied

    def under_load(self, what):
        self.load.one_more()
        self.say(f"{what}: runs {self.load.runs},"
                 f" p99 {max(self.load.p99[-2:]):.1f} ms,"
                 f" longest {max(self.load.longest[-2:]):.0f} ms")

    # what it suffers

    def away(self, kill):
        root = self.volume.roots["c"]
        os.rename(root, f"{root}.away")
        self.dropped("c")
        self.under_load("c is away")
        self.say("lag of c, chunks:", self.part("c")["lag_chunks"])
        if kill:
            self.slow_down("while c is away")
        os.rename(f"{root}.away", root)
        if kill:
            self.kill_while_filled("c is resynced")
        self.in_sync("after c was away")

    def few_changed(self):
        """Only what was written while it was away is copied."""
        root = self.volume.roots["c"]
        self.load.end()
        self.start(FEW)
        self.load.one_more()
        poll(lambda: self.status()["journal"]["dirty_chunks"] <= FEW,
             "what was written before is on the parts", 60, 0.1)
        before = self.in_sync("before few are written")
        os.rename(root, f"{root}.away")
        self.dropped("c")
        self.under_load(f"c is away, {FEW} chunks are written")
        self.load.end()
        os.rename(f"{root}.away", root)
        copied = self.in_sync("after few were written") - before
        self.say(f"copied: {copied}")
        # Those that destage was at when it went count, too: it was the same.
        assert 0 < copied <= FEW, copied
        self.start()

    def hang(self, kill):
        self.faulty.hang()
        self.dropped("b")
        self.under_load("b hangs")
        if kill:
            self.load.killed = True
            self.server.process.kill()
            self.faulty.resume()  # or the process can't end
            self.kill("while b hangs")
        else:
            self.faulty.resume()
        self.in_sync("after b hung")

    def full(self, kill):
        self.faulty.fail(errno.ENOSPC, "write")
        self.dropped("b")
        self.under_load("b is full")
        self.faulty.resume()
        if kill:
            self.kill("when b has room")
        self.in_sync("after b was full")

    def lies(self, kill):
        chance, places = random.Random(5), 0
        for file in self.volume.part_dir("a").iterdir():
            if not file.name.isdigit():
                continue
            with open(file, "r+b") as f:
                for _ in range(2):
                    f.seek(chance.randrange(file.stat().st_size // 4096)
                           * 4096 + 77)
                    f.write(b"lies" * 16)
                    places += 1
        self.under_load(f"a lies in {places} places")
        if kill:
            self.kill("after the lies")
        done = self.tool(REPAIR, "rebuild", check=False)
        assert done.returncode in (0, 1), done.stderr
        self.in_sync("after the lies")

    def old(self, kill):
        root = self.volume.roots["c"]
        shutil.copytree(root, f"{root}.old")
        self.load.one_more()
        os.rename(root, f"{root}.gone")
        self.dropped("c")
        shutil.rmtree(f"{root}.gone")
        os.rename(f"{root}.old", root)
        if kill:
            self.kill("with an old copy of c")
        self.in_sync("after c was old")

    def replaced(self, kill):
        root = self.volume.roots["c"]
        new = self.path / f"{root.name}.new"
        os.rename(root, f"{root}.lost")  # its server makes files there still
        self.dropped("c")
        shutil.rmtree(f"{root}.lost")
        new.mkdir()
        if kill:
            self.slow_down("before c is replaced")
        command = threading.Thread(target=self.tool, args=(
            REPAIR, "replace", f"c={new}"), kwargs={"check": not kill})
        command.start()
        if kill:
            self.kill_while_filled("the new c is filled")
        command.join()
        self.volume.roots["c"] = new
        if kill:
            self.kill("with the new c")
        self.in_sync("after c was replaced")

    def slow_down(self, when):
        """What is filled from now on is not full before the next kill."""
        self.resync = "4M"
        self.kill(f"{when}, which is to take long")

    def kill_while_filled(self, what):
        poll(lambda: self.status()["resync"]["chunks_done"] > 0,
             what, 60, 0.02)
        assert not self.status()["healthy"]
        self.resync = None
        self.kill(f"while {what}")

    # all of it

    def suffer(self, kill):
        self.away(kill)
        self.hang(kill)
        self.full(kill)
        self.lies(kill)
        self.old(kill)
        self.replaced(kill)

    def live(self, gentle):
        self.start()
        self.under_load("nothing is wrong")
        self.suffer(False)
        self.few_changed()
        if not gentle:
            self.suffer(True)
        self.load.end()
        self.server.stop()
        done = self.tool(REPAIR, "verify", "--full", check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        self.serve()
        read_all(self.server.connect(), SIZE)
        self.server.stop()
        self.say("all of it is right")

    def end(self):
        if self.load:
            self.load.ending = self.load.killed = True
        self.faulty.resume()
        self.place.end()
        if self.load:
            self.load.join()
        self.faulty.unmount()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", choices=["r3", "ec42"], action="append")
    parser.add_argument("--dir", type=pathlib.Path)
    parser.add_argument("--gentle", action="store_true")
    options = parser.parse_args()
    need_faultfs()
    for policy in options.policy or ["r3", "ec42"]:
        path = pathlib.Path(tempfile.mkdtemp(prefix="lsvd-worstday-",
                                             dir=options.dir))
        print(f"{policy}, {SIZE // KIB} KiB in {path}")
        day = Day(path, policy)
        try:
            day.live(options.gentle)
        finally:
            day.end()
        shutil.rmtree(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
