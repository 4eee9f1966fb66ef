#!/usr/bin/python3
"""thrash: a real server and real clients, while everything goes wrong that a
volume has to bear.

usage: thrash.py [--policy r3] [--seconds 60] [--seed N] [--only KIND,...]
                 [--dir DIR] [--parameter KEY=VALUE ...] [--quiet]

A life is made of rounds. In each, clients that know what they wrote load the
volume, while faults are let loose on some of its parts and on the server:
never on more parts than the policy bears. Then the faults end, and within a
deadline all parts have to be in sync again, by themselves; the server is
killed or stopped, every block must hold what it may hold, and a full
verification must find nothing. No client may get an error in all that, but
for its connection when the server is killed, and ENOSPC while a part is full.

Everything that is done follows from the seed (when it hits, does not). A
failure prints the seed, what was done, and the command to do it again, and
leaves the directory as it is.

Kinds of faults, of a part: error full slow hang short flip lie (rules of
core/meta/fault_rules.h); away unmounted (its directory vanishes, and is back
later); old (an earlier copy of it is put in its place); replace (it is lost,
and made anew). Of the server: kill, stop. Of the journal: journal (slow, and
lies about syncs). calm: what ails the parts ends, and the round goes on.
Only when asked for: stall (two parts fail for a few seconds, so that too few
are left: requests wait, and none may fail); live-replace (as replace, but of
the running server).
"""

import argparse
import errno
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "nbd"))

# pylint: disable=wrong-import-position
from load import Clients
from nbdharness import KIB, LSVD, MIB, Place, poll, run

PART_TIMEOUT_S = 2
STALL_TIMEOUT_S = 30
RECOVERY_S = 60
# The deadline, a view change, a restart of the crew; and a busy machine.
LONGEST_S = 3 * PART_TIMEOUT_S + 9
STOP_S = 15  # promised are 10; the rest is for a busy machine

# name: how often. Those of HARMLESS leave every part in sync.
KINDS = {"error": 4, "full": 2, "slow": 2, "hang": 3, "short": 1, "flip": 2,
         "lie": 1, "away": 2, "unmounted": 1, "old": 2, "replace": 1,
         "kill": 3, "stop": 1, "journal": 1, "calm": 2}
OPTIONAL = {"stall": 2, "live-replace": 1}
HARMLESS = {"slow", "lie", "kill", "stop", "journal", "calm"}

# policy: parts that may be out of sync while clients notice nothing (n - w).
BEARS = {"r1": 0, "r2": 1, "r3": 1, "ec21": 1, "ec42": 1}


class Life:
    """One volume, from making to the end of the time."""

    def __init__(self, path, policy, seed, kinds=None, parameters=(),
                 size=8 * MIB, say=None):
        self.chance = random.Random(f"{seed} {policy}")
        self.path, self.policy, self.seed = path, policy, seed
        every = KINDS | OPTIONAL
        self.kinds = {k: every[k] for k in kinds or KINDS}
        self.parameters = list(parameters)
        self.started = time.monotonic()
        self.say, self.log = say, []
        self.rules_path = path / "faults"
        self.rules = {}     # section: lines
        self.serial = 0     # of sections
        self.moved = {}     # letter: where its root is meanwhile
        self.lost = set()   # letters that have to be replaced
        self.flipped = set()  # letters that were read with wrong bits
        self.stalled = False  # too few parts were left in this round
        self.swapped = False  # a directory the server has open was replaced
        self.harmed = False
        self.rounds = 0
        self.note(f"seed {seed}, policy {policy}")
        self.place = Place(path)
        self.volume = self.place.volume(policy, size=size, chunk=256 * KIB)
        self.clients = Clients(size, seed=seed)
        self.write_rules()
        self.server = None
        self.start()

    # ---- what is written down ----

    def note(self, text):
        line = f"{time.monotonic() - self.started:8.2f} {text}"
        self.log.append(line)
        with open(self.path / "thrash.log", "a", encoding="utf-8") as f:
            f.write(line + "\n")
        if self.say:
            self.say(line)

    # ---- the server ----

    def start(self):
        self.server = self.place.serve(
            self.volume.name, *[f"data={r}" for r in
                                self.volume.roots.values()],
            f"cache={self.volume.cache}", f"fault={self.rules_path}",
            f"part-timeout={PART_TIMEOUT_S}",
            f"stall-timeout={STALL_TIMEOUT_S}", "ram=2M", *self.parameters)
        self.clients.lost = 0
        self.clients.start(self.server)

    def down(self, kill, must_be_clean=False):
        """End it; its clients lose their connections."""
        self.alive()
        self.note("kill -9" if kill else "SIGTERM")
        if kill:
            self.server.kill()
        else:
            self.server.process.send_signal(signal.SIGTERM)
            code = self.server.wait(STOP_S)
            assert code == 0 or code > 0 and not must_be_clean, \
                f"exit status {code}\n{self.server.log()[-4000:]}"
        self.clients.stop()
        self.clients.model.crashed()

    def kills(self, probability=0.5):
        """Two copies, and none in sync but these: after a clean stop both are
        needed to start (R6), and one is perhaps not what it was. With the
        journal of a killed server one is enough."""
        return self.policy == "r2" or self.chance.random() < probability

    def alive(self):
        code = self.server.process.poll()
        assert code is None, \
            f"the server ended: {code}\n{self.server.log()[-4000:]}"
        assert self.clients.lost == 0, "connections were lost"
        self.clients.check()

    def load(self, least, most):
        """Let the clients work."""
        self.clients.wait(self.chance.randrange(least, most),
                          STALL_TIMEOUT_S + 30)
        self.alive()

    def status(self):
        done = run(LSVD, "status", self.volume.name, "--json",
                   *self.volume.where(), check=False, timeout=60)
        return json.loads(done.stdout) if done.stdout.startswith("{") else \
            {"healthy": False, "error": done.stderr}

    # ---- rules ----

    def write_rules(self):
        new = self.rules_path.with_name("faults.new")
        new.write_text("".join(f"[{name}]\n{lines}" for name, lines in
                               self.rules.items()))
        new.rename(self.rules_path)

    def add_rule(self, path, **keys):
        self.serial += 1
        keys["seed"] = self.chance.randrange(1 << 30)
        lines = f"path={path}\n" + "".join(
            f"{k.replace('_', '-')}={v}\n" for k, v in keys.items())
        self.rules[f"rule{self.serial}"] = lines
        self.note("rule: " + lines.strip().replace("\n", " "))
        self.write_rules()

    def end_rules(self):
        if self.rules:
            self.note("rules end")
        self.rules.clear()
        self.write_rules()

    def probability(self):
        return self.chance.choice([1, 1, 0.3, 0.05, 0.01])

    def part_rule(self, victim, **keys):
        self.add_rule(self.volume.roots[victim].name, **keys)

    # ---- faults of a part ----

    def do_error(self, victim):
        call = self.chance.choice(["any", "any", "read", "write", "sync",
                                   "open", "write;sync", "rename;remove",
                                   "list;stat"])
        self.part_rule(victim, call=call, probability=self.probability(),
                       error=self.chance.choice(["EIO", "EIO", "ESTALE"]))

    def do_full(self, victim):
        self.clients.tolerated.add(errno.ENOSPC)
        self.part_rule(victim, call="write;allocate;resize", error="ENOSPC",
                       probability=self.probability())

    def do_slow(self, victim):
        self.part_rule(victim, probability=self.probability(),
                       call=self.chance.choice(["any", "read", "sync"]),
                       delay_ms=self.chance.choice([2, 20, 200]))

    def do_hang(self, victim):
        call = self.chance.choice(["any", "any", "read", "write", "sync"])
        self.part_rule(victim, call=call, hang="yes",
                       probability=self.probability())

    def do_short(self, victim):
        self.part_rule(victim, call="read;write", short="yes",
                       probability=self.probability())

    def do_flip(self, victim):
        self.flipped.add(victim)
        self.part_rule(victim, call="read", flip="yes",
                       probability=self.chance.choice([0.3, 0.02]))

    def do_lie(self, victim):
        self.part_rule(victim, call="sync", lie="yes")

    def do_journal(self, _victim):
        self.add_rule(self.volume.cache.name, call="any",
                      delay_ms=self.chance.choice([1, 10]), probability=0.2)
        self.add_rule(self.volume.cache.name, call="sync", lie="yes")

    def vanish(self, victim, leave_mount_point):
        root = self.volume.roots[victim]
        if victim in self.moved or victim in self.lost:
            return
        self.moved[victim] = root.with_name(root.name + "-away")
        self.note(f"{root.name} vanishes"
                  f"{', its mount point stays' * leave_mount_point}")
        root.rename(self.moved[victim])
        if leave_mount_point:
            root.mkdir()

    def do_away(self, victim):
        self.vanish(victim, False)

    def do_unmounted(self, victim):
        self.vanish(victim, True)

    def bring_back(self):
        for letter, away in self.moved.items():
            root = self.volume.roots[letter]
            self.note(f"{root.name} is back")
            if root.exists():
                left = sorted(root.iterdir())
                assert not left, f"written to an unmounted directory: {left}"
                root.rmdir()
            away.rename(root)
        self.moved.clear()

    def snapshot_path(self, letter):
        return self.path / f"copy-{letter}"

    def take_snapshot(self):
        """Of a part, while no server runs."""
        letter = self.chance.choice(self.volume.letters)
        if letter in self.moved or letter in self.lost:
            return
        copy = self.snapshot_path(letter)
        self.note(f"a copy is made of {letter}")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.volume.roots[letter], copy)

    def do_old(self, victim):
        """Last week's backup. The server may have the directory open."""
        copy, root = self.snapshot_path(victim), self.volume.roots[victim]
        if not copy.exists() or victim in self.moved or victim in self.lost:
            return
        running = self.chance.random() < 0.3
        if not running:
            self.down(self.kills())
        self.note(f"an old copy in place of {root.name}")
        gone = root.with_name(root.name + "-gone")
        root.rename(gone)
        copy.rename(root)
        if running:
            self.swapped = True
        else:
            shutil.rmtree(gone)
            self.start()

    def do_replace(self, victim):
        """It is lost for good; a new one is made at the end of the round."""
        if victim in self.moved or victim in self.lost or self.swapped:
            return
        self.down(self.kills())
        self.note(f"{victim} is lost")
        directory = self.volume.part_dir(victim)
        if self.chance.random() < 0.5:
            shutil.rmtree(directory)
        else:
            for path in directory.iterdir():
                path.unlink()
        shutil.rmtree(self.snapshot_path(victim), ignore_errors=True)
        self.lost.add(victim)
        self.start()

    def replace_lost(self):
        for letter in sorted(self.lost):
            self.down(self.kills())
            self.note(f"replace {letter}")
            done = self.volume.repair("replace", self.volume.name, letter)
            assert done.returncode == 0, done.stdout + done.stderr
            self.start()
        self.lost.clear()

    def do_live_replace(self, victim):
        if victim in self.moved or victim in self.lost or self.swapped:
            return
        self.note(f"{victim} is lost, and replaced at once")
        for path in self.volume.part_dir(victim).iterdir():
            path.unlink()
        shutil.rmtree(self.snapshot_path(victim), ignore_errors=True)
        poll(lambda: not self.status()["healthy"], "its loss is noticed", 20)
        self.end_rules()  # refused while operations hang in its directory
        poll(lambda: self.volume.repair("replace", self.volume.name,
                                        victim).returncode == 0,
             "its replacement", 20)

    def do_stall(self, victim):
        if self.moved or self.lost or self.swapped:
            return
        self.end_rules()
        other = self.chance.choice(
            [x for x in self.volume.letters if x != victim])
        for letter in (victim, other):
            self.part_rule(letter, call="write;sync", error="EIO")
        self.stalled = True
        # As long as it lasts, not until something has happened.
        self.clients.stopping.wait(self.chance.choice([0.2, 1, 4]))
        self.end_rules()

    # ---- of the server ----

    def do_kill(self, _victim):
        self.down(True)
        self.start()

    def do_stop(self, _victim):
        self.down(self.kills(0))
        self.start()

    def do_calm(self, _victim):
        self.end_rules()
        self.bring_back()

    # ---- rounds ----

    def round(self):
        self.rounds += 1
        self.clients.forget_longest()
        count = min(1, BEARS[self.policy])
        victims = self.chance.sample(self.volume.letters, max(1, count))
        kinds = [k for k in self.kinds if count or k in HARMLESS]
        self.note(f"round {self.rounds}: parts {', '.join(victims)}")
        self.load(20, 200)
        for _ in range(self.chance.randrange(1, 6)):
            kind = self.chance.choices(
                kinds, [self.kinds[k] for k in kinds])[0]
            self.note(kind)
            self.harmed |= kind not in HARMLESS
            getattr(self, "do_" + kind.replace("-", "_"))(self.chance.choice(victims))
            self.load(20, 300)
        self.recover()
        self.judge()

    def recover(self):
        """Faults end: all parts must be in sync again."""
        self.end_rules()
        self.bring_back()
        self.replace_lost()
        if self.swapped:
            self.down(True)
            for root in self.volume.roots.values():
                shutil.rmtree(root.with_name(root.name + "-gone"),
                              ignore_errors=True)
            self.swapped = False
            self.start()
        self.wait_in_sync()
        self.clients.tolerated.clear()
        self.load(20, 100)
        assert self.clients.longest_s < LONGEST_S + 10 * self.stalled, \
            f"a request took {self.clients.longest_s:.1f} s"
        self.stalled = False

    def wait_in_sync(self):
        if not self.harmed:
            return
        try:
            poll(lambda: self.status()["healthy"], "all are in sync",
                 RECOVERY_S, 0.1)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.status()}") from e
        self.note("in sync")

    def judge(self):
        """What the parts hold, without the server's help."""
        self.down(self.chance.random() < 0.7, must_be_clean=True)
        server = self.volume.serve()
        # What a fault left behind may have been met as late as just now.
        self.wait_in_sync()
        self.harmed = False
        self.clients.check_all(server)
        server.stop()
        self.mend_flipped()
        self.volume.verify(0, "--full")
        self.note("verified")
        if self.chance.random() < 0.5:
            self.take_snapshot()
        self.start()

    def mend_flipped(self):
        """A table that was read with a wrong bit may have been stored so: a
        block that does not pass its check, or one with a number that makes
        those of others look stale, until scrub or rebuild mends it."""
        if not self.flipped:
            return
        report = self.volume.repair("verify", self.volume.name, "--full",
                                    "--json")
        assert report.returncode in (0, 1), report.stdout + report.stderr
        for part in json.loads(report.stdout)["parts"]:
            damaged = part["corrupt"] + part["stale"]
            assert part["missing"] == part["unexpected"] == 0, report.stdout
            if damaged:
                self.note(f"{damaged} chunks of {part['part']} to be mended")
        self.flipped.clear()
        self.volume.rebuild()

    def live(self, seconds):
        """Rounds until the time is over; at least one."""
        end = time.monotonic() + seconds
        while True:
            self.round()
            if time.monotonic() > end:
                break
        self.down(False, must_be_clean=True)
        self.note(f"{self.rounds} rounds, {self.clients.requests()} "
                  f"requests, ENOSPC {self.clients.met[errno.ENOSPC]}")

    def end(self):
        """Leave no process, whatever has happened."""
        self.clients.stopping.set()
        self.place.end()
        for thread in self.clients.threads:
            thread.join(60)

    def again(self):
        """The command that does the same."""
        words = [f"LSVD_BUILD={os.environ['LSVD_BUILD']}"] \
            if "LSVD_BUILD" in os.environ else []
        words += [sys.executable, str(pathlib.Path(__file__).resolve()),
                  "--policy", self.policy, "--seed", str(self.seed)]
        if set(self.kinds) != set(KINDS):
            words += ["--only", ",".join(self.kinds)]
        for parameter in self.parameters:
            words += ["--parameter", parameter]
        return " ".join(words)


def thrash(path, policy, seed, seconds, **kwargs):
    """None, or the text of a failure; then the directory is worth a look."""
    life = None
    try:
        life = Life(path, policy, seed, **kwargs)
        life.live(seconds)
        return None
    except Exception:  # pylint: disable=broad-except
        text = traceback.format_exc()
        if life is None:
            return text
        life.note("failed")
        log = life.server.log()[-6000:] if life.server else ""
        return (f"{text}\nwhat was done:\n" + "\n".join(life.log[-80:]) +
                f"\n\nthe server said last:\n{log}\n"
                f"directory: {path}\nagain: {life.again()}\n")
    finally:
        if life:
            life.end()


def kinds_of(text):
    kinds = text.split(",")
    for kind in kinds:
        if kind not in KINDS | OPTIONAL:
            raise argparse.ArgumentTypeError(
                f"{kind}: there are {', '.join(KINDS | OPTIONAL)}")
    return kinds


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", choices=BEARS, action="append")
    parser.add_argument("--seconds", type=float, default=60,
                        help="for each policy")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--only", type=kinds_of)
    parser.add_argument("--dir", type=pathlib.Path)
    parser.add_argument("--parameter", action="append", default=[],
                        help="of the plugin, as in scrub=10s")
    parser.add_argument("--quiet", action="store_true")
    options = parser.parse_args()
    seed = options.seed
    if seed is None:
        seed = random.SystemRandom().randrange(1 << 32)
    if options.dir and not options.dir.is_dir():
        parser.error(f"--dir {options.dir}: there is no such directory")
    for policy in options.policy or BEARS:
        path = pathlib.Path(tempfile.mkdtemp(prefix="lsvd-thrash-",
                                             dir=options.dir))
        failure = thrash(path, policy, seed, options.seconds,
                         kinds=options.only, parameters=options.parameter,
                         say=None if options.quiet else print)
        if failure:
            print(failure)
            return 1
        print(f"{policy}: good (seed {seed})")
        shutil.rmtree(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
