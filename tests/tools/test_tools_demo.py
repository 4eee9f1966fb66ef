"""demo: serves, is used again, stops cleanly."""
import os
import select
import signal
import socket
import subprocess
import time

import pytest

from tools import BUILD, SOURCES, run

DEADLINE = 300


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Demo:
    def __init__(self, directory, port):
        self.uri = "nbd://127.0.0.1:%d" % port
        self.seen = ""
        self.process = subprocess.Popen(
            [SOURCES / "demo"], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
            env=dict(os.environ, DEMO_DIR=str(directory),
                     DEMO_PORT=str(port), DEMO_BUILD=str(BUILD)))

    def wait_for(self, text):
        """Read its output until text is there."""
        out = self.process.stdout
        end = time.monotonic() + DEADLINE
        while text not in self.seen:
            left = end - time.monotonic()
            assert left > 0, self.seen
            if not select.select([out], [], [], left)[0]:
                continue
            piece = os.read(out.fileno(), 4096)
            assert piece, "it ended: " + self.seen
            self.seen += piece.decode()

    def end(self, how):
        """Stop it, and see that nothing of it is left."""
        how()
        # The pipe is closed when the last process that has it ended.
        self.seen += self.process.stdout.read().decode()
        return self.process.wait(DEADLINE)

    def terminate(self):
        self.process.terminate()

    def ctrl_c(self):
        os.killpg(self.process.pid, signal.SIGINT)


@pytest.fixture
def demo(tmp_path):
    started = []

    def start(port):
        started.append(Demo(tmp_path / "it's here", port))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            os.killpg(one.process.pid, signal.SIGKILL)
            one.process.wait()
        one.process.stdout.close()


def test_it_serves_and_keeps_what_was_written(demo, tmp_path):
    data = os.urandom(1 << 20)
    image = tmp_path / "image"
    image.write_bytes(data)
    port = free_port()

    first = demo(port)
    first.wait_for("lsvd-repair verify")
    assert "nbdinfo" in first.seen and "nbdcopy" in first.seen
    assert run("nbdinfo", "--size", first.uri).out == "268435456\n"
    done = run("nbdcopy", image, first.uri)
    assert done.code == 0, done.err
    assert first.end(first.terminate) == 0

    second = demo(port)
    second.wait_for("lsvd-repair verify")
    assert "created" not in second.seen
    done = run("nbdcopy", second.uri, tmp_path / "back")
    assert done.code == 0, done.err
    assert (tmp_path / "back").read_bytes()[:len(data)] == data
    # The command that it prints is one that works.
    line = next(li for li in second.seen.splitlines() if "lsvd-repair" in li)
    assert run("bash", "-c", line).code == 0
    assert second.end(second.ctrl_c) == 0


def test_a_second_one_on_the_port_says_so(demo, tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        late = demo(s.getsockname()[1])
        seen = late.process.communicate(timeout=DEADLINE)[0].decode()
    assert late.process.returncode == 1
    assert len(seen.splitlines()) == 1
    assert "DEMO_PORT" in seen and "in use" in seen


def test_a_bad_port_is_refused(tmp_path):
    for port in ("0", "65536", "x", "1;id"):
        done = subprocess.run(
            [SOURCES / "demo"], text=True, capture_output=True, check=False,
            env=dict(os.environ, DEMO_DIR=str(tmp_path), DEMO_PORT=port))
        assert done.returncode == 1
        assert "DEMO_PORT" in done.stderr
