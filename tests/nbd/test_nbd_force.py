"""lsvd-repair force-start: a start without what is lost for good, and what
becomes of that when it turns up again."""

import json
import os
import shutil

import pytest

from nbdharness import KIB, MIB, REPAIR, assert_same, one_line, \
    random_bytes, read_all, run, tree_state, write_all

SIZE = 16 * MIB
WHY = "the NVMe of n2 died, ticket 77"


def force(volume, expect, *words):
    done = volume.repair("force-start", volume.name, *words)
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def forced(volume, expect=2):
    return json.loads(force(volume, expect, f"--accept-loss={WHY}",
                            "--json").stdout)


def state(volume):
    """Who had the lock last, .lock tells; that is for people only."""
    found = tree_state(*volume.roots.values(), volume.cache)
    return {x: y for x, y in found.items() if not x.endswith("/.lock")}


def assert_old_or_new(got, old, new, block):
    for at in range(0, len(got), block):
        assert got[at:at + block] in (old[at:at + block],
                                      new[at:at + block]), f"at {at}"


def in_ranges(at, ranges):
    return any(r["offset"] <= at < r["offset"] + r["bytes"] for r in ranges)


def crash(volume, seed, more=2 * MIB):
    """All has random content; then new content is written, and the server
    killed before all of it is on the parts. Returns both."""
    old = volume.fill(seed)
    new = bytearray(old)
    server = volume.serve()
    h = server.connect()
    for at in range(0, SIZE, SIZE // 8):
        data = random_bytes(more // 8, f"{seed} {at}")
        h.pwrite(data, at)
        new[at:at + len(data)] = data
    h.flush()
    server.kill()
    return old, bytes(new)


@pytest.mark.parametrize("policy", ["r3", "ec42"])
def test_the_journal_is_deleted_after_a_kill(place, policy):
    volume = place.volume(policy, size=SIZE)
    old, new = crash(volume, policy)
    journal, = volume.cache.glob("*.journal")
    journal.unlink()
    assert "needs its journal" in place.refused(*volume.parameters())
    result = forced(volume)
    assert result["journal_lost_since"] > 0
    assert result["policy_met"] is True
    assert result["data_lost"] is False

    volume.verify()
    info = volume.info()
    assert info["accepted_loss"] is False
    assert info["clean"] is True
    line, = info["history"]
    assert line.endswith(f"@{os.uname().nodename}: {WHY}")
    got = volume.content()
    assert_old_or_new(got, old, new, volume.block)
    for letter in volume.letters[:volume.tolerance]:
        hidden = volume.roots[letter].with_suffix(".away")
        volume.roots[letter].rename(hidden)
        assert_same(volume.content(), got)
        hidden.rename(volume.roots[letter])


def test_a_damaged_journal_is_kept_aside(place):
    volume = place.volume("r3", size=SIZE)
    old, new = crash(volume, "damaged")
    journal, = volume.cache.glob("*.journal")
    with open(journal, "r+b") as f:
        for at in range(0, journal.stat().st_size, 4096):
            f.seek(at)
            f.write(b"\xa5" * 64)
    damaged = journal.read_bytes()
    assert forced(volume)["policy_met"] is True
    aside, = volume.cache.glob("*.given-up-1")
    assert aside.read_bytes() == damaged
    assert_old_or_new(volume.content(), old, new, volume.block)


@pytest.mark.parametrize("other", ["nothing else", "an empty directory"])
def test_a_part_that_can_not_be_looked_at_is_not_left_out(place, other):
    """It may be back in a moment, with what the others do not have (FO6)."""
    volume = place.volume("r3", size=SIZE)
    crash(volume, "loop")
    journal, = volume.cache.glob("*.journal")
    journal.unlink()
    part = volume.part_dir("b")
    aside = part.with_name("aside")
    part.rename(aside)
    part.symlink_to(part)
    if other == "an empty directory":
        (volume.part_dir("c").parent / "b").mkdir()
    before = state(volume)
    done = force(volume, 3, f"--accept-loss={WHY}")
    assert "part b fails" in one_line(done.stderr)
    assert state(volume) == before
    part.unlink()
    aside.rename(part)
    assert forced(volume)["policy_met"] is True
    volume.verify()


def test_replicas_that_differ_are_listed_and_made_alike(place):
    """As a destage that was cut short leaves them, and the journal gone."""
    volume = place.volume("r2", size=SIZE)
    old, _ = crash(volume, "differ", more=8 * KIB)
    aside = place.root("aside")
    for letter in "ab":  # chunk 3 as it was, on b alone
        shutil.copy(volume.chunk_file(letter, 3), aside / letter)
    journal, = volume.cache.glob("*.journal")
    kept = journal.read_bytes()
    labels = {x: (volume.part_dir(x) / ".label").read_bytes() for x in "ab"}
    chunks = {x: (volume.part_dir(x) / ".chunks").read_bytes() for x in "ab"}
    server = volume.serve()
    h = server.connect()
    change = random_bytes(12 * KIB, "change")
    at = 2 * volume.chunk + 8 * KIB
    h.pwrite(change, at)
    h.flush()
    server.stop()
    for letter in "ab":
        (volume.part_dir(letter) / ".label").write_bytes(labels[letter])
        (volume.part_dir(letter) / ".chunks").write_bytes(chunks[letter])
    shutil.copy(aside / "b", volume.chunk_file("b", 3))
    assert kept and journal.exists()
    journal.unlink()

    result = forced(volume)
    for offset in range(at, at + len(change), volume.block):
        assert in_ranges(offset, result["doubtful"])
    assert sum(r["bytes"] for r in result["doubtful"]) <= 1 * MIB
    volume.verify()
    a, b = [{path.name: path.read_bytes()[-volume.chunk:]
             for path in volume.part_dir(letter).glob("[0-9]*")}
            for letter in "ab"]  # the data of each chunk
    assert a == b
    content = volume.content(options=["-r"])
    assert content[at:at + len(change)] == change
    assert content[:volume.chunk] != bytes(volume.chunk)
    assert len(old) == len(content)


def test_one_of_two_is_lost_and_comes_back(place):
    volume = place.volume("r2", size=SIZE)
    old = volume.fill("one of two")
    away = volume.roots["b"].with_suffix(".away")
    volume.roots["b"].rename(away)
    server = volume.serve()  # nothing is known of b, but that we wrote no more
    assert server.connect().is_read_only()
    server.stop()
    result = forced(volume, 1)
    assert result["journal_lost_since"] is None
    assert result["doubtful"] == []
    new = bytearray(old)
    new[:MIB] = random_bytes(MIB, "new")
    server = volume.serve()
    h = server.connect()
    write_all(h, bytes(new[:MIB]))
    away.rename(volume.roots["b"])  # as it was: it is taken back
    server.stop()
    done = volume.repair("rebuild", volume.name)
    assert done.returncode == 0, done.stdout + done.stderr
    volume.verify()
    assert_same(volume.content(), bytes(new))


@pytest.mark.parametrize("starts", [1, 5])
def test_a_part_with_its_own_history_has_diverged(place, starts):
    """Both halves of a pair are forced; whichever is the volume then, the
    other one is not merged into it."""
    volume = place.volume("r2", size=SIZE)
    volume.fill("halves")
    away = volume.roots["b"].with_suffix(".away")
    volume.roots["b"].rename(away)
    forced(volume, 1)
    for _ in range(starts):
        server = volume.serve()
        write_all(server.connect(), random_bytes(MIB, "a's"))
        server.stop()
    ours = volume.content()

    volume.roots["a"].rename(volume.roots["a"].with_suffix(".away"))
    away.rename(volume.roots["b"])
    forced(volume, 1)
    server = volume.serve()
    write_all(server.connect(), random_bytes(MIB, "b's"))
    server.stop()
    theirs = state(volume)

    volume.roots["a"].with_suffix(".away").rename(volume.roots["a"])
    volume.roots["b"].rename(away)
    assert_same(volume.content(), ours)
    away.rename(volume.roots["b"])
    done = volume.repair("rebuild", volume.name)
    assert done.returncode in (1, 3), done.stdout + done.stderr
    assert "was written to after the volume had dropped it" in done.stderr
    for path, found in theirs.items():
        if "/root-b/" in path and path.rsplit("/", 1)[1].isdigit():
            assert state(volume)[path] == found, path


def test_two_of_three_are_lost(place):
    volume = place.volume("r3", size=SIZE)
    old = volume.fill("two of three")
    for letter in "bc":
        shutil.rmtree(volume.roots[letter])
    forced(volume, 1)
    fresh = place.root("fresh")
    done = volume.repair("replace", volume.name, f"b={fresh}")
    assert done.returncode == 1, done.stdout + done.stderr
    server = volume.serve()
    h = server.connect()
    assert not h.is_read_only()
    assert_same(read_all(h, SIZE), old)
    server.stop()


def test_it_is_refused_when_it_is_not_needed(place):
    volume = place.volume("r3", size=SIZE)
    volume.fill("not needed")
    before = state(volume)
    done = force(volume, 3, f"--accept-loss={WHY}")
    assert "starts without this" in one_line(done.stderr)
    assert state(volume) == before
    crash(volume, "dirty")
    before = state(volume)
    done = force(volume, 3, f"--accept-loss={WHY}")
    assert "starts without this" in one_line(done.stderr)
    assert state(volume) == before


@pytest.mark.parametrize("words", [[], ["--accept-loss="],
                                   ["--accept-loss=  "],
                                   ["--accept-loss"]])
def test_without_a_reason_nothing_is_changed(place, words):
    volume = place.volume("r2", size=SIZE)
    shutil.rmtree(volume.roots["b"])
    before = state(volume)
    done = run(REPAIR, "force-start", volume.name, *volume.where(), *words,
               check=False)
    assert done.returncode == 64
    one_line(done.stderr)
    assert state(volume) == before


def test_too_few_parts_can_not_be_forced(place):
    volume = place.volume("ec42", size=SIZE)
    volume.fill("too few")
    for letter in "abc":
        shutil.rmtree(volume.roots[letter])
    before = state(volume)
    done = force(volume, 3, f"--accept-loss={WHY}")
    assert "3 of the 4 parts" in done.stderr
    assert state(volume) == before
