"""Snapshots of volumes: while they are served and written, and the server is
killed or stopped meanwhile.

Writers write their own cells round-robin, one write at a time, each with the
number of the write in every sector. So after M writes it is known what is in
every cell, and a snapshot is consistent if there is an M for each writer.
"""

import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time

import nbd
import pytest

from conftest import need_faults
from load import SECTOR, describe, sector_bytes
from nbdharness import (KIB, LSVD, MIB, assert_same, away, back, one_line,
                        poll, random_bytes, read_all, run, set_rules)

POLICIES = ["r1", "r3", "ec21"]
WRITERS = 3
CELLS = 16  # of each; no multiple of 5 or 7: see kind()
BLOCK = 4 * KIB
ODD = 20 * KIB + SECTOR  # a cell of several blocks, and parts of some
SIZE = 2 * MIB
TORN = -1


def kind(number):
    """What a writer does with its write of that number."""
    return "zero" if number % 5 == 3 else "trim" if number % 7 == 5 \
        else "write"


class Writer(threading.Thread):
    """Goes on from what the volume holds already: first writes."""

    def __init__(self, server, mine, cell, first=0):
        super().__init__()
        self.h, self.mine, self.cell = server.connect(), mine, cell
        self.begun = self.answered = first
        self.over = threading.Event()
        self.error = None
        self.start()

    def offset(self, number):
        return self.cell * (CELLS * self.mine + (number - 1) % CELLS)

    def write(self, number):
        at, what = self.offset(number), kind(number)
        if what == "zero":
            self.h.zero(self.cell, at)
        elif what == "trim":
            self.h.trim(self.cell, at)
        else:
            first = at // SECTOR
            self.h.pwrite(b"".join(
                sector_bytes(number, first + i)
                for i in range(self.cell // SECTOR)), at)

    def run(self):
        try:
            while not self.over.is_set():
                self.begun += 1
                self.write(self.begun)
                self.answered += 1
                if self.answered % 8 == 0:
                    self.h.flush()
        except nbd.Error as e:
            self.error = e


class Load:
    """All of them."""

    def __init__(self, server, cell, first=(0,) * WRITERS):
        self.cell = cell
        self.first = None  # how many were answered when a snapshot was begun
        self.writers = [Writer(server, i, cell, n)
                        for i, n in enumerate(first)]
        self.wait_more(3 * CELLS)

    def answered(self):
        return [w.answered for w in self.writers]

    def begun(self):
        return [w.begun for w in self.writers]

    def wait_more(self, count):
        want = [n + count for n in self.answered()]
        poll(lambda: any(w.error for w in self.writers) or
             all(n >= m for n, m in zip(self.answered(), want)),
             "all write", step_s=0.002)

    def join(self):
        for w in self.writers:
            w.join()

    def stop(self):
        for w in self.writers:
            w.over.set()
        self.join()
        assert not [w.error for w in self.writers if w.error]
        assert self.begun() == self.answered()


def cells_of(data, mine, cell):
    """The number of the write in each cell; 0: zeroes."""
    numbers = []
    for at in range(cell * CELLS * mine, cell * CELLS * (mine + 1), cell):
        got = data[at:at + cell]
        number = int.from_bytes(got[:8], "little")
        want = b"".join(sector_bytes(number, (at + i) // SECTOR)
                        for i in range(0, cell, SECTOR))
        assert got == want, f"at {at}: {describe(got, at // SECTOR)}"
        numbers.append(number)
    return numbers


def cells_after(count):
    """The same, of a volume that holds so many writes."""
    numbers = []
    for i in range(1, CELLS + 1):
        last = count - (count - i) % CELLS
        numbers.append(last if last > 0 and kind(last) == "write" else 0)
    return numbers


def prefixes(data, cell, least, most):
    """How many writes of each writer it holds: between these two."""
    found = []
    for i in range(WRITERS):
        have = cells_of(data, i, cell)
        fits = [n for n in range(most[i], least[i] - 1, -1)
                if cells_after(n) == have]
        assert fits, f"writer {i}: {have} is not what {least[i]} to " \
            f"{most[i]} writes make"
        found.append(fits[0])
    return found


def lsvd(volume, *words, code=0):
    done = run(LSVD, *words, *volume.where(), check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def snapshot(volume, name, code=0):
    return lsvd(volume, "snapshot", "create", f"{volume.name}@{name}",
                code=code)


def refused(volume, *words, code=1):
    """By one line."""
    done = lsvd(volume, *words, code=code)
    assert done.stdout == ""
    return one_line(done.stderr)


def names(volume):
    return [v["name"] for v in json.loads(
        lsvd(volume, "list", "--json").stdout)]


def is_unborn(name):
    """Of an attempt that was cut short: the next one removes it."""
    return "@+" in name


def content(server, export=""):
    h = server.connect(export)
    data = read_all(h, h.get_size())
    h.shutdown()
    return data


def serve(volume, name):
    return volume.place.serve(name, *volume.parameters()[1:])


def content_of(volume, name):
    """By a server of its own."""
    server = serve(volume, name)
    data = content(server)
    server.stop()
    return data


def files(volume, suffix):
    """Of this kind in its cache directory."""
    return [n for n in os.listdir(volume.cache) if n.endswith(suffix)]


def verify(volume, name):
    done = volume.repair("verify", name, "--full")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def served(place):
    """A volume v, a server of it, and what it holds."""
    volume = place.volume("r3", name="v", size=SIZE)
    data = random_bytes(SIZE, 1)
    server = volume.serve()
    h = server.connect()
    h.pwrite(data, 0)
    h.flush()
    return volume, server, data


# ---- under load ----

@pytest.mark.parametrize("policy", POLICIES)
def test_live(place, policy):
    volume = place.volume(policy, name="v", size=SIZE)
    server = volume.serve()
    load = Load(server, ODD)
    first, last, alone = {}, {}, {}
    for name in ["v@s1", "v@s2", "v@s3", "v@s4"]:
        first[name] = load.answered()
        lsvd(volume, "snapshot", "create", name)
        last[name] = load.begun()
        if name in ("v@s1", "v@s3"):
            alone[name] = content_of(volume, name)
        load.wait_more(2 * CELLS)
    load.stop()
    held = [prefixes(content(server), ODD, load.answered(), load.begun())]
    for name in reversed(first):
        h = server.connect(name)
        assert h.is_read_only()
        h.set_strict_mode(0)
        with pytest.raises(nbd.Error):
            h.pwrite(bytes(BLOCK), 0)
        data = read_all(h, SIZE)
        held.append(prefixes(data, ODD, first[name], last[name]))
        assert data == alone.get(name, data)
        assert all(a < b for a, b in zip(held[-1], held[-2]))
    server.stop()
    assert sorted(names(volume)) == ["v", *first]
    for name in names(volume):
        verify(volume, name)
        count = held.pop(0 if name == "v" else -1)
        prefixes(content_of(volume, name), ODD, count, count)


# ---- snapshots that go ----

@pytest.mark.parametrize("policy", POLICIES)
def test_removed_and_flattened_under_load(place, policy):
    volume = place.volume(policy, name="v", size=SIZE)
    server = volume.serve()
    load = Load(server, ODD)
    for name in ["v@s1", "v@s2", "v@s3"]:
        lsvd(volume, "snapshot", "create", name)
        load.wait_more(CELLS)
    lsvd(volume, "snapshot", "remove", "v@s3")
    load.wait_more(CELLS)
    lsvd(volume, "snapshot", "remove", "v@s2")
    load.wait_more(CELLS)
    lsvd(volume, "flatten", "v")
    load.wait_more(CELLS)
    assert names(volume) == ["v@s1", "v"]
    assert json.loads(lsvd(volume, "info", "v", "--json").stdout)[
        "parent"] is None
    lsvd(volume, "snapshot", "remove", "v@s1")
    load.stop()
    prefixes(content(server), ODD, load.answered(), load.begun())
    server.stop()
    assert names(volume) == ["v"]
    assert [n for n in os.listdir(volume.roots["a"]) if n.isdigit()] == ["14"]
    verify(volume, "v")
    prefixes(content_of(volume, "v"), ODD, load.answered(), load.begun())


@pytest.mark.parametrize("policy", POLICIES)
def test_removed_in_the_middle_and_rolled_back(place, policy):
    """Of a volume that is stopped; what stays is what it was."""
    volume = place.volume(policy, name="v", size=SIZE)
    server = volume.serve()
    load = Load(server, ODD)
    held = {}
    for name in ["v@s1", "v@s2", "v@s3", "v@s4"]:
        lsvd(volume, "snapshot", "create", name)
        held[name] = content(server, name)
        load.wait_more(CELLS)
    load.stop()
    held["v"] = content(server)
    assert "in use" in refused(volume, "snapshot", "rollback", "v@s2")
    server.stop()
    for gone in ["v@s2", "v@s1"]:
        lsvd(volume, "snapshot", "remove", gone)
        del held[gone]
        assert sorted(names(volume)) == sorted(held)
        for name, data in held.items():
            assert_same(content_of(volume, name), data)
            verify(volume, name)
    lsvd(volume, "snapshot", "rollback", "v@s3")
    held["v"] = held["v@s3"]
    assert sorted(names(volume)) == sorted(held)
    for name, data in held.items():
        assert_same(content_of(volume, name), data)
        verify(volume, name)
    # two depend on it now: the volume and v@s4
    assert "v@s4" in refused(volume, "snapshot", "remove", "v@s3")


@pytest.mark.parametrize("policy", POLICIES)
def test_removed_in_the_middle_under_load(place, policy):
    """The volume is served and written, and what stays is what it was."""
    volume = place.volume(policy, name="v", size=SIZE)
    server = volume.serve()
    load = Load(server, ODD)
    held = {}
    for name in ["v@s1", "v@s2", "v@s3", "v@s4"]:
        lsvd(volume, "snapshot", "create", name)
        held[name] = content_of(volume, name)
        load.wait_more(CELLS)
    for gone in ["v@s2", "v@s1"]:
        lsvd(volume, "snapshot", "remove", gone)
        del held[gone]
        load.wait_more(CELLS)
        assert sorted(names(volume)) == sorted(["v", *held])
        for name, data in held.items():
            assert_same(content_of(volume, name), data)
    load.stop()
    prefixes(content(server), ODD, load.answered(), load.begun())
    held["v"] = content(server)
    server.stop()
    assert len(files(volume, ".journal")) == 1  # the volume's
    for name, data in held.items():
        assert_same(content_of(volume, name), data)
        verify(volume, name)


def test_removed_from_another_branch(served):
    """A rollback left it there: the server has nothing to do with it."""
    volume, server, data = served
    for name in ["s1", "s2", "s3"]:
        server.connect().pwrite(random_bytes(SIZE // 4, 3), 0)
        snapshot(volume, name)
    held = content_of(volume, "v@s3")
    server.stop()
    lsvd(volume, "snapshot", "rollback", "v@s1")
    server = volume.serve()
    before = content(server)
    lsvd(volume, "snapshot", "remove", "v@s2")
    assert_same(content(server), before)
    assert_same(content_of(volume, "v@s3"), held)
    server.stop()


def begin_removal(volume, name, *options):
    return subprocess.Popen([str(LSVD), "snapshot", "remove", name, *options,
                             *volume.where()], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("policy, end", [
    ("r1", "kill"), ("r3", "kill"), ("ec21", "kill"), ("r3", "stop"),
    ("r3", "interrupt")])
def test_removal_ends_meanwhile(place, policy, end):
    """Slowly enough to be met in the middle; called again, it is done."""
    volume = place.volume(policy, name="v", size=SIZE)
    server = volume.serve()
    h = server.connect()
    held = {}
    for i, name in enumerate(["v@s1", "v@s2"]):
        data = random_bytes(SIZE // (i + 1), i)
        h.pwrite(data, 0)
        h.flush()
        lsvd(volume, "snapshot", "create", name)
        held[name] = content_of(volume, name)
    h.pwrite(random_bytes(SIZE // 4, 9), 0)
    h.flush()
    held["v"] = content(server)
    with begin_removal(volume, "v@s1", "--max-mbps", "0.2") as command:
        assert runs_for(command, 0.5)
        if end == "kill":
            server.kill()
        elif end == "stop":
            server.stop()
        else:
            command.send_signal(signal.SIGINT)
        _, said = command.communicate()
    assert command.returncode == 1
    assert one_line(said)
    if end == "interrupt":  # the server comes to its end by itself
        poll(lambda: volume.repair("verify", "v@s2").returncode == 0,
             "v@s2 can be opened by others")
    else:
        server = volume.serve()
    assert_same(content(server), held["v"])
    for name in ["v@s1", "v@s2"]:
        assert_same(content_of(volume, name), held[name])
    lsvd(volume, "snapshot", "remove", "v@s1")
    del held["v@s1"]
    server.stop()
    assert sorted(names(volume)) == sorted(held)
    for name, data in held.items():
        assert_same(content_of(volume, name), data)
        verify(volume, name)


def test_removed_after_it_was_read(place):
    """By a client of the server: a backup, say."""
    volume = place.volume("r1", name="v", size=SIZE)
    server = volume.serve()
    h = server.connect()
    data = random_bytes(SIZE, 1)
    h.pwrite(data, 0)
    for name in ["s1", "s2"]:
        snapshot(volume, name)
    assert_same(content(server, "v@s2"), data)
    reader = server.connect("v@s1")
    assert "in use" in refused(volume, "snapshot", "remove", "v@s1")
    assert_same(read_all(reader, SIZE), data)
    reader.shutdown()
    for name in ["v@s1", "v@s2"]:
        poll(lambda: run(LSVD, "snapshot", "remove", name, *volume.where(),
                         check=False).returncode == 0, f"{name} goes")
    assert names(volume) == ["v"]
    assert_same(content(server), data)


# ---- the server ends meanwhile ----

def begin_snapshot(volume, name):
    return subprocess.Popen([str(LSVD), "snapshot", "create", name,
                             *volume.where()], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def runs_for(process, seconds):
    """Is it still at work then? The moment is to be random."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def end_meanwhile(volume, load, name, seconds, end):
    """Of its server. Was the command at work; its exit status; what it said.
    """
    load.first = load.answered()
    with begin_snapshot(volume, name) as command:
        cut = runs_for(command, seconds)
        end()
        said = command.communicate()[1]
    load.join()
    return cut, command.returncode, said


def is_as_left(volume, load, name, before):
    """The next server: it has all that was answered, and of the snapshot all
    or nothing. Returns server, and how much it holds."""
    server = volume.serve()
    held = prefixes(content(server), load.cell, load.answered(),
                    load.begun())
    found = [n for n in names(volume) if not is_unborn(n)]
    assert sorted(found) in (before, sorted([*before, name]))
    if name in found:
        prefixes(content(server, name), load.cell, load.first, held)
    return server, held


@pytest.mark.parametrize("policy, rounds", [("r1", 8), ("r3", 15),
                                            ("ec21", 8)])
def test_killed_meanwhile(place, policy, rounds):
    chance = random.Random(f"killed {policy}")
    volume = place.volume(policy, name="v", size=SIZE)
    server, held = volume.serve(), [0] * WRITERS
    begin = time.monotonic()
    snapshot(volume, "first")
    longest = 2 * (time.monotonic() - begin)  # the load makes it slower
    before, cuts = ["v", "v@first"], 0
    for i in range(rounds):
        name = f"v@k{i:02}"
        load = Load(server, BLOCK, held)
        cut, status, _ = end_meanwhile(volume, load, name,
                                       chance.uniform(0, longest),
                                       server.kill)
        server, held = is_as_left(volume, load, name, before)
        there = name in names(volume)
        assert there or status != 0
        if not there:
            lsvd(volume, "snapshot", "create", name)
            prefixes(content(server, name), BLOCK, held, held)
        before.append(name)
        assert sorted(names(volume)) == before
        cuts += cut
    assert cuts > 0
    server.stop()
    for name in before[-4:] + ["v"]:
        verify(volume, name)


@pytest.mark.parametrize("policy", POLICIES)
def test_stopped_meanwhile(place, policy):
    chance = random.Random(f"stopped {policy}")
    volume = place.volume(policy, name="v", size=SIZE)
    server, held, before = volume.serve(), [0] * WRITERS, ["v"]
    for i in range(5):
        name = f"v@k{i}"
        load = Load(server, BLOCK, held)
        _, status, said = end_meanwhile(volume, load, name,
                                        chance.uniform(0, 0.2), server.stop)
        if status != 0:
            one_line(said)
        server, held = is_as_left(volume, load, name, before)
        if name in names(volume):
            before.append(name)
        else:
            assert status != 0
    snapshot(volume, "last")
    assert sorted(names(volume)) == sorted([*before, "v@last"])
    server.stop()
    assert files(volume, ".control") == []
    assert len(files(volume, ".journal")) == 1
    for name in names(volume):
        verify(volume, name)


# ---- clones ----

def test_clone_of_a_snapshot(served):
    volume, server, data = served
    lsvd(volume, "snapshot", "create", "v@s1")
    h = server.connect()
    h.pwrite(b"v" * 5000, 3000)
    lsvd(volume, "clone", "v@s1", "w")
    cloned = serve(volume, "w")
    c = cloned.connect()
    assert_same(read_all(c, SIZE), data)
    c.pwrite(b"w" * 5000, 6000)
    c.zero(MIB, MIB)
    c.flush()
    h.pwrite(b"V" * 5000, MIB)
    h.flush()
    lsvd(volume, "snapshot", "create", "w@s1")
    c.pwrite(b"W" * 5000, 0)
    want = {
        "v@s1": data,
        "v": data[:3000] + b"v" * 5000 + data[8000:MIB] + b"V" * 5000 +
        data[MIB + 5000:],
        "w@s1": data[:6000] + b"w" * 5000 + data[11000:MIB] + bytes(MIB),
    }
    want["w"] = b"W" * 5000 + want["w@s1"][5000:]
    assert_same(content(server, "v@s1"), data)
    server.kill()
    cloned.kill()
    assert sorted(names(volume)) == sorted(want)
    for name, expected in want.items():
        assert_same(content_of(volume, name), expected)
        verify(volume, name)
    assert "v, w" in refused(volume, "snapshot", "remove", "v@s1")


# ---- the command ----

def test_list(served):
    volume, _, _ = served
    listing = ["snapshot", "list", "v"]
    assert "no snapshots of v" in lsvd(volume, *listing).stdout
    assert json.loads(lsvd(volume, *listing, "--json").stdout) == []
    said = one_line(snapshot(volume, "b").stdout)
    assert said.startswith("made v@b; clients waited ")
    lsvd(volume, "resize", "v", "3M")
    said = json.loads(lsvd(volume, "snapshot", "create", "v@a",
                           "--json").stdout)
    assert said["snapshot"] == "v@a" and said["pause_us"] > 0
    found = json.loads(lsvd(volume, *listing, "--json").stdout)
    assert [(s["name"], s["number"], s["size"]) for s in found] == [
        ("v@b", 11, SIZE), ("v@a", 12, 3 * MIB)]
    lines = lsvd(volume, *listing).stdout.splitlines()
    assert lines[0].split() == ["NAME", "NUMBER", "SIZE", "MADE"]
    assert [x.split() for x in lines[1:]] == [
        ["v@b", "11", "2M", found[0]["made"]],
        ["v@a", "12", "3M", found[1]["made"]]]
    assert "nobody" in refused(volume, "snapshot", "list", "nobody")


def test_bad_input_changes_nothing(served):
    volume, server, data = served
    snapshot(volume, "s1")
    before = names(volume)
    for name in ("v", "v@", "@s2", "@"):
        assert "VOLUME@SNAPSHOT" in refused(volume, "snapshot", "create",
                                            name, code=64)
    refused(volume, "snapshot", "make", "v@s2", code=64)
    refused(volume, "snapshot", "create", code=64)
    refused(volume, "snapshot", "create", "v@s2", "v@s3", code=64)
    for name, says in (
            ("s1", "v@s1"), ("a/b", "letters"), ("-a", "begin with"),
            ("a b", "letters"), ("+12", "v@"), ("now", "choose another"),
            ("x" * 70, "longer than"), ("s1@s2", "@"), ("\n", "@")):
        assert says in refused(volume, "snapshot", "create", f"v@{name}")
    assert "nobody" in refused(volume, "snapshot", "create", "nobody@s1")
    assert "v@no" in refused(volume, "snapshot", "remove", "v@no")
    assert names(volume) == before
    assert_same(content(server), data)
    server.connect().pwrite(data[:100], 0)
    server.stop()


def test_of_what_is_read_only(served):
    volume, server, data = served
    lsvd(volume, "set", "v", "read-only=on")
    assert "read-only" in refused(volume, "snapshot", "create", "v@s1")
    assert_same(content(server), data)
    lsvd(volume, "set", "v", "read-only=off")
    snapshot(volume, "s1")
    assert sorted(names(volume)) == ["v", "v@s1"]
    server.stop()


def test_needs_all_parts(served):
    volume, server, data = served
    h = server.connect()
    away(volume, "b")
    refused(volume, "snapshot", "create", "v@s1")
    h.pwrite(b"1" * 5000, 0)
    volume.wait_dropped("b")
    assert "part b" in refused(volume, "snapshot", "create", "v@s1")
    h.pwrite(b"2" * 5000, 100)
    h.flush()
    back(volume, "b")
    assert names(volume) == ["v"]
    volume.wait_healthy()
    snapshot(volume, "s1")
    h.pwrite(b"3" * 5000, 200)
    held = b"1" * 100 + b"2" * 5000 + data[5100:]
    assert_same(content(server, "v@s1"), held)
    assert_same(content(server), held[:200] + b"3" * 5000 + held[5200:])
    server.stop()
    away(volume, "a")
    assert_same(content_of(volume, "v@s1"), held)


# ---- what the server is asked ----

def test_control_goes_on(served):
    volume, server, data = served
    early = server.connect()
    uuid = volume.status()["uuid"]
    for name in ("s1", "s2"):
        snapshot(volume, name)
    events = json.loads(lsvd(volume, "events", "v", "--json").stdout)
    assert "v@s2" in [e for e in events if e["kind"] == "snapshot"][-1]["text"]
    early.pwrite(b"x" * 5000, 0)
    early.flush()
    status = volume.status()
    assert status["healthy"] and status["uuid"] != uuid
    assert (status["name"], status["uuid"]) == ("v", volume.info()["uuid"])
    assert status["counters"]["writes"] == 1
    assert 'lsvd_up{volume="v"} 1' in lsvd(volume, "metrics").stdout
    assert json.loads(lsvd(volume, "resize", "v", "4M", "--json").stdout)[
        "size"] == 4 * MIB
    lsvd(volume, "set", "v", "read-only=on")
    with pytest.raises(nbd.Error):
        early.pwrite(b"y" * 5000, 0)
    lsvd(volume, "set", "v", "read-only=off")
    early.pwrite(b"y" * 5000, 0)
    assert_same(content(server), b"y" * 5000 + data[5000:] + bytes(2 * MIB))
    reader = server.connect("v@s2")
    assert_same(read_all(reader, SIZE), data)
    told = {s["name"]: s["health"] for s in json.loads(
        lsvd(volume, "status", "--json").stdout)}
    assert told == {"v": "healthy", "v@s1": "stopped", "v@s2": "read-only"}
    done = volume.repair("verify", "v", "--full")  # by its server
    assert done.returncode == 0, done.stdout + done.stderr
    server.stop()


def test_nothing_is_left_in_the_cache(served):
    volume, server, _ = served
    h = server.connect()
    for i in range(5):
        h.pwrite(bytes([i]) * 100000, i * 70000)
        snapshot(volume, f"s{i}")
    h.pwrite(b"x" * 100, 0)
    uuid = volume.info()["uuid"]
    assert files(volume, ".journal") == [f"{uuid}.journal"]
    assert files(volume, ".control") == [f"{uuid}.control"]
    for i in range(5):
        content(server, f"v@s{i}")
    assert files(volume, ".journal") == [f"{uuid}.journal"]
    server.stop()
    assert files(volume, ".journal") == [f"{uuid}.journal"]
    assert files(volume, ".control") == []


# ---- who asks or changes something meanwhile ----

def begin(volume, *words):
    return subprocess.Popen([str(LSVD), *words, *volume.where()],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True)


@pytest.fixture
def slow(place):
    """v, its server, and where its rules are."""
    need_faults()
    rules = place.path / "rules"
    rules.write_text("")
    volume = place.volume("r3", name="v", size=SIZE)
    return volume, volume.serve(f"fault={rules}", "part-timeout=30"), rules


def test_resize_meanwhile_is_not_lost(slow):
    volume, server, rules = slow
    label = volume.roots["b"] / "12" / "b"
    set_rules(rules, f"[a]\npath={label}/.label*\ncall=write\nhang=yes\n")
    with begin(volume, "snapshot", "create", "v@s1") as making:
        poll(label.exists, "the successor is being made")
        resizing = run(LSVD, "resize", "v", "4M", *volume.where(),
                       check=False)
        if resizing.returncode == 0:  # to refuse it would do, too
            h = server.connect()
            assert h.get_size() == 4 * MIB
            h.pwrite(b"x" * BLOCK, 3 * MIB)
            h.flush()
        set_rules(rules, "")
        said = making.communicate()
    print(resizing, making.returncode, said)
    h = server.connect()
    if resizing.returncode == 0:
        assert h.get_size() == 4 * MIB
        assert h.pread(BLOCK, 3 * MIB) == b"x" * BLOCK


@pytest.mark.parametrize("words", [["set", "v", "read-only=on"],
                                   ["resize", "v", "4M"]])
def test_change_at_the_moment(slow, words):
    """It waits for the moment to pass, and is then done to the snapshot."""
    volume, server, rules = slow
    meta = volume.roots["b"] / "11" / "b"
    set_rules(rules, f"[a]\npath={meta}/.meta*\ncall=rename\nhang=yes\n")
    with begin(volume, "snapshot", "create", "v@s1") as making:
        poll((meta / ".meta.new").exists, "it is at the moment")
        with begin(volume, *words) as changing:
            assert runs_for(changing, 0.5)
            set_rules(rules, "")
            said = changing.communicate(), making.communicate()
    print(changing.returncode, making.returncode, said)
    h = server.connect()
    print(h.is_read_only(), h.get_size())
    assert making.returncode == 0
    if changing.returncode != 0:  # refused, which the user sees
        return
    assert h.is_read_only() if words[0] == "set" else h.get_size() == 4 * MIB


def test_asked_meanwhile(place):
    """Whoever asks during a snapshot gets an answer about v."""
    volume = place.volume("r1", name="v", size=SIZE)
    volume.serve()
    over, wrong = threading.Event(), []

    def ask():
        while not over.is_set():
            done = run(LSVD, "status", "v", "--json", *volume.where(),
                       check=False)
            health = json.loads(done.stdout or "{}").get("health")
            if health != "healthy":
                wrong.append((done.returncode, health, done.stderr))

    asking = threading.Thread(target=ask)
    asking.start()
    for i in range(16):
        snapshot(volume, f"s{i}")
    over.set()
    asking.join()
    assert wrong == []


def test_two_servers_at_once(place):
    """They have nothing in common but what their roots say of both."""
    volumes = [place.volume("r2", name=name, size=MIB) for name in "vw"]
    for volume in volumes:
        volume.serve()
    for i in range(5):
        making = [begin_snapshot(volume, f"{volume.name}@s{i}")
                  for volume in volumes]
        for process in making:
            text = process.communicate()[1]
            assert process.returncode == 0, text
    for volume in volumes:
        found = json.loads(lsvd(volume, "snapshot", "list", volume.name,
                                "--json").stdout)
        assert [s["name"] for s in found] == [f"{volume.name}@s{i}"
                                              for i in range(5)]


def test_who_holds_a_root_holds_up_no_client(place):
    """A snapshot waits for its lock before the moment of the snapshot, and not
    for ever: then all is as before."""
    volume = place.volume("r1", name="v", size=SIZE)
    load = Load(volume.serve(), BLOCK)
    name = volume.roots["a"] / ".volumesmeta.lock"
    with open(name, "wb") as held:
        fcntl.lockf(held, fcntl.LOCK_EX, 1)
        making, rounds = begin_snapshot(volume, "v@s1"), 0
        while runs_for(making, 1):
            load.wait_more(CELLS)
            rounds += 1
        assert rounds > 3
        out, text = making.communicate()
        assert (making.returncode, out) == (1, "")
        assert f"remove {name}" in one_line(text)
        making = begin_snapshot(volume, "v@s2")
        load.wait_more(10 * CELLS)
        assert making.poll() is None
    assert making.wait() == 0
    found = json.loads(lsvd(volume, "snapshot", "list", "v", "--json").stdout)
    assert [s["name"] for s in found] == ["v@s2"]
    load.wait_more(CELLS)
    load.stop()
    assert not name.exists()


def test_events_go_on(served):
    volume, _, _ = served
    for how in ("on", "off"):
        lsvd(volume, "set", "v", f"read-only={how}")
    snapshot(volume, "s1")
    snapshot(volume, "s2")
    found = json.loads(lsvd(volume, "events", "v", "--json").stdout)
    assert [e["kind"] for e in found] == ["set", "set", "snapshot",
                                          "snapshot"]


def test_leftover_is_no_export(slow):
    """After an ordinary kill, nbdinfo --list works."""
    volume, server, rules = slow
    meta = volume.roots["b"] / "11" / "b"
    set_rules(rules, f"[a]\npath={meta}/.meta*\ncall=rename\nhang=yes\n")
    with begin(volume, "snapshot", "create", "v@s1") as making:
        poll((volume.roots["a"] / "12" / ".meta").exists, "it is made")
        server.kill()
        making.communicate()
    set_rules(rules, "")
    server = volume.serve()
    run("nbdinfo", "--list", server.uri())


def test_a_socket_that_can_not_move(slow):
    """The snapshot is there, and the volume goes on; its server is found by
    the socket that it had."""
    volume, server, rules = slow
    h = server.connect()
    h.pwrite(b"x" * BLOCK, 0)
    meta = volume.roots["b"] / "11" / "b"
    set_rules(rules, f"[a]\npath={meta}/.meta*\ncall=rename\nhang=yes\n")
    with begin(volume, "snapshot", "create", "v@s1") as making:
        poll((meta / ".meta.new").exists, "it is at the moment")
        text = (volume.roots["a"] / "12" / ".meta").read_text()
        uuid = [line.split(" = ")[1] for line in text.splitlines()
                if line.startswith("uuid = ")][0]
        (volume.cache / f"{uuid}.control" / "in the way").mkdir(parents=True)
        set_rules(rules, "")
        said = making.communicate()
    assert making.returncode == 0, said
    assert "no control socket after the snapshot" in server.log()
    assert volume.status()["uuid"] == uuid
    h.pwrite(b"y" * BLOCK, 0)
    h.flush()
    assert h.pread(BLOCK, 0) == b"y" * BLOCK
    assert content(server, "v@s1")[:BLOCK] == b"x" * BLOCK
    server.stop()
    shutil.rmtree(volume.cache / f"{uuid}.control")
    volume.serve()
    assert volume.status()["uuid"] == uuid
    assert names(volume) == ["v@s1", "v"]
