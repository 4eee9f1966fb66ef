"""What file servers do to a volume that is under load, and what becomes of it:
the part is dropped within its deadline, no client notices, and the part is in
sync again by itself."""

import errno
import json
import signal
import threading
import time

import pytest

from load import Clients
from nbdharness import KIB, LSVD, MIB, poll, run

SIZE = 8 * MIB
TIMEOUT_S = 4  # part-timeout
# The deadline, a view change, and a slow machine. Each call of a guest costs
# much more than one of a host.
LONGEST_S = TIMEOUT_S + 1 + 4
SYNC_S = 90
POLICIES = ["r3", "ec21"]
ALL = {"a": 0, "b": 1, "c": 2}


class World:
    """A volume with parts on stores, and its clients. Nothing here looks at a
    mount while its server may be silent."""

    def __init__(self, place, policy):
        self.place = place
        self.volume = place.volume(policy, size=SIZE)
        self.where = self.volume.where()
        self.parameters = self.volume.parameters()
        self.clients = Clients(SIZE, seed=policy, pause_s=0.01)
        self.server = None

    def serve(self, *parameters, **kwargs):
        self.server = self.place.serve(
            *self.parameters, f"part-timeout={TIMEOUT_S}", "stall-timeout=60",
            "ram=2M", *parameters, **kwargs)
        return self.server

    def load(self):
        self.serve()
        self.clients.start(self.server)
        self.clients.wait(100)
        self.clients.forget_longest()

    def status(self):
        done = run(LSVD, "status", self.volume.name, "--json", *self.where,
                   check=False, timeout=60)
        return json.loads(done.stdout) if done.stdout.startswith("{") else \
            None

    def states(self):
        found = self.status()
        return found and {p["part"]: p["state"] for p in found["parts"]}

    def wait_away(self, letter):
        def away():
            found = self.states()
            return found and [x for x in found if found[x] != "ok"] == \
                [letter]
        try:
            poll(away, f"part {letter} is dropped", SYNC_S, 0.2)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.status()}\n"
                                 f"{self.server.log()}") from e

    def wait_in_sync(self):
        try:
            poll(lambda: (self.status() or {}).get("healthy") is True,
                 "all parts are in sync", SYNC_S, 0.3)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.status()}\n"
                                 f"{self.server.log()}") from e

    def check_longest(self):
        assert self.clients.longest_s < LONGEST_S, \
            f"a request took {self.clients.longest_s:.1f} s"

    def go_on_without(self, part):
        self.wait_away(part)
        self.clients.wait(100)
        self.clients.check()
        self.check_longest()

    def kill_and_verify(self):
        self.clients.stop()
        self.clients.check()
        self.server.kill()
        self.clients.model.crashed()
        self.serve()
        self.clients.check_all(self.server)
        self.server.stop()
        self.volume.verify(0, "--full")


@pytest.fixture
def make_world(make_place, network):
    worlds = []

    def make(policy, letters=None, options="hard"):
        place = make_place(network.one, letters or ALL, options)
        worlds.append(World(place, policy))
        return worlds[-1]

    yield make
    for world in worlds:
        world.clients.stopping.set()


@pytest.fixture
def store(network):
    """Of part b; well again at the end."""
    s = network.stores[1]
    yield s
    s.mend()


def stop(store):
    store.stop()


def cut(store):
    store.cut()


def drop(store):
    store.drop()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("silence", [stop, cut, drop])
def test_silent_for_longer_than_the_deadline(make_world, store, silence,
                                             policy):
    world = make_world(policy)
    world.load()
    silence(store)
    world.go_on_without("b")
    store.mend()
    world.wait_in_sync()
    world.clients.wait(50)
    world.check_longest()
    world.kill_and_verify()


@pytest.mark.parametrize("policy", ["r3"])
def test_restarted_within_the_deadline(make_world, store, policy):
    """part-timeout is longer than the restart and the grace period."""
    world = make_world(policy)
    world.serve("part-timeout=60")
    world.clients.start(world.server)
    world.clients.wait(100)
    store.stop()
    store.start()
    world.clients.wait(200)
    poll(lambda: world.status()["journal"]["only_bytes"] < MIB, "destaged")
    assert world.status()["healthy"] is True
    log = world.server.log()
    assert "dropped" not in log, log
    world.kill_and_verify()


@pytest.mark.parametrize("given_up", [False, True])
def test_stops_while_a_mount_hangs(make_world, store, given_up):
    world = make_world("r3")
    world.load()
    store.drop()
    if given_up:
        world.wait_away("b")
    begin = time.monotonic()
    world.server.process.send_signal(signal.SIGTERM)
    world.server.process.wait(15)
    assert time.monotonic() - begin < 11
    world.clients.stop()
    world.clients.check()
    world.clients.model.crashed()
    store.mend()
    world.serve()
    world.wait_in_sync()
    world.clients.check_all(world.server)
    world.kill_and_verify()


@pytest.mark.parametrize("policy", POLICIES)
def test_soft_mount(make_world, store, policy):
    """Calls come back with an error: nothing hangs."""
    world = make_world(policy, options="softerr,timeo=10,retrans=1")
    world.load()
    store.drop()
    world.go_on_without("b")
    store.mend()
    world.wait_in_sync()
    world.kill_and_verify()


@pytest.mark.parametrize("policy", POLICIES)
def test_full_store(make_world, store, policy):
    """The error comes late, from a sync. Clients may be told that there is no
    space, or the part is dropped; nothing else."""
    world = make_world(policy)
    world.load()
    world.clients.tolerated = {errno.ENOSPC}
    store.fill()

    def felt():
        return world.clients.met[errno.ENOSPC] > 0 or \
            (world.states() or {"b": "ok"})["b"] != "ok"
    poll(felt, "it is felt", SYNC_S, 0.2)
    world.clients.wait(100)
    world.clients.check()
    store.mend()
    world.wait_in_sync()
    world.clients.tolerated = set()
    world.clients.wait(50)
    world.kill_and_verify()


@pytest.mark.parametrize("policy", POLICIES)
def test_other_files_in_the_place(make_world, store, policy):
    """The file system behind open files is another one."""
    world = make_world(policy)
    world.load()
    store.replace_files()
    world.wait_away("b")
    world.clients.wait(100)
    world.clients.check()
    run("mkdir", world.place.remote["root-b"])
    done = world.volume.repair("replace", world.volume.name,
                               f"b={world.place.remote['root-b']}")
    assert done.returncode == 0, done.stdout + done.stderr
    world.wait_in_sync()
    world.kill_and_verify()


def test_all_stores_silent_and_back(make_world, network):
    """Nothing can be destaged, nothing is lost, and all goes on."""
    world = make_world("r3")
    world.load()
    for s in network.stores:
        s.drop()
    begin = time.monotonic()
    poll(lambda: time.monotonic() - begin > 2 * TIMEOUT_S, "a while")
    for s in network.stores:
        s.mend()
    world.wait_in_sync()
    world.clients.wait(100)
    world.kill_and_verify()
