"""lsvd resize of a volume that is being served."""

import json
import re
import subprocess
import threading

import pytest

from conftest import need_faults
from nbdharness import (KIB, LSVD, MIB, assert_same, away, back, one_line,
                        poll, random_bytes, random_file, read_all, run)

POLICIES = ["r1", "r3", "ec42"]


def resize(volume, size, code=0):
    done = run(LSVD, "resize", volume.name, size, *volume.where(),
               check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return one_line(done.stdout if code == 0 else done.stderr)


def size_in(directory):
    """What the copy of the policy there says; None: nothing."""
    try:
        text = (directory / ".meta").read_text()
    except FileNotFoundError:
        return None
    return int(re.search(r"^size = (\d+)$", text, re.M).group(1))


def sizes(volume):
    """Of every copy."""
    number = str(volume.number())
    return {size_in(place) for root in volume.roots.values() if root.is_dir()
            for place in (root / number, *(root / number).glob("[a-z]"))}


class Writer(threading.Thread):
    """Writes and reads within the size that it was told, over and over."""

    def __init__(self, server, size, seed, first, end):
        super().__init__()
        self.h, self.first, self.end = server.connect(), first, end
        assert self.h.get_size() == size
        self.data = bytearray(end - first)
        self.seed, self.rounds = seed, 0
        self.over = threading.Event()
        self.error = None
        self.start()

    def run(self):
        try:
            while not self.over.is_set():
                self.rounds += 1
                new = random_bytes(100 * KIB + 13, self.seed + self.rounds)
                at = self.rounds * 77777 % (len(self.data) - len(new))
                self.h.pwrite(new, self.first + at)
                self.data[at:at + len(new)] = new
                assert_same(self.h.pread(len(new) + 500, self.first + at),
                            bytes(self.data[at:at + len(new) + 500]))
        except Exception as e:  # told by stop()
            self.error = e

    def stop(self):
        self.over.set()
        self.join()
        assert self.error is None, self.error


@pytest.mark.parametrize("policy", POLICIES)
def test_grows_under_load(place, policy):
    old = 16 * MIB - 12345
    volume = place.volume(policy, size=old)
    server = volume.serve()
    early = server.connect()
    half = 8 * MIB
    writers = [Writer(server, old, 100, 0, half),
               Writer(server, old, 9000, half, old)]
    poll(lambda: all(w.rounds > 5 for w in writers), "both write")
    now, pieces = old, []
    for i, new in enumerate([old + 100, 16 * MIB, 20 * MIB + 1, 60 * MIB]):
        told = resize(volume, new)
        assert f"({new} bytes)" in told and "connect again" in told
        assert sizes(volume) == {new}
        assert volume.info()["size"] == volume.status()["size"] == new
        late = server.connect()
        assert late.get_size() == new
        assert late.pread(min(new - now, MIB), now) == \
            bytes(min(new - now, MIB))
        piece = random_bytes(min(new - now, 50000), i)
        late.pwrite(piece, new - len(piece))
        pieces.append((new - len(piece), piece))
        now = new
        seen = [w.rounds for w in writers]
        poll(lambda: all(w.rounds > n + 2 or w.error
                         for w, n in zip(writers, seen)), "both go on")
    assert early.get_size() == old
    early.pread(4096, old - 4096)
    for w in writers:
        w.stop()
    events = json.loads(run(LSVD, "events", volume.name, "--json",
                            *volume.where()).stdout)
    assert len([e for e in events if e["kind"] == "resize"]) == 4

    want = bytearray(now)
    for w in writers:
        want[w.first:w.end] = w.data
    for at, piece in pieces:
        want[at:at + len(piece)] = piece
    volume.size = now
    assert_same(read_all(server.connect(), now), bytes(want))
    server.kill()
    assert_same(volume.content(), bytes(want))
    assert volume.verify(0, "--full")["policy_met"]


def test_grows_under_a_copy(place, tmp_path):
    """nbdcopy that was begun before goes on to the old end."""
    volume = place.volume("r2", size=48 * MIB)
    source = random_file(tmp_path / "source", 48 * MIB, 3)
    server = volume.serve()
    with subprocess.Popen(["nbdcopy", "--flush", str(source),
                           server.uri()]) as copying:
        poll(lambda: volume.status()["counters"]["writes"] > 20, "it copies")
        resize(volume, 64 * MIB)
        assert copying.wait(120) == 0
    h = server.connect()
    assert h.get_size() == 64 * MIB
    assert_same(read_all(h, 64 * MIB), source.read_bytes() + bytes(16 * MIB))
    source.write_bytes(random_bytes(64 * MIB, 4))
    run("nbdcopy", "--flush", source, server.uri())
    server.stop()
    volume.size = 64 * MIB
    assert_same(volume.content(), source.read_bytes())
    assert volume.verify(0, "--full")["policy_met"]


def test_shrinking_is_refused(volume):
    server = volume.serve()
    line = resize(volume, 8 * MIB, 1)
    assert volume.name in line and "stop its server" in line
    done = run(LSVD, "resize", volume.name, "8M", "--force",
               *volume.where(), check=False)
    assert done.returncode == 1
    assert one_line(done.stderr) == line
    line = resize(volume, str(1 << 62), 1)
    assert "at most" in line
    assert "again" not in resize(volume, volume.size)  # as it is
    assert sizes(volume) == {volume.size}
    server.connect().pwrite(b"x" * 512, volume.size - 512)
    server.stop()
    volume.verify(0, "--full")


@pytest.mark.parametrize("policy", ["r3", "ec42"])
@pytest.mark.parametrize("returns", ["serving", "later"])
def test_grows_with_a_part_away(place, policy, returns):
    volume = place.volume(policy, size=4 * MIB)
    data = bytearray(volume.fill(7)) + bytes(4 * MIB)
    server = volume.serve()
    away(volume, "b")
    volume.wait_dropped("b")
    resize(volume, 8 * MIB)
    h = server.connect()
    new = random_bytes(MIB, 8)
    h.pwrite(new, 6 * MIB + 100)
    data[6 * MIB + 100:7 * MIB + 100] = new
    h.flush()
    if returns == "later":
        server.kill()
        server = volume.serve()
        assert server.connect().get_size() == 8 * MIB
    back(volume, "b")
    volume.wait_healthy()
    assert sizes(volume) == {8 * MIB}
    server.stop()
    volume.size = 8 * MIB
    away(volume, "c")  # what b has is needed
    assert_same(volume.content(), bytes(data))
    back(volume, "c")
    volume.mend()
    assert volume.verify(0, "--full")["policy_met"]


def hanging(path, call):
    return f"[stop]\npath={path}\ncall={call}\nhang=yes\n"


# Where the server is when it is killed: (whose file, which call), and the
# parts that have the new size by then.
POINTS = {
    "first": (("a", "*/a/.meta*", "rename"), ""),
    "second": (("b", "*/b/.meta.new", "open"), "a"),
    "second-named": (("b", "*/b/.meta*", "rename"), "a"),
    "last": (("c", "*/c/.meta*", "rename"), "ab"),
}


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("part_lost", ["none", "a"])
def test_killed_on_the_way(place, tmp_path, point, part_lost):
    """Old or new: at the next start all agree, and nothing is lost."""
    need_faults()
    volume = place.volume("r3", size=4 * MIB)
    data = volume.fill(9)
    rules = tmp_path / "rules"
    (_, path, call), have = POINTS[point]
    rules.write_text(hanging(path, call))  # which a start does not do
    server = volume.serve(f"fault={rules}")
    server.connect().pwrite(data[:100], 0)
    number = str(volume.number())
    with subprocess.Popen([str(LSVD), "resize", volume.name, "8M",
                           *volume.where()], stderr=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL) as resizing:
        if have:
            poll(lambda: size_in(volume.roots[have[-1]] / number / have[-1])
                 == 8 * MIB, "it is on its way")
        else:
            poll(lambda: (volume.roots["a"] / number / "a" /
                          ".meta.new").exists(), "it is on its way")
        server.kill()
        assert resizing.wait(60) != 0
    if part_lost != "none":
        away(volume, part_lost)
    server = volume.serve()
    size = server.connect().get_size()
    assert size in (4 * MIB, 8 * MIB)
    assert volume.info()["size"] == size
    assert_same(read_all(server.connect(), size),
                data + bytes(size - 4 * MIB))
    if part_lost != "none":
        # What it alone knew of does not come back with it.
        back(volume, part_lost)
        volume.wait_healthy()
    assert sizes(volume) == {size}
    server.kill()
    server = volume.serve()
    assert server.connect().get_size() == size
    resize(volume, 8 * MIB)
    h = server.connect()
    h.pwrite(b"n" * 5000, 8 * MIB - 5000)
    server.stop()
    volume.size = 8 * MIB
    assert_same(volume.content(), data + bytes(4 * MIB - 5000) + b"n" * 5000)
    assert volume.verify(0, "--full")["policy_met"]


def test_smaller_after_an_attempt_that_failed(place, tmp_path):
    """What the failed one got done in memory is not in the way."""
    need_faults()
    volume = place.volume("r3", size=8 * MIB)
    data = volume.fill(7)
    rules = tmp_path / "rules"
    rules.write_text(f"[b]\npath={volume.roots['b']}/*\ncall=rename\n"
                     "error=EIO\n")
    server = volume.serve(f"fault={rules}")
    done = run(LSVD, "resize", volume.name, 64 * MIB, *volume.where(),
               check=False)
    assert done.returncode != 0
    (tmp_path / "none").write_text("")
    (tmp_path / "none").rename(rules)

    def grows():  # the rules are looked at again after a moment
        done = run(LSVD, "resize", volume.name, 16 * MIB, *volume.where(),
                   check=False)
        assert server.process.poll() is None, server.log()
        return done.returncode == 0

    poll(grows, "it grows")
    assert volume.info()["size"] == 16 * MIB
    assert_same(read_all(server.connect(), 16 * MIB), data + bytes(8 * MIB))
    server.stop()
    volume.verify(0, "--full")
