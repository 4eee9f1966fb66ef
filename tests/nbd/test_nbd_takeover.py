"""One writer: a second server is refused; a volume is taken from a host that
is gone, and a server that was only asleep does no harm when it wakes up.

Another host is a server with a host name of its own."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import nbd
import pytest

from conftest import need_root
from nbdharness import KIB, LSVD, MIB, REPAIR, assert_same, one_line, poll, \
    random_bytes, read_all, run, tree_state, write_all

SIZE = 16 * MIB


def need_short_watch():
    if b"\0observe-seconds\0" not in REPAIR.read_bytes():
        pytest.skip("built without --observe-seconds")


def on_host(name):
    need_root()
    if subprocess.run(["unshare", "--uts", "true"], check=False,
                      stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip("no namespace for a host name can be had")
    return ["unshare", "--uts", "sh", "-c",
            f'hostname {name} && exec "$@"', "sh"]


def parts(volume):
    """Every byte of them, but who has the lock."""
    found = tree_state(*volume.roots.values())
    return {x: y for x, y in found.items()
            if not x.endswith(("/.lock", "/.lock.new"))}


def status(volume, cache):
    done = run(LSVD, "status", volume.name, "--json",
               *[f"--data={r}" for r in volume.roots.values()],
               f"--cache={cache}", check=False)
    return json.loads(done.stdout)


def wait_idle(volume, cache):
    poll(lambda: status(volume, cache)["journal"]["only_bytes"] == 0,
         "all is on the parts")
    seen = []

    def still():
        seen.append(parts(volume))
        return len(seen) > 5 and all(x == seen[-1] for x in seen[-5:])

    poll(still, "nothing is written any more", step_s=0.1)


def take(volume, expect, *words):
    done = run(REPAIR, "takeover", volume.name, *volume.where(), *words,
               check=False)
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def other_cache(place, volume):
    """What was in the cache of the other host, moved to this one."""
    cache = place.root("cache-two")
    journal, = volume.cache.glob("*.journal")
    shutil.copy(journal, cache)
    return cache


def serve_here(place, volume, cache):
    return place.serve(volume.name,
                       *[f"data={r}" for r in volume.roots.values()],
                       f"cache={cache}")


@pytest.mark.parametrize("policy", ["r2", "r3", "ec42"])
def test_a_server_that_slept_is_fenced(place, policy):
    need_short_watch()
    volume = place.volume(policy, size=SIZE)
    first = volume.serve("part-timeout=1", prefix=on_host("n1"))
    client = first.connect()
    data = bytearray(random_bytes(SIZE, policy))
    write_all(client, bytes(data))
    wait_idle(volume, volume.cache)
    first.process.send_signal(signal.SIGSTOP)
    asleep = time.monotonic()
    before = parts(volume)
    assert "--i-fenced-it" in one_line(take(volume, 3).stderr)
    assert parts(volume) == before

    take(volume, 0, "--i-fenced-it", "--observe-seconds=2", "--quiet")
    cache = other_cache(place, volume)
    second = serve_here(place, volume, cache)
    h = second.connect()
    assert_same(read_all(h, SIZE), bytes(data))
    for at in range(0, SIZE, volume.chunk):
        data[at:at + 8 * KIB] = random_bytes(8 * KIB, at)
        h.pwrite(bytes(data[at:at + 8 * KIB]), at)
    h.flush()
    wait_idle(volume, cache)
    before = parts(volume)

    poll(lambda: time.monotonic() - asleep > 4, "that was a sleep")

    first.process.send_signal(signal.SIGCONT)
    with pytest.raises(nbd.Error):  # the first answer, though it is in RAM
        client.pread(4096, SIZE - 4096)
    assert first.wait(20) != 0
    assert "another server (host " in first.log()
    assert parts(volume) == before
    assert_same(read_all(h, SIZE), bytes(data))
    second.stop()
    assert run(REPAIR, "verify", volume.name, f"--cache={cache}",
               *volume.where()[:-1]).returncode == 0


def test_a_heartbeat_that_goes_on_is_seen(place):
    need_short_watch()
    volume = place.volume("r2", size=SIZE)
    server = volume.serve(prefix=on_host("n1"))
    write_all(server.connect(), random_bytes(MIB, 1))
    wait_idle(volume, volume.cache)
    before = parts(volume)
    done = take(volume, 3, "--i-fenced-it", "--observe-seconds=30", "-q")
    line = one_line(done.stderr)
    assert "n1" in line and f"pid {server.process.pid}" in line
    assert "alive" in line
    assert parts(volume) == before
    h = server.connect()
    h.pwrite(bytes(MIB), 0)
    h.flush()
    server.stop()


def test_a_server_of_this_host_is_not_robbed(place):
    volume = place.volume("r2", size=SIZE)
    server = volume.serve()
    before = parts(volume)
    server.process.send_signal(signal.SIGSTOP)
    line = one_line(take(volume, 3, "--i-fenced-it").stderr)
    server.process.send_signal(signal.SIGCONT)
    assert "stop it" in line and f"pid {server.process.pid}" in line
    assert ".control" in line
    assert parts(volume) == before
    server.stop()
    assert "in use by nobody" in one_line(take(volume, 3).stderr)


def test_the_fence_command(place):
    volume = place.volume("r2", size=SIZE)
    server = volume.serve(prefix=on_host("n1"))
    told, config = place.path / "told", place.path / "lsvd.conf"
    before = parts(volume)
    where = [f"--data={r}" for r in volume.roots.values()]

    def takeover(command):
        config.write_text(f"[{volume.name}]\nfence-cmd={command}\n")
        return run(REPAIR, "takeover", volume.name, *where,
                   f"--cache={volume.cache}", f"--config={config}",
                   check=False)

    done = takeover("exit 7")
    assert done.returncode == 3
    assert "status 7" in one_line(done.stderr)
    assert parts(volume) == before
    done = takeover("kill -9 $LSVD_PID && echo $LSVD_VOLUME $LSVD_HOST "
                    f"$LSVD_EPOCH $1 $2 $3 $4 >{told}")
    assert done.returncode == 0, done.stderr
    server.process.wait(20)
    name, host, epoch, *words = told.read_text().split()
    assert (name, host) == (volume.name, "n1")
    assert words == [name, host, str(server.process.pid), epoch]
    volume.verify()


def test_a_second_server_is_refused(place):
    volume = place.volume("r2", size=SIZE)
    server = volume.serve()
    other = place.root("cache-two")
    line = place.refused(volume.name, f"cache={other}",
                         *[f"data={r}" for r in volume.roots.values()])
    assert re.search(rf"is in use by host {re.escape(os.uname().nodename)} "
                     rf"\(pid {server.process.pid}, epoch \d+, heartbeat \d+ "
                     r"s ago, control socket \S+\.control\); not started",
                     line), line
    server.stop()
