"""A full disk: ENOSPC to the client, nothing torn, and it goes on when
there is space again."""

import errno
import random

import nbd
import pytest

from conftest import need_faults, need_root
from nbdharness import MIB, assert_same, poll, random_bytes, read_all, run

STEP = 65536


@pytest.fixture
def small_disk(mounts):
    def make(path, size):
        need_root()
        path.mkdir(exist_ok=True)
        done = run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs",
                   path, check=False)
        if done.returncode != 0:
            pytest.skip(f"mount -t tmpfs: {done.stderr}")
        mounts.append(path)
        return path
    return make


def fill_up(path):
    """Take all that is left of a file system."""
    with open(path, "wb", buffering=0) as f:
        try:
            while True:
                f.write(bytes(4096))
        except OSError as e:
            assert e.errno == errno.ENOSPC


def write_until_full(h, data, size):
    """Write everywhere; the errno that ended it, and where."""
    for at in range(0, size, STEP):
        new = random_bytes(STEP, at)
        try:
            h.pwrite(new, at)
            h.flush()
        except nbd.Error as e:
            return e.errnum, at
        data[at:at + STEP] = new
    return None, size


def check_and_recover(volume, server, h, data, failed_at, filler):
    got = bytearray(read_all(h, volume.size))
    for at in range(failed_at, min(failed_at + STEP, volume.size), 4096):
        new = random_bytes(STEP, failed_at)[at - failed_at:][:4096]
        if got[at:at + 4096] == new:  # of a failed write either is legal
            data[at:at + 4096] = new
    assert_same(bytes(got), bytes(data))
    filler.unlink()
    # At once, and more than the journal holds.
    for at in range(0, volume.size, STEP):
        h.pwrite(bytes(data[at:at + STEP]), at)
    server.stop()
    volume.verify(0, "--full")
    assert_same(volume.content(), bytes(data))


@pytest.mark.parametrize("policy", ["r2", "ec21"])
def test_full_part(place, policy):
    """It says that there is room, as before a quota, and then there is none; the
    others have some: it is dropped, and comes back when it has room. Clients
    notice nothing."""
    need_faults()
    place.create_options = ["--journal-size", "4M"]
    volume = place.volume(policy, size=16 * MIB)
    data = bytearray(volume.size)
    rules = place.path / "rules"
    rules.write_text(f"[b]\npath={volume.part_dir('b')}/[0-9]*\n"
                     "call=write;allocate\nerror=ENOSPC\n")
    server = volume.serve("ram=4M", f"fault={rules}")
    h = server.connect()
    errnum, _at = write_until_full(h, data, volume.size)
    assert errnum is None, server.log()
    volume.wait_dropped("b")
    assert_same(read_all(h, volume.size), bytes(data))
    rules.unlink()
    volume.wait_healthy()
    server.stop()
    volume.verify(0, "--full")
    assert_same(volume.content(), bytes(data))


def overwrite(h, data, size, laps):
    """All below size, several times, in pieces of all sizes."""
    chance = random.Random(laps)
    for lap in range(laps):
        at = 0
        while at < size:
            count = min(chance.choice([512, 5000, STEP, 512 * 1024]),
                        size - at)
            new = random_bytes(count, at + lap + 1)
            h.pwrite(new, at)
            data[at:at + count] = new
            at += count
        h.flush()


@pytest.mark.parametrize("policy", ["r2", "r3", "ec21"])
def test_what_needs_space_is_refused_with_one_full_part(place, small_disk,
                                                        policy):
    """When that is known before it is answered: nobody is dropped, what has
    its space already can be written, and it goes on when there is room."""
    disk = small_disk(place.path / "root-b", "32M")
    place.create_options = ["--journal-size", "4M"]
    volume = place.volume(policy, size=16 * MIB)
    data, half = bytearray(volume.size), volume.size // 2
    server = volume.serve("ram=4M")
    h = server.connect()
    overwrite(h, data, half, 1)
    server.stop()
    filler = disk / "filler"
    fill_up(filler)
    server = volume.serve("ram=4M")
    h = server.connect()
    for at in range(half, volume.size, MIB):
        with pytest.raises(nbd.Error) as e:
            h.pwrite(random_bytes(STEP, at), at)
        assert e.value.errnum == errno.ENOSPC
    overwrite(h, data, half, 3)
    assert_same(read_all(h, volume.size), bytes(data))
    assert volume.status()["healthy"] is True
    assert "is dropped" not in server.log()
    filler.unlink()
    overwrite(h, data, volume.size, 1)
    assert volume.status()["healthy"] is True
    assert "is dropped" not in server.log()
    server.stop()
    volume.verify(0, "--full")
    assert_same(volume.content(), bytes(data))


def write_blocks(h, volume, data, first):
    """One in each chunk."""
    for at in range(first, volume.size, volume.chunk):
        data[at:at + 4096] = random_bytes(4096, at)
        h.pwrite(bytes(data[at:at + 4096]), at)
    h.flush()


def written_at(volume, but):
    """When a chunk file of another part was written last."""
    return max(f.stat().st_mtime_ns for x in volume.letters if x != but
               for f in volume.part_dir(x).glob("[0-9]*"))


@pytest.mark.parametrize("policy", ["r2", "r3", "ec21"])
def test_what_was_answered_does_not_fit_on_one_part(place, small_disk, policy):
    """The space was there, and somebody else has taken it before the bytes were
    in place (or half in place). The one that is full is dropped."""
    need_faults()
    disk = small_disk(place.path / "root-b", "32M")
    place.create_options = ["--journal-size", "4M"]
    volume = place.volume(policy, size=16 * MIB)
    data = bytearray(volume.size)
    rules = place.path / "rules"
    rules.write_text(f"[b]\npath={volume.part_dir('b')}/[0-9]*\n"
                     "call=allocate;write\nhang=yes\n")
    server = volume.serve("ram=4M")
    write_blocks(server.connect(), volume, data, 0)
    server.stop()
    server = volume.serve("ram=4M", f"fault={rules}", "part-timeout=60")
    h = server.connect()
    before = written_at(volume, but="b")
    write_blocks(h, volume, data, 4096)
    poll(lambda: written_at(volume, but="b") > before,
         "destage has begun with the other parts", 15)
    server.kill()
    filler = disk / "filler"
    fill_up(filler)
    server = volume.serve("ram=4M")
    volume.wait_dropped("b")
    h = server.connect()
    assert_same(read_all(h, volume.size), bytes(data))
    overwrite(h, data, volume.size, 1)
    assert_same(read_all(h, volume.size), bytes(data))
    filler.unlink()
    volume.wait_healthy()
    server.stop()
    volume.verify(0, "--full")
    assert_same(volume.content(), bytes(data))


@pytest.mark.parametrize("policy", ["r2", "ec21"])
def test_all_parts_are_full(place, small_disk, policy):
    """Then nobody is dropped, and the client is told. (There is room for what
    the journal holds, too, which is counted as if it needed new space.)"""
    disk = small_disk(place.path / "disk", "56M")
    place.create_options = ["--journal-size", "4M"]
    for letter in "abc":
        (disk / letter).mkdir()
        (place.path / f"root-{letter}").symlink_to(disk / letter)
    volume = place.volume(policy, size=16 * MIB)
    data = bytearray(volume.size)
    server = volume.serve("ram=4M")
    h = server.connect()
    h.pwrite(b"before" * 1000, 0)
    data[:6000] = b"before" * 1000
    filler = disk / "filler"
    fill_up(filler)
    errnum, at = write_until_full(h, data, volume.size)
    assert errnum == errno.ENOSPC, (errnum, server.log())
    assert "is dropped" not in server.log()
    check_and_recover(volume, server, h, data, at, filler)


def test_full_part_and_kill(place, small_disk):
    disk = small_disk(place.path / "root-b", "24M")
    place.create_options = ["--journal-size", "4M"]
    volume = place.volume("ec21", size=16 * MIB)
    data = bytearray(volume.size)
    server = volume.serve("ram=4M")
    h = server.connect()
    filler = disk / "filler"
    fill_up(filler)
    errnum, at = write_until_full(h, data, volume.size)
    assert errnum == errno.ENOSPC, (errnum, server.log())
    server.kill()
    server = volume.serve("ram=4M")  # replay on a full disk
    h = server.connect()
    check_and_recover(volume, server, h, data, at, filler)


def test_full_cache(place, small_disk):
    """The journal's space is taken when it is made, or refused then."""
    disk = small_disk(place.path / "cache", "24M")
    place.create_options = ["--journal-size", "8M"]
    volume = place.volume("r2", size=16 * MIB)
    data = bytearray(volume.size)
    server = volume.serve("ram=4M")
    h = server.connect()
    filler = disk / "filler"
    fill_up(filler)
    errnum, at = write_until_full(h, data, volume.size)
    assert errnum in (None, errno.ENOSPC), server.log()
    if errnum is None:
        server.stop()
        assert_same(volume.content(), bytes(data))
    else:
        check_and_recover(volume, server, h, data, at, filler)


def test_create_on_a_full_disk_leaves_nothing(place, small_disk):
    disk = small_disk(place.path / "root-a", "1M")
    fill_up(disk / "filler")
    with pytest.raises(AssertionError):
        place.volume("r1", size=16 * MIB)
    assert [p.name for p in disk.iterdir()] == ["filler"]
