#!/usr/bin/python3
"""powercut: a real server, with all its threads, on file systems that lose what
was not synced.

usage: powercut.py [--policy r3] [--seconds 30] [--seed N] [--dir DIR]
                   [--mirror] [--parameter KEY=VALUE ...] [--quiet]

All parts and the journal lie on a FUSE file system each (tests/lib/faultfs.c).
In each round clients that know what they wrote load the volume; the server is
killed at any moment, most likely while something is being synced, which takes
its time; and then the file systems lose what they were not asked to keep: all
of it, or a part of it at random, pages torn in two among them, and names. Then
the volume must start, and every block hold what it may hold: what was durable
last, or something newer, and no mixture of two. In the end all parts must be in
sync, and a full verification must find nothing. Now and then a start lacks a
part, which is filled later, also while the power is cut. With --mirror the
journal has two copies, of which a start may find one alone.

What the simulator (tests/sim) can't see is here: it has one thread. What can't
be seen here: a write that comes while its file is being synced, which FUSE lets
wait (tests/unit/journal/test-journal-gates.c). A failure prints the seed and the
command to do it again, and leaves the directory as it is; when the kill hits
does not follow from the seed.
"""

import argparse
import json
import pathlib
import random
import shutil
import sys
import tempfile
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "nbd"))

# pylint: disable=wrong-import-position
from faultfs import FaultFs, need_faultfs
from load import Clients
from nbdharness import KIB, LSVD, MIB, POLICIES, SPARE, Place, poll, \
    run

SIZE = 16 * MIB
CHUNK = 256 * KIB
JOURNAL = "16M"
KEPT = [0, 0, 30, 70, 95]  # percent of what was not synced
SYNC_MS = [0, 0, 2, 5, 20]


class World:
    def __init__(self, path, policy, seed, mirror=False, parameters=(),
                 say=None):
        self.path, self.policy, self.seed = path, policy, seed
        self.chance = random.Random(f"{seed} {policy}")
        self.parameters = list(parameters)
        self.say = say or (lambda text: None)
        self.rounds = 0
        self.bypassed = 0  # bytes of streams that went past the journal
        self.clients = Clients(SIZE, seed=seed, largest=CHUNK, streams=True)
        self.place = Place(path)
        self.place.create_options = ["--journal-size", JOURNAL]
        letters = "abcdefghij"[:POLICIES[policy][1]]
        self.disks = [self.disk(f"root-{x}") for x in letters]
        self.caches = ["cache", "cache-two"] if mirror else ["cache"]
        self.disks += [self.disk(x) for x in self.caches]
        self.alone = None  # the cache without which nothing is complete
        self.stale = None  # the part that is not in sync
        self.volume = self.place.volume(policy, size=SIZE, chunk=CHUNK)
        self.cut_power()  # what create has made is there

    def disk(self, name):
        return FaultFs(self.path / f"{name}.behind", self.path / name,
                       undo=True)

    def cut_power(self):
        kept = self.chance.choice(KEPT)
        for disk in self.disks:
            disk.resume()
            disk.lose_unsynced(kept, self.chance.randrange(1000000))
        self.clients.model.lost_power()
        return kept

    def caches_to_start(self):
        """Both copies of the journal, or one that is complete."""
        if len(self.caches) == 1 or self.chance.random() < 0.7:
            return self.caches
        self.alone = self.alone or self.chance.choice(self.caches)
        return [self.alone]

    def parts_to_start(self):
        """All, or all but one: none else is out of sync."""
        if not SPARE[self.policy] or self.chance.random() < 0.8:
            return list(self.volume.roots)
        self.stale = self.stale or self.chance.choice(list(self.volume.roots))
        return [x for x in self.volume.roots if x != self.stale]

    def start(self, parts=None):
        caches = self.caches_to_start()
        parts = parts or self.parts_to_start()
        server = self.place.serve(
            self.volume.name, *[f"data={self.volume.roots[x]}" for x in parts],
            *[f"cache={self.path / x}" for x in caches], "part-timeout=60",
            f"bypass-after={self.chance.choice(['0', '0', '1M'])}",
            *self.parameters)
        if self.alone and caches == self.caches:
            poll(lambda: self.status()["journal"]["copies"] == 2,
                 "both copies are complete")
            self.alone = None
        return server

    def status(self):
        done = run(LSVD, "status", self.volume.name, "--json",
                   *[f"--data={r}" for r in self.volume.roots.values()],
                   *[f"--cache={self.path / x}" for x in self.caches],
                   check=False)
        return json.loads(done.stdout)

    def round(self):
        server = self.start()
        self.clients.check_all(server)
        self.clients.model.read_since()
        for disk in self.disks:
            disk.slow(self.chance.choice(SYNC_MS), "sync")
        self.clients.lost = 0
        self.clients.start(server)
        requests = self.chance.choice([20, 100, 400, 1200])
        self.clients.wait(self.chance.randrange(1, requests))
        status = self.status()
        self.bypassed += status["counters"]["bypass_bytes"]
        if self.stale and status["healthy"]:
            self.stale = None
        server.kill()
        self.clients.stop()
        self.clients.check()
        kept = self.cut_power()
        self.rounds += 1
        self.say(f"round {self.rounds}: {self.clients.requests()} requests "
                 f"so far, {self.bypassed // KIB} KiB past the journal, "
                 f"{kept} % of what was not synced is left"
                 + (f", {self.stale} is not in sync" if self.stale else ""))

    def live(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.round()
        server = self.start(list(self.volume.roots))
        self.clients.check_all(server)
        poll(lambda: self.status()["healthy"], "all parts are in sync")
        server.stop()
        self.volume.verify(0, "--full")

    def end(self):
        self.place.end()
        self.clients.stop()
        for disk in self.disks:
            disk.unmount(force=True)


def powercut(path, policy, seed, seconds, mirror=False, parameters=(),
             say=None):
    """None, or what went wrong and how to do it again."""
    world = World(path, policy, seed, mirror, parameters, say)
    try:
        world.live(seconds)
    except Exception:  # pylint: disable=broad-exception-caught
        again = " ".join(["powercut.py", "--policy", policy, "--seed",
                          str(seed), "--seconds", f"{seconds:g}"]
                         + ["--mirror"] * mirror
                         + [f"--parameter {p}" for p in parameters])
        return (f"{traceback.format_exc()}\nin round {world.rounds + 1}; "
                f"again: {again}\nleft: {path}")
    finally:
        world.end()
    return None


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", choices=list(POLICIES), action="append")
    parser.add_argument("--seconds", type=float, default=30,
                        help="for each policy")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--dir", type=pathlib.Path)
    parser.add_argument("--mirror", action="store_true")
    parser.add_argument("--parameter", action="append", default=[])
    parser.add_argument("--quiet", action="store_true")
    options = parser.parse_args()
    need_faultfs()
    seed = options.seed
    if seed is None:
        seed = random.SystemRandom().randrange(1 << 32)
    for policy in options.policy or ["r1", "r3", "ec21", "ec42"]:
        path = pathlib.Path(tempfile.mkdtemp(prefix="lsvd-powercut-",
                                             dir=options.dir))
        print(f"{policy}, seed {seed}, in {path}", flush=True)
        failure = powercut(path, policy, seed, options.seconds,
                           options.mirror, options.parameter,
                           None if options.quiet else
                           lambda text: print(text, flush=True))
        if failure:
            print(failure)
            return 1
        shutil.rmtree(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
