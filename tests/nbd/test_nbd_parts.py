"""Whole parts are away."""

import fcntl
import itertools
import random
import shutil
import threading

import nbd
import pytest

from conftest import need_root
from nbdharness import (MIB, POLICIES, LSVD, PROVEN_AT_START,
                        SPARE_AT_START, Opened, assert_same, away, back, poll,
                        random_bytes, read_all, run, tree_state)

REDUNDANT = [p for p in POLICIES if POLICIES[p][2] > 0]


def parts_state(*directories):
    """All but who held a lock last, which is for people."""
    return {path: what for path, what in tree_state(*directories).items()
            if not path.endswith("/.lock")}


def choices(policy, count):
    letters = "abcdef"[:POLICIES[policy][1]]
    every = list(itertools.combinations(letters, count))
    return every if len(every) <= 6 else every[::3]


def write_fails(h, errnums=(1, 5, 30)):
    h.set_strict_mode(0)
    with pytest.raises(nbd.Error) as e:
        h.pwrite(b"n" * 4096, 0)
        h.flush()
    assert e.value.errnum in errnums


@pytest.mark.parametrize("policy", REDUNDANT)
def test_read_without_parts_up_to_the_tolerance(place, policy):
    """With more away than may be for writing: read-only, nothing changes. With
    so many that they could have gone on without the rest: only where it is
    known that they have not, in the cache directory."""
    volume = place.volume(policy, size=4 * MIB)
    data = bytearray(volume.fill(1))
    writable = volume.tolerance <= SPARE_AT_START[policy]
    for i, letters in enumerate(choices(policy, volume.tolerance)):
        away(volume, letters)
        if volume.tolerance > PROVEN_AT_START[policy]:
            line = place.refused(*volume.parameters()[:-1],
                                 f"cache={place.root('elsewhere')}")
            assert "newest" in line and f"part {letters[0]}" in line
        server = volume.serve()
        h = server.connect()
        assert_same(read_all(h, volume.size), bytes(data))
        assert h.is_read_only() is not writable
        if writable:
            new = random_bytes(70000, i)
            h.pwrite(new, i * 99999)
            data[i * 99999:i * 99999 + 70000] = new
        else:
            write_fails(h)
        server.stop()
        report = volume.verify(1, "--full")
        assert report["data_lost"] is False
        back(volume, letters)
        volume.mend()
    assert_same(volume.content(), bytes(data))
    volume.verify(0, "--full")


@pytest.mark.parametrize("policy, killed", [("r3", True), ("ec42", False),
                                            ("ec42", True)])
def test_read_only_until_parts_are_back(place, policy, killed):
    """With enough parts new connections can write, without a restart. Whoever
    was told "read-only" stays so, and reads on as if nothing had happened."""
    volume = place.volume(policy, size=4 * MIB)
    data = bytearray(volume.fill(21))
    server = volume.serve()
    h = server.connect()
    h.pwrite(random_bytes(90000, 22), 5000)
    data[5000:95000] = random_bytes(90000, 22)
    h.flush()
    server.kill() if killed else server.stop()
    away(volume, "bc")
    server = volume.serve()
    old = server.connect()
    assert old.is_read_only()
    assert volume.status()["health"] == "read-only"
    ended, seen = threading.Event(), []

    def read_on():
        h = server.connect()
        while not ended.is_set():
            seen.append(read_all(h, volume.size) == data)

    reader = threading.Thread(target=read_on)
    reader.start()
    poll(lambda: len(seen) > 1, "it reads")
    back(volume, "b")
    poll(lambda: not server.connect().is_read_only(), "it can be written")
    count = len(seen)
    poll(lambda: len(seen) > count + 1, "it reads on")
    ended.set()
    reader.join()
    assert all(seen)
    assert old.is_read_only()
    write_fails(old)
    h = server.connect()
    h.pwrite(random_bytes(90000, 23), 50000)
    h.flush()
    data[50000:140000] = random_bytes(90000, 23)
    assert_same(read_all(old, volume.size), bytes(data))
    back(volume, "c")
    volume.wait_healthy()
    server.stop()
    volume.verify(0, "--full")
    assert_same(volume.content(), bytes(data))


def test_who_waits_for_parts_is_not_replaced_by_a_tool(place):
    """Somebody has the lock of a part that is back: a server that has claimed
    nothing looks at it, goes on reading, and has it when it is free."""
    volume = place.volume("r3", size=4 * MIB)
    data = volume.fill(24)
    part, root = volume.part_dir("b"), volume.roots["b"]
    server = volume.serve()
    server.kill()
    away(volume, "bc")
    server = volume.serve()
    h = server.connect()
    assert h.is_read_only()
    away_root = root.with_name(root.name + "-away")
    with open(away_root / part.relative_to(root) / ".lock", "r+b") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
        back(volume, "b")
        opened = Opened(part / ".label")
        poll(lambda: opened.reached(3) or server.process.poll() is not None,
             "it was looked at")
        assert server.process.poll() is None, server.log()
        assert server.connect().is_read_only()
    poll(lambda: not server.connect().is_read_only(), "it can be written")
    assert_same(read_all(h, volume.size), data)
    back(volume, "c")
    volume.wait_healthy()
    server.stop()
    volume.verify(0, "--full")


@pytest.mark.parametrize("policy", ["r3", "ec21", "ec42"])
def test_write_without_a_part(place, policy):
    """Start after start without it; then only what changed is copied."""
    volume = place.volume(policy, size=8 * MIB)
    data = bytearray(volume.fill(12))
    away(volume, "b")
    for i in range(4):
        server = volume.serve()
        h = server.connect()
        assert not h.is_read_only()
        new = random_bytes(5000, i)
        h.pwrite(new, i * 256 * 1024 + 1000)
        data[i * 256 * 1024 + 1000:i * 256 * 1024 + 6000] = new
        found = volume.status()
        assert found["healthy"] is False
        assert [p["part"] for p in found["parts"]
                if p["state"] != "ok"] == ["b"]
        server.kill() if i % 2 else server.stop()
    back(volume, "b")
    server = volume.serve()
    volume.wait_healthy()
    assert volume.status()["resync"]["copied"] == 4
    assert_same(read_all(server.connect(), volume.size), bytes(data))
    server.stop()
    volume.verify(0, "--full")


@pytest.mark.parametrize("policy", POLICIES)
def test_one_part_too_many_gives_errors_never_wrong_data(place, policy):
    volume = place.volume(policy, size=4 * MIB)
    data = volume.fill(2)
    letters = volume.letters[-volume.tolerance - 1:]
    away(volume, letters)
    known = [r for r in volume.roots.values() if r.is_dir()]
    server = volume.serve(check=False)
    if server.wait_or_up():
        h = server.connect()
        for at in range(0, volume.size, 64 * 1024):
            try:
                assert h.pread(65536, at) == data[at:at + 65536]
            except nbd.Error as e:
                assert e.errnum == 5
        server.stop()
    if known:
        done = volume.repair("verify", volume.name)
        assert done.returncode in (2, 3), done.stdout + done.stderr
    back(volume, letters)
    assert_same(volume.content(), data)


@pytest.mark.parametrize("policy", ["r2", "r3", "ec21", "ec42"])
def test_replace_what_is_gone(place, policy):
    volume = place.volume(policy, size=8 * MIB)
    data = volume.fill(3)
    shutil.rmtree(volume.part_dir("a"))
    done = volume.repair("replace", volume.name, "a")
    assert done.returncode == 0, done.stdout + done.stderr
    volume.verify(0, "--full")
    spare = min(volume.tolerance, PROVEN_AT_START[policy])
    others = volume.letters[1:][:spare]
    away(volume, others)
    assert_same(volume.content(), data)
    back(volume, others)
    volume.mend()
    server = volume.serve()
    new = random_bytes(MIB, 4)
    server.connect().pwrite(new, 100)
    server.stop()
    volume.verify(0, "--full")


@pytest.mark.parametrize("policy", ["r3", "ec42"])
def test_replace_proves_nothing_with_too_few(place, policy):
    """Enough to read, too few to know that nothing newer was written."""
    volume = place.volume(policy, size=4 * MIB)
    data = volume.fill(3)
    away(volume, "ab")
    rest = [volume.roots[x] for x in volume.letters[2:]]
    before = parts_state(*rest)
    done = volume.repair("replace", volume.name, "a")
    assert done.returncode == 3, done.stdout + done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "can't supply the data of part a" in last
    assert parts_state(*rest) == before
    back(volume, "ab")
    assert_same(volume.content(), data)


def test_replace_in_another_place(place):
    volume = place.volume("ec21", size=8 * MIB)
    data = volume.fill(5)
    shutil.rmtree(volume.roots["b"])
    volume.roots["b"] = place.root("new-disk")
    done = volume.repair("replace", volume.name,
                         f"b={volume.roots['b']}")
    assert done.returncode == 0, done.stdout + done.stderr
    volume.verify(0, "--full")
    away(volume, "a")
    assert_same(volume.content(), data)


def test_replace_where_nothing_can_be_made_while_serving(place):
    """Its own error, not that of a volume which nobody serves."""
    volume = place.volume("r2")
    server = volume.serve()
    for root, why in ((place.path / "none", "No such file"),
                      ("/sys", "/sys/")):
        done = volume.repair("replace", volume.name, f"b={root}")
        assert done.returncode != 0
        assert str(root) in done.stderr and why in done.stderr
        assert "in use by" not in done.stderr
        assert len(done.stderr.splitlines()) == 1
    server.stop()
    volume.verify(0, "--full")


@pytest.mark.parametrize("policy", ["r2", "r3", "ec21", "ec42"])
def test_replace_while_serving(place, policy):
    """The part dies; a new disk is filled while clients write."""
    volume = place.volume(policy, size=8 * MIB)
    data = bytearray(volume.fill(13))
    server = volume.serve("ram=1M")
    h = server.connect()
    shutil.rmtree(volume.roots["b"])
    write_on(h, data, 40, 14)
    volume.wait_dropped("b")
    volume.roots["b"] = place.root("new-disk")
    done = volume.repair("replace", volume.name, f"b={volume.roots['b']}")
    assert done.returncode in (0, 1), done.stdout + done.stderr
    write_on(h, data, 40, 15)
    volume.wait_healthy()
    assert_same(read_all(h, volume.size), bytes(data))
    server.stop()
    volume.verify(0, "--full")
    away(volume, "a")
    assert_same(volume.content(), bytes(data))


def test_an_empty_directory_is_not_a_blank_part(place):
    """Perhaps a mount is missing."""
    volume = place.volume("r2", size=4 * MIB)
    data = volume.fill(6)
    away(volume, "b")
    volume.roots["b"].mkdir()
    server = volume.serve()
    h = server.connect()
    assert_same(read_all(h, volume.size), data)
    write_fails(h)
    server.stop()
    assert not list(volume.roots["b"].rglob("[0-9]"))
    volume.roots["b"].rename(place.path / "empty")
    back(volume, "b")
    volume.verify(0, "--full")


def write_on(h, data, count, seed):
    """No write may fail, whatever becomes of a part."""
    chance = random.Random(seed)
    for i in range(count):
        block = chance.randbytes(65536)
        at = chance.randrange(0, len(data) - 65536)
        h.pwrite(block, at)
        data[at:at + 65536] = block
        if i % 16 == 15:
            h.flush()


@pytest.mark.parametrize("policy", ["r2", "r3", "ec21", "ec42"])
def test_part_lost_while_serving(place, policy):
    """rm -r of a part: no client error, and what was answered stays."""
    volume = place.volume(policy, size=8 * MIB)
    data = bytearray(volume.fill(7))
    server = volume.serve("ram=1M")
    h = server.connect()
    write_on(h, data, 8, 1)
    shutil.rmtree(volume.roots["b"])
    write_on(h, data, 200, 2)
    volume.wait_dropped("b")
    assert_same(read_all(h, volume.size), bytes(data))
    assert "part b is dropped" in server.log()
    server.kill()
    server = volume.serve("ram=1M")  # the journal knows who is in sync
    h = server.connect()
    assert_same(read_all(h, volume.size), bytes(data))
    write_on(h, data, 20, 3)
    server.stop()
    volume.roots["b"].mkdir()  # a new disk
    done = volume.repair("replace", volume.name, "b")
    assert done.returncode == 0, done.stdout + done.stderr
    volume.verify(0, "--full")
    assert_same(volume.content(), bytes(data))


@pytest.mark.parametrize("policy", ["r2", "r3", "ec21", "ec42"])
def test_part_away_and_back_while_serving(place, policy):
    """Dropped though nobody asks for it, in sync again by itself."""
    volume = place.volume(policy, size=8 * MIB)
    data = bytearray(volume.fill(16))
    server = volume.serve("ram=1M")
    h = server.connect()
    away(volume, "b")
    volume.wait_dropped("b")
    h.pwrite(b"x" * 5000, 100)
    data[100:5100] = b"x" * 5000
    h.flush()
    assert volume.status()["health"] == "degraded"
    back(volume, "b")
    volume.wait_healthy()
    found = volume.status()
    assert found["resync"]["copied"] <= 1
    assert volume.part_status("b")["lag_chunks"] == 0
    assert_same(read_all(h, volume.size), bytes(data))
    server.stop()
    volume.verify(0, "--full")
    away(volume, "a")
    assert_same(volume.content(), bytes(data))


def test_one_too_many_lost_while_serving(place):
    """Writes go on into the journal, then wait, then fail; reads go on where
    enough is left; and with the parts back all is well."""
    volume = place.volume("r3", size=8 * MIB)
    data = bytearray(volume.fill(17))
    server = volume.serve("ram=1M", "stall-timeout=1")
    h = server.connect()
    away(volume, "ab")
    volume.wait_dropped("a")
    volume.wait_dropped("b")
    h.pwrite(b"y" * 4096, 0)
    data[:4096] = b"y" * 4096
    h.flush()
    assert_same(read_all(h, volume.size), bytes(data))
    back(volume, "ab")
    volume.wait_healthy()
    write_on(h, data, 20, 18)
    assert_same(read_all(h, volume.size), bytes(data))
    server.stop()
    volume.verify(0, "--full")


def test_unmounted_while_serving(place, mounts):
    """What is below a mount point is no part."""
    volume = place.volume("r3", size=4 * MIB)
    data = bytearray(volume.fill(19))
    root = volume.roots["b"]
    behind = root.with_name("behind")
    root.rename(behind)
    root.mkdir()
    need_root()
    done = run("mount", "--bind", behind, root, check=False)
    if done.returncode != 0:
        pytest.skip(f"mount --bind: {done.stderr}")
    mounts.append(root)
    server = volume.serve("ram=1M")
    h = server.connect()
    run("umount", "-l", root)
    volume.wait_dropped("b")
    write_on(h, data, 20, 20)
    assert list(root.iterdir()) == []
    run("mount", "--bind", behind, root)
    volume.wait_healthy()
    assert_same(read_all(h, volume.size), bytes(data))
    server.stop()
    volume.verify(0, "--full")


def in_place(volume, letter, source):
    """Copy a directory into a part's place."""
    place = volume.part_dir(letter)
    shutil.rmtree(place)
    shutil.copytree(source, place)


def test_last_weeks_backup(place):
    """Found out while it serves, and at the start; never read."""
    volume = place.volume("r3", size=4 * MIB)
    data = bytearray(volume.fill(21))
    old = place.path / "old"
    shutil.copytree(volume.part_dir("b"), old)
    server = volume.serve("ram=1M")
    h = server.connect()
    write_on(h, data, 20, 22)
    in_place(volume, "b", old)
    write_on(h, data, 5, 23)
    volume.wait_dropped("b")
    volume.wait_healthy()
    assert_same(read_all(h, volume.size), bytes(data))
    server.stop()
    volume.verify(0, "--full")
    in_place(volume, "b", old)
    assert_same(volume.content(), bytes(data))
    volume.mend()
    volume.verify(0, "--full")


def test_labels_swapped(place):
    """The label says which part it is, not the place."""
    volume = place.volume("ec21", size=4 * MIB)
    data = volume.fill(24)
    a, b = volume.part_dir("a"), volume.part_dir("b")
    a.rename(a.with_name("aside"))
    b.rename(b.parents[1] / a.parent.name / "b-aside")
    (b.parent / "b-aside").rename(a)
    a.with_name("aside").rename(b)
    assert_same(volume.content(), data)
    volume.verify(0, "--full")


def test_one_directory_for_two_letters(place):
    volume = place.volume("r3", size=4 * MIB)
    data = volume.fill(25)
    aside = place.path / "aside"
    shutil.copytree(volume.part_dir("b"), aside)
    in_place(volume, "b", volume.part_dir("a"))
    before = parts_state(*volume.roots.values())
    line = place.refused(*volume.parameters())
    assert "part a is there twice" in line
    assert parts_state(*volume.roots.values()) == before
    in_place(volume, "b", aside)
    assert_same(volume.content(), data)


def test_part_of_another_volume(place):
    volume = place.volume("r3", size=4 * MIB)
    other = place.volume("r3", name="other", size=4 * MIB)
    data = bytearray(volume.fill(26))
    theirs = other.fill(27)
    aside = place.path / "aside"
    source = volume.roots["b"] / "12" / "b"
    mine = volume.roots["b"] / "11" / "b"
    shutil.copytree(mine, aside)
    shutil.rmtree(mine)
    shutil.copytree(source, mine)
    before = parts_state(mine)
    server = volume.serve("ram=1M")
    h = server.connect()
    write_on(h, data, 5, 28)
    assert volume.part_status("b")["state"] != "ok"
    assert "another volume" in volume.part_status("b")["problem"]
    assert parts_state(mine) == before
    shutil.rmtree(mine)
    shutil.copytree(aside, mine)
    volume.wait_healthy()
    assert_same(read_all(h, volume.size), bytes(data))
    server.stop()
    assert_same(other.content(), theirs)


@pytest.mark.parametrize("policy", ["r2", "ec42"])
def test_replay_without_parts(place, policy):
    """Crash, then parts are gone: answered writes are read all the same."""
    volume = place.volume(policy, size=4 * MIB)
    data = bytearray(volume.fill(9))
    server = volume.serve()
    h = server.connect()
    for i in range(50):
        new = random_bytes(5000, i)
        at = i * 77777 % (volume.size - 5000)
        h.pwrite(new, at)
        data[at:at + 5000] = new
    server.kill()
    letters = volume.letters[:volume.tolerance]
    away(volume, letters)
    server = volume.serve()
    assert_same(read_all(server.connect(), volume.size), bytes(data))
    server.stop()
    back(volume, letters)
    volume.mend()
    assert_same(volume.content(), bytes(data))
    volume.verify(0, "--full")


def test_losing_one_root_does_not_hide_the_volume(place):
    volume = place.volume("r3", size=4 * MIB)
    data = volume.fill(10)
    for letter in volume.letters:
        parameters = [volume.name, f"data={volume.roots[letter]}",
                      "data=/nonexistent-root", f"cache={volume.cache}"]
        server = place.serve(*parameters)
        assert_same(read_all(server.connect(), volume.size), data)
        server.stop()


def test_lost_cache_directory_is_not_silent(place):
    volume = place.volume("r2", size=4 * MIB)
    server = volume.serve()
    server.connect().pwrite(b"j" * 4096, 0)
    server.kill()
    shutil.rmtree(volume.cache)
    volume.cache.mkdir()
    line = place.refused(*volume.parameters())
    assert "mydevice1" in line and "journal" in line


def test_clean_volume_moves_to_another_cache(place):
    """Detached by a clean stop: the next start may be on another host."""
    volume = place.volume("r2", size=4 * MIB)
    data = volume.fill(11)
    volume.cache = place.root("other-cache")
    assert_same(volume.content(), data)
    run(LSVD, "info", volume.name, *volume.where())
