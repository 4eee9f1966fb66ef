"""What all of the benchmark uses: running programs, waiting, saying so."""
import subprocess
import sys
import time

MIB = 1 << 20
BLOCK = 4096
DEADLINE_SECONDS = 600  # for any one thing


class Failed(Exception):
    """A measurement that came to nothing, and why."""


def call(*words):
    """Run to the end; its output."""
    words = [str(w) for w in words]
    try:
        done = subprocess.run(words, text=True, capture_output=True,
                              timeout=DEADLINE_SECONDS,
                              stdin=subprocess.DEVNULL)
    except OSError as error:
        raise Failed("%s: %s" % (words[0], error.strerror))
    except subprocess.TimeoutExpired:
        raise Failed("%s: not done within %d s" % (words[0],
                                                   DEADLINE_SECONDS))
    if done.returncode != 0:
        complaint = (done.stderr or done.stdout).strip().splitlines() or [""]
        raise Failed("%s: %s" % (words[0], complaint[-1]))
    return done.stdout


def wait_until(condition, what, seconds=DEADLINE_SECONDS, pause=0.01):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failed("%s: not within %d s" % (what, seconds))
        time.sleep(pause)  # polls for a condition


def progress(line):
    print(line, file=sys.stderr, flush=True)
