"""Clones: volumes that share a read-only parent."""

import json
import os
import shutil
import subprocess

import pytest

from conftest import need_root
from nbdharness import (BUILD, KIB, LSVD, MIB, assert_same, one_line, poll,
                        random_bytes, read_all, run)
from test_nbd_clients import Fuse

POLICIES = ["r1", "r3", "ec42"]
# The image of test_golden_image, which may be as large as in real life, and
# have as many clones (up to 20).
GOLDEN_MIB = int(os.environ.get("GOLDEN_MIB", "96"))
GOLDEN_CLONES = int(os.environ.get("GOLDEN_CLONES", "3"))


def lsvd(volume, *words, code=0):
    done = run(LSVD, *words, *volume.where(), check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def serve(volume, name, *parameters):
    return volume.place.serve(name, *volume.parameters()[1:], *parameters)


def golden(place, policy, size=16 * MIB):
    """A read-only volume with something in it; what that is."""
    volume = place.volume(policy, name="golden", size=size)
    server = volume.serve()
    h = server.connect()
    data = bytearray(size)
    data[MIB:9 * MIB] = random_bytes(8 * MIB, 1)
    h.pwrite(bytes(data[MIB:9 * MIB]), MIB)
    h.shutdown()
    server.stop()
    lsvd(volume, "set", "golden", "read-only=on")
    return volume, data


def used(volume, name):
    """Bytes that the chunk files of a volume take on all parts."""
    number = json.loads(lsvd(volume, "info", name, "--json").stdout)["number"]
    return sum(path.stat().st_blocks * 512
               for root in volume.roots.values()
               for path in (root / str(number)).glob("?/[0-9]*"))


@pytest.mark.parametrize("policy", POLICIES)
def test_clones_differ_and_their_parent_does_not(place, policy):
    volume, data = golden(place, policy)
    names = ["vm1", "vm2"]
    for name in names:
        lsvd(volume, "clone", "golden", name)
        assert used(volume, name) == 0
    servers = [serve(volume, name) for name in names]  # beside each other
    want = {name: bytearray(data) for name in names}
    for seed, (name, server) in enumerate(zip(names, servers)):
        h = server.connect()
        for i in range(40):
            at = (i * 37 + seed * 11) * 97 * KIB % (15 * MIB)
            new = random_bytes(1 + i * 777, 100 * seed + i)
            h.pwrite(new, at)
            want[name][at:at + len(new)] = new
        h.zero(2 * MIB, 4 * MIB + seed * KIB)
        at = 4 * MIB + seed * KIB
        want[name][at:at + 2 * MIB] = bytes(2 * MIB)
        h.flush()
        assert_same(read_all(h, len(data)), bytes(want[name]))
    for server in servers:
        server.kill()
    for name in names:
        server = serve(volume, name)
        assert_same(read_all(server.connect(), len(data)), bytes(want[name]))
        server.stop()
        done = volume.repair("verify", name, "--full")
        assert done.returncode == 0, done.stdout + done.stderr
        assert used(volume, name) < used(volume, "golden")
    server = volume.serve()
    assert_same(read_all(server.connect(), len(data)), bytes(data))
    server.stop()
    volume.verify(0, "--full")


def test_a_parent_stays_as_it_is(place):
    volume, _ = golden(place, "r3")
    lsvd(volume, "clone", "golden", "vm1")
    before = lsvd(volume, "info", "golden", "--json").stdout
    for words in (["set", "golden", "read-only=off"],
                  ["resize", "golden", "64M"], ["remove", "golden"]):
        assert "vm1" in one_line(lsvd(volume, *words, code=1).stderr)
    assert lsvd(volume, "info", "golden", "--json").stdout == before
    info = json.loads(before)
    assert info["children"] == ["vm1"] and info["parent"] is None
    info = json.loads(lsvd(volume, "info", "vm1", "--json").stdout)
    assert (info["parent"], info["parent_number"]) == ("golden", 11)
    assert "parent      golden" in lsvd(volume, "info", "vm1").stdout
    assert "parent of   vm1" in lsvd(volume, "info", "golden").stdout
    lsvd(volume, "remove", "vm1")
    lsvd(volume, "set", "golden", "read-only=off")


def test_bad_input_changes_nothing(place):
    volume, _ = golden(place, "r1")
    open_one = place.volume("r1", name="open", size=4 * MIB)
    names = lsvd(volume, "list").stdout
    for words, says in (
            (["open", "vm1"], "read-only=on"),
            (["nobody", "vm1"], "nobody"),
            (["golden", "golden"], "exists"),
            (["golden", "a/b"], "name"),
            (["golden", "vm1", "--ec", "1+1"], "EC 1+1"),
            (["golden", "vm1", "--part", "b=/tmp"], "part b")):
        done = run(LSVD, "clone", *words, *open_one.where(), check=False)
        assert done.returncode in (1, 64)
        assert says in one_line(done.stderr)
    assert lsvd(volume, "list").stdout == names


def test_size_and_shape_of_a_clone(place):
    volume, data = golden(place, "r3")
    lsvd(volume, "clone", "golden", "large", "--size", "40M", "--ec", "2+1",
         "--chunk-size", "1M", *[f"--part={x}={volume.roots[x]}"
                                 for x in "abc"])
    server = serve(volume, "large")
    h = server.connect()
    assert h.get_size() == 40 * MIB
    assert_same(read_all(h, 40 * MIB), bytes(data) + bytes(24 * MIB))
    h.pwrite(b"x" * 100, 30 * MIB)
    h.flush()
    server.kill()
    server = serve(volume, "large")
    got = read_all(server.connect(), 40 * MIB)
    assert got[30 * MIB:30 * MIB + 101] == b"x" * 100 + b"\0"
    assert_same(got[:len(data)], bytes(data))
    server.stop()


def test_what_is_allocated_is_the_parents_too(place):
    volume, data = golden(place, "ec42")
    lsvd(volume, "clone", "golden", "vm1")
    server = serve(volume, "vm1")
    server.connect().zero(MIB, 3 * MIB)
    done = run("nbdinfo", "--map", "--json", server.uri())
    hole = [e for e in json.loads(done.stdout) if e["type"] & 1]
    assert [(e["offset"], e["length"]) for e in hole] == [
        (0, MIB), (3 * MIB, MIB), (9 * MIB, len(data) - 9 * MIB)]
    server.stop()


def make_golden_ext4(place, volume, mounts):
    """Files on a file system on the volume; or the test is skipped."""
    server = volume.serve()
    fuse = Fuse(place, server)
    mountpoint = place.root("mnt")
    run("mkfs.ext4", "-q", fuse.file)
    done = run("mount", "-o", "loop", fuse.file, mountpoint, check=False)
    if done.returncode != 0:
        fuse.end()
        pytest.skip(f"mount -o loop: {done.stderr}")
    mounts.append(mountpoint)
    size = GOLDEN_MIB * MIB // 320
    files = {f"file{i}": random_bytes(size + i, i) for i in range(32)}
    for name, data in files.items():
        (mountpoint / name).write_bytes(data)
    run("umount", mountpoint)
    fuse.end()
    server.stop()
    lsvd(volume, "set", volume.name, "read-only=on")
    return files


LOAD = "load"


def change_files(place, volume, name, seed):
    """In a clone: one changed, one gone, one new; the server is killed while
    another one is being written."""
    server = serve(volume, name)
    fuse = Fuse(place, server)
    mountpoint = place.root("mnt")
    run("mount", "-o", "loop", fuse.file, mountpoint)
    (mountpoint / f"file{seed}").write_bytes(random_bytes(400000, 50 + seed))
    (mountpoint / f"file{seed + 10}").unlink()
    (mountpoint / "new").write_bytes(random_bytes(500000, 90 + seed))
    run("sync", "-f", mountpoint)
    load = mountpoint / LOAD
    writing = subprocess.Popen(
        ["dd", "if=/dev/zero", f"of={load}", "bs=64K", "oflag=dsync"],
        stderr=subprocess.DEVNULL)
    poll(lambda: load.exists() and load.stat().st_size > 0, "it is written")
    assert writing.poll() is None
    server.kill()
    writing.wait(60)
    run("umount", "-l", mountpoint)
    subprocess.run(["fusermount3", "-u", "-z", fuse.dir], check=False)
    fuse.process.wait(60)
    fuse.process.stderr.close()


def is_renewed(server):
    return "are in use again" in server.log()


@pytest.mark.parametrize("policy, others", [("r3", "bc"), ("ec21", "b")])
@pytest.mark.parametrize("as_what", ["parent", "grandparent", "source"])
def test_part_of_a_parent_is_back(place, policy, others, as_what):
    """Away at the start, it is used when it is there: others may go."""
    volume, data = golden(place, policy)
    if as_what == "source":
        lsvd(volume, "create", "vm", str(16 * MIB), "--replicas", "3")
        server = serve(volume, "vm")
        server.connect().pwrite(bytes(data), 0)
        server.stop()
        run(BUILD / "dedupe/lsvd-dedupe", "vm", "--source", "golden",
            *volume.where())
    else:
        lsvd(volume, "clone", "golden", "vm")
    if as_what == "grandparent":
        lsvd(volume, "snapshot", "create", "vm@s")
    number = json.loads(lsvd(volume, "info", "golden", "--json").stdout)[
        "number"]
    hidden = volume.roots["a"] / str(number)
    hidden.rename(hidden.with_name("hidden"))
    server = serve(volume, "vm", "ram=1M")
    h = server.connect()
    assert_same(bytes(h.pread(MIB, 0)), bytes(data[:MIB]))
    hidden.with_name("hidden").rename(hidden)
    poll(lambda: is_renewed(server), "the part is used again")
    for letter in others:
        shutil.rmtree(volume.roots[letter] / str(number))
    assert_same(read_all(h, len(data)), data)
    server.stop()


@pytest.mark.parametrize("how", ["fail", "hang"])
@pytest.mark.parametrize("policy", ["r2", "ec21"])
def test_part_of_a_parent_fails_and_recovers(place, faultfs, policy, how):
    """While the clone is served: then another one may fail."""
    roots = {letter: faultfs(f"root-{letter}") for letter in "abc"}
    volume, data = golden(place, policy)
    lsvd(volume, "clone", "golden", "vm")
    server = serve(volume, "vm", "ram=1M", "part-timeout=2")
    h = server.connect()
    for at in range(0, len(data), 64 * KIB):
        assert_same(bytes(h.pread(4 * KIB, at)), bytes(data[at:at + 4 * KIB]))
    getattr(roots["a"], how)()
    assert_same(read_all(h, len(data)), data)
    roots["a"].resume()
    if how == "fail":  # what hangs may just be read from others meanwhile
        poll(lambda: is_renewed(server), "the part is used again")
    roots["b"].fail()
    assert_same(read_all(h, len(data)), data)
    roots["b"].resume()
    server.stop()


def test_golden_image(place, mounts):
    """A file system, its clones, kill -9: each is clean and right."""
    need_root()
    volume = place.volume("r3", name="golden", size=GOLDEN_MIB * MIB)
    files = make_golden_ext4(place, volume, mounts)
    clones = ["vm%d" % i for i in range(GOLDEN_CLONES)]
    for name in clones:
        lsvd(volume, "clone", "golden", name)
    for i, name in enumerate(clones):
        change_files(place, volume, name, i)
        shutil.rmtree(place.root("fuse"), ignore_errors=True)
    for i, name in enumerate(clones):
        server = serve(volume, name)
        image = place.path / "image"
        run("nbdcopy", server.uri(), image)
        server.stop()
        run("e2fsck", "-f", "-y", image, check=False)  # replays its journal
        run("e2fsck", "-f", "-n", image)
        mountpoint = place.root("look")
        run("mount", "-o", "loop,ro", image, mountpoint)
        mounts.append(mountpoint)
        want = dict(files)
        want[f"file{i}"] = random_bytes(400000, 50 + i)
        want["new"] = random_bytes(500000, 90 + i)
        del want[f"file{i + 10}"]
        found = {p.name: p.read_bytes() for p in mountpoint.iterdir()
                 if p.is_file() and p.name != LOAD}
        run("umount", mountpoint)
        assert found == want
        assert used(volume, name) < used(volume, "golden") / 2
        os.unlink(image)
    volume.verify(0, "--full")


def test_who_clones_at_the_same_time_harms_nobody(place):
    """All are made, and known, whatever the order of their roots; of those that
    want one name one is."""
    volume, _ = golden(place, "r2")
    roots = [volume.roots[letter] for letter in "ab"]
    wanted = [(f"c{i}", roots[::1 - i % 2 * 2]) for i in range(12)]
    wanted += [("same", roots), ("same", roots[::-1]), ("same", roots)]
    making = [(name, subprocess.Popen(
        [str(w) for w in (LSVD, "clone", "golden", name,
                          "--part", f"a={a}", "--part", f"b={b}",
                          *volume.where())],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        for name, (a, b) in wanted]
    done = []
    for name, process in making:
        text = process.communicate()[1]
        if process.returncode == 0:
            done.append(name)
        else:
            assert name == "same" and "same exists already" in one_line(text)
    assert sorted(done) == sorted({name for name, _ in wanted})
    listed = json.loads(lsvd(volume, "list", "--json").stdout)
    names = {v["name"]: v["number"] for v in listed}
    assert set(names) == {"golden", *done}
    for root in roots:
        assert {p.name for p in root.glob("[0-9]*")} == {
            str(number) for number in names.values()}
        registry = (root / ".volumesmeta").read_text()
        assert all(f"[{name}]\n" in registry for name in names)
        assert not list(root.glob(".volumesmeta.*"))
    for name in done:
        assert volume.repair("verify", name).returncode == 0
