"""What was written is what is read; whatever happens in between."""

import random
import signal
import struct
import threading

import nbd
import pytest

from nbdharness import (KIB, MIB, POLICIES, assert_same, extents, poll,
                        random_bytes, random_file, read_all, run, write_all)


class Model:
    """A volume as it should be: bytes in memory."""

    def __init__(self, size, seed):
        self.bytes = bytearray(size)
        self.random = random.Random(seed)

    def span(self, low, high, longest):
        offset = self.random.randrange(low, high - 1)
        count = self.random.choice([1, 511, 512, 4096,
                                    self.random.randint(1, longest)])
        return offset, min(count, high - offset)

    def step(self, h, low, high, longest=300 * KIB):
        """One random request in [low, high), on both; compare reads."""
        offset, count = self.span(low, high, longest)
        kind = self.random.choice("wwwwfzztrrrrFc")
        if kind in "wf":
            data = self.random.randbytes(count)
            h.pwrite(data, offset, nbd.CMD_FLAG_FUA if kind == "f" else 0)
            self.bytes[offset:offset + count] = data
        elif kind == "z":
            h.zero(count, offset, self.random.choice(
                [0, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FAST_ZERO,
                 nbd.CMD_FLAG_FUA]))
            self.bytes[offset:offset + count] = bytes(count)
        elif kind == "t":
            h.trim(count, offset)
            self.bytes[offset:offset + count] = bytes(count)
        elif kind == "F":
            h.flush()
        elif kind == "c":
            h.cache(count, offset)
        else:
            assert_same(h.pread(count, offset),
                        bytes(self.bytes[offset:offset + count]))


@pytest.mark.parametrize("policy", POLICIES)
def test_random_requests_against_a_model(place, policy):
    """Odd offsets and sizes, through four connections in turn."""
    volume = place.volume(policy, size=5 * MIB + 512)
    model = Model(volume.size, 4)
    server = volume.serve("ram=4M")
    handles = [server.connect() for _ in range(4)]
    for i in range(400):
        model.step(handles[i % 4], 0, volume.size)
    assert_same(read_all(handles[0], volume.size), bytes(model.bytes))
    server.kill()
    server = volume.serve("ram=4M")
    h = server.connect()
    assert_same(read_all(h, volume.size), bytes(model.bytes))
    for _ in range(100):
        model.step(h, 0, volume.size)
    server.stop()
    assert_same(volume.content(), bytes(model.bytes))
    volume.verify()


@pytest.mark.parametrize("block", [512, 65536])
def test_random_requests_with_other_block_sizes(place, block):
    volume = place.volume("ec21", size=3 * MIB, block=block)
    model = Model(volume.size, 5)
    server = volume.serve()
    h = server.connect()
    for _ in range(300):
        model.step(h, 0, volume.size)
    server.stop()
    assert_same(volume.content(), bytes(model.bytes))
    volume.verify()


class Job(threading.Thread):
    """A thread whose failure fails the test."""

    def __init__(self, work, *arguments):
        super().__init__(daemon=True)
        self.work, self.arguments, self.failure = work, arguments, None
        self.start()

    def run(self):
        try:
            self.work(*self.arguments)
        except BaseException as e:  # handed to the thread that joins
            self.failure = e

    def done(self, timeout=120):
        self.join(timeout)
        assert not self.is_alive(), "hangs"
        if self.failure:
            raise self.failure


@pytest.mark.parametrize("policy", ["r2", "ec21", "ec42"])
def test_neighbours_in_one_block_from_four_connections(place, policy):
    """Regions that share blocks and chunks, each with its own writer."""
    volume = place.volume(policy, size=2 * MIB)
    server = volume.serve("ram=4M")
    edges = [0, 500 * KIB + 7, MIB + 13, MIB + 300 * KIB + 1, volume.size]
    models = [Model(volume.size, i) for i in range(4)]

    def work(model, low, high):
        h = server.connect()
        for _ in range(150):
            model.step(h, low, high, 20 * KIB)

    jobs = [Job(work, models[i], edges[i], edges[i + 1]) for i in range(4)]
    for job in jobs:
        job.done()
    want = b"".join(bytes(models[i].bytes[edges[i]:edges[i + 1]])
                    for i in range(4))
    assert_same(read_all(server.connect(), volume.size), want)
    server.kill()
    assert_same(volume.content(), want)
    volume.verify()


@pytest.mark.parametrize("policy", ["r1", "r3", "ec21"])
def test_two_small_writers_to_one_block(place, policy):
    volume = place.volume(policy, size=MIB)
    server = volume.serve()
    rounds = 300

    def work(slot):
        h = server.connect()
        for i in range(rounds):
            data = struct.pack("<QQ", slot, i) * 32
            at = (i % 4) * 4096 + slot * 512
            h.pwrite(data, at)
            assert h.pread(512, at) == data

    jobs = [Job(work, slot) for slot in (0, 1)]
    for job in jobs:
        job.done()
    server.kill()
    data = volume.content()
    for slot in (0, 1):
        for block in range(4):
            last = max(i for i in range(rounds) if i % 4 == block)
            at = block * 4096 + slot * 512
            assert data[at:at + 512] == struct.pack("<QQ", slot, last) * 32


@pytest.mark.parametrize("policy", POLICIES)
def test_nbdcopy_both_ways(place, policy):
    volume = place.volume(policy)
    image = random_file(place.path / "image", volume.size, 6)
    server = volume.serve()
    run("nbdcopy", "--flush", image, server.uri())
    server.kill()
    server = volume.serve()
    run("nbdcopy", server.uri(), place.path / "back")
    assert_same((place.path / "back").read_bytes(), image.read_bytes())
    server.stop()
    volume.verify(0, "--full")


def test_nbdcopy_between_two_volumes(place):
    volume = place.volume("ec21")
    data = volume.fill(7)
    other = place.volume("r2", name="other")
    source, target = volume.serve(), other.serve()
    run("nbdcopy", source.uri(), target.uri())
    target.stop()
    assert_same(other.content(), data)


class Writers:
    """Threads that write numbered blocks; what was asked and answered."""

    def __init__(self, volume, count=6):
        self.blocks = volume.size // 4096
        self.count = count
        self.issued = [0] * self.blocks
        self.answered = [0] * self.blocks
        self.jobs = []

    def start(self, server):
        self.jobs = [Job(self._work, server, i) for i in range(self.count)]

    @staticmethod
    def pattern(block, version):
        return struct.pack("<QQ", block, version) * 256

    def _work(self, server, mine):
        chance = random.Random(mine)
        try:
            h = server.connect()
            while True:
                block = chance.randrange(mine, self.blocks, self.count)
                self.issued[block] += 1
                version = self.issued[block]
                h.pwrite(self.pattern(block, version), block * 4096)
                self.answered[block] = version
        except nbd.Error:
            pass  # the server is gone: what all of them wait for

    def wait(self, count):
        target = sum(self.answered) + count
        poll(lambda: sum(self.answered) >= target, f"{count} writes")

    def done(self):
        for job in self.jobs:
            job.done()

    def check(self, data):
        """Every block is the last answered version or a later one."""
        for block in range(self.blocks):
            got = data[block * 4096:(block + 1) * 4096]
            low, high = self.answered[block], self.issued[block]
            version = struct.unpack_from("<QQ", got)[1]
            assert low <= version <= high, (block, low, version, high)
            want = self.pattern(block, version) if version else bytes(4096)
            assert got == want, f"block {block} is torn"
            self.answered[block] = version  # it may not go back again


@pytest.mark.parametrize("policy", POLICIES)
def test_kill_under_load_keeps_every_answered_write(place, policy):
    volume = place.volume(policy, size=4 * MIB)
    writers = Writers(volume)
    for _ in range(3):
        server = volume.serve("ram=4M")
        writers.start(server)
        writers.wait(300)
        server.kill()
        writers.done()
        for _ in range(2):  # the second replay finds the same
            server = volume.serve()
            writers.check(read_all(server.connect(), volume.size))
            server.kill()
    writers.check(volume.content())
    volume.verify(0, "--full")


@pytest.mark.parametrize("policy", ["r2", "ec21"])
def test_stop_under_load_is_clean(place, policy):
    """SIGTERM: exit 0, nothing answered is lost, nothing to replay."""
    volume = place.volume(policy, size=4 * MIB)
    server = volume.serve()
    writers = Writers(volume)
    writers.start(server)
    writers.wait(300)
    server.stop()
    writers.done()
    assert volume.info()["clean"] is True
    assert volume.info()["in_use"] is False
    volume.verify(0, "--full")
    writers.check(volume.content())


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_stop_with_idle_clients(volume, sig):
    """A client that stays connected doesn't keep the server alive."""
    server = volume.serve()
    idle = [server.connect() for _ in range(3)]
    idle[0].pwrite(b"x" * 4096, 0)
    server.stop(timeout=30, sig=sig)
    assert volume.info()["clean"] is True
    assert len(idle) == 3


def test_flush_covers_another_connection(place):
    volume = place.volume("ec21")
    data = random_bytes(3 * MIB, 8)
    server = volume.serve()
    a, b = server.connect(), server.connect()
    a.pwrite(data, 1000)
    b.flush()
    assert b.pread(len(data), 1000) == data
    server.kill()
    assert volume.content()[1000:1000 + len(data)] == data


def test_a_client_that_vanishes_harms_no_volume(volume):
    """nbdkit before 1.34 may abort then: every answered write is kept."""
    server = volume.serve()
    steady = server.connect()
    steady.pwrite(b"s" * 4096, 0)
    h = server.connect()
    for i in range(16):
        h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b"v" * MIB)),
                     (i + 1) * MIB)
    h.poll(1000)
    del h
    server.kill()
    data = volume.content()
    assert data[:4096] == b"s" * 4096
    for i in range(16):
        got = data[(i + 1) * MIB:(i + 2) * MIB]
        for at in range(0, MIB, 4096):
            assert got[at:at + 4096] in (b"v" * 4096, bytes(4096))
    volume.verify()


@pytest.mark.parametrize("policy", ["r2", "ec42"])
def test_trim_and_zero_give_space_back(place, policy):
    volume = place.volume(policy, size=16 * MIB)
    data = bytearray(volume.fill(9))

    def used():
        return sum(p.stat().st_blocks * 512 for x in volume.letters
                   for p in volume.part_dir(x).iterdir())

    before = used()
    server = volume.serve()
    h = server.connect(contexts=True)
    h.trim(4 * MIB, 4 * MIB)
    h.zero(4 * MIB, 8 * MIB)
    h.zero(MIB + 1000, 12 * MIB + 100)
    data[4 * MIB:12 * MIB] = bytes(8 * MIB)
    data[12 * MIB + 100:13 * MIB + 1100] = bytes(MIB + 1000)
    assert_same(read_all(h, volume.size), bytes(data))
    assert (8 * MIB, True) in list(extents(h, 8 * MIB, 4 * MIB))
    server.stop()
    assert used() < before * 9 // 16
    assert_same(volume.content(), bytes(data))
    volume.verify(0, "--full")


def test_extents_are_what_is_allocated(volume):
    server = volume.serve()
    h = server.connect(contexts=True)
    assert list(extents(h, volume.size)) == [(volume.size, True)]
    h.pwrite(b"x", 5 * MIB + 100)
    want = [(5 * MIB, True), (4096, False),
            (volume.size - 5 * MIB - 4096, True)]
    assert list(extents(h, volume.size)) == want
    del h
    server.stop()
    server = volume.serve()
    h = server.connect(contexts=True)
    assert list(extents(h, volume.size)) == want
    h.trim(volume.size, 0)
    assert list(extents(h, volume.size)) == [(volume.size, True)]


def cached_bytes(path):
    return int(run("fincore", "--bytes", "--noheadings", "--output", "RES",
                   path).stdout or 0)


@pytest.mark.parametrize("policy", ["r3", "ec42"])
@pytest.mark.parametrize("round", ["new", "again"])
def test_page_cache_keeps_what_is_read(place, policy, round):
    """Of what is written in large pieces it has one copy, and no parity but
    of the pieces of a chunk that happen to be destaged by themselves."""
    kind = run("stat", "--file-system", "--format", "%T", place.path).stdout
    if kind.strip() in ("tmpfs", "ramfs"):
        pytest.skip("files of a tmpfs are nowhere but in the page cache")
    volume = place.volume(policy, size=32 * MIB, chunk=4 * MIB)
    if round == "again":
        volume.fill(5)
    server = volume.serve()
    write_all(server.connect(), random_bytes(volume.size, 6))
    server.stop()
    cached = {letter: sum(cached_bytes(volume.chunk_file(letter, n))
                          for n in range(1, 9)) for letter in volume.letters}
    assert volume.size // 2 < sum(cached.values()) < volume.size * 5 // 4
    if policy == "ec42":
        assert cached["e"] + cached["f"] < 4 * MIB


def test_trim_of_a_whole_large_volume_is_quick(place):
    volume = place.volume("r2", size=1024 ** 4, chunk=4 * MIB)
    server = volume.serve()
    h = server.connect(contexts=True)
    h.pwrite(b"x" * 4096, volume.size - 4096)
    for at in range(0, volume.size, 2 * 1024 ** 3):
        h.zero(2 * 1024 ** 3, at)
    assert h.pread(4096, volume.size - 4096) == bytes(4096)
    server.stop()
    assert volume.info()["clean"] is True


def test_memory_is_bounded(place):
    volume = place.volume("ec21", size=256 * MIB, chunk=4 * MIB)
    image = random_file(place.path / "image", volume.size, 10)
    server = volume.serve("ram=16M")
    run("nbdcopy", image, server.uri())
    run("nbdcopy", server.uri(), "null:")
    # 4 connections of 16 threads with a request each, and the caches
    assert server.rss_high_bytes() < 160 * MIB
    server.stop()
