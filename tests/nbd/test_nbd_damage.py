"""Files of a part are damaged behind our back."""

import os
import shutil

import nbd
import pytest

from nbdharness import (KIB, MIB, POLICIES, assert_same, poll, random_bytes,
                        read_all, run)

REDUNDANT = [p for p in POLICIES if POLICIES[p][2] > 0]


def delete(volume, letter, chunk):
    volume.chunk_file(letter, chunk).unlink()


def truncate(volume, letter, chunk):
    path = volume.chunk_file(letter, chunk)
    os.truncate(path, path.stat().st_size // 2 + 100)


def empty(volume, letter, chunk):
    os.truncate(volume.chunk_file(letter, chunk), 0)


def flip_at(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 0x10]))


def flip_data(volume, letter, chunk):
    path = volume.chunk_file(letter, chunk)
    flip_at(path, path.stat().st_size - 1000)


def flip_header(volume, letter, chunk):
    flip_at(volume.chunk_file(letter, chunk), 20)


def flip_table(volume, letter, chunk):
    flip_at(volume.chunk_file(letter, chunk), 4096 + 3)


def zero_blocks(volume, letter, chunk):
    path = volume.chunk_file(letter, chunk)
    with open(path, "r+b") as f:
        f.seek(path.stat().st_size - 8192)
        f.write(bytes(8192))


def swap_chunks(volume, letter, chunk):
    a = volume.chunk_file(letter, chunk)
    b = volume.chunk_file(letter, chunk + 1)
    middle = a.with_name("swap")
    a.rename(middle)
    b.rename(a)
    middle.rename(b)


def swap_parts(volume, letter, chunk):
    """The fragment of another part in its place."""
    other = [x for x in volume.letters if x != letter][0]
    shutil.copyfile(volume.chunk_file(other, chunk),
                    volume.chunk_file(letter, chunk))


def symlink(volume, letter, chunk):
    path = volume.chunk_file(letter, chunk)
    kept = volume.place.path / "elsewhere"
    path.rename(kept)
    path.symlink_to(kept)


def fifo(volume, letter, chunk):
    path = volume.chunk_file(letter, chunk)
    path.unlink()
    os.mkfifo(path)


def hard_link(volume, letter, chunk):
    os.link(volume.chunk_file(letter, chunk), volume.place.path / "link")


CHUNK_DAMAGE = [delete, truncate, empty, flip_data, flip_header, flip_table,
                zero_blocks, swap_chunks, swap_parts, symlink, fifo,
                hard_link]


def small(place, policy):
    return place.volume(policy, size=4 * MIB)


def mend(volume, data):
    """rebuild brings it back to what it was."""
    volume.rebuild()
    volume.verify(0, "--full")
    assert_same(volume.content(), data)
    volume.verify(0, "--full")


@pytest.mark.parametrize("damage", CHUNK_DAMAGE)
@pytest.mark.parametrize("policy", ["r2", "ec21"])
def test_damaged_chunk_file(place, policy, damage):
    volume = small(place, policy)
    data = volume.fill(1)
    damage(volume, volume.letters[0], 2)
    report = volume.verify(1, "--full")
    assert report["policy_met"] is False and report["data_lost"] is False
    a = [p for p in report["parts"] if p["part"] == "a"][0]
    assert a["missing"] + a["stale"] + a["corrupt"] > 0
    assert_same(volume.content(), data)
    mend(volume, data)


def test_a_directory_is_never_deleted(place):
    """Somebody put it there: rebuild names it, a person removes it."""
    volume = small(place, "ec21")
    data = volume.fill(15)
    path = volume.chunk_file("a", 2)
    path.unlink()
    path.mkdir()
    (path / "precious").write_bytes(b"p")
    volume.verify(1, "--full")
    assert_same(volume.content(), data)
    done = volume.repair("rebuild", volume.name)
    assert done.returncode in (1, 3)
    assert str(path) in done.stdout + done.stderr
    (path / "precious").unlink()
    path.rmdir()
    mend(volume, data)


@pytest.mark.parametrize("letter", "abcdef")
def test_damage_on_any_part_of_a_wide_volume(place, letter):
    volume = small(place, "ec42")
    data = volume.fill(2)
    flip_data(volume, letter, 1)
    delete(volume, letter, 3)
    volume.verify(1, "--full")
    assert_same(volume.content(), data)
    mend(volume, data)


@pytest.mark.parametrize("policy", REDUNDANT)
def test_different_chunks_damaged_on_every_part(place, policy):
    volume = small(place, policy)
    data = volume.fill(3)
    for i, letter in enumerate(volume.letters):
        flip_data(volume, letter, i + 1)
        delete(volume, letter, i + 1 + len(volume.letters))
    volume.verify(1, "--full")
    assert_same(volume.content(), data)
    mend(volume, data)


@pytest.mark.parametrize("policy", ["r2", "r3", "ec21", "ec42"])
def test_older_copy_of_a_chunk(place, policy):
    """It passes its own checks; it must be told from the newest."""
    volume = small(place, policy)
    data = bytearray(volume.fill(4))
    old = volume.chunk_file("a", 1)
    kept = place.path / "kept"
    shutil.copyfile(old, kept)
    server = volume.serve()
    new = random_bytes(256 * KIB, 5)
    server.connect().pwrite(new, 0)
    data[:len(new)] = new
    server.stop()
    shutil.copyfile(kept, old)
    report = volume.verify(1, "--full")
    assert report["data_lost"] is False
    assert_same(volume.content(), bytes(data))
    mend(volume, bytes(data))


def test_reading_heals(place):
    volume = small(place, "ec21")
    data = volume.fill(6)
    flip_data(volume, "b", 1)
    volume.verify(1, "--full")
    assert_same(volume.content(), data)
    volume.verify(0, "--full")


@pytest.mark.parametrize("damage", [delete, flip_data, truncate])
def test_beyond_repair_is_an_error_and_nothing_else(place, damage):
    volume = small(place, "r1")
    data = volume.fill(7)
    damage(volume, "a", 2)
    report = volume.verify(2, "--full")
    assert report["data_lost"] is True and report["lost"]
    server = volume.serve()
    h = server.connect()
    lost = 0
    for at in range(0, volume.size, 4096):
        try:
            assert h.pread(4096, at) == data[at:at + 4096]
        except nbd.Error as e:
            assert e.errnum == 5
            assert 256 * KIB <= at < 512 * KIB
            lost += 1
    assert lost == sum(r["bytes"] for r in report["lost"]) // 4096 > 0


def scribble(path):
    """Both slots of a file that keeps two of everything."""
    path.write_bytes(random_bytes(path.stat().st_size, 1))


def lost_blocks(volume, data):
    """Read block by block: each is right, or an EIO; count these."""
    server = volume.serve()
    h = server.connect()
    lost = []
    for at in range(0, volume.size, 4096):
        try:
            assert h.pread(4096, at) == data[at:at + 4096], at
        except nbd.Error as e:
            assert e.errnum == 5
            lost.append(at)
    server.stop()
    return lost


@pytest.mark.parametrize("policy,letters", [
    ("r2", "ab"), ("r3", "abc"), ("ec21", "ac"), ("ec21", "ab"),
    ("ec21", "bc"), ("ec42", "aef"), ("ec42", "abe"), ("ec42", "abc")])
@pytest.mark.parametrize("damage", [flip_data, delete])
def test_too_many_copies_damaged(place, policy, letters, damage):
    """The same chunk on one part too many. Errors for what is lost, and
    nothing that looks for repair may make zeroes of it."""
    volume = small(place, policy)
    data = volume.fill(16)
    for letter in letters:
        damage(volume, letter, 2)
    report = volume.verify(2, "--full")
    assert report["data_lost"] is True
    in_report = sum(r["bytes"] for r in report["lost"]) // 4096
    lost = lost_blocks(volume, data)
    assert len(lost) == in_report > 0
    assert all(256 * KIB <= at < 512 * KIB for at in lost)
    done = volume.repair("rebuild", volume.name)
    assert done.returncode == 2, done.stdout + done.stderr
    assert lost_blocks(volume, data) == lost
    volume.verify(2, "--full")
    server = volume.serve()  # what is written anew can be read again
    h = server.connect()
    for at in range(256 * KIB, 512 * KIB, 4096):
        h.pwrite(data[at:at + 4096], at)
    server.stop()
    mend(volume, data)


PART_FILES = {
    "label gone": lambda d: (d / ".label").unlink(),
    "label overwritten": lambda d: scribble(d / ".label"),
    "label empty": lambda d: os.truncate(d / ".label", 0),
    "chunk table gone": lambda d: (d / ".chunks").unlink(),
    "chunk table overwritten": lambda d: scribble(d / ".chunks"),
    "chunk table cut": lambda d: os.truncate(d / ".chunks", 100),
    "all gone": lambda d: [p.unlink() for p in list(d.iterdir())],
    "directory gone": shutil.rmtree,
}


@pytest.mark.parametrize("what", PART_FILES)
@pytest.mark.parametrize("policy", ["r2", "ec21"])
def test_damaged_part(place, policy, what):
    volume = small(place, policy)
    data = volume.fill(8)
    PART_FILES[what](volume.part_dir("b"))
    report = volume.verify(1, "--full")
    assert report["data_lost"] is False
    if policy == "r2" and not what.startswith("chunk table"):
        # b may have gone on alone, for all that the label of a says
        assert "part b" in place.refused(*volume.parameters()[:-1],
                                         f"cache={place.root('elsewhere')}")
    assert_same(volume.content(), data)
    done = volume.repair("rebuild", volume.name)
    if done.returncode != 0:  # what can't be recognized is made anew
        done = volume.repair("replace", volume.name, "b")
    assert done.returncode == 0, done.stdout + done.stderr
    volume.verify(0, "--full")
    assert_same(volume.content(), data)


@pytest.mark.parametrize("name", [".volumesmeta", ".meta"])
@pytest.mark.parametrize("how", ["flip", "empty", "gone"])
def test_damaged_policy_uses_another_copy(place, name, how):
    volume = small(place, "r3")
    data = volume.fill(9)
    root = volume.roots["b"]
    path = root / name if name == ".volumesmeta" else \
        volume.part_dir("b").parent / name
    {"flip": lambda: flip_at(path, 30), "empty": lambda: os.truncate(path, 0),
     "gone": path.unlink}[how]()
    assert_same(volume.content(), data)
    assert_same(volume.content(), data)
    volume.verify(0, "--full")


def test_swapped_part_directories(place):
    """A part is recognized by its label, not by where it lies."""
    volume = small(place, "ec21")
    data = volume.fill(10)
    a, b = volume.part_dir("a"), volume.part_dir("b")
    keep = a.with_name("keep")
    a.rename(keep)
    shutil.move(b, a)
    shutil.move(keep, b)
    assert_same(volume.content(), data)
    volume.verify(0, "--full")


def test_damage_while_serving(place):
    """Found at the next read from the part, mended, and said in the log. A
    read is not from the part if that is late, and others answer; nor if RAM has
    it, which here has what was read first."""
    volume = place.volume("ec21", size=32 * MIB)
    data = volume.fill(11)
    server = volume.serve("ram=1M")
    h = server.connect()
    assert_same(read_all(h, volume.size), data)
    for chunk in (31, 35, 39):
        flip_data(volume, "a", chunk)
    delete(volume, "b", 20)

    def is_found():
        assert_same(read_all(h, volume.size), data)
        return all(f"chunk {i}, " in server.log() for i in (31, 35, 39))

    poll(is_found, "the flipped bytes are in the log")
    server.stop()
    mend(volume, data)


def test_verify_beside_a_server_gives_no_false_alarm(place):
    volume = place.volume("ec21", size=4 * MIB)
    server = volume.serve()
    h = server.connect()
    for i in range(4):
        write = h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(
            random_bytes(2 * MIB, i))), (i % 2) * 2 * MIB)
        volume.verify(0, "--full")
        poll(lambda w=write: h.poll(10) >= 0 and h.aio_command_completed(w),
             "the write")
    volume.verify(0, "--quick")
    server.stop()
    volume.verify(0, "--full")


def test_rebuild_is_refused_beside_a_server_that_cant_be_asked(place):
    volume = place.volume("ec21", size=4 * MIB)
    volume.fill(12)
    delete(volume, "a", 1)
    server = volume.serve()
    for control in volume.cache.glob("*.control"):
        control.unlink()
    done = volume.repair("rebuild", volume.name)
    assert done.returncode not in (0, 1, 2)
    assert str(server.process.pid) in done.stderr
    server.stop()
    mend(volume, volume.content())


def test_hostile_names_in_a_part_are_left_alone(place):
    volume = small(place, "r2")
    data = volume.fill(13)
    part = volume.part_dir("a")
    for name in ("0", "00", "99999999999999999999", "-1", "1 ", "core"):
        (part / name).write_bytes(b"x" * 5000)
    assert_same(volume.content(), data)
    assert (part / "core").exists()


def test_quick_verify_finds_what_is_missing(place):
    volume = small(place, "ec42")
    volume.fill(14)
    volume.verify(0, "--quick")
    delete(volume, "c", 4)
    truncate(volume, "d", 5)
    report = volume.verify(1, "--quick")
    found = {p["part"]: p for p in report["parts"]}
    assert found["c"]["missing"] == 1
    assert found["d"]["corrupt"] == 1
    done = run("ls", volume.part_dir("c"))
    assert "4\n" not in done.stdout.splitlines(keepends=True)
