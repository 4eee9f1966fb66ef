"""The scrub of a served volume: finds what nobody reads, and heals it."""

import json
import signal

import pytest

from nbdharness import LSVD, MIB, assert_same, poll, read_all, run
from test_nbd_damage import flip_data, flip_header, flip_table

FAST = ["scrub=1", "scrub-rate=0"]


def status(volume):
    """Of the server: nbdkit says that it is up a moment before it can be
    asked."""
    def served():
        told = json.loads(run(LSVD, "status", volume.name, "--json",
                              *volume.where(), check=False).stdout)
        return told if told["served"] else None

    return poll(served, "it can be asked")


def scrub_texts(volume):
    events = json.loads(run(LSVD, "events", volume.name, "--json",
                            *volume.where()).stdout)
    return [e["text"] for e in events if e["kind"] == "scrub"]


def passes(volume):
    return status(volume)["scrub"]["passes"]


@pytest.mark.parametrize("policy", ["r3", "ec42"])
def test_finds_and_heals_what_nobody_reads(place, policy):
    volume = place.volume(policy, size=4 * MIB)
    data = volume.fill(21)
    damage = [flip_data, flip_header, flip_table]
    for i, letter in enumerate(volume.letters[:3]):
        damage[i](volume, letter, i + 1)
        flip_data(volume, letter, i + 7)
    server = volume.serve(*FAST)
    poll(lambda: passes(volume) >= 1, "a pass")
    now = status(volume)
    assert now["scrub"]["active"] and now["scrub"]["last_end"] > 0
    assert now["counters"]["healed_blocks"] >= 6
    assert now["counters"]["lost_blocks"] == 0
    ended = [t for t in scrub_texts(volume) if "has ended" in t]
    assert " 6 files healed, 0 that" in ended[0]
    volume.verify(0, "--full")  # asks the server
    assert_same(read_all(server.connect(), volume.size), data)
    server.stop()
    report = volume.verify(0, "--full")
    assert report["policy_met"]
    assert all(p["corrupt"] + p["stale"] + p["missing"] == 0
               for p in report["parts"])
    assert_same(volume.content(), data)


def test_goes_on_after_a_restart(place):
    volume = place.volume("r3", size=4 * MIB)
    volume.fill(22)
    server = volume.serve("scrub=60", "scrub-rate=0")
    poll(lambda: status(volume)["scrub"]["chunks_done"] >= 1, "a chunk")
    server.stop()
    mark = list(volume.cache.glob("*.scrub"))
    assert len(mark) == 1 and mark[0].stat().st_size == 128
    server = volume.serve("scrub=60", "scrub-rate=0")
    poll(lambda: status(volume)["scrub"]["chunks_done"] >= 1, "it is read")
    poll(lambda: status(volume)["scrub"]["chunks_done"] >= 2, "it goes on")
    assert any("goes on, after " in t for t in scrub_texts(volume))
    server.stop()


def test_passes_are_counted_over_restarts(place):
    volume = place.volume("r3", size=4 * MIB)
    volume.fill(23)
    server = volume.serve(*FAST)
    poll(lambda: passes(volume) >= 2, "two passes")
    server.stop(sig=signal.SIGTERM)
    server = volume.serve("scrub=7d")
    poll(lambda: passes(volume) >= 2, "they are remembered")
    assert status(volume)["scrub"]["last_end"] > 0
    server.stop()


def test_off(place):
    volume = place.volume("r3", size=4 * MIB)
    volume.fill(24)
    for mark in volume.cache.glob("*.scrub"):  # of the server that filled it
        mark.unlink()
    server = volume.serve("scrub=0")
    assert not status(volume)["scrub"]["active"]
    server.stop()
    assert not list(volume.cache.glob("*.scrub"))
