"""Clients that load a volume, and know of each block what it may hold.

The oracle of tests/sim/model.h for real clients. A cell is a block of the
volume; a version of it is a tuple with the number of the write that each of
its sectors came from (0: zeroes). Every sector carries that number and its own
place, so whatever comes from elsewhere, or is half of something, is told. What
a cell may hold: the version answered last, or one of a request behind it that
failed or was never answered; once read, the same again until the server dies.
When the power is cut, also what is older, but nothing from before the last
version that a flush or FUA made durable.

Each client has regions of its own and one request on its way, so requests on a
cell do not overlap in time.
"""

import collections
import errno
import itertools
import random
import struct
import threading
import time

import nbd

from nbdharness import KIB, poll

SECTOR = 512


def sector_bytes(number, sector):
    """What the write of that number puts there."""
    if number == 0:
        return bytes(SECTOR)
    return struct.pack("<QQ", number, sector) * (SECTOR // 16)


def describe(data, sector):
    """Of bytes that are wrong: what they are."""
    found = []
    for i in range(0, len(data), SECTOR):
        piece = data[i:i + SECTOR]
        number, place = struct.unpack_from("<QQ", piece)
        if piece == bytes(SECTOR):
            found.append("zeroes")
        elif piece != sector_bytes(number, place):
            found.append("damaged")
        elif place != sector + i // SECTOR:
            found.append(f"write {number} of sector {place}")
        else:
            found.append(f"write {number}")
    return ", ".join(found)


class Model:
    """What each cell may hold. A cell is used by one thread at a time."""

    def __init__(self, size, cell=4 * KIB):
        self.size, self.cell = size, cell
        self.per_cell = cell // SECTOR
        zero = (0,) * self.per_cell
        self.versions = [[zero] for _ in range(size // cell)]
        self.seen = [None] * len(self.versions)
        # What the power may leave: version, and when a later one was answered.
        self.past = [{zero: None} for _ in self.versions]
        self.undurable = set()  # cells with more than one of them
        self.clock = itertools.count(1)
        self.lock = threading.Lock()  # a flush is about everybody's cells

    def parts(self, offset, count):
        """(cell, first sector in it, sectors) of a range."""
        end = offset + count
        while offset < end:
            cell, within = divmod(offset, self.cell)
            step = min(self.cell - within, end - offset)
            yield cell, within // SECTOR, step // SECTOR
            offset += step

    def begin(self, number, offset, count):
        """A write is on its way. Returns what end() wants."""
        after = []
        for cell, first, sectors in self.parts(offset, count):
            old = [self.seen[cell]] if self.seen[cell] else \
                self.versions[cell]
            new = [v[:first] + (number,) * sectors + v[first + sectors:]
                   for v in old]
            after.append((cell, new))
            self.versions[cell] = list(dict.fromkeys(
                self.versions[cell] + new))
            self.seen[cell] = None
            with self.lock:
                self.past[cell].update(dict.fromkeys(new))
                self.undurable.add(cell)
        return after

    def end(self, after, durable=False):
        """It was answered with success."""
        with self.lock:
            now = next(self.clock)
            for cell, new in after:
                self.versions[cell] = new
                past = self.past[cell]
                for version, superseded in list(past.items()):
                    if version not in new and durable:
                        del past[version]
                    elif version not in new and superseded is None:
                        past[version] = now

    def begin_flush(self):
        """Returns what end_flush() wants."""
        return next(self.clock)

    def end_flush(self, begun):
        """What was answered before it began is durable."""
        with self.lock:
            for cell in list(self.undurable):
                past = {v: t for v, t in self.past[cell].items()
                        if t is None or t > begun}
                self.past[cell] = past
                if len(past) == 1:
                    self.undurable.discard(cell)

    def crashed(self):
        """What was read is no promise any more."""
        self.seen = [None] * len(self.versions)

    def lost_power(self):
        """Nor is what was answered and not made durable."""
        self.crashed()
        self.versions = [list(past) for past in self.past]
        self.past = [dict.fromkeys(past) for past in self.past]

    def read_since(self):
        """All of it was read since then: it is what it is."""
        assert all(self.seen)
        self.versions = [[seen] for seen in self.seen]
        self.past = [{seen: None} for seen in self.seen]
        self.undurable.clear()

    def check(self, data, offset):
        """None, or what is wrong with bytes that were read."""
        at = 0
        for cell, first, sectors in self.parts(offset, len(data)):
            got = data[at:at + sectors * SECTOR]
            start = cell * self.per_cell
            allowed = [self.seen[cell]] if self.seen[cell] else \
                self.versions[cell]
            for version in allowed:
                want = b"".join(
                    sector_bytes(version[i], start + i)
                    for i in range(first, first + sectors))
                if got == want:
                    break
            else:
                return (f"cell {cell} (bytes {cell * self.cell}), sectors "
                        f"{first} to {first + sectors - 1}: may be any of "
                        f"{allowed}, but is {describe(got, start + first)}")
            if sectors == self.per_cell:
                self.seen[cell] = version
            at += len(got)
        return None


class Clients:
    """Threads with a connection each."""

    REGION = 256 * KIB

    def __init__(self, size, cell=4 * KIB, count=4, seed=0, largest=64 * KIB,
                 pause_s=0.0, streams=False):
        self.model = Model(size, cell)
        self.size, self.count, self.largest = size, count, largest
        self.pause_s = pause_s  # between two requests of a client
        self.chance = [random.Random(f"{seed} {i}") for i in range(count)]
        self.numbers = [i + 1 for i in range(count)]
        self.streams = streams  # now and then a region in order
        self.stream = [[] for _ in range(count)]  # what is left of one
        self.threads = []
        self.stopping = threading.Event()
        self.lock = threading.Lock()  # guards what follows
        self.done = [0] * count
        self.longest_s = 0.0
        self.longest_what = ""
        self.problems = []     # wrong bytes, errors: nothing may be here
        self.lost = 0          # connections
        self.tolerated = set() # errno that may be answered just now
        self.met = collections.Counter()  # of these

    def start(self, server):
        self.stopping.clear()
        self.threads = [threading.Thread(target=self._run, args=(server, i))
                        for i in range(self.count)]
        for thread in self.threads:
            thread.start()

    def requests(self):
        return sum(self.done)

    def wait(self, count, deadline_s=60):
        """Until so many more requests were answered, or something is wrong
        (check() and lost tell)."""
        target = self.requests() + count
        poll(lambda: self.requests() >= target or self.problems or self.lost,
             f"{count} requests are answered", deadline_s)

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(120)
            assert not thread.is_alive(), "a request is never answered"

    def forget_longest(self):
        with self.lock:
            self.longest_s, self.longest_what = 0.0, ""

    def check(self):
        """No wrong byte and no error so far."""
        assert not self.problems, "\n".join(self.problems[:20])

    def check_all(self, server):
        """Read everything; nobody else is at work."""
        h = server.connect()
        for at in range(0, self.size, self.REGION):
            count = min(self.REGION, self.size - at)
            wrong = self.model.check(bytes(h.pread(count, at)), at)
            assert wrong is None, wrong
        h.shutdown()

    def _run(self, server, mine):
        try:
            h = server.connect()
        except nbd.Error as e:
            with self.lock:
                self.lost += 1
                del e
            return
        h.set_strict_mode(0)
        while not self.stopping.is_set():
            begin = time.monotonic()
            alive = self._request(h, mine)
            spent = time.monotonic() - begin
            with self.lock:
                self.done[mine] += 1
                if alive and spent > self.longest_s:
                    self.longest_s = spent
            if not alive:
                with self.lock:
                    self.lost += 1
                return
            if self.pause_s:
                self.stopping.wait(self.pause_s)
        try:
            h.shutdown()
        except nbd.Error:
            pass  # the server has gone meanwhile

    def _place(self, chance, mine):
        """A range in one of this client's regions."""
        regions = max(1, self.size // self.REGION)
        region = chance.randrange(mine, max(regions, mine + 1), self.count)
        sectors = self.REGION // SECTOR
        if chance.random() < 0.3:
            count = chance.randrange(1, self.largest // SECTOR + 1)
            at = chance.randrange(0, sectors - count + 1)
        else:
            per = self.model.per_cell
            count = per * chance.choice([1, 1, 1, 2, 4,
                                         self.largest // self.model.cell])
            at = per * chance.randrange(0, (sectors - count) // per + 1)
        return region * self.REGION + at * SECTOR, count * SECTOR

    def _request(self, h, mine):
        """One request; False when the connection is gone."""
        chance = self.chance[mine]
        if self.stream[mine] or (self.streams and chance.random() < 0.1):
            return self._stream(h, mine)
        offset, count = self._place(chance, mine)
        kind = chance.choices(["write", "read", "zero", "trim", "flush"],
                              [50, 35, 4, 4, 7])[0]
        return self._ask(h, mine, kind, offset, count)

    def _stream(self, h, mine):
        """One request of those that make a region anew: it is given back as a
        whole, or written over in order, as a copy of an image comes."""
        chance = self.chance[mine]
        if not self.stream[mine]:
            region = chance.randrange(mine, self.size // self.REGION,
                                      self.count)
            begin = region * self.REGION
            if chance.random() < 0.5:
                return self._ask(h, mine, "trim", begin, self.REGION)
            while begin < (region + 1) * self.REGION:
                count = min(16 * KIB * chance.randrange(1, 9),
                            (region + 1) * self.REGION - begin)
                self.stream[mine].append((begin, count))
                begin += count
        offset, count = self.stream[mine].pop(0)
        if chance.random() < 0.02:
            self.stream[mine] = []
        return self._ask(h, mine, "write", offset, count)

    def _ask(self, h, mine, kind, offset, count):
        chance = self.chance[mine]
        fua = nbd.CMD_FLAG_FUA if chance.random() < 0.2 else 0
        number, after = 0, []
        if kind == "write":
            number = self.numbers[mine]
            self.numbers[mine] += self.count
        if kind in ("write", "zero", "trim"):
            after = self.model.begin(number, offset, count)
        try:
            if kind == "read":
                wrong = self.model.check(bytes(h.pread(count, offset)),
                                         offset)
                if wrong:
                    self._problem(wrong)
            elif kind == "write":
                first = offset // SECTOR
                h.pwrite(b"".join(sector_bytes(number, first + i)
                                  for i in range(count // SECTOR)),
                         offset, fua)
            elif kind == "zero":
                h.zero(count, offset, fua)
            elif kind == "trim":
                h.trim(count, offset, fua)
            else:
                begun = self.model.begin_flush()
                h.flush()
                self.model.end_flush(begun)
        except nbd.Error as e:
            return self._failed(h, e, f"{kind} of {count} at {offset}")
        self.model.end(after, durable=fua != 0)
        return True

    def _failed(self, h, e, what):
        # ESHUTDOWN: the server is stopping, the connection ends in a moment.
        if h.aio_is_closed() or h.aio_is_dead() or \
                e.errnum == errno.ESHUTDOWN:
            return False
        if e.errnum in self.tolerated:
            with self.lock:
                self.met[e.errnum] += 1
        else:
            self._problem(f"{what}: {e}")
        return True

    def _problem(self, text):
        with self.lock:
            self.problems.append(text)
