"""Whole parts are away."""

import itertools
import shutil

import nbd
import pytest

from nbdharness import (MIB, POLICIES, LSVD, assert_same, random_bytes,
                        read_all, run)

REDUNDANT = [p for p in POLICIES if POLICIES[p][2] > 0]


def choices(policy, count):
    letters = "abcdef"[:POLICIES[policy][1]]
    every = list(itertools.combinations(letters, count))
    return every if len(every) <= 6 else every[::3]


def away(volume, letters):
    """Rename the roots of these parts; as an unplugged disk."""
    for letter in letters:
        root = volume.roots[letter]
        root.rename(root.with_name(root.name + "-away"))


def back(volume, letters):
    for letter in letters:
        root = volume.roots[letter]
        root.with_name(root.name + "-away").rename(root)


def write_fails(h, errnums=(1, 5, 30)):
    h.set_strict_mode(0)
    with pytest.raises(nbd.Error) as e:
        h.pwrite(b"n" * 4096, 0)
        h.flush()
    assert e.value.errnum in errnums


@pytest.mark.parametrize("policy", REDUNDANT)
def test_read_without_parts_up_to_the_tolerance(place, policy):
    volume = place.volume(policy, size=4 * MIB)
    data = volume.fill(1)
    for letters in choices(policy, volume.tolerance):
        away(volume, letters)
        server = volume.serve()
        h = server.connect()
        assert_same(read_all(h, volume.size), data)
        assert h.is_read_only()
        write_fails(h)
        server.stop()
        report = volume.verify(1, "--full")
        assert report["data_lost"] is False
        back(volume, letters)
    assert_same(volume.content(), data)
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
    letters = volume.letters[:volume.tolerance]
    for letter in letters:
        shutil.rmtree(volume.part_dir(letter))
    for letter in letters:
        done = volume.repair("replace", volume.name, letter)
        assert done.returncode in (0, 1), done.stdout + done.stderr
    volume.rebuild()
    volume.verify(0, "--full")
    others = volume.letters[volume.tolerance:]
    away(volume, others[:volume.tolerance])
    assert_same(volume.content(), data)
    back(volume, others[:volume.tolerance])
    server = volume.serve()
    new = random_bytes(MIB, 4)
    server.connect().pwrite(new, 100)
    server.stop()
    volume.verify(0, "--full")


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


def test_part_lost_while_serving(place):
    """Reads go on; what was answered stays; writes end in EIO."""
    volume = place.volume("ec21", size=8 * MIB)
    data = bytearray(volume.fill(7))
    server = volume.serve("ram=1M")
    h = server.connect()
    new = random_bytes(4096, 8)
    h.pwrite(new, 12288)
    data[12288:16384] = new
    shutil.rmtree(volume.roots["c"])
    failed = None
    for i in range(2000):
        block = random_bytes(65536, i)
        at = i * 65536 % volume.size
        try:
            h.pwrite(block, at)
            data[at:at + 65536] = block
            if i % 16 == 15:
                h.flush()
        except nbd.Error as e:
            failed = e
            break
    assert failed is not None and failed.errnum == 5
    assert "part c" in server.log() or "root-c" in server.log()
    got = read_all(h, volume.size)  # the failed one may be either
    at = i * 65536 % volume.size
    for block in range(at, at + 65536, 4096):
        new = random_bytes(65536, i)[block - at:block - at + 4096]
        if got[block:block + 4096] == new:
            data[block:block + 4096] = new
    assert_same(got, bytes(data))
    server.kill()
    server = volume.serve()
    h = server.connect()
    assert_same(read_all(h, volume.size), bytes(data))
    server.kill()
    volume.roots["c"].mkdir()  # a new disk
    done = volume.repair("replace", volume.name, "c")
    assert done.returncode == 0, done.stdout + done.stderr
    volume.verify(0, "--full")
    assert_same(volume.content(), bytes(data))


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
