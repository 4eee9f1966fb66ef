"""The read cache of a served volume: a real file beside the journal, under
clients, kill -9, and a device that hangs or errs."""

import json
import random
import time

import pytest

from conftest import need_faults
from load import Clients
from nbdharness import (KIB, LSVD, MIB, PLUGIN, assert_same, poll, read_all,
                        run, set_rules)

SIZE = 8 * MIB
BLOCK = 4 * KIB
JOURNAL = 8 * MIB
ALWAYS = ["ram=256K", f"cache-size={24 * MIB}", "read-cache=on"]


@pytest.fixture
def rules(place):
    """The file of rules for fault=; replaced as a whole."""
    need_faults()
    path = place.path / "rules"

    def write(text):
        set_rules(path, text)
        return path

    write("")
    return write


def make(place, policy="r1"):
    place.create_options = ["--journal-size", JOURNAL]
    return place.volume(policy, size=SIZE)


def cache_status(volume):
    """Of the server, as soon as it can be asked."""
    return poll(lambda: (volume.status() or {}).get("read_cache"),
                "it tells of its read cache")


def read_blocks(h, data, seed, count=None):
    """One by one, in any order: long reads are a scan's."""
    order = list(range(SIZE // BLOCK))
    random.Random(seed).shuffle(order)
    for i in order[:count]:
        at = i * BLOCK
        assert_same(bytes(h.pread(BLOCK, at)), data[at:at + BLOCK])


def is_filled(volume, server, data):
    """On a busy machine the cache takes less than all of it at a time."""
    read_blocks(server.connect(), data, 1)
    return cache_status(volume)["used_bytes"] > SIZE * 9 / 10


@pytest.mark.parametrize("policy", ["r1", "ec42"])
def test_survives_a_restart_and_a_crash(place, policy):
    volume = make(place, policy)
    data = volume.fill(1)
    server = volume.serve(*ALWAYS)
    poll(lambda: is_filled(volume, server, data), "the cache is filled")
    assert cache_status(volume)["state"] == "works"
    server.stop()
    server = volume.serve(*ALWAYS)
    assert cache_status(volume)["used_bytes"] > SIZE * 9 / 10
    read_blocks(server.connect(), data, 2)
    found = cache_status(volume)
    assert found["hits"] > 0.9 * SIZE / BLOCK
    assert found["wrong"] == 0
    server.kill()
    server = volume.serve(*ALWAYS)
    read_blocks(server.connect(), data, 3)
    assert cache_status(volume)["hits"] > 0.9 * SIZE / BLOCK
    out = run(LSVD, "status", volume.name, *volume.where()).stdout
    assert [x for x in out.splitlines() if x.strip().startswith("rcache")]
    server.stop()


@pytest.mark.parametrize("policy", ["r3", "ec42"])
def test_kill_under_load_with_a_read_cache(place, policy):
    """Small RAM, a cache of which blocks are evicted, one that is stored by
    some ends and not by others: no client sees a block of another time."""
    volume = make(place, policy)
    clients = Clients(SIZE, seed=policy)
    for i in range(6):
        server = volume.serve("ram=256K", "read-cache=on",
                              f"cache-size={JOURNAL + 4 * MIB}")
        clients.start(server)
        clients.wait(800)
        if i % 3 == 2:
            clients.stop()
            server.stop()
        else:
            server.kill()
            clients.stop()
            clients.model.crashed()
        clients.check()
    server = volume.serve("ram=256K", "read-cache=on",
                          f"cache-size={JOURNAL + 4 * MIB}")
    clients.check_all(server)
    server.stop()
    volume.verify(0, "--full")


def test_serves_what_a_part_that_hangs_has(place, rules):
    """RV1: what is cached, and of which the table is in memory, is read while
    the only part does not answer."""
    volume = make(place)
    data = volume.fill(2)
    server = volume.serve(*ALWAYS, f"fault={rules('')}", "part-timeout=60")
    h = server.connect()
    read_blocks(h, data, 1)
    rules("[hang]\npath=*/11/a/*\ncall=read\nhang=yes\n")
    read_blocks(h, data, 2)
    rules("")
    server.stop()


def test_a_cache_that_hangs_holds_up_no_read(place, rules):
    volume = make(place)
    data = volume.fill(3)
    server = volume.serve(*ALWAYS, f"fault={rules('')}", "part-timeout=2")
    h = server.connect()
    read_blocks(h, data, 1)
    rules("[hang]\npath=*.rcache\nhang=yes\n")
    longest = 0
    end = time.monotonic() + 60
    # While it hangs it is asked once a second; then it is given up.
    while cache_status(volume)["state"] != "failed":
        assert time.monotonic() < end, cache_status(volume)
        begin = time.monotonic()
        read_blocks(h, data, random.random(), 20)
        longest = max(longest, time.monotonic() - begin)
    assert longest < 2, "20 reads took so long"
    assert "no answer" in cache_status(volume)["problem"]
    read_blocks(h, data, 4)
    # The journal is in the same directory, and was not given up.
    h.pwrite(data[:BLOCK], 0)
    h.flush()
    assert volume.status()["healthy"]
    server.stop()
    log = server.log()
    assert log.count("the read cache is off") == 1, log
    assert "read cache" not in log.split("the read cache is off", 1)[1]
    rules("")
    server = volume.serve(*ALWAYS, f"fault={rules('')}")
    read_blocks(server.connect(), data, 5)
    assert cache_status(volume)["state"] == "works"
    server.stop()


@pytest.mark.parametrize("rule", [
    "call=read\nerror=EIO", "call=write\nerror=ENOSPC",
    "call=read;write\nprobability=0.05\nseed=3\nerror=EIO",
    "call=read\nprobability=0.2\nseed=4\nflip=yes",
    "call=write\nprobability=0.2\nseed=5\ndrop=yes",
    "call=write\nprobability=0.2\nseed=6\nmisdirect=yes",
    "call=open\nerror=EACCES", "call=resize\nerror=ENOSPC",
    "call=lock\nerror=ENOLCK"])
def test_a_device_that_errs_or_lies_costs_speed_alone(place, rules, rule):
    volume = make(place)
    data = volume.fill(4)
    path = rules(f"[bad]\npath=*.rcache\n{rule}\n")
    for i in range(3):
        server = volume.serve(*ALWAYS, f"fault={path}")
        h = server.connect()
        read_blocks(h, data, 2 * i)
        read_blocks(h, data, 2 * i + 1)
        assert server.log().count("read cache is off") <= 1
        server.stop()
        assert server.log().count("warning") <= 1, server.log()
    assert_same(volume.content(), data)


def test_rests_when_parts_are_as_fast(place, rules):
    """RV4: and works again when they are not, and tells so."""
    volume = make(place)
    data = volume.fill(5)
    server = volume.serve("ram=256K", f"cache-size={24 * MIB}",
                          f"fault={rules('')}")
    h = server.connect()
    delay = "[slow]\npath=%s\ncall=read\ndelay-ms=%d\n"

    def becomes(state):
        def so():
            read_blocks(h, data, random.random(), 100)
            return cache_status(volume)["state"] == state
        poll(so, state, 60)

    read_blocks(h, data, 1)
    rules(delay % ("*.rcache", 8))
    becomes("rests")
    rules(delay % ("*/11/a/*", 20))
    becomes("works")
    found = cache_status(volume)
    assert found["part_read_us"] > 2 * found["cache_read_us"] > 0
    server.stop()


def test_too_small_or_off_is_none(place):
    volume = make(place)
    data = volume.fill(6)
    for more in ([], ["cache-size=0"], ["cache-size=8M"],
                 ["cache-size=32M", "read-cache=off"]):
        server = volume.serve("ram=256K", *more)
        read_blocks(server.connect(), data, 7, 300)
        assert cache_status(volume)["state"] == "none"
        server.stop()
    assert not list(place.cache.glob("*.rcache"))
    done = run("nbdkit", str(PLUGIN), *volume.parameters(),
               "read-cache=sometimes", "--run", "true", check=False)
    assert done.returncode != 0
    assert "auto, on or off" in done.stderr


def test_removed_with_its_volume(place):
    volume = make(place)
    volume.fill(8)
    server = volume.serve(*ALWAYS)
    read_all(server.connect(), SIZE)
    server.stop()
    assert list(place.cache.glob("*.rcache"))
    run(LSVD, "remove", volume.name, *volume.where())
    assert not list(place.cache.glob("*.rcache"))
    assert json.loads(run(LSVD, "list", "--json",
                          *volume.where()).stdout) == []
