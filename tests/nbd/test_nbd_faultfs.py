"""The file system that misbehaves does what the tests that use it believe."""

import ctypes
import errno
import fcntl
import os
import signal
import struct
import subprocess
import sys
import threading
import time

import pytest

from nbdharness import poll


def write_at(path, data, at=0, sync=False):
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.pwrite(fd, data, at)
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)


def punch(fd, at, count):
    """fallocate(1) would sync, too."""
    libc = ctypes.CDLL(None, use_errno=True)
    keep_size, punch_hole = 1, 2
    assert libc.fallocate64(fd, keep_size | punch_hole, ctypes.c_int64(at),
                            ctypes.c_int64(count)) == 0, ctypes.get_errno()


def test_passes_through_what_we_use(faultfs):
    fs = faultfs("part")
    path = fs.path / "file"
    write_at(path, b"x" * 20000, sync=True)
    assert (fs.behind / "file").read_bytes() == b"x" * 20000
    assert path.stat().st_ino == (fs.behind / "file").stat().st_ino
    with open(path, "r+b") as f:
        punch(f.fileno(), 4096, 8192)
        assert os.lseek(f.fileno(), 4096, os.SEEK_DATA) == 12288
        os.truncate(path, 300)
        os.posix_fallocate(f.fileno(), 0, 600)
        f.seek(0)
        assert f.read() == b"x" * 300 + bytes(300)
    (fs.path / "sub").mkdir()
    path.rename(fs.path / "sub" / "other")
    fd = os.open(fs.path / "sub", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    with open(fs.path / "sub" / "other", "rb") as f:
        (fs.path / "sub" / "other").unlink()
        assert os.listdir(fs.path / "sub") == []  # no hidden rest of it
        assert len(f.read()) == 600
    (fs.path / "sub").rmdir()
    assert os.statvfs(fs.path).f_blocks > 0


def test_locks_exclude(faultfs):
    path = faultfs("part").path / "lock"
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
    set_lock = 37  # F_OFD_SETLK
    with open(path, "wb") as a, open(path, "r+b") as b:
        fcntl.fcntl(a, set_lock, lock)
        with pytest.raises(BlockingIOError):
            fcntl.fcntl(b, set_lock, lock)
        a.close()
        fcntl.fcntl(b, set_lock, lock)


def test_hangs_until_resumed(faultfs):
    fs = faultfs("part")
    path = fs.path / "file"
    write_at(path, b"old")
    fs.hang()
    thread = threading.Thread(target=write_at, args=(path, b"new"))
    thread.start()
    poll(lambda: fs.waiting() == 1, "it hangs")
    thread.join(0.3)
    assert thread.is_alive()
    assert (fs.behind / "file").read_bytes() == b"old"
    fs.resume()
    thread.join(10)
    assert not thread.is_alive()
    assert (fs.behind / "file").read_bytes() == b"new"


def test_who_hangs_can_be_killed_but_not_interrupted(faultfs):
    fs = faultfs("part")
    fs.hang()
    # A signal that is handled; one that would end it is as good as SIGKILL.
    program = "import os, signal, sys; " \
        "signal.signal(signal.SIGTERM, lambda *_: None); os.stat(sys.argv[1])"
    with subprocess.Popen([sys.executable, "-c", program,
                           str(fs.path / "file")]) as process:
        poll(lambda: fs.waiting() >= 1, "it hangs")
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.kill()
        process.wait(10)
    poll(lambda: fs.waiting() == 0, "the call has ended")


def test_fails_and_is_slow(faultfs):
    fs = faultfs("part")
    path = fs.path / "file"
    write_at(path, b"data")
    fs.fail(errno.ENOSPC, "write")
    with pytest.raises(OSError) as e:
        write_at(path, b"more")
    assert e.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"data"
    fs.fail(errno.EIO)
    with pytest.raises(OSError) as e:
        os.listdir(fs.path)
    assert e.value.errno == errno.EIO
    fs.resume()
    fs.fail(errno.EIO, "sync")
    with pytest.raises(OSError) as e:
        write_at(path, b"more", sync=True)
    assert e.value.errno == errno.EIO
    fs.resume()
    fs.slow(300)
    begin = time.monotonic()
    os.stat(path)
    assert time.monotonic() - begin >= 0.3


def test_loses_what_was_not_synced(faultfs):
    fs = faultfs("part", undo=True)
    path = fs.path / "file"
    write_at(path, b"a" * 10000, sync=True)
    write_at(path, b"b" * 5000, 2000)
    write_at(path, b"c" * 5000, 8000)
    with open(path, "r+b") as f:
        punch(f.fileno(), 0, 4096)
    os.truncate(path, 3000)
    os.truncate(path, 12000)
    write_at(fs.path / "new", b"n" * 100)
    write_at(fs.path / "kept", b"k" * 100, sync=True)
    assert len(path.read_bytes()) == 12000
    sync_names(fs.path)
    fs.lose_unsynced()
    assert path.read_bytes() == b"a" * 10000
    assert (fs.path / "new").read_bytes() == b""
    assert (fs.path / "kept").read_bytes() == b"k" * 100


def sync_names(path):
    directory = os.open(path, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def test_loses_names_that_were_not_synced(faultfs):
    fs = faultfs("part", undo=True)
    for name in "abc":
        write_at(fs.path / name, name.encode(), sync=True)
    sync_names(fs.path)
    write_at(fs.path / "new", b"n", sync=True)
    os.unlink(fs.path / "a")
    os.rename(fs.path / "b", fs.path / "moved")
    os.rename(fs.path / "new", fs.path / "c")
    os.unlink(fs.path / "moved")
    assert os.listdir(fs.path) == ["c"]
    fs.lose_unsynced()
    assert sorted(os.listdir(fs.path)) == ["a", "b", "c"]
    assert [(fs.path / x).read_bytes() for x in "abc"] == [b"a", b"b", b"c"]
    os.unlink(fs.path / "a")
    sync_names(fs.path)
    fs.lose_unsynced()
    assert sorted(os.listdir(fs.path)) == ["b", "c"]


def test_loses_a_part_of_it(faultfs):
    """Each page and each name by itself; all of it is as before, or as after."""
    fs = faultfs("part", undo=True)
    path, pages = fs.path / "file", 64
    seen = set()
    write_at(path, b"a" * 4096 * pages, sync=True)
    sync_names(fs.path)
    write_at(path, b"b" * 4096 * pages)
    fs.lose_unsynced(kept=50, seed=1)
    data = path.read_bytes()
    for i in range(0, len(data), 4096):
        page = data[i:i + 4096]
        assert page == b"b" * page.count(b"b") + b"a" * page.count(b"a")
        seen.add(page.count(b"b"))
    assert {0, 4096} < seen
    for i in range(20):
        write_at(fs.path / str(i), b"x", sync=True)
    fs.lose_unsynced(kept=10, seed=3)
    left = {int(x) for x in os.listdir(fs.path) if x != "file"}
    assert left == set(range(len(left))) and 0 < len(left) < 20
    write_at(path, b"c" * 4096 * pages)
    fs.lose_unsynced(kept=100, seed=3)
    assert path.read_bytes() == b"c" * 4096 * pages


def test_a_sync_that_is_killed_did_nothing(faultfs):
    fs = faultfs("part", undo=True)
    path = fs.path / "file"
    write_at(path, b"a" * 100, sync=True)
    sync_names(fs.path)
    fs.slow(20000, "sync")
    with subprocess.Popen([sys.executable, "-c", "import os, sys\n"
                           "f = os.open(sys.argv[1], os.O_RDWR)\n"
                           "os.write(f, b'b' * 100)\nos.fsync(f)",
                           str(path)]) as process:
        poll(lambda: fs.syncing() == 1, "it is being synced")
        process.kill()
    fs.resume()
    fs.lose_unsynced()
    assert path.read_bytes() == b"a" * 100


def test_unmounting_by_force_frees_who_hangs(faultfs):
    fs = faultfs("part")
    fs.hang()
    with subprocess.Popen(["ls", str(fs.path)],
                          stderr=subprocess.DEVNULL) as process:
        poll(lambda: fs.waiting() >= 1, "it hangs")
        fs.unmount(force=True)
        assert process.wait(10) != 0
    assert os.listdir(fs.path) == []
