"""The units are what systemd takes, as hardened as they say; and what the
plugin tells its supervisor."""
import os
import re
import shutil
import signal
import socket
import subprocess

import pytest

from tools import BUILD, SOURCES, poll

UNITS = sorted((SOURCES / "systemd").glob("lsvd*@.*"))


def keys(unit):
    """Key -> all its values."""
    found = {}
    for line in (SOURCES / "systemd" / unit).read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_systemd_takes_them(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here")
    assert len(UNITS) == 3
    nbdkit = shutil.which("nbdkit")
    for unit in UNITS:
        text = unit.read_text()
        text = text.replace("ExecStart=nbdkit", "ExecStart=" + nbdkit)
        text = text.replace("ExecStart=lsvd-repair", "ExecStart=%s"
                            % (BUILD / "repair" / "lsvd-repair"))
        for name in (unit.name, unit.name.replace("@", "@db")):
            (tmp_path / name).write_text(text)
    names = [u.name.replace("@", "@db") for u in UNITS]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no"]
        + ["./" + n for n in names], cwd=tmp_path, text=True,
        capture_output=True, check=False)
    # Not about ours: what else is installed on this machine.
    lines = [x for x in (done.stdout + done.stderr).splitlines()
             if "lsvd" in x]
    assert lines == [], done.stderr
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true",
         "./lsvd@db.service"], cwd=tmp_path, text=True, capture_output=True,
        check=False)
    level = re.search(r"Overall exposure level.*: ([\d.]+) ", done.stdout)
    if level:  # older ones know no --offline
        assert float(level[1]) < 2.5, done.stdout


def test_the_server_is_hardened():
    found = keys("lsvd@.service")
    for key, value in [
            ("User", "lsvd"), ("NoNewPrivileges", "yes"),
            ("ProtectSystem", "strict"), ("PrivateTmp", "yes"),
            ("DevicePolicy", "closed"), ("ProtectHome", "yes"),
            ("ProtectKernelModules", "yes"), ("RestrictNamespaces", "yes"),
            ("ProtectKernelTunables", "yes"), ("LockPersonality", "yes"),
            ("MemoryDenyWriteExecute", "yes"), ("CapabilityBoundingSet", ""),
            ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6"),
            ("OOMScoreAdjust", "-900"), ("Restart", "always")]:
        assert found[key] == [value], key
    for key in ("MemoryMax", "TasksMax", "WatchdogSec", "ReadWritePaths"):
        assert found[key]
    assert found["SystemCallFilter"][0] == "@system-service"
    assert "io_uring_setup" in found["SystemCallFilter"][1]
    # Plain TCP is nobody's default.
    assert "--unix" in found["Environment"][0]
    assert re.fullmatch(r"\d+ms", found["RestartSec"][0])
    assert int(found["RestartSec"][0][:-2]) <= 500


class Supervisor:
    """What systemd does: a socket that is told things."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path) if path[0] == "/" else "\0" + path[1:])
        self.socket.settimeout(60)
        self.env = dict(os.environ, NOTIFY_SOCKET=path,
                        WATCHDOG_USEC="200000")

    def told(self):
        return self.socket.recv(4096).decode()


@pytest.mark.parametrize("abstract", [False, True])
def test_the_supervisor_is_told(world, abstract):
    world.create("vm1", "--replicas", "2", parts=2)
    path = str(world.path / "notify")
    supervisor = Supervisor("@" + path if abstract else path)
    server = subprocess.Popen(
        ["nbdkit", "-f", "-U", world.path / "s",
         *world.plugin_words("vm1")], env=supervisor.env)
    try:
        seen = [supervisor.told() for _ in range(6)]
        assert sorted(set(seen)) == ["READY=1", "WATCHDOG=1"]
        assert seen.count("READY=1") == 1
        assert (world.path / "s").exists()
        assert len(world.controls()) == 1
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    poll(lambda: supervisor.told() == "STOPPING=1", "the end is told")


def test_a_server_that_hangs_falls_silent(world):
    """Stopped, it tells nothing; a supervisor would end it."""
    world.create("vm1", "--replicas", "2", parts=2)
    supervisor = Supervisor(str(world.path / "notify"))
    server = subprocess.Popen(
        ["nbdkit", "-f", "-U", world.path / "s",
         *world.plugin_words("vm1")], env=supervisor.env)
    try:
        poll(lambda: supervisor.told() == "READY=1", "ready")
        server.send_signal(signal.SIGSTOP)
        supervisor.socket.settimeout(1)
        with pytest.raises(TimeoutError):
            for _ in range(100):
                supervisor.told()
    finally:
        server.kill()
        server.wait()


def test_no_supervisor_is_no_error(world):
    world.create("vm1", "--replicas", "2", parts=2)
    for where in ("/nonexistent/notify", "relative", ""):
        done = subprocess.run(
            ["nbdkit", "-U", "-", *world.plugin_words("vm1"), "--run",
             'nbdinfo --size "$uri"'], text=True, capture_output=True,
            env=dict(os.environ, NOTIFY_SOCKET=where), check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "16777216\n"
