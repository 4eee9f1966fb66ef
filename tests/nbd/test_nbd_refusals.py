"""Bad input: one clear line, nothing changed on disk."""

import os
import shutil
import socket

import pytest

from nbdharness import LSVD, MIB, one_line, run, tree_state


def test_second_server_is_refused_with_the_owner(volume):
    server = volume.serve()
    line = volume.place.refused(*volume.parameters())
    assert "mydevice1" in line
    assert str(server.process.pid) in line
    assert socket.gethostname() in line
    server.connect().pwrite(b"x" * 512, 0)
    server.stop()


def test_removal_is_refused_while_it_is_served(volume):
    server = volume.serve()
    done = run(LSVD, "remove", "mydevice1", *volume.where(), check=False)
    assert done.returncode == 1
    assert str(server.process.pid) in done.stderr
    server.connect().pwrite(b"x" * 512, 0)
    server.stop()
    volume.verify()


@pytest.mark.parametrize("name", ["nosuch", "../x", "a/b", "x" * 65, "",
                                  "..", "a\x01b", "a b\n"],
                         ids=["unknown", "up", "slash", "long", "empty",
                              "dots", "control", "newline"])
def test_unknown_and_impossible_names(volume, name):
    before = tree_state(volume.place.path)
    parameters = volume.parameters()
    line = volume.place.refused(f"volume={name}", *parameters[1:])
    assert line.startswith("nbdkit: error: lsvd: ")
    assert "\x01" not in line
    if name == "nosuch":
        assert "nosuch" in line
    changed = {p: s for p, s in tree_state(volume.place.path).items()
               if before.get(p) != s and "/nbdkit-" not in p}
    assert not changed


@pytest.mark.parametrize("parameter", [
    "ram=0", "ram=-1", "ram=much", "ram=", "frobnicate=1", "volume=again",
    "config=/nonexistent/lsvd.conf",
])
def test_bad_parameters(volume, parameter):
    line = volume.place.refused(*volume.parameters(), parameter)
    assert line.startswith("nbdkit: error: ")


def test_no_such_root(place):
    line = place.refused("mydevice1", "data=/nonexistent/root",
                         f"cache={place.cache}")
    assert "/nonexistent/root" in line


def test_no_such_cache(volume):
    parameters = [p for p in volume.parameters() if
                  not p.startswith("cache=")]
    line = volume.place.refused(*parameters, "cache=/nonexistent/cache")
    assert "/nonexistent/cache" in line


CREATE = {
    "size 0": ["new", "0"],
    "size beyond 2^53": ["new", str(2 ** 53 + 4096)],
    "no number": ["new", "large"],
    "slash": ["a/b", "1M"],
    "dots": ["..", "1M"],
    "control": ["a\tb", "1M"],
    "long": ["x" * 65, "1M"],
    "taken": ["mydevice1", "1M"],
    "chunk small": ["new", "1M", "--chunk-size", "128K"],
    "chunk large": ["new", "1M", "--chunk-size", "128M"],
    "chunk odd": ["new", "1M", "--chunk-size", "300000"],
    "block small": ["new", "1M", "--block-size", "256"],
    "block large": ["new", "1M", "--block-size", "128K"],
    "block odd": ["new", "1M", "--block-size", "3000"],
    "replicas 0": ["new", "1M", "--replicas", "0"],
    "replicas 9": ["new", "1M", "--replicas", "9"],
    "ec 1+1": ["new", "1M", "--ec", "1+1"],
    "ec 17+1": ["new", "1M", "--ec", "17+1"],
    "ec 4+5": ["new", "1M", "--ec", "4+5"],
    "ec and replicas": ["new", "1M", "--ec", "2+1", "--replicas", "2"],
}


@pytest.mark.parametrize("what", CREATE)
def test_create_refuses(volume, what):
    before = tree_state(volume.place.path)
    done = run(LSVD, "create", *CREATE[what], *volume.where(), check=False)
    assert done.returncode in (1, 64)
    assert one_line(done.stderr)
    assert tree_state(volume.place.path) == before


def test_create_refuses_bad_part_directories(volume):
    place = volume.place
    before = tree_state(place.path)
    locked = place.root("plain")
    bad = [
        ["--part", "a=/nonexistent/part"],
        ["--part", f"a={locked}", "--part", f"a={locked}"],
        ["--ec", "2+1", "--part", f"d={locked}"],
        ["--part", f"A={locked}"],
        ["--part", f"a={volume.roots['a'] / '.volumesmeta'}"],
    ]
    for arguments in bad:
        done = run(LSVD, "create", "new", "1M", *arguments, *volume.where(),
                   check=False)
        assert done.returncode in (1, 64), (arguments, done)
        assert one_line(done.stderr)
    locked.rmdir()
    assert tree_state(place.path) == before


def test_part_of_another_volume_is_not_used(place):
    volume = place.volume("r3", size=4 * MIB)
    data = volume.fill(1)
    other = place.volume("r3", name="other", size=4 * MIB)
    other.roots, kept = volume.roots, other.roots
    other.fill(2)
    ours, theirs = [volume.roots["a"] / str(n) / "a" for n in (11, 12)]
    assert ours.is_dir() and theirs.is_dir() and kept == volume.roots
    shutil.rmtree(ours)
    shutil.copytree(theirs, ours)
    assert volume.content() == data
    volume.verify(1)


def test_all_policies_damaged(volume):
    for letter in volume.letters:
        part = volume.part_dir(letter)
        for meta in (part / ".meta", part.parent / ".meta"):
            with open(meta, "r+b") as f:
                f.seek(20)
                f.write(b"\xff\xff")
    line = volume.place.refused(*volume.parameters())
    assert "mydevice1" in line or ".meta" in line


def test_all_registries_damaged(volume):
    """The policies themselves say which volumes there are."""
    data = volume.fill(1)
    for root in volume.roots.values():
        os.truncate(root / ".volumesmeta", 10)
    server = volume.serve()
    assert ".volumesmeta" in server.log()
    server.stop()
    server = volume.serve()
    assert ".volumesmeta" not in server.log()
    server.stop()
    assert volume.content() == data


def first_record(journal):
    with open(journal, "r+b") as f:
        f.seek(journal.read_bytes().index(b"A" * 4096) + 100)
        f.write(b"\xff")


def superblocks(journal):
    with open(journal, "r+b") as f:
        f.write(b"\xff" * 8192)
        f.seek(-8192, os.SEEK_END)
        f.write(b"\xff" * 8192)


@pytest.mark.parametrize("damage", [first_record, superblocks,
                                    lambda j: os.truncate(j, 5000),
                                    lambda j: j.unlink()],
                         ids=["record", "superblocks", "cut", "gone"])
def test_damaged_journal_is_refused_when_it_may_hold_data(volume, damage):
    server = volume.serve()
    h = server.connect()
    for i in range(3):
        h.pwrite(bytes([65 + i]) * 65536, i * 65536)
        h.flush()
    server.kill()
    journals = list(volume.cache.glob("*.journal"))
    assert len(journals) == 1
    kept = journals[0].read_bytes()
    damage(journals[0])
    server = volume.serve(check=False)
    assert not server.wait_or_up()
    assert "journal" in server.log()
    journals[0].write_bytes(kept)  # nothing else was changed
    data = volume.content()
    for i in range(3):
        assert data[i * 65536:(i + 1) * 65536] == bytes([65 + i]) * 65536
    volume.verify()


@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory"])
def test_journal_that_is_no_plain_file(volume, kind):
    volume.fill(1)
    for journal in volume.cache.glob("*.journal"):
        journal.unlink()
    uuid = volume.info()["uuid"]
    path = volume.cache / f"{uuid}.journal"
    elsewhere = volume.place.path / "elsewhere"
    elsewhere.write_bytes(b"precious")
    {"symlink": lambda: path.symlink_to(elsewhere),
     "fifo": lambda: os.mkfifo(path),
     "directory": path.mkdir}[kind]()
    line = volume.place.refused(*volume.parameters())
    assert "journal" in line
    assert elsewhere.read_bytes() == b"precious"
