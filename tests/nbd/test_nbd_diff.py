"""lsvd diff, export-diff, import-diff: of snapshots beside a server, of a
volume that is served, and backups that follow it from day to day."""

import array
import fcntl
import hashlib
import json
import os
import random
import signal
import subprocess
import termios

import pytest

from nbdharness import (KIB, LSVD, MIB, assert_same, one_line, poll,
                        random_bytes, read_all, run, write_all)

BLOCK = 4 * KIB
CHUNK = 256 * KIB
SIZE = 4 * MIB


def lsvd(volume, *words, code=0, **kwargs):
    done = run(LSVD, *words, *volume.where(), check=False, **kwargs)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def refused(volume, *words, code=1):
    """By one line."""
    done = lsvd(volume, *words, code=code)
    assert done.stdout == ""
    return one_line(done.stderr)


def snapshot(volume, name):
    lsvd(volume, "snapshot", "create", f"{volume.name}@{name}")


def diff(volume, *words):
    """What is told, and that it is told in qemu's form."""
    found = json.loads(lsvd(volume, "diff", *words, "--json").stdout)
    end = -1
    for e in found:
        assert sorted(e) == ["compressed", "data", "depth", "length",
                             "present", "start", "zero"]
        assert e["data"] != e["zero"] and e["present"] and e["length"] > 0
        assert e["start"] >= max(end, 0)
        end = e["start"] + e["length"]
    return [(e["start"], e["length"], e["data"]) for e in found]


def differing(a, b, block=BLOCK):
    return {i for i in range(0, max(len(a), len(b)), block)
            if a[i:i + block] != b[i:i + block]}


def blocks(told, block=BLOCK):
    return {at for start, length, _ in told
            for at in range(start, start + length, block)}


def content(server, export=""):
    h = server.connect(export)
    data = read_all(h, h.get_size())
    h.shutdown()
    return data


def content_of(volume, name):
    """By a server of its own."""
    server = volume.place.serve(name, *volume.parameters()[1:])
    data = content(server)
    server.stop()
    return data


def files_of(place):
    return sorted(str(p) for p in place.path.rglob("*.lsvd*"))


# ---- diff ----

@pytest.mark.parametrize("policy", ["r1", "r3", "ec21"])
def test_diff_beside_a_server(place, policy):
    volume = place.volume(policy, name="v", size=SIZE)
    server = volume.serve()
    h = server.connect()
    seed = random.Random(7)
    write_all(h, random_bytes(SIZE // 2, 1))
    held = {}
    for day in ["d0", "d1", "d2"]:
        snapshot(volume, day)
        held["v@" + day] = content(server)
        for _ in range(10):
            at = seed.randrange(SIZE // BLOCK) * BLOCK
            if seed.randrange(3):
                h.pwrite(random_bytes(777, at), at + seed.randrange(3000))
            else:
                h.trim(BLOCK, at)
    for a in held:
        for b in held:
            told = diff(volume, a, b)
            assert differing(held[a], held[b]) <= blocks(told)
            assert len(blocks(told)) <= 40
            assert a != b or told == []
            for start, length, is_data in told:
                assert is_data or not any(held[b][start:start + length])
    h.flush()
    now = content(server)
    for a in held:  # its server tells, without a flush
        told = diff(volume, a)
        assert told == diff(volume, a, "v")
        assert differing(held[a], now) <= blocks(told)
        assert len(blocks(told)) <= 60
    server.stop()
    for a in held:
        assert differing(held[a], now) <= blocks(diff(volume, a))


def test_diff_of_many_extents_while_served(place):
    """More than its server tells at once."""
    volume = place.volume("r1", name="v", size=64 * MIB)
    server = volume.serve()
    h = server.connect()
    snapshot(volume, "a")
    for i in range(5000):
        h.pwrite(b"x", 2 * i * BLOCK)
    told = diff(volume, "v@a")
    assert told == [(2 * i * BLOCK, BLOCK, True) for i in range(5000)]
    h.pwrite(bytes([1]) * (40 * MIB), 0)
    assert diff(volume, "v@a") == [(0, 40 * MIB, True)]
    server.stop()
    assert diff(volume, "v@a") == [(0, 40 * MIB, True)]


def test_diff_of_what_went_back(place):
    volume = place.volume("r1", name="v", size=SIZE)
    server = volume.serve()
    h = server.connect()
    h.pwrite(b"0" * BLOCK, 0)
    snapshot(volume, "a")
    h.pwrite(b"1" * BLOCK, BLOCK)
    snapshot(volume, "b")
    server.stop()
    lsvd(volume, "snapshot", "rollback", "v@a")
    server = volume.serve()
    h = server.connect()
    h.pwrite(b"2" * BLOCK, 2 * BLOCK)
    assert diff(volume, "v@a") == [(2 * BLOCK, BLOCK, True)]
    assert "make a snapshot" in refused(volume, "diff", "v@b")
    snapshot(volume, "c")
    assert diff(volume, "v@b", "v@c") == [(BLOCK, BLOCK, False),
                                          (2 * BLOCK, BLOCK, True)]
    assert diff(volume, "v@b", "v@a") == [(BLOCK, BLOCK, False)]
    server.stop()
    assert diff(volume, "v@b") == diff(volume, "v@b", "v@c")


def test_diff_for_people(place):
    volume = place.volume("r1", name="v", size=SIZE)
    snapshot(volume, "a")
    assert lsvd(volume, "diff", "v@a").stdout == "v holds what v@a does\n"
    server = volume.serve()
    h = server.connect()
    h.pwrite(b"x" * 2 * BLOCK, CHUNK)
    server.stop()
    lines = lsvd(volume, "diff", "v@a").stdout.splitlines()
    assert [line.split() for line in lines[:2]] == \
        [["START", "LENGTH", "IS", "NOW"], [str(CHUNK), "8192", "data"]]
    assert lines[2] == "8K changed in 1 extent, 0 of it to zeroes"


def test_diff_refuses(place):
    volume = place.volume("r1", name="v", size=SIZE)
    snapshot(volume, "a")
    lsvd(volume, "create", "w", "1M", "--chunk-size", "256K")
    lsvd(volume, "snapshot", "create", "w@a")
    assert "no common origin" in refused(volume, "diff", "v@a", "w@a")
    assert "no snapshot" in refused(volume, "diff", "v", "v@a")
    assert "v@x" in refused(volume, "diff", "v@x")
    assert "VOLUME@SNAPSHOT" in refused(volume, "diff", "v", code=64)


# ---- backups ----

@pytest.fixture
def pair(place):
    """A volume v, its server, an empty volume copy, and a way to go on."""
    volume = place.volume("ec21", name="v", size=SIZE)
    lsvd(volume, "create", "copy", SIZE, "--chunk-size", CHUNK)
    return volume, volume.serve()


def write_day(server, day):
    h = server.connect()
    seed = random.Random(day)
    for _ in range(8):
        at = seed.randrange(SIZE - 100 * KIB)
        count = seed.randrange(100 * KIB)
        if seed.randrange(4):
            h.pwrite(random_bytes(count + 1, day), at)
        else:
            h.zero(count + 1, at)
    h.flush()
    h.shutdown()


def test_five_days(place, pair):
    """The volume is served all the time; the backups are made from pipes and
    from files."""
    volume, server = pair
    last, sums = [], {}
    for day in range(5):
        write_day(server, day)
        snapshot(volume, f"d{day}")
        sums[day] = hashlib.sha256(content(server)).hexdigest()
        write_day(server, 100 + day)  # of the next day
        if day % 2:
            path = place.path / f"{day}.lsvd"
            done = lsvd(volume, "export-diff", *last, f"v@d{day}", path)
            assert done.stdout.startswith(f"exported v@d{day}: ")
            lsvd(volume, "import-diff", path, "copy")
        else:
            out = subprocess.Popen(
                [LSVD, "export-diff", *last, f"v@d{day}", "-",
                 *volume.where()], stdout=subprocess.PIPE)
            lsvd(volume, "import-diff", "-", "copy", stdin=out.stdout)
            out.stdout.close()
            assert out.wait() == 0
        last = ["--from", f"v@d{day}"]
    server.stop()
    for day, want in sums.items():
        found = content_of(volume, f"copy@d{day}")
        assert hashlib.sha256(found).hexdigest() == want
    assert_same(content_of(volume, "copy"), content_of(volume, "v@d4"))
    assert files_of(place) == [str(place.path / f"{d}.lsvd") for d in (1, 3)]
    path = place.path / "now.lsvd"
    lsvd(volume, "export-diff", "--from", "v@d4", "v", path)
    lsvd(volume, "import-diff", path, "copy")
    assert_same(content_of(volume, "copy"), content_of(volume, "v"))
    volume.repair("verify", "copy", "--full", check=True)


def step(place, pair):
    """The copy is at d0, and there is a stream to d1."""
    volume, server = pair
    write_day(server, 0)
    snapshot(volume, "d0")
    write_day(server, 1)
    snapshot(volume, "d1")
    server.stop()
    whole, path = place.path / "whole.lsvd", place.path / "step.lsvd"
    lsvd(volume, "export-diff", "v@d0", whole)
    lsvd(volume, "export-diff", "--from", "v@d0", "v@d1", path)
    lsvd(volume, "import-diff", whole, "copy")
    return volume, whole, path


def check_step(volume, path, before):
    """Nothing has become of the copy: the right one still fits."""
    assert_same(content_of(volume, "copy"), before)
    done = lsvd(volume, "import-diff", path, "copy", "--json")
    assert json.loads(done.stdout)["imported"] == "copy"
    assert_same(content_of(volume, "copy"), content_of(volume, "v@d1"))


def test_streams_that_are_cut_or_damaged(place, pair):
    volume, whole, path = step(place, pair)
    before = content_of(volume, "v@d0")
    stream = path.read_bytes()
    bad = place.path / "bad.lsvd"
    seed = random.Random(3)
    for n in [0, 1, 255, 256, 295, 296, 297, len(stream) - 41,
              len(stream) - 40, len(stream) - 1] + \
            [seed.randrange(len(stream)) for _ in range(10)]:
        bad.write_bytes(stream[:n])
        assert "too early" in refused(volume, "import-diff", bad, "copy")
    for n in [0, 8, 16, 48, 64, 80, 152, 255, 256, 264, 272, 280, 288, 296,
              len(stream) - 1] + \
            [seed.randrange(len(stream)) for _ in range(10)]:
        flipped = bytearray(stream)
        flipped[n] ^= 1 << seed.randrange(8)
        bad.write_bytes(flipped)
        line = refused(volume, "import-diff", bad, "copy")
        assert "damaged" in line or "no stream" in line
    bad.write_bytes(stream + b"x")
    assert "follows its end" in refused(volume, "import-diff", bad, "copy")
    check_step(volume, path, before)


def test_an_empty_copy_is_empty_again(place, pair):
    volume, whole, path = step(place, pair)
    lsvd(volume, "create", "c2", "1M", "--chunk-size", CHUNK)
    stream = whole.read_bytes()
    bad = place.path / "bad.lsvd"
    bad.write_bytes(stream[:len(stream) // 2])
    assert "too early" in refused(volume, "import-diff", bad, "c2")
    assert content_of(volume, "c2") == bytes(MIB)
    lsvd(volume, "import-diff", whole, "c2")
    assert_same(content_of(volume, "c2"), content_of(volume, "v@d0"))


def test_the_wrong_copy(place, pair):
    volume, whole, path = step(place, pair)
    before = content_of(volume, "v@d0")
    assert "imported before" in refused(volume, "import-diff", whole, "copy")
    lsvd(volume, "create", "c2", SIZE, "--chunk-size", CHUNK)
    assert "no snapshot c2@d0" in refused(volume, "import-diff", path, "c2")
    lsvd(volume, "snapshot", "create", "c2@d0")
    assert "not known" in refused(volume, "import-diff", path, "c2")
    assert "is a snapshot" in refused(volume, "import-diff", path, "c2@d0")
    assert "nothing" in refused(volume, "import-diff", path, "nothing")
    server = place.serve("copy", *volume.parameters()[1:])
    assert "in use" in refused(volume, "import-diff", path, "copy")
    h = server.connect()
    h.pwrite(b"x", 0)
    server.stop()
    line = refused(volume, "import-diff", path, "copy")
    assert "lsvd snapshot rollback copy@d0" in line
    lsvd(volume, "snapshot", "rollback", "copy@d0")
    check_step(volume, path, before)
    assert "imported before" in refused(volume, "import-diff", path, "copy")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_it_waits(place, pair, how):
    volume, whole, path = step(place, pair)
    before = content_of(volume, "v@d0")
    stream = path.read_bytes()
    proc = subprocess.Popen([LSVD, "import-diff", "-", "copy",
                             *map(str, volume.where())],
                            stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=False)
    proc.stdin.write(stream[:len(stream) - 10])
    proc.stdin.flush()
    # It has read all of it but what does not come.
    poll(lambda: pending(proc) == 0, "it reads")
    proc.send_signal(how)
    _, err = proc.communicate(timeout=60)
    assert proc.returncode == 1
    assert err == b"lsvd: interrupted\n"
    check_step(volume, path, before)


def pending(proc):
    """Bytes in the pipe to it."""
    count = array.array("i", [0])
    fcntl.ioctl(proc.stdin.fileno(), termios.FIONREAD, count)
    return count[0]


def test_killed_meanwhile(place, pair):
    volume, whole, path = step(place, pair)
    before = content_of(volume, "v@d0")
    stream = path.read_bytes()
    proc = subprocess.Popen([LSVD, "import-diff", "-", "copy",
                             *map(str, volume.where())],
                            stdin=subprocess.PIPE)
    proc.stdin.write(stream[:len(stream) - 10])
    proc.stdin.flush()
    poll(lambda: pending(proc) == 0, "it reads")
    proc.kill()
    proc.communicate()
    line = refused(volume, "import-diff", path, "copy")
    assert "lsvd snapshot rollback copy@d0" in line
    lsvd(volume, "snapshot", "rollback", "copy@d0")
    check_step(volume, path, before)


# ---- files ----

def test_files_are_not_written_over(place, pair):
    volume, server = pair
    path = place.path / "x.lsvd"
    path.write_bytes(b"mine")
    snapshot(volume, "a")
    assert "there already" in refused(volume, "export-diff", "v@a", path)
    assert path.read_bytes() == b"mine"
    path.unlink()
    assert "v@no" in refused(volume, "export-diff", "v@no", path)
    line = refused(volume, "export-diff", "v", path)
    assert "make a snapshot" in line
    assert "no snapshot" in refused(volume, "export-diff", "--from", "v",
                                    "v@a", path)
    assert "No such file" in refused(volume, "export-diff", "v@a",
                                     place.path / "no" / "x.lsvd")
    assert "No such file" in refused(volume, "import-diff", path, "copy")
    assert files_of(place) == []


def test_a_pipe_that_nobody_reads(place, pair):
    volume, server = pair
    h = server.connect()
    write_all(h, random_bytes(SIZE, 5))
    snapshot(volume, "a")
    read_end, write_end = os.pipe()
    proc = subprocess.Popen([LSVD, "export-diff", "v@a", "-",
                             *map(str, volume.where())], stdout=write_end,
                            stderr=subprocess.PIPE)
    os.close(write_end)
    assert len(os.read(read_end, 100)) == 100
    os.close(read_end)
    _, err = proc.communicate(timeout=60)
    assert proc.returncode == 1
    assert err.count(b"\n") == 1 and b"Broken pipe" in err


def test_not_to_a_terminal(place, pair):
    volume, _ = pair
    master, slave = os.openpty()
    for words in [("export-diff", "v", "-"), ("import-diff", "-", "copy")]:
        done = subprocess.run([LSVD, *words, *map(str, volume.where())],
                              stdin=slave, stdout=slave,
                              stderr=subprocess.PIPE, text=True, timeout=60,
                              check=False)
        assert done.returncode == 64
        assert "terminal" in one_line(done.stderr)
    os.close(master)
    os.close(slave)
