"""A server that is told to end does so within 10 s, whatever it is at when a
part or a cache directory stops answering. (While it serves: test_nbd_hang.)"""

import signal
import threading
import time

import nbd
import pytest

from conftest import need_faults
from nbdharness import MIB, Opened, assert_same, away, back, poll, \
    random_bytes, read_all, set_rules

# Of the parts: so long that a stop which waits for it is seen to be too late.
TIMEOUT = "part-timeout=30"
STOP_S = 10


@pytest.fixture
def rules(place):
    """A function: from now on these calls hang; nothing does without any."""
    need_faults()
    path = place.path / "rules"

    def hang(*calls):
        set_rules(path, "".join(
            f"[{i}]\npath={where}\ncall={call}\nhang=yes\n"
            for i, (where, call) in enumerate(calls)))

    hang.path = path
    hang()
    return hang


def must_end(server):
    begin = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(STOP_S)
    assert server.process.returncode == 0, server.log()
    return time.monotonic() - begin


def filled(place, policy):
    """A volume with data that only its journal has, and that data."""
    volume = place.volume(policy, size=4 * MIB)
    data = bytearray(volume.fill(policy))
    server = volume.serve()
    h = server.connect()
    h.pwrite(random_bytes(90000, 1), 5000)
    data[5000:95000] = random_bytes(90000, 1)
    h.flush()
    server.kill()
    return volume, bytes(data)


def is_whole(volume, data):
    """Nothing was lost, and no part was given up for the stop."""
    server = volume.serve()
    assert volume.status()["healthy"] is True
    assert_same(read_all(server.connect(), volume.size), data)
    server.stop()
    volume.verify(0, "--full")


class Reader(threading.Thread):
    """A client that reads until it gets an error, or the server ends."""

    def __init__(self, server):
        super().__init__()
        self.h, self.count = server.connect(), 0
        self.start()

    def run(self):
        try:
            while True:
                self.h.pread(4096, self.count % 1000 * 4096)
                self.count += 1
        except nbd.Error:
            pass


@pytest.mark.parametrize("policy, name, reads", [
    ("r3", ".label", False), ("r3", ".chunks", True),
    ("ec42", ".label", True), ("ec42", ".chunks", False),
])
def test_while_parts_that_are_back_hang(place, rules, policy, name, reads):
    """It serves read-only, and has parts again to be written with: it hangs
    where it looks at them, or where it opens the volume anew with them."""
    volume, data = filled(place, policy)
    parts = [volume.part_dir(letter) for letter in "bc"]
    away(volume, "bc")
    server = volume.serve(f"fault={rules.path}", TIMEOUT)
    reader = Reader(server) if reads else None
    if reads:
        poll(lambda: reader.count > 10, "it reads")
    opened = [Opened(volume.roots[x].with_name(f"root-{x}-away") /
                     p.relative_to(volume.roots[x]) / name)
              for x, p in zip("bc", parts)]
    rules(*[(f"{p}/{name}", "read") for p in parts])
    back(volume, "bc")
    poll(lambda: any(o.reached(1) for o in opened), "it hangs")
    must_end(server)
    if reads:
        reader.join()
    rules()
    is_whole(volume, data)


@pytest.mark.parametrize("name, call", [
    (".label", "read"), (".chunks", "read"), (".label", "write"),
])
def test_while_a_volume_is_opened_for_a_client(place, rules, name, call):
    """Of a server that has several."""
    volume, data = filled(place, "r3")
    hung = volume.part_dir("b") / name
    server = place.serve(*volume.parameters()[1:], f"fault={rules.path}",
                         TIMEOUT)
    opened = Opened(hung)
    rules((hung, call))
    refused = []

    def connect():
        try:
            server.connect(volume.name)
        except nbd.Error as e:
            refused.append(e)

    client = threading.Thread(target=connect)
    client.start()
    poll(lambda: opened.reached(1), "it hangs")
    must_end(server)
    client.join()
    assert refused
    rules()
    is_whole(volume, data)
