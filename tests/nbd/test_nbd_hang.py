"""A part's directory stops answering (faults.md 13): a file system of our own
that hangs when told to. Nobody may wait for it longer than the deadline and a
view change, nothing is lost, and it comes back in sync by itself."""

import json
import signal
import subprocess
import threading
import time

import pytest

from conftest import need_faults
from load import Clients
from nbdharness import (KIB, LSVD, MIB, REPAIR, assert_same, poll, read_all,
                        run)

TIMEOUT_S = 2  # part-timeout
# A request may have to wait for the deadline and one view change; the rest is
# for a machine that is busy with other tests.
LONGEST_S = TIMEOUT_S + 1 + 2
SYNC_S = 60

POLICIES = ["r3", "ec42"]


class World:
    """A volume of which one part (or its journal) can hang, and its clients.
    While it hangs this process may not look at its directory either: so where
    everything is was asked before."""

    def __init__(self, place, faultfs, policy, size=16 * MIB, where="root-b"):
        self.fs = faultfs(where)
        self.place = place
        self.volume = place.volume(policy, size=size, chunk=256 * KIB)
        self.where = self.volume.where()
        self.parameters = self.volume.parameters()
        self.clients = Clients(size, seed=policy)
        self.server = None

    def serve(self, **kwargs):
        self.server = self.place.serve(
            *self.parameters, f"part-timeout={TIMEOUT_S}",
            "stall-timeout=30", "ram=4M", **kwargs)

    def status(self):
        """None while the server can't be asked."""
        done = run(LSVD, "status", self.volume.name, "--json", *self.where,
                   check=False, timeout=30)
        return json.loads(done.stdout) if done.stdout.startswith("{") else \
            None

    def is_healthy(self):
        found = self.status()
        return found is not None and found["healthy"] is True

    def is_away(self):
        """The part that hangs was dropped."""
        found = self.status()
        return found is not None and found["healthy"] is False and \
            [p["part"] for p in found["parts"] if p["state"] != "ok"] == ["b"]

    def wait_away(self):
        """How long a request takes is what counts, and the clients measure
        that: on a busy machine other parts may be late as well, and then this
        one is not given up before they are back."""
        try:
            poll(self.is_away, "the part is dropped", SYNC_S)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.status()}\n"
                                 f"{self.server.log()}") from e

    def wait_in_sync(self):
        poll(self.is_healthy, "all parts are in sync", SYNC_S, 0.2)
        for part in self.status()["parts"]:
            assert part["lag_bytes"] == 0 and part["lag_chunks"] == 0, part

    def hang_under_load(self):
        """It hangs, and the part is given up; the clients go on."""
        self.serve()
        self.clients.start(self.server)
        self.clients.wait(300)
        self.clients.forget_longest()
        self.fs.hang()
        self.wait_away()
        self.clients.wait(300)

    def kill_and_verify(self):
        """What is on the medium is what clients were told."""
        self.server.kill()
        self.clients.model.crashed()
        self.serve()
        self.clients.check_all(self.server)
        self.server.stop()
        self.volume.verify(0, "--full")


@pytest.fixture
def make_world(place, faultfs):
    worlds = []

    def make(policy, **kwargs):
        worlds.append(World(place, faultfs, policy, **kwargs))
        return worlds[-1]

    yield make
    for world in worlds:
        world.clients.stopping.set()
        if world.fs.process.poll() is None:
            world.fs.resume()  # or the server can't end


@pytest.mark.parametrize("policy", POLICIES)
def test_a_part_hangs_and_comes_back(make_world, policy):
    world = make_world(policy)
    world.hang_under_load()
    longest = world.clients.longest_s
    world.clients.check()
    assert longest < LONGEST_S, f"a request took {longest:.1f} s"

    world.fs.resume()
    world.wait_in_sync()
    world.clients.wait(100)
    world.clients.stop()
    world.clients.check()
    assert world.clients.lost == 0
    assert world.clients.longest_s < LONGEST_S
    world.kill_and_verify()


@pytest.mark.parametrize("policy", POLICIES)
def test_a_server_stops_with_a_part_that_hangs(make_world, policy):
    """Before the part was given up, and after."""
    world = make_world(policy)
    for given_up in (False, True):
        world.serve()
        world.clients.start(world.server)
        world.clients.wait(100)
        world.fs.hang()
        if given_up:
            world.wait_away()
        world.server.process.send_signal(signal.SIGTERM)
        world.server.process.wait(10)
        world.clients.stop()
        world.clients.model.crashed()
        world.fs.resume()
    world.serve()
    world.wait_in_sync()
    world.clients.check_all(world.server)
    world.clients.check()
    world.kill_and_verify()


@pytest.mark.parametrize("policy", POLICIES)
def test_a_server_stops_in_time_however_slow_its_parts_are(place, policy):
    """Also with no client, whose hanging up would tell it to hurry: what is in
    the journal would take a minute to move."""
    need_faults()
    volume = place.volume(policy, size=100 * MIB, chunk=256 * KIB)
    rules = place.path / "rules"
    rules.write_text("".join(
        f"[{r.name}]\npath={r}/*\ncall=sync\ndelay-ms=300\n"
        for r in volume.roots.values()))
    server = volume.serve(f"fault={rules}", "part-timeout=30")
    h = server.connect()
    for at in range(0, volume.size, 256 * KIB):
        h.pwrite(at.to_bytes(8, "little") * 512, at)
    h.shutdown()
    begin = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(10)
    assert time.monotonic() - begin < 10
    assert "safe in the journal" in server.log()
    h = volume.serve().connect()
    for at in range(0, volume.size, 256 * KIB):
        assert h.pread(4096, at) == at.to_bytes(8, "little") * 512


@pytest.mark.parametrize("idle", [True, False])
def test_a_server_stops_though_its_only_journal_hangs(make_world, idle):
    """With clients that wait for it for ever, and with none at all."""
    world = make_world("r3", where="cache")
    world.serve()
    world.clients.start(world.server)
    world.clients.wait(100)
    if idle:
        world.clients.stop()
    world.fs.hang()
    begin = time.monotonic()
    world.server.process.send_signal(signal.SIGTERM)
    assert world.server.wait(12) != 0
    assert time.monotonic() - begin < 10 + 2  # a busy machine
    assert "it ends as if it was killed" in world.server.log()
    world.clients.stop()
    world.clients.model.crashed()
    world.fs.resume()
    world.serve()
    world.clients.check_all(world.server)
    world.clients.check()
    world.kill_and_verify()


def test_the_only_journal_hangs_for_a_while(make_world):
    world = make_world("r3", where="cache")
    world.serve()
    world.clients.start(world.server)
    world.clients.wait(100)
    world.fs.hang()
    poll(lambda: "the journal has not answered" in world.server.log(),
         "it is told")
    done = run(LSVD, "status", world.volume.name, *world.where, check=False,
               timeout=10)  # its socket is in the same directory
    assert done.returncode != 0
    assert f"{world.volume.cache}, which does not answer" in done.stderr
    for command in ("status", "metrics"):
        done = run(LSVD, command, *world.where, check=False, timeout=10)
        assert done.returncode != 0 and not done.stdout
        assert f"{world.volume.cache} does not answer" in done.stderr
    world.fs.resume()
    poll(lambda: "the journal answers again" in world.server.log(),
         "it is told")
    world.wait_in_sync()
    world.clients.wait(100)
    world.clients.stop()
    assert world.clients.lost == 0
    world.clients.check()
    world.kill_and_verify()


@pytest.mark.parametrize("policy", POLICIES)
def test_a_server_starts_with_a_part_that_hangs(make_world, policy):
    world = make_world(policy)
    data = world.volume.fill(3)
    world.fs.hang()
    begin = time.monotonic()
    world.serve(check=False)
    assert world.server.wait_or_up(), world.server.log()
    h = world.server.connect()
    assert_same(read_all(h, world.volume.size), data)
    h.pwrite(b"n" * 4096, 8192)
    # Opening the part, and the lock, label and lists of it: one deadline, as
    # all of it goes to one crew; and one more for its claim.
    assert time.monotonic() - begin < 2 * TIMEOUT_S + 6
    world.fs.resume()
    world.wait_in_sync()
    data = data[:8192] + b"n" * 4096 + data[12288:]
    assert_same(read_all(h, world.volume.size), data)
    world.server.stop()
    world.volume.verify(0, "--full")


@pytest.mark.parametrize("command", [
    [LSVD, "info", "mydevice1"],
    [LSVD, "list"],
    [LSVD, "status", "mydevice1"],
    [REPAIR, "verify", "mydevice1"],
    [REPAIR, "verify", "mydevice1", "--full"],
], ids=lambda c: "-".join(str(x).rsplit("/", maxsplit=1)[-1] for x in c))
@pytest.mark.parametrize("served", [False, True], ids=["idle", "served"])
def test_tools_return_though_a_part_hangs(make_world, tmp_path, served,
                                          command):
    world = make_world("r3", size=4 * MIB)
    world.volume.fill(5)
    config = tmp_path / "lsvd.conf"
    config.write_text(f"[defaults]\npart-timeout={TIMEOUT_S}\n")
    if served:
        world.serve()
    world.fs.hang()
    process = subprocess.Popen(
        [*[str(c) for c in command], *world.where, f"--config={config}"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        output = process.communicate(timeout=2 * TIMEOUT_S + 8)[0]
    finally:
        world.fs.resume()
        process.kill()
        process.wait()
    assert process.returncode in (0, 1, 2, 3), output
    if "verify" in command:  # a part is missing, or it was given up
        assert process.returncode != 0 or served, output


@pytest.mark.parametrize("policy", POLICIES)
def test_a_hung_write_that_lands_late_harms_nothing(make_world, policy):
    """The part hangs and returns over and over under load: what was given up
    is carried out when it comes back, before or after the part is in sync
    again."""
    world = make_world(policy, size=4 * MIB)
    world.serve()
    world.clients.start(world.server)
    for _ in range(3):
        world.clients.wait(100)
        world.fs.hang()
        world.wait_away()
        world.clients.wait(100)
        world.fs.resume()
        world.wait_in_sync()
        world.clients.check()
    world.clients.stop()
    world.clients.check()
    world.kill_and_verify()


@pytest.mark.parametrize("policy", ["r3"])
def test_a_part_that_hangs_shortly_stays(make_world, policy):
    """Less than the deadline: nobody is dropped, nobody gets an error."""
    world = make_world(policy)
    world.serve()
    world.clients.start(world.server)
    world.clients.wait(100)
    world.fs.hang()
    timer = threading.Timer(TIMEOUT_S / 2, world.fs.resume)
    timer.start()
    timer.join()
    world.clients.wait(200)
    world.clients.stop()
    world.clients.check()
    assert world.is_healthy()
    world.kill_and_verify()
