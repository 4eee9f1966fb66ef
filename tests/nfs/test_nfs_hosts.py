"""Two hosts, one volume on their file servers: one writes, and who was
replaced writes nothing any more."""

import errno
import json
import re
import shutil

import nbd
import pytest

from load import Clients
from nbdharness import (KIB, LSVD, MIB, REPAIR, assert_same, one_line, poll,
                        random_bytes, read_all, write_all)
from nfsworld import LEASE_S, sh

SIZE = 8 * MIB
ALL = {"a": 0, "b": 1, "c": 2}
TIMEOUT_S = 4


class Volume:
    """The parts of one volume as a host sees them."""

    def __init__(self, network, host, place, cache):
        self.host, self.place, self.cache = host, place, cache
        self.roots = {}
        for letter, store in ALL.items():
            mount = host.mount(network.stores[store])
            self.roots[letter] = mount / f"root-{letter}"
        self.where = [*[f"--data={r}" for r in self.roots.values()],
                      f"--cache={cache}"]

    def on(self, *command, **kwargs):
        return self.host.on(*command, mounts=False, **kwargs)

    def parameters(self):
        return ["mydevice1", *[f"data={r}" for r in self.roots.values()],
                f"cache={self.cache}", f"part-timeout={TIMEOUT_S}", "ram=2M",
                "stall-timeout=20"]

    def serve(self, **kwargs):
        return self.place.serve(
            *self.parameters(), prefix=self.host.prefix(mounts=False),
            **kwargs)

    def status(self):
        done = self.on(LSVD, "status", "mydevice1", "--json", *self.where,
                       check=False)
        return json.loads(done.stdout) if done.stdout.startswith("{") else \
            None

    def wait_idle(self):
        poll(lambda: (self.status() or {"journal": {"only_bytes": 1}})
             ["journal"]["only_bytes"] == 0, "all is on the parts", 90, 0.3)

    def verify(self):
        done = self.on(REPAIR, "verify", "mydevice1", "--full", *self.where,
                       check=False)
        assert done.returncode == 0, done.stdout


def on_stores(network):
    """What the servers themselves have, but who has the lock."""
    found = []
    for store in network.stores:
        text = store.on("sh", "-c", f"cd {store.export} && find . -type f "
                        "! -name '.lock*' ! -name '.nfs*' "
                        "-exec md5sum {} + | sort -k 2").stdout
        found.append(text)
    return found


@pytest.fixture
def hosts(network, tmp_path, make_place):
    """The volume of host one, and a function that makes that of host two."""
    place = make_place(network.one, {})
    one = Volume(network, network.one, place, place.root("cache"))
    for root in one.roots.values():
        poll(lambda: not sh("mkdir", "-p", root, check=False).returncode,
             "it can be written", 60, 0.3)
    two = []

    def second(cache):
        two.append(Volume(network, network.two, place, cache))
        return two[0]

    yield one, second
    network.one.mend()
    place.end()
    for side in [one, *two]:
        for root in side.roots.values():
            side.host.unmount(root.parent)


def create(one, policy="r3"):
    arguments = {"r3": ["--replicas", "3"], "ec21": ["--ec", "2+1"]}[policy]
    parts = []
    for letter, root in one.roots.items():
        parts += ["--part", f"{letter}={root}"]
    one.on(LSVD, "create", "mydevice1", SIZE, *arguments, *parts, "--cache",
           one.cache, "--chunk-size", 256 * KIB)


def move_cache(place, one):
    """The disk with the journal, put into the other host."""
    cache = place.root("cache-two")
    journal, = one.cache.glob("*.journal")
    shutil.copy(journal, cache)
    return cache


@pytest.mark.quick
def test_the_second_host_is_refused(hosts):
    one, second = hosts
    create(one)
    server = one.serve()
    write_all(server.connect(), random_bytes(MIB, 1))
    two = second(one.place.root("cache-two"))
    line = one.place.refused(*two.parameters(),
                             prefix=two.host.prefix(mounts=False))
    assert re.search(rf"is in use by host one \(pid {server.process.pid}, "
                     r"epoch \d+, heartbeat \d+ s ago\); not started",
                     line), line
    done = two.on(REPAIR, "takeover", "mydevice1", *two.where, "-q",
                  "--i-fenced-it", "--observe-seconds=12", check=False)
    assert done.returncode == 3
    assert "alive" in one_line(done.stdout) and "host one" in done.stdout
    server.stop()


@pytest.mark.parametrize("policy", [
    pytest.param("r3", marks=pytest.mark.quick), "ec21"])
def test_a_host_that_is_cut_off_is_replaced(hosts, network, policy):
    one, second = hosts
    create(one, policy)
    server = one.serve()
    clients = Clients(SIZE, seed=policy, count=2, pause_s=0.005)
    clients.tolerated = {errno.EIO}  # of reads, when it is cut off
    clients.start(server)
    clients.wait(200)
    two = second(one.place.root("cache-two"))

    # Slow wires, so that some of its writes are under way when they are cut.
    network.one.delay(100)
    clients.wait(20)
    network.one.cut()
    # What is answered until here is in the journal, which is moved now.
    clients.stop()
    clients.check()
    move_cache(one.place, one)

    def takes():
        done = two.on(REPAIR, "takeover", "mydevice1", *two.where, "-q",
                      "--i-fenced-it", f"--observe-seconds={LEASE_S}",
                      check=False)
        return done.returncode == 0 or "in use by nobody" in done.stdout
    poll(takes, "it is taken over", 120, 0.5)
    other = two.serve()
    clients.model.crashed()
    clients.check_all(other)
    h = other.connect()
    data = random_bytes(SIZE, f"two {policy}")
    write_all(h, data)
    two.wait_idle()
    before = on_stores(network)

    # No client of host one gets an answer that is not so any more.
    old = server.connect()
    with pytest.raises(nbd.Error):
        old.pread(4 * KIB, 0)
    network.one.mend()
    assert server.wait(90) == 1, server.log()
    assert "another server (host two" in server.log()
    # Its kernel has nothing left either; an error tells of what was refused.
    for root in one.roots.values():
        sh("sync", "-f", root.parent, check=False)
    assert on_stores(network) == before
    assert_same(read_all(h, SIZE), data)
    other.stop()
    two.verify()
