"""lsvd-repair: verify, rebuild, replace; exit status and JSON."""
import json
import os
import pty
import shutil
import signal
import subprocess

import pytest

from tools import BUILD

REPAIR = BUILD / "repair" / "lsvd-repair"
COUNTS = ["healthy", "missing", "stale", "corrupt"]


def report(world, code, *words):
    done = world.repair(*words, "--json")
    assert done.code == code, done.out + done.err
    result = done.json()
    if isinstance(result, dict):
        assert result["exit_code"] == code
    return result


def counts(result, letter):
    part = next(p for p in result["parts"] if p["part"] == letter)
    return [part[c] for c in COUNTS]


def test_a_new_volume_is_fine(world):
    world.create("vm1", "--ec", "2+1")
    for how in ("--quick", "--full"):
        result = report(world, 0, "verify", "vm1", how)
        assert result["volume"] == "vm1"
        assert result["policy_met"] is True
        assert result["data_lost"] is False
        assert [counts(result, p) for p in "abc"] == [[0, 0, 0, 0]] * 3


def test_healthy_chunks_are_counted(world):
    world.create("vm1", "--replicas", "3")
    world.fill("vm1", 2 << 20)
    result = report(world, 0, "verify", "vm1")
    assert result["full"] is True
    assert [counts(result, p) for p in "abc"] == [[8, 0, 0, 0]] * 3
    assert result["sum"]["healthy"] == 24
    assert result["findings"] == []


@pytest.mark.parametrize("how", ["--quick", "--full"])
def test_a_missing_chunk_is_found_and_rebuilt(world, how):
    world.create("vm1", "--ec", "2+1")
    data = world.fill("vm1")
    victim = world.chunks("b")[2]
    before = victim.read_bytes()
    victim.unlink()
    result = report(world, 1, "verify", "vm1", how)
    assert counts(result, "b")[1] == 1
    assert counts(result, "a")[1] == counts(result, "c")[1] == 0
    assert result["policy_met"] is False
    assert result["data_lost"] is False
    finding = result["findings"][0]
    assert (finding["part"], finding["kind"]) == ("b", "missing")
    assert finding["chunk"] == int(victim.name)
    assert finding["file"] == str(victim)

    result = report(world, 0, "rebuild", "vm1")
    assert result["rebuilt"] == 1
    assert len(victim.read_bytes()) == len(before)
    assert report(world, 0, "verify", "vm1")["policy_met"] is True
    assert world.read("vm1", len(data)) == data


def test_flipped_bytes_are_corrupt(world):
    world.create("vm1", "--replicas", "3")
    data = world.fill("vm1")
    victim = world.chunks("c")[0]
    with open(victim, "r+b") as f:
        f.seek(victim.stat().st_size - 5000)
        f.write(bytes(b ^ 0xff for b in data[:16]))
    result = report(world, 1, "verify", "vm1")
    assert counts(result, "c")[3] == 1
    report(world, 0, "rebuild", "vm1")
    report(world, 0, "verify", "vm1")
    assert world.read("vm1", len(data)) == data


def test_an_older_copy_is_stale(world):
    world.create("vm1", "--replicas", "3")
    world.fill("vm1", 1 << 20)
    victim = world.chunks("b")[1]
    older = victim.read_bytes()
    data = world.fill("vm1", 1 << 20)
    victim.write_bytes(older)
    result = report(world, 1, "verify", "vm1")
    assert counts(result, "b")[2] == 1
    report(world, 0, "rebuild", "vm1")
    report(world, 0, "verify", "vm1")
    assert world.read("vm1", len(data)) == data


def test_a_dry_run_changes_nothing(world):
    world.create("vm1", "--ec", "2+1")
    world.fill("vm1", 1 << 20)
    world.chunks("a")[0].unlink()
    before = world.files()
    result = report(world, 1, "rebuild", "vm1", "--dry-run")
    assert result["rebuilt"] == 0
    assert counts(result, "a")[1] == 1
    assert world.files() == before
    report(world, 1, "verify", "vm1")


def test_one_part_is_rebuilt_alone(world):
    world.create("vm1", "--replicas", "3")
    world.fill("vm1", 1 << 20)
    world.chunks("a")[0].unlink()
    world.chunks("b")[1].unlink()
    report(world, 1, "rebuild", "vm1", "--part", "b")
    result = report(world, 1, "verify", "vm1")
    assert counts(result, "a")[1] == 1
    assert counts(result, "b")[1] == 0


def test_lost_data_is_2_with_its_ranges(world):
    world.create("vm1", "--replicas", "2", parts=2)
    world.fill("vm1", 1 << 20)
    for letter in "ab":
        world.chunks(letter)[1].unlink()
    result = report(world, 2, "verify", "vm1")
    assert result["data_lost"] is True
    chunk = 256 << 10
    assert result["lost"] == [{"offset": chunk, "bytes": chunk}]
    assert result["lost_bytes"] == chunk
    done = world.repair("verify", "vm1")
    assert done.code == 2
    assert "lost: bytes %d-%d" % (chunk, 2 * chunk - 1) in done.out
    assert "(blocks 64-127)" in done.out
    assert world.repair("rebuild", "vm1").code == 2


@pytest.mark.parametrize("first,second", ["bc", "ab", "ca"])
def test_what_erasure_code_lost_is_never_zeroes(world, first, second):
    """The second chunk of two of three parts: half of it, or all, is gone."""
    world.create("vm1", "--ec", "2+1")
    data = world.fill("vm1", 1 << 20)
    for letter in (first, second):
        world.chunks(letter)[1].unlink()
    gone = [block for block in range(64, 128)
            if "ab"[block % 2] in first + second]
    # Nor does the attempt to rebuild make zeroes of it.
    for words in (["verify"], ["rebuild"], ["verify"]):
        result = report(world, 2, words[0], "vm1")
        assert result["lost_bytes"] == len(gone) * 4096
        assert world.read_fails("vm1", gone[0] * 4096)
        assert world.read_fails("vm1", gone[-1] * 4096)
    blocks = [block for block in range(256) if block not in gone]
    image = world.path / "readable"
    done = world.client("vm1", "with open('%s', 'wb') as f:\n"
                        "    for b in %s:\n"
                        "        f.write(h.pread(4096, b * 4096))"
                        % (image, blocks))
    assert done.code == 0, done.err
    assert image.read_bytes() == b"".join(
        data[b * 4096:(b + 1) * 4096] for b in blocks)
    assert result["lost"][0]["offset"] == gone[0] * 4096


def test_the_worst_of_several_volumes_counts(world):
    world.create("vm1", "--replicas", "2", parts=2)
    world.create("vm2", "--replicas", "2", parts=2)
    world.fill("vm1", 1 << 20)
    world.chunks("a")[0].unlink()
    results = report(world, 1, "verify", "vm1", "vm2")
    assert [(r["volume"], r["exit_code"]) for r in results] == [
        ("vm1", 1), ("vm2", 0)]
    results = report(world, 1, "verify", "--all")
    assert [r["volume"] for r in results] == ["vm1", "vm2"]
    done = world.repair("verify", "vm2", "nope", "vm1", "--json")
    assert done.code == 3
    results = done.json()
    assert [r["exit_code"] for r in results] == [0, 3, 1]
    assert results[1]["policy_met"] is None
    assert "nope" in results[1]["error"]


def test_quiet_prints_only_what_is_wrong(world):
    world.create("vm1", "--replicas", "2", parts=2)
    world.create("vm2", "--replicas", "2", parts=2)
    world.fill("vm1", 1 << 20)
    done = world.repair("verify", "--all", "-q")
    assert (done.code, done.out, done.err) == (0, "", "")
    world.chunks("b")[0].unlink()
    done = world.repair("verify", "--all", "-q")
    assert done.code == 1
    assert done.out.startswith("vm1: ")
    assert "vm2" not in done.out
    assert "\nlsvd" not in done.err


def test_nothing_to_check_is_not_fine(world):
    done = world.repair("verify", "--all")
    done.failed_with_one_line("lsvd-repair", 3)
    done = world.repair("verify", "nope")
    done.failed_with_one_line("lsvd-repair", 3, "nope")


@pytest.mark.parametrize("words", [
    [], ["verify"], ["verify", "x", "--all"], ["rebuild"], ["replace", "x"],
    ["replace", "x", "bb"], ["replace", "x", "b="], ["replace", "x", "B"],
    ["verify", "x", "--quick", "--full"], ["rebuild", "x", "--quick"],
    ["rebuild", "x", "--part", "bc"], ["replace", "x", "b", "--all"],
    ["frobnicate", "x"], ["verify", "x", "--frobnicate"],
])
def test_nonsense_is_64(world, words):
    done = world.repair(*words)
    done.failed_with_one_line("lsvd-repair", 64, "--help")


@pytest.mark.parametrize("policy,parts", [
    (["--replicas", "3"], 3), (["--ec", "2+1"], 3), (["--ec", "2+2"], 4)])
def test_an_emptied_part_is_replaced_in_its_place(world, policy, parts):
    world.create("vm1", *policy, parts=parts)
    data = world.fill("vm1")
    shutil.rmtree(world.part("b"))
    world.part("b").mkdir()
    result = report(world, 1, "verify", "vm1")
    assert result["policy_met"] is False
    # An empty directory is not a blank part: rebuild must not take it.
    assert world.repair("rebuild", "vm1").code != 0
    assert world.chunks("b") == []
    report(world, 0, "replace", "vm1", "b")
    report(world, 0, "verify", "vm1")
    assert world.read("vm1", len(data)) == data


def test_a_part_is_replaced_in_another_place(world):
    world.create("vm1", "--ec", "2+1")
    data = world.fill("vm1")
    shutil.rmtree(world.roots[2])
    done = world.repair("replace", "vm1", "c=%s" % world.roots[3])
    assert done.code == 0, done.out + done.err
    report(world, 0, "verify", "vm1")
    parts = world.lsvd("info", "vm1", "--json").json()["parts"]
    assert parts[2]["path"] == str(world.roots[3] / "11" / "c")
    assert world.read("vm1", len(data)) == data


def test_a_healthy_part_is_not_replaced(world):
    world.create("vm1", "--replicas", "3")
    world.fill("vm1", 1 << 20)
    before = world.files()
    done = world.repair("replace", "vm1", "b")
    assert done.code == 3
    assert "b" in done.err
    assert world.files() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_is_not_checked(world, number):
    """The signal is already pending when the program begins."""
    def make_pending():
        signal.pthread_sigmask(signal.SIG_BLOCK, [number])
        os.kill(os.getpid(), number)

    world.create("vm1", "--replicas", "2", parts=2)
    done = subprocess.run(
        [REPAIR, "verify", "vm1", "--json", *world.where()], text=True,
        capture_output=True, preexec_fn=make_pending, check=False)
    assert done.returncode == 3
    assert "interrupted" in done.stderr
    result = json.loads(done.stdout)
    assert result["error"] == "interrupted"
    assert result["policy_met"] is None


def on_a_terminal(*words):
    """What a program prints on a terminal, stdout apart."""
    ours, its = pty.openpty()
    with subprocess.Popen([str(w) for w in words], stderr=its,
                          stdout=subprocess.DEVNULL,
                          env=dict(os.environ, TERM="xterm")) as process:
        os.close(its)
        seen = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            seen += piece
    os.close(ours)
    return seen


def test_the_progress_bar_is_for_terminals(world):
    world.create("vm1", "--replicas", "3")
    world.fill("vm1")
    words = [REPAIR, "verify", "vm1", *world.where()]
    seen = on_a_terminal(*words)
    assert b"vm1 [" in seen and b"ETA" in seen
    assert seen.endswith(b"\r\033[K")
    assert on_a_terminal(*words, "--no-progress") == b""
    assert on_a_terminal(*words, "--quiet") == b""
    assert world.repair("verify", "vm1").err == ""
