"""The control socket of a server, and those who ask it: lsvd status, events,
metrics; lsvd-repair and lsvd resize, set of a served volume."""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

import pytest

from tools import BUILD, Server, World, connect, poll, run, say

LSVD = BUILD / "admin" / "lsvd"


def request(op="status", volume="vm1", version=1, **more):
    return (json.dumps({"version": version, "id": 7, "volume": volume,
                        "op": op, **more}) + "\n").encode()


def refusal(answer, *words):
    """The answer is one line, an error with these words."""
    assert len(answer) == 1, answer
    assert answer[0]["done"] is True
    assert answer[0]["errno"] > 0
    for word in words:
        assert word in answer[0]["error"]
    return answer[0]


def status(world, name="vm1", code=0):
    done = world.lsvd("status", name, "--json")
    assert done.code == code, done.err
    return done.json()


def test_status_of_a_served_volume(world):
    world.create("vm1", "--replicas", "3")
    before = status(world)
    assert before["served"] is False
    assert (before["healthy"], before["health"]) == (True, "stopped")
    assert [p["part"] for p in before["parts"]] == ["a", "b", "c"]
    with world.serve("vm1") as server:
        image = world.path / "image"
        image.write_bytes(os.urandom(1 << 20))
        assert run("nbdcopy", image, server.uri()).code == 0
        now = status(world)
        text = world.lsvd("status", "vm1")
    assert now["served"] is True
    assert (now["healthy"], now["health"]) == (True, "healthy")
    assert now["problem"] is None
    assert now["uuid"] == before["uuid"]
    assert now["view"]["epoch"] > before["view"]["epoch"]
    assert now["counters"]["write_bytes"] == 1 << 20
    assert now["journal"]["used_bytes"] <= now["journal"]["bytes"]
    assert [(p["part"], p["state"], p["directory"]) for p in now["parts"]] \
        == [(x, "ok", str(world.part(x))) for x in "abc"]
    for part in now["parts"]:
        assert (part["lag_bytes"], part["lag_chunks"]) == (0, 0)
        assert set(part["read"]) == {"count", "mean_us", "p50_us", "p99_us",
                                     "p999_us"}
    assert "nonce" not in now
    assert text.code == 0
    assert text.out.startswith("volume vm1: HEALTHY\n")
    assert str(world.part("b")) in text.out
    assert all(len(line) < 200 for line in text.out.splitlines())


def test_status_of_what_is_not_healthy(world):
    world.create("vm1", "--replicas", "3")
    shutil.rmtree(world.part("c"))
    for served in (False, True):
        if served:
            server = world.serve("vm1")
        found = status(world, code=1)
        assert found["served"] is served
        assert (found["healthy"], found["health"]) == (False, "degraded")
        assert [p["state"] for p in found["parts"]] == ["ok", "ok", "missing"]
        text = world.lsvd("status")
        assert text.code == 1
        assert text.out.startswith("volume vm1: DEGRADED")
    server.stop()


def test_status_of_nothing_and_of_all(world):
    assert world.lsvd("status").out == "no volumes\n"
    world.create("vm1", "--replicas", "2", parts=2)
    world.create("vm2", "--replicas", "2", parts=2)
    done = world.lsvd("status", "nope")
    done.failed_with_one_line("lsvd", 3, "nope")
    with world.serve("vm2"):
        done = world.lsvd("status", "--json")
        assert done.code == 0
        found = {s["name"]: s["served"] for s in done.json()}
        assert found == {"vm1": False, "vm2": True}
        done = world.lsvd("status")
        assert [line for line in done.out.splitlines()
                if line.startswith("volume ")] == ["volume vm2: HEALTHY",
                                                   "volume vm1: STOPPED"]


def test_watch_shows_it_again(world):
    world.create("vm1", "--replicas", "2", parts=2)
    with subprocess.Popen(
            [LSVD, "status", "vm1", "--watch", *world.where()], text=True,
            stdout=subprocess.PIPE) as watching:
        seen = 0
        while seen < 2:
            line = watching.stdout.readline()
            assert line
            seen += line.startswith("volume vm1: STOPPED")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == -signal.SIGINT


def test_a_volume_in_use_that_cant_be_asked(world):
    world.create("vm1", "--replicas", "2", parts=2)
    server = world.serve("vm1")
    try:
        pid = str(server.process.pid)
        for control in world.controls():
            control.unlink()
        found = status(world, code=3)
        assert found["healthy"] is None and found["health"] == "unknown"
        assert pid in found["problem"]
        text = world.lsvd("status", "vm1")
        assert text.code == 3 and pid in text.out.splitlines()[0]
        for words in (["events", "vm1"], ["metrics", "vm1"]):
            world.lsvd(*words).failed_with_one_line("lsvd", 1, "vm1", pid)
        for words in (["resize", "vm1", "32M"],
                      ["set", "vm1", "read-only=on"]):
            world.lsvd(*words).failed_with_one_line("lsvd", 1, "vm1", pid)
        done = world.repair("verify", "vm1")
        done.failed_with_one_line("lsvd-repair", 3, "vm1", pid, "--no-lock")
        done = world.repair("verify", "vm1", "--no-lock", "--json")
        assert done.code == 0, done.err
        shutil.rmtree(world.part("b"))
        done = world.repair("verify", "vm1", "--no-lock", "--json")
        assert done.code == 1
        assert all(f["unconfirmed"] for f in done.json()["findings"])
        done = world.repair("rebuild", "vm1")
        done.failed_with_one_line("lsvd-repair", 3, "vm1", pid)
    finally:
        server.stop(signal.SIGKILL)


# ---- the socket itself ----

def test_the_socket_comes_and_goes(world):
    world.create("vm1", "--replicas", "2", parts=2)
    uuid = world.lsvd("info", "vm1", "--json").json()["uuid"]
    with world.serve("vm1"):
        control, = world.controls()
        assert control.name == uuid + ".control"
        assert control.stat().st_mode & 0o777 == 0o600
    assert world.controls() == []
    server = world.serve("vm1")
    server.stop(signal.SIGKILL)
    assert len(world.controls()) == 1  # a dead server's
    assert status(world)["served"] is False
    with world.serve("vm1"):
        assert status(world)["served"] is True
    assert world.controls() == []


def test_a_file_in_its_place_is_left_alone(world):
    world.create("vm1", "--replicas", "2", parts=2)
    uuid = world.lsvd("info", "vm1", "--json").json()["uuid"]
    other = world.cache / (uuid + ".control")
    other.write_text("mine")
    with world.serve("vm1") as server:
        assert "control socket" in server.log()
        assert run("nbdinfo", "--size", server.uri()).code == 0
    assert other.read_text() == "mine"


def test_a_cache_directory_with_a_long_path(tmp_path):
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    world = World(deep)
    world.create("vm1", "--replicas", "2", parts=2)
    server = subprocess.Popen(
        ["nbdkit", "-f", "-U", tmp_path / "s", "-P", tmp_path / "pid",
         *world.plugin_words("vm1")])
    try:
        poll((tmp_path / "pid").exists, "nbdkit is up")
        assert status(world)["served"] is True
    finally:
        server.terminate()
        assert server.wait(60) == 0
    assert world.controls() == []


@pytest.mark.parametrize("line, words", [
    (b"what?\n", ["not a JSON object"]),
    (b"\n", ["not a JSON object"]),
    (b"\x00\xff\xfe\n", ["not a JSON object"]),
    (b"[1]\n", ["not a JSON object"]),
    (b"[" * 4000 + b"\n", ["not a JSON object"]),
    (b"{}\n", ["no version"]),
    (request(version=2), ["version 2", "version 1"]),
    (request(version=None), ["no version"]),
    (request(volume=""), ["no volume"]),
    (request(volume=["vm1"]), ["no volume"]),
    (request(volume="../vm1"), ["../vm1", "vm1"]),
    (request(volume="vm2"), ["vm2", "vm1"]),
    (request(op="nope"), ["nope"]),
    (request(op="x" * 40), ["no op"]),
    (request(args=[]), ["args"]),
    (request(args={"x": "y" * 4096}), ["4096 bytes"]),
    (b"x" * 100000, ["4096 bytes"]),
    (request("events", args={"after": -1}), ["after"]),
    (request("events", args={"after": "1"}), ["after"]),
    (request("rebuild", args={"part": "ab"}), ["part"]),
    (request("replace", args={"part": None}), ["part"]),
    (request("replace", args={"part": "b", "root": "here"}), ["absolute"]),
    (request("replace", args={"part": "b"}), ["nonce"]),
    (request("replace", args={"part": "b", "nonce": "0" * 16}), ["nonce"]),
    (request("set", args={"key": "read-only"}), ["value"]),
    (request("resize", args={"size": -1}), ["size"]),
    (request("resize", args={"size": "1G"}), ["size"]),
])
def test_bad_requests_get_one_line(served, line, words):
    control, = served.controls()
    refusal(say(control, line), *words)
    before = say(control, request())[0]["result"]
    assert before["healthy"] is True


def test_half_a_request_is_none(served):
    control, = served.controls()
    with connect(control) as s:
        s.sendall(b'{"version": 1')
        s.shutdown(socket.SHUT_WR)
        refusal([json.loads(s.recv(4096))], "whole line")


def test_a_request_by_uuid_has_its_id(served):
    control, = served.controls()
    uuid = control.name[:36]
    answer, = say(control, request(volume=uuid, more="unknown"))
    assert (answer["version"], answer["id"]) == (1, 7)
    assert answer["result"]["name"] == "vm1"


def test_silent_clients_hold_up_nobody(served):
    control, = served.controls()
    silent = []
    for _ in range(8):
        silent.append(connect(control))
    refusal(say(control, request()), "too many")
    silent.pop().close()
    poll(lambda: "result" in say(control, request())[0], "a free place")
    for s in silent:
        refusal([json.loads(s.recv(4096))], "no request came")
        s.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A world whose vm1 is served; nothing that a test does changes it."""
    world = World(tmp_path_factory.mktemp("served"))
    world.create("vm1", "--replicas", "2", parts=2)
    with world.serve("vm1"):
        yield world


@pytest.fixture
def open_world():
    """A world that other users can look into."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="lsvd-test-"))
    path.chmod(0o755)
    yield World(path)
    shutil.rmtree(path)


def test_who_is_refused_at_once_is_told(world):
    """The server closes before it has read the request: now and then that is
    before the request is sent."""
    world.create("vm1", "--replicas", "2", parts=2)
    uuid = status(world)["uuid"]
    listener = socket.socket(socket.AF_UNIX)
    cache = os.open(world.cache, os.O_PATH)  # a name that is short enough
    listener.bind(f"/proc/self/fd/{cache}/{uuid}.control")
    os.close(cache)
    listener.listen()
    answer = (json.dumps({"version": 1, "id": 0, "done": True, "errno": 1,
                          "error": "refused: for a test"}) + "\n").encode()

    def refuse():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(answer)

    here = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(here)})  # whoever is woken goes first
    thread = threading.Thread(target=refuse)
    thread.start()
    try:
        for _ in range(60):
            done = world.lsvd("metrics", "vm1")
            done.failed_with_one_line("lsvd", 1, "refused: for a test")
    finally:
        os.sched_setaffinity(0, here)
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_another_user_is_refused(open_world):
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    ask = ("import socket, sys; s = socket.socket(socket.AF_UNIX); "
           "s.connect(sys.argv[1]); print(s.makefile().read(), end='')")
    world = open_world
    world.create("vm1", "--replicas", "2", parts=2)
    with world.serve("vm1"):
        control, = world.controls()
        words = ["runuser", "-u", "nobody", "--", "/usr/bin/python3", "-c",
                 ask, control]
        assert "PermissionError" in run(*words).err
        # The kernel tells who asks, whatever the mode says.
        control.chmod(0o666)
        done = run(*words)
        assert done.code == 0, done.err
        refusal([json.loads(x) for x in done.out.splitlines()], "refused")
        done = run("runuser", "-u", "nobody", "--", LSVD, "metrics", "vm1",
                   "--cache", world.cache, "--data", world.roots[0])
        done.failed_with_one_line("lsvd", 1, "refused")
        assert status(world)["healthy"] is True


# ---- several volumes, metrics ----

def test_two_volumes_of_one_server(world):
    world.create("vm1", "--replicas", "2", parts=2)
    world.create("vm2", "--ec", "2+1")
    words = [w for w in world.plugin_words("vm1") if w != "vm1"]
    metrics = world.path / "lsvd.prom"
    with Server(world.path, *words, "metrics=%s" % metrics) as server:
        assert world.controls() == []  # no volume is open yet
        for name in ("vm1", "vm2"):
            assert run("nbdinfo", "--size", server.uri(name)).code == 0
        assert len(world.controls()) == 2
        for name in ("vm1", "vm2"):
            assert status(world, name)["served"] is True
        found = world.lsvd("status", "--json").json()
        assert sorted(s["name"] for s in found) == ["vm1", "vm2"]
        text = world.lsvd("metrics").out
    for text in (text, metrics.read_text()):
        heads = [x for x in text.splitlines() if x.startswith("# HELP")]
        assert len(heads) == len(set(heads)) > 40
        for name in ("vm1", "vm2"):
            assert 'lsvd_healthy{volume="%s"} 1\n' % name in text
    assert world.controls() == []


def test_the_metrics_file_follows_the_server(world):
    world.create("vm1", "--replicas", "2", parts=2)
    metrics = world.path / "lsvd.prom"
    server = world.serve("vm1", "metrics=%s" % metrics)
    poll(metrics.exists, "the file")
    first = metrics.read_text()
    assert 'lsvd_up{volume="vm1"} 1\n' in first
    assert metrics.stat().st_mode & 0o777 == 0o644
    image = world.path / "image"
    image.write_bytes(os.urandom(1 << 20))
    assert run("nbdcopy", image, server.uri()).code == 0
    server.stop()
    last = metrics.read_text()
    assert 'lsvd_up{volume="vm1"} 0\n' in last
    assert 'lsvd_written_bytes_total{volume="vm1"} 1048576\n' in last
    assert list(world.path.glob("*.new")) == []


def test_a_metrics_file_that_cant_be_written_is_said_once(world):
    world.create("vm1", "--replicas", "2", parts=2)
    with world.serve("vm1", "metrics=/nonexistent/lsvd.prom") as server:
        assert run("nbdinfo", "--size", server.uri()).code == 0
        poll(lambda: "/nonexistent/lsvd.prom" in server.log(), "the line")
    assert server.log().count("/nonexistent/lsvd.prom") == 1


# ---- work on a served volume ----

def filled(world, *policy, parts=3):
    world.create("vm1", *policy, parts=parts)
    return world.fill("vm1", 2 << 20)


def report(world, code, *words):
    done = world.repair(*words, "--json")
    assert done.code == code, done.out + done.err
    return done.json()


def test_verify_and_rebuild_by_the_server(world):
    data = filled(world, "--replicas", "3")
    with world.serve("vm1") as server:
        found = report(world, 0, "verify", "vm1")
        assert found["beside_server"] is True and found["full"] is True
        assert found["sum"]["healthy"] == 24
        world.chunks("b")[2].unlink()
        found = report(world, 1, "verify", "vm1", "--quick")
        assert [(f["part"], f["chunk"], f["kind"], f["unconfirmed"])
                for f in found["findings"]] == [("b", 3, "missing", False)]
        report(world, 1, "rebuild", "vm1", "--dry-run")
        found = report(world, 0, "rebuild", "vm1", "--part", "b")
        assert found["rebuilt"] <= 1  # the server may have been quicker
        assert len(world.chunks("b")) == 8
        text = world.repair("verify", "vm1")
        assert text.code == 0 and "(by its server)" in text.out
        assert run("nbdcopy", server.uri(), world.path / "back").code == 0
    assert (world.path / "back").read_bytes()[:len(data)] == data
    assert report(world, 0, "verify", "vm1")["beside_server"] is False


def test_replace_by_the_server(world):
    data = filled(world, "--replicas", "3")
    new = world.path / "new"
    new.mkdir()
    with world.serve("vm1") as server:
        done = world.repair("replace", "vm1", "c")
        done.failed_with_one_line("lsvd-repair", 3, "healthy")
        found = report(world, 0, "replace", "vm1", "c=%s" % new)
        assert found["rebuilt"] == 8
        now = status(world)
        assert now["parts"][2]["directory"] == str(new / "11" / "c")
        assert now["healthy"] is True
        kinds = {e["kind"] for e in world.lsvd("events", "vm1",
                                               "--json").json()}
        assert "replace" in kinds
        assert run("nbdcopy", server.uri(), world.path / "back").code == 0
    assert (world.path / "back").read_bytes()[:len(data)] == data
    assert len(list((new / "11" / "c").glob("[0-9]*"))) == 8


def test_a_replace_needs_the_nonce_of_this_server(world):
    filled(world, "--replicas", "2", parts=2)
    with world.serve("vm1"):
        control, = world.controls()
        old = say(control, request())[0]["result"]["nonce"]
    with world.serve("vm1"):
        control, = world.controls()
        now = say(control, request())[0]["result"]["nonce"]
        args = {"part": "b", "nonce": old}
        refusal(say(control, request("replace", args=args)), "nonce")
        args = {"part": "b", "nonce": now}
        refusal(say(control, request("replace", args=args)), "healthy")


def test_work_ends_when_nobody_waits_for_it(world):
    """A client that goes, and a server that ends, stop a verify."""
    filled(world, "--replicas", "3")
    with world.serve("vm1") as server:
        control, = world.controls()
        with connect(control) as s:
            s.sendall(request("verify", args={"full": True}))
        poll(lambda: world.repair("verify", "vm1").code == 0, "its turn")
        s = connect(control)
        s.sendall(request("verify", args={"full": True}))
        server.stop()
        s.close()


def test_set_on_a_served_volume(world):
    world.create("vm1", "--replicas", "2", parts=2)
    write = ["qemu-io", "-f", "raw", "-c", "write -P 5 0 64k"]
    with world.serve("vm1") as server:
        assert run(*write, server.uri()).code == 0
        done = world.lsvd("set", "vm1", "append-only=on")
        assert (done.code, done.out) == (0, "set vm1: append-only=on\n")
        assert "read-only" not in run(*write, server.uri()).err
        assert run(*write, server.uri()).code == 1
        assert world.lsvd("set", "vm1", "append-only=off").code == 0
        assert run(*write, server.uri()).code == 0
        info = world.lsvd("set", "vm1", "read-only=on", "--json").json()
        assert info["read_only"] is True
        assert run(*write, server.uri()).code == 1
        assert status(world, code=0)["writable"] is False
        assert world.lsvd("set", "vm1", "read-only=off").code == 0
        assert run(*write, server.uri()).code == 0
        world.lsvd("set", "vm1", "size=1").failed_with_one_line(
            "lsvd", 1, "read-only")
        world.lsvd("set", "vm1", "read-only=x").failed_with_one_line(
            "lsvd", 1, "on or off")
        kinds = [e["kind"] for e in world.lsvd("events", "vm1",
                                               "--json").json()]
        assert kinds.count("set") == 4
        assert world.lsvd("set", "vm1", "read-only=on").code == 0
    assert world.lsvd("info", "vm1", "--json").json()["read_only"] is True
    with world.serve("vm1"):  # opened so: that takes a restart
        world.lsvd("set", "vm1", "read-only=off").failed_with_one_line(
            "lsvd", 1, "stop the server")
        assert report(world, 0, "verify", "vm1")["policy_met"] is True
    assert world.lsvd("set", "vm1", "read-only=off").code == 0
    with world.serve("vm1") as server:
        assert run(*write, server.uri()).code == 0


def test_a_served_volume_grows_and_does_not_shrink(world):
    world.create("vm1", "--replicas", "2", parts=2)
    with world.serve("vm1") as server:
        done = world.lsvd("resize", "vm1", "32M")
        assert done.code == 0, done.err
        assert "now 32M (33554432 bytes)" in done.out
        assert "connect again" in done.out
        assert run("nbdinfo", "--size", server.uri()).out == "33554432\n"
        for words in (["8M"], ["8M", "--force"]):
            world.lsvd("resize", "vm1", *words).failed_with_one_line(
                "lsvd", 1, "vm1", "33554432", "stop its server")
        assert status(world)["size"] == 32 << 20
        assert "(33554432 bytes)" in world.lsvd("status", "vm1").out
        done = world.lsvd("resize", "vm1", "40M", "--json").json()
        assert done["size"] == 40 << 20 and done["reconnect"] is True
        done = world.lsvd("resize", "vm1", "40M", "--json").json()
        assert done["size"] == 40 << 20 and done["reconnect"] is False
        told = [e["text"] for e in world.lsvd("events", "vm1",
                                              "--json").json()
                if e["kind"] == "resize"]
        assert len(told) == 2
        assert "from 16777216 to 33554432 bytes" in told[0]
    done = world.lsvd("resize", "vm1", "8M", "--force", "--json").json()
    assert done["size"] == 8 << 20 and done["reconnect"] is False
    assert world.lsvd("status", "vm1", "--json").json()["size"] == 8 << 20


def test_a_volume_served_read_only_does_not_grow(world):
    world.create("vm1", "--replicas", "2", parts=2)
    assert world.lsvd("set", "vm1", "read-only=on").code == 0
    with world.serve("vm1"):
        world.lsvd("resize", "vm1", "32M").failed_with_one_line(
            "lsvd", 1, "vm1", "stop the server")
    assert world.lsvd("resize", "vm1", "32M").code == 0


def test_events_are_followed(world):
    world.create("vm1", "--replicas", "3")
    world.lsvd("events", "vm1").failed_with_one_line("lsvd", 1, "not served")
    with world.serve("vm1") as server:
        with subprocess.Popen(
                [LSVD, "events", "vm1", "--follow", "--json",
                 *world.where()], text=True, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE) as following:
            assert world.lsvd("set", "vm1", "append-only=on").code == 0
            seen = []
            while not seen or seen[-1]["kind"] != "set":
                seen.append(json.loads(following.stdout.readline()))
            ids = [e["event"] for e in seen]
            assert ids == list(range(ids[0], ids[0] + len(ids)))
            text = world.lsvd("events", "vm1").out.splitlines()
            assert "append-only is on now" in text[-1]
            server.stop()
            out, err = following.communicate(timeout=60)
        assert following.returncode == 1
        assert len(err.splitlines()) == 1


def test_a_part_that_goes_and_returns_is_shown(world):
    filled(world, "--replicas", "3")
    away = world.path / "away"
    with world.serve("vm1") as server:
        os.rename(world.part("b"), away)
        poll(lambda: world.lsvd("status", "vm1").code == 1, "degraded")
        image = world.path / "image"
        image.write_bytes(os.urandom(1 << 20))
        assert run("nbdcopy", "--flush", image, server.uri()).code == 0
        found = status(world, code=1)
        assert found["health"] == "degraded"
        part = found["parts"][1]
        assert part["state"] != "ok" and part["problem"]
        text = world.lsvd("metrics", "vm1").out
        assert 'lsvd_part_in_sync{volume="vm1",part="b"} 0\n' in text
        os.rename(away, world.part("b"))
        poll(lambda: world.lsvd("status", "vm1").code == 0, "in sync again")
        assert status(world)["counters"]["evictions"] == 1
    report(world, 0, "verify", "vm1")
