"""A full disk: ENOSPC to the client, nothing torn, and it goes on when
there is space again."""

import errno

import nbd
import pytest

from conftest import need_root
from nbdharness import MIB, assert_same, random_bytes, read_all, run

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
def test_full_part(place, small_disk, policy):
    """It fills up behind our back, the others don't: it is dropped, and comes
    back when it has room. Clients notice nothing."""
    disk = small_disk(place.path / "root-b", "24M")
    place.create_options = ["--journal-size", "4M"]
    volume = place.volume(policy, size=16 * MIB)
    data = bytearray(volume.size)
    server = volume.serve("ram=4M")
    h = server.connect()
    h.pwrite(b"before" * 1000, 0)
    data[:6000] = b"before" * 1000
    filler = disk / "filler"
    fill_up(filler)
    errnum, _at = write_until_full(h, data, volume.size)
    assert errnum is None, server.log()
    volume.wait_dropped("b")
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
