"""The journal in two directories, over a real nbdkit: one of them fails while
it serves, hangs, comes back, is removed, or is too small; the server is killed;
and is started with either, or both."""

import json
import shutil
import signal
import subprocess

import nbd
import pytest

from conftest import need_faults, need_root
from load import Clients
from nbdharness import KIB, LSVD, MIB, assert_same, poll, \
    random_bytes, read_all, run, set_rules

SIZE = 16 * MIB
TIMEOUT_S = 2  # part-timeout of what hangs
# A request waits for the deadline and one view change; the rest is for a
# machine that is busy with other tests.
LONGEST_S = TIMEOUT_S + 1 + 2
BOTH = "both cache directories have one"


class World:
    """A volume with two cache directories, and its clients."""

    def __init__(self, place, policy="r2"):
        self.place = place
        self.volume = place.volume(policy, size=SIZE, chunk=256 * KIB)
        self.caches = [place.root("cache-one"), place.root("cache-two")]
        self.rules = place.path / "rules"
        self.clients = Clients(SIZE, seed=policy)
        self.server = None

    def parameters(self, *which):
        data = [f"data={r}" for r in self.volume.roots.values()]
        return [self.volume.name, *data,
                *[f"cache={self.caches[i]}" for i in which]]

    def start(self, *which, faults=False, more=()):
        more = [f"fault={self.rules}", *more] if faults else more
        self.server = self.place.serve(*self.parameters(*which), *more)

    def status(self):
        """Of the server, which has both directories."""
        data = [f"--data={r}" for r in self.volume.roots.values()]
        done = run(LSVD, "status", self.volume.name, "--json", *data,
                   *[f"--cache={c}" for c in self.caches], check=False)
        return json.loads(done.stdout)

    def wait_both(self, times=1):
        """The copy that was lost was made anew, so often by now."""
        poll(lambda: self.server.log().count(BOTH) == times,
             "the copy is refilled", 60)

    def refused(self, *which):
        server = self.place.serve(*self.parameters(*which), check=False)
        assert not server.wait_or_up(), server.log()
        assert server.wait() != 0
        assert "needs its journal" in server.log().splitlines()[-1]

    def fail(self, which, how):
        """From now on, in these cache directories."""
        set_rules(self.rules, "".join(
            f"[rule-{i}]\npath={self.caches[i]}/\n{how}\n" for i in which))

    def crash(self):
        self.server.kill()
        self.clients.stop()
        self.clients.check()
        self.clients.model.crashed()

    def check(self):
        self.clients.check_all(self.server)

    def journal(self, which):
        found = list(self.caches[which].glob("*.journal"))
        assert len(found) == 1, found
        return found[0].read_bytes()


@pytest.fixture
def world(place):
    found = World(place)
    yield found
    if found.server:
        found.server.kill()
    found.clients.stop()


@pytest.mark.parametrize("how", [
    "call=write\nerror=EIO", "call=sync\nerror=EIO",
    "call=write\nerror=ENOSPC", "call=any\nerror=ESTALE\nprobability=0.05",
    "call=write\nshort=yes",
])
@pytest.mark.parametrize("dead", [0, 1])
def test_one_fails_under_load(world, dead, how):
    need_faults()
    alive = 1 - dead
    world.start(0, 1, faults=True)
    world.clients.start(world.server)
    world.clients.wait(200)
    world.fail([dead], how)
    poll(lambda: "is lost" in world.server.log(), "the loss is logged")
    assert str(world.caches[dead]) in world.server.log()
    world.clients.wait(400)
    world.clients.check()
    world.crash()

    if "probability" not in how:  # else it may have come back meanwhile
        world.refused(dead)
    world.start(alive)
    world.check()
    world.clients.start(world.server)
    world.clients.wait(200)
    world.crash()
    world.start(0, 1)  # it is refilled, and counts again
    world.clients.start(world.server)
    world.clients.wait(200)
    world.crash()
    world.start(dead)
    world.check()
    world.server.stop()
    world.volume.verify(0, "--full")


@pytest.mark.parametrize("dead", [0, 1])
@pytest.mark.parametrize("left", ["as it was", "empty"])
def test_one_is_refilled_while_serving(world, dead, left):
    """Twice; and then either is enough."""
    need_faults()
    world.start(0, 1, faults=True)
    # nbdkit says that it is up a moment before it can be asked
    poll(lambda: world.status()["served"], "it is served", 30)
    assert world.status()["journal"]["copies"] == 2
    world.clients.start(world.server)
    for times in (1, 2):
        world.clients.wait(200)
        world.fail([dead], "call=write;sync\nerror=EIO")
        poll(lambda t=times: world.server.log().count("is lost") >= t,
             "the loss is logged")
        poll(lambda: world.status()["journal"]["copies"] == 1, "one is left")
        status = world.status()
        assert status["health"] == "degraded"
        assert str(world.caches[dead]) in status["problem"]
        world.clients.wait(100)
        if left == "empty":
            for journal in world.caches[dead].glob("*.journal"):
                journal.unlink()
        world.clients.forget_longest()
        world.fail([], "")
        world.wait_both(times)
        assert world.clients.longest_s < 3, world.clients.longest_what
        status = world.status()
        assert status["healthy"] and status["journal"]["copies"] == 2
        assert status["journal"]["copy_returns"] == times
    world.clients.wait(200)
    world.clients.check()
    world.crash()
    world.start(dead)
    world.check()
    world.clients.model.crashed()
    world.server.kill()
    world.refused(1 - dead)  # it was started without
    world.start(0, 1)
    world.check()
    world.server.stop()
    world.volume.verify(0, "--full")


def test_one_that_was_away_at_the_start(world):
    away = world.caches[1].with_name("away")
    world.caches[1].rename(away)
    world.start(0, 1)
    world.clients.start(world.server)
    world.clients.wait(200)
    assert world.status()["health"] == "degraded"
    away.rename(world.caches[1])
    world.wait_both()
    world.clients.wait(200)
    world.crash()
    world.start(1)
    world.check()
    world.server.stop()
    world.volume.verify(0, "--full")


@pytest.fixture
def hanging(world, faultfs):
    """A function: from now on this cache directory can hang."""
    made = []

    def make(which):
        world.caches[which].rmdir()
        made.append(faultfs(world.caches[which].name))
        return made[-1]

    yield make
    world.clients.stopping.set()
    for fs in made:
        if fs.process.poll() is None:
            fs.resume()  # or the server can't end


@pytest.mark.parametrize("one", [0, 1])
def test_one_hangs_and_comes_back(world, hanging, one):
    fs = hanging(one)
    world.start(0, 1, more=[f"part-timeout={TIMEOUT_S}"])
    world.clients.start(world.server)
    world.clients.wait(300)
    world.clients.forget_longest()
    fs.hang()
    poll(lambda: "is lost" in world.server.log(), "it is given up")
    world.clients.wait(300)
    world.clients.check()
    longest = world.clients.longest_s
    assert longest < LONGEST_S, f"a request took {longest:.1f} s"
    if one == 1:  # the socket is in the first
        assert str(world.caches[one]) in world.status()["problem"]
    fs.resume()  # what hung lands now
    world.wait_both()
    world.clients.wait(200)
    world.clients.check()
    assert world.clients.longest_s < LONGEST_S
    world.crash()
    world.start(one)
    world.check()
    world.server.stop()
    world.volume.verify(0, "--full")


@pytest.mark.parametrize("given_up", [False, True])
def test_a_server_stops_though_one_hangs(world, hanging, given_up):
    fs = hanging(1)
    world.start(0, 1, more=[f"part-timeout={TIMEOUT_S}"])
    world.clients.start(world.server)
    world.clients.wait(200)
    fs.hang()
    if given_up:
        poll(lambda: "is lost" in world.server.log(), "it is given up")
    world.server.process.send_signal(signal.SIGTERM)
    world.server.process.wait(10)
    world.clients.stop()
    world.clients.check()
    world.clients.model.crashed()
    fs.resume()
    world.start(0, 1)
    world.check()
    world.server.stop()
    world.volume.verify(0, "--full")


@pytest.mark.parametrize("filling", [False, True],
                         ids=["looked at", "being filled"])
def test_a_server_stops_though_one_hangs_that_was_lost(world, hanging,
                                                       filling):
    """Nobody else waits for it, so its deadline is the long one of parts."""
    fs = hanging(1)
    world.start(0, 1, more=["part-timeout=60"])
    world.clients.start(world.server)
    world.clients.wait(200)
    fs.fail()
    poll(lambda: "is lost" in world.server.log(), "the loss is logged")
    if filling:
        for journal in fs.behind.glob("*.journal"):
            journal.unlink()  # all of it is made anew: that takes long
        fs.resume()
        fs.slow(50)
        poll(lambda: "is being made anew" in world.server.log(), "it is")
    fs.hang()
    poll(lambda: fs.waiting() > 0, "it is waited for")
    assert BOTH not in world.server.log()
    world.server.process.send_signal(signal.SIGTERM)
    world.server.process.wait(10)
    world.clients.stop()
    world.clients.check()
    world.clients.model.crashed()
    fs.resume()
    world.start(0, 1)
    world.check()
    world.server.stop()
    world.volume.verify(0, "--full")


@pytest.mark.parametrize("one", [0, 1])
def test_either_is_enough_after_a_kill(world, one):
    world.start(0, 1)
    for _ in range(3):
        world.clients.start(world.server)
        world.clients.wait(300)
        world.crash()
        world.start(one)
        world.check()
        world.server.kill()
        world.clients.model.crashed()
        world.refused(1 - one)
        world.start(0, 1)
        world.check()
    world.server.stop()
    world.volume.verify(0, "--full")


def test_a_directory_is_removed_under_load(world):
    """Nothing fails then: what is open stays writable. At the next start it is
    made again."""
    world.start(0, 1)
    world.clients.start(world.server)
    world.clients.wait(200)
    shutil.rmtree(world.caches[0])
    world.clients.wait(400)
    world.crash()
    world.caches[0].mkdir()
    world.start(0, 1)
    world.check()
    world.server.kill()
    world.clients.model.crashed()
    assert world.journal(0) == world.journal(1)
    world.start(0)
    world.check()
    world.server.stop()
    world.volume.verify(0, "--full")


def test_both_fail(world):
    """FAILED: writes get EIO, reads go on, and it says what it means."""
    need_faults()
    world.start(0, 1, faults=True)
    h = world.server.connect()
    data = random_bytes(SIZE, 1)
    for at in range(0, SIZE, MIB):
        h.pwrite(data[at:at + MIB], at)
    h.flush()
    world.fail([0, 1], "call=write;sync\nerror=EIO")

    def refuses():
        try:
            h.pwrite(data[:4096], 0)
        except nbd.Error as e:
            assert e.errnum == 5
            return True
        return False

    poll(refuses, "writes are refused")
    assert_same(read_all(h, SIZE), data)
    lines = [x for x in world.server.log().splitlines()
             if "bytes not on the parts" in x]
    assert len(lines) == 1 and "journal" in lines[0], world.server.log()
    world.server.kill()
    away = [c.rename(c.with_name(c.name + "-away")) for c in world.caches]
    for cache in world.caches:
        cache.mkdir()
    world.refused(0, 1)
    for cache, there in zip(world.caches, away):
        cache.rmdir()
        there.rename(cache)
    world.start(0, 1)
    assert_same(read_all(world.server.connect(), SIZE), data)
    world.server.stop()


def test_no_room_for_the_second(world, mounts):
    need_root()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none",
                    str(world.caches[1])], check=True)
    mounts.append(world.caches[1])
    world.start(0, 1)
    assert str(world.caches[1]) in world.server.log()
    world.clients.start(world.server)
    world.clients.wait(200)
    world.crash()
    world.refused(1)
    world.start(0, 1)  # still no room
    world.check()
    world.server.stop()
