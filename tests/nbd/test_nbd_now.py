"""The export NAME@now: what the volume held when the client connected, read
while others write."""

import json
import os
import threading
import time

import nbd
import pytest

from conftest import need_faults, need_root
from nbdharness import (KIB, MIB, LSVD, assert_same, away, back, extents,
                        one_line, poll, random_bytes, read_all, run)
from test_nbd_snapshots import CELLS, ODD, POLICIES, SIZE, Load, prefixes

STEP = 256 * KIB


def now(volume):
    return poll(volume.status, "it tells how it is")["now"]


def kept_files(server):
    """What of its cache directory the server has open that has no name."""
    where = f"/proc/{server.process.pid}/fd"
    links = []
    for name in os.listdir(where):
        try:
            links.append(os.readlink(f"{where}/{name}"))
        except FileNotFoundError:  # closed meanwhile
            pass
    return [x for x in links if x.endswith(".now (deleted)")]


def names(volume):
    return [n for n in os.listdir(volume.cache) if n.endswith(".now")]


def refuses_to_write(h):
    h.set_strict_mode(0)
    for request in (lambda: h.pwrite(b"x" * 512, 0), lambda: h.trim(512, 0),
                    lambda: h.zero(512, 0)):
        with pytest.raises(nbd.Error):
            request()


@pytest.fixture
def filled(place):
    """A volume v, its server, a client that may write, and what it holds."""
    place.create_options = ["--journal-size", "4M"]
    volume = place.volume("r2", name="v", size=16 * MIB)
    server = volume.serve()
    h = server.connect()
    data = random_bytes(volume.size, 1)
    for at in range(0, volume.size, MIB):
        h.pwrite(data[at:at + MIB], at)
    h.flush()
    return volume, server, h, data


# ---- under load ----

@pytest.mark.parametrize("policy", POLICIES)
def test_copies_under_load(place, policy):
    """By the programs that people use."""
    volume = place.volume(policy, name="v", size=SIZE)
    server = volume.serve("ram=256K")
    load = Load(server, ODD)
    for i, command in enumerate([["nbdcopy"], ["nbdcopy", "--no-extents"],
                                 ["qemu-img", "convert", "-f", "raw", "-O",
                                  "raw"], ["nbdcopy", "--synchronous"]]):
        copy = place.path / f"copy-{i}"
        first = load.answered()
        run(*command, server.uri("v@now"), copy)
        last = load.begun()
        data = copy.read_bytes()
        assert len(data) == SIZE
        prefixes(data, ODD, first, last)
        load.wait_more(CELLS)
    load.stop()
    poll(lambda: now(volume)["readers"] == 0, "all have gone")
    server.stop()
    volume.verify(0, "--full")


def test_read_slowly_under_load(place):
    """All of it is written over between two pieces."""
    volume = place.volume("ec21", name="v", size=SIZE)
    server = volume.serve("ram=256K")
    load = Load(server, ODD)
    first = load.answered()
    h = server.connect("v@now")
    last = load.begun()
    data = b""
    for at in range(0, SIZE, STEP):
        data += h.pread(STEP, at)
        load.wait_more(CELLS)
    prefixes(data, ODD, first, last)
    assert read_all(h, SIZE, 3 * KIB * 7) == data  # again
    load.stop()
    server.stop()
    volume.verify(0, "--full")


class Stamps(threading.Thread):
    """Writes its number over the whole volume, cell by cell, in order, each
    flushed before the next; then the next number."""
    CELL = 64 * KIB

    def __init__(self, server, size):
        super().__init__()
        self.h, self.cells = server.connect(), size // self.CELL
        self.answered, self.over, self.error = 0, threading.Event(), None
        self.start()

    def stamp(self, nth):
        """Of the write nth."""
        return (nth // self.cells + 1).to_bytes(8, "little")

    def run(self):
        try:
            while not self.over.is_set():
                at = self.answered % self.cells * self.CELL
                self.h.pwrite(self.stamp(self.answered) * (self.CELL // 8), at)
                self.h.flush()
                self.answered += 1
        except nbd.Error as e:
            self.error = e

    def wait_more(self, count):
        goal = self.answered + count
        poll(lambda: self.error or self.answered >= goal, "it writes",
             step_s=0.002)

    def holds(self, data):
        """How many writes; it must be so many, in order."""
        found = []
        for at in range(0, len(data), self.CELL):
            cell = data[at:at + self.CELL]
            assert cell == cell[:8] * (self.CELL // 8), at
            found.append(int.from_bytes(cell[:8], "little"))
        assert found == sorted(found, reverse=True), found
        assert found[0] - found[-1] <= 1, found
        return (found[-1] * self.cells + found.count(found[-1] + 1))

    def stop(self):
        self.over.set()
        self.join()
        assert self.error is None


def test_a_copy_is_a_prefix_of_what_was_written(place):
    volume = place.volume("r2", name="v", size=4 * MIB)
    server = volume.serve()
    stamps = Stamps(server, volume.size)
    for i in range(6):
        stamps.wait_more(stamps.cells + 7)
        least = stamps.answered
        h = server.connect("v@now")
        most = stamps.answered + 1
        stamps.wait_more(stamps.cells // 3)
        data = b""
        for at in range(0, volume.size, STEP):
            data += h.pread(STEP, at)
            stamps.wait_more(stamps.cells // 4)
        assert least <= stamps.holds(data) <= most
        copy = place.path / f"copy-{i}"
        least = stamps.answered
        run("nbdcopy", server.uri("v@now"), copy)
        assert least <= stamps.holds(copy.read_bytes()) <= stamps.answered + 1
    stamps.stop()
    server.stop()


# ---- what it is ----

def test_what_the_export_can(filled):
    volume, server, h, data = filled
    size = volume.size
    found = {e["export-name"]: e for e in json.loads(
        run("nbdinfo", "--json", "--list", server.uri()).stdout)["exports"]}
    assert set(found) == {"v", "v@now"}
    export = found["v@now"]
    assert export["export-size"] == size
    assert export["is_read_only"] is True
    assert export["can_multi_conn"] is False
    assert found["v"]["can_multi_conn"] is True
    assert "connects" in export["description"]
    view = server.connect("v@now", contexts=True)
    refuses_to_write(view)
    h.trim(4 * MIB, 0)
    h.zero(4 * MIB, 4 * MIB)
    assert all(not hole for _, hole in extents(view, size))
    assert_same(read_all(view, size), data)
    later = server.connect("v@now", contexts=True)
    assert sum(n for n, hole in extents(later, size) if hole) == 8 * MIB
    h.pwrite(data[:8 * MIB], 0)
    assert sum(n for n, hole in extents(later, size) if hole) == 8 * MIB
    assert read_all(later, 8 * MIB) == bytes(8 * MIB)
    server.stop()


def test_names_that_are_refused(filled):
    volume, server, h, _ = filled
    done = run(LSVD, "snapshot", "create", "v@now", *volume.where(),
               check=False)
    assert done.returncode == 1
    assert "v@now" in one_line(done.stderr)
    run(LSVD, "snapshot", "create", "v@s1", *volume.where())
    for name in ("v@now@now", "@now", "v@s1@now", "w@now", "v@now ", "v@NOW"):
        with pytest.raises(nbd.Error):
            server.connect(name)
    h.pwrite(b"x" * 512, 0)
    server.stop()
    line = volume.place.refused("v@now", *volume.parameters()[1:])
    assert "v@now" in line and "export" in line


def test_each_connection_has_its_own(filled):
    """Two at a time, and what they leave when they go: by themselves, or all
    of a sudden."""
    volume, server, h, data = filled
    size = volume.size
    one = server.connect("v@now")
    assert now(volume) == {"readers": 1, "broken": 0, "kept_bytes": 0}
    assert kept_files(server) == []  # made when it is needed
    h.pwrite(random_bytes(MIB, 2), 5 * MIB)
    two = server.connect("v@now")
    h.trim(8 * MIB, 4 * MIB)
    h.pwrite(b"y" * 1000, 100)
    after = data[:5 * MIB] + random_bytes(MIB, 2) + data[6 * MIB:]
    for at in range(0, size, MIB):
        assert one.pread(MIB, at) == data[at:at + MIB]
        assert two.pread(MIB, at) == after[at:at + MIB]
    kept = now(volume)
    assert kept["readers"] == 2
    assert kept["kept_bytes"] == 2 * (8 * MIB + 4 * KIB)
    assert len(kept_files(server)) == 2
    assert names(volume) == []
    three = server.connect("v@now")
    del two  # as when it is killed
    one.shutdown()
    poll(lambda: now(volume)["readers"] == 1, "they have gone")
    assert now(volume)["kept_bytes"] == 0
    poll(lambda: kept_files(server) == [], "their files, too")
    out = run(LSVD, "status", "v", *volume.where()).stdout
    assert [x for x in out.splitlines() if "@now" in x]
    assert three.pread(1000, 100) == b"y" * 1000
    server.stop()


def test_so_many_at_a_time(filled):
    volume, server, h, data = filled
    views = [server.connect("v@now") for _ in range(8)]
    with pytest.raises(nbd.Error):
        server.connect("v@now")
    assert "8 clients" in server.log()
    views.pop().shutdown()
    poll(lambda: now(volume)["readers"] == 7, "one has gone")
    views.append(server.connect("v@now"))
    h.pwrite(bytes(MIB), 3 * MIB)
    for view in views:
        assert view.pread(MIB, 3 * MIB) == data[3 * MIB:4 * MIB]
    server.stop()


def test_several_exports(place):
    root = place.root("data")
    where = [f"--data={root}", f"--cache={place.cache}"]
    data = {}
    for i, name in enumerate(("first", "second")):
        run(LSVD, "create", name, "4M", *where)
        data[name] = random_bytes(4 * MIB, i)
    server = place.serve(f"data={root}", f"cache={place.cache}")
    views = {}
    assert server.connect("second@now").pread(4 * MIB, 0) == bytes(4 * MIB)
    for name, content in data.items():
        h = server.connect(name)
        h.pwrite(content, 0)
        views[name] = server.connect(f"{name}@now")
        h.zero(4 * MIB, 0)
    for name, view in views.items():
        assert view.pread(4 * MIB, 0) == data[name]
    listed = run("nbdinfo", "--list", "--json", server.uri()).stdout
    assert {e["export-name"] for e in json.loads(listed)["exports"]} == \
        {"first", "first@now", "second", "second@now"}
    server.stop()


# ---- what happens to the volume meanwhile ----

@pytest.mark.parametrize("policy", POLICIES)
def test_a_snapshot_is_made_and_removed(place, policy):
    volume = place.volume(policy, name="v", size=SIZE)
    server = volume.serve("ram=256K")
    load = Load(server, ODD)
    first = load.answered()
    h = server.connect("v@now")
    last = load.begun()
    half = h.pread(SIZE // 2, 0)
    load.wait_more(CELLS // 2)
    run(LSVD, "snapshot", "create", "v@s1", *volume.where())
    load.wait_more(CELLS)
    data = read_all(h, SIZE)
    assert data[:SIZE // 2] == half
    prefixes(data, ODD, first, last)
    run(LSVD, "snapshot", "remove", "v@s1", *volume.where())
    load.wait_more(2 * CELLS)
    assert_same(read_all(h, SIZE), data)
    assert now(volume)["readers"] == 1
    h.shutdown()
    poll(lambda: now(volume)["readers"] == 0, "it has gone")
    load.stop()
    prefixes(read_all(server.connect(), SIZE), ODD, load.answered(),
             load.begun())
    server.stop()
    volume.verify(0, "--full")


class Looker(threading.Thread):
    """Connects, reads all of it twice, and goes, again and again."""

    def __init__(self, server, load):
        super().__init__()
        self.server, self.load = server, load
        self.looks, self.over, self.error = 0, threading.Event(), None
        self.start()

    def look(self):
        first = self.load.answered()
        h = self.server.connect("v@now")
        last = self.load.begun()
        data = read_all(h, SIZE, STEP)
        prefixes(data, ODD, first, last)
        assert read_all(h, SIZE) == data
        h.shutdown()

    def run(self):
        try:
            while not self.over.is_set():
                self.look()
                self.looks += 1
        except (nbd.Error, AssertionError) as e:
            self.error = e


def test_clients_come_and_go_beside_snapshots(place):
    """Each of them shuts the gate, and waits for the other."""
    volume = place.volume("r2", name="v", size=SIZE)
    server = volume.serve()
    load = Load(server, ODD)
    lookers = [Looker(server, load) for _ in range(3)]
    for _ in range(3):
        run(LSVD, "snapshot", "create", "v@s1", *volume.where())
        goals = [x.looks + 1 for x in lookers]
        poll(lambda: any(x.error for x in lookers) or
             all(x.looks >= n for x, n in zip(lookers, goals)), "all look")
        run(LSVD, "snapshot", "remove", "v@s1", *volume.where())
    for x in lookers:
        x.over.set()
        x.join()
        assert x.error is None
    load.stop()
    poll(lambda: now(volume)["readers"] == 0, "all have gone")
    assert kept_files(server) == []
    server.stop()
    volume.verify(0, "--full")


def test_it_grows(filled):
    volume, server, h, data = filled
    view = server.connect("v@now")
    run(LSVD, "resize", "v", "24M", *volume.where())
    h = server.connect()
    h.pwrite(b"z" * 24 * MIB, 0)
    assert view.get_size() == volume.size
    assert_same(read_all(view, volume.size), data)
    assert server.connect("v@now").get_size() == 24 * MIB
    server.stop()


def test_kill_9_leaves_nothing(filled):
    volume, server, h, data = filled
    before = set(os.listdir(volume.cache))
    view = server.connect("v@now")
    h.pwrite(random_bytes(2 * MIB, 3), 3 * MIB)
    assert view.pread(2 * MIB, 3 * MIB) == data[3 * MIB:5 * MIB]
    assert kept_files(server) != []
    server.kill()
    assert set(os.listdir(volume.cache)) <= before
    volume.serve().stop()
    assert_same(volume.content(), data[:3 * MIB] + random_bytes(2 * MIB, 3) +
                data[5 * MIB:])
    volume.verify(0, "--full")


def test_opened_anew(place):
    """It had too few parts to be written, and they come back."""
    volume = place.volume("r3", name="v", size=4 * MIB)
    data = volume.fill(5)
    away(volume, "bc")
    server = volume.serve()
    view = server.connect("v@now")
    assert_same(read_all(view, volume.size), data)
    back(volume, "bc")
    poll(lambda: not server.connect().is_read_only(), "it can be written")
    with pytest.raises(nbd.Error):
        view.pread(512, 0)
    assert "v@now gets errors from now on" in server.log()
    again = server.connect("v@now")
    server.connect().zero(volume.size, 0)
    assert_same(read_all(again, volume.size), data)
    server.stop()


# ---- no room ----

def check_it_is_told(volume, server, h, view, data):
    """Who wrote noticed nothing; who reads gets errors, and one line says
    why."""
    for at in range(0, volume.size, 3 * MIB):
        with pytest.raises(nbd.Error):
            view.pread(512, at)
    told = [x for x in server.log().splitlines()
            if "v@now gets errors from now on" in x]
    assert len(told) == 1, told
    assert "cache directory" in told[0]
    assert now(volume) == {"readers": 1, "broken": 1, "kept_bytes": 0}
    assert_same(read_all(h, volume.size), data)
    view.shutdown()
    poll(lambda: now(volume)["readers"] == 0, "it has gone")


def write_all_over(h, size):
    data = random_bytes(size, 77)
    for at in range(0, size, MIB):
        h.pwrite(data[at:at + MIB], at)
    h.flush()
    return data


def test_it_can_not_be_kept(place):
    need_faults()
    volume = place.volume("r2", name="v", size=8 * MIB)
    volume.fill(1)
    rules = place.path / "rules"
    rules.write_text(f"[a]\npath={volume.cache}/*.now\ncall=write\n"
                     "error=EIO\n")
    server = volume.serve(f"fault={rules}")
    h, view = server.connect(), server.connect("v@now")
    data = write_all_over(h, volume.size)
    check_it_is_told(volume, server, h, view, data)
    server.stop()
    volume.verify(0, "--full")


def test_full_cache_directory(place, mounts):
    """The journal has what it needs; views get what is left."""
    need_root()
    done = run("mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", place.cache,
               check=False)
    if done.returncode != 0:
        pytest.skip(f"mount -t tmpfs: {done.stderr}")
    mounts.append(place.cache)
    place.create_options = ["--journal-size", "4M"]
    volume = place.volume("r2", name="v", size=16 * MIB)
    old = volume.fill(1)
    server = volume.serve()
    h = server.connect()

    def left():
        s = os.statvfs(place.cache)
        return s.f_bavail * s.f_frsize

    room = left()
    view = server.connect("v@now")
    h.pwrite(bytes(2 * MIB), MIB)
    assert left() < room
    assert_same(read_all(view, volume.size), old)
    data = write_all_over(h, volume.size)
    poll(lambda: left() >= room, "its space is back")
    check_it_is_told(volume, server, h, view, data)
    view = server.connect("v@now")  # with room again
    h.zero(4 * MIB, 0)
    assert left() < room
    assert_same(read_all(view, volume.size), data)
    view.shutdown()
    poll(lambda: left() >= room, "its space is back, too")
    server.stop()
    volume.verify(0, "--full")


def test_one_of_two_cache_directories_hangs(place, faultfs):
    """The one where it is kept: it is given up, as the journal's copy is."""
    place.create_options = ["--journal-size", "4M"]
    volume = place.volume("r2", name="v", size=8 * MIB)
    fs, other = faultfs("cache-one"), place.root("cache-two")
    data = [f"data={r}" for r in volume.roots.values()]
    server = place.serve("v", *data, f"cache={fs.path}", f"cache={other}",
                         "part-timeout=2")
    h = server.connect()
    h.pwrite(random_bytes(4 * MIB, 1), 0)
    view = server.connect("v@now")
    h.pwrite(bytes(MIB), 0)
    assert view.pread(MIB, 0) == random_bytes(4 * MIB, 1)[:MIB]
    fs.hang()
    begin = time.monotonic()
    h.pwrite(bytes(MIB), MIB)
    h.pwrite(bytes(MIB), 2 * MIB)
    h.flush()
    assert time.monotonic() - begin < 20  # deadlines, on a busy machine
    with pytest.raises(nbd.Error):
        view.pread(512, 0)
    assert "v@now gets errors from now on" in server.log()
    view.shutdown()
    again = server.connect("v@now")
    h.pwrite(random_bytes(MIB, 2), 0)
    assert again.pread(MIB, 0) == bytes(MIB)
    fs.resume()
    server.stop()
