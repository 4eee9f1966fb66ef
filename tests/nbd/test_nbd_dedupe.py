"""lsvd-dedupe: volumes that share blocks with read-only ones."""

import json
import signal
import subprocess
import threading
import time

import pytest

from nbdharness import (BUILD, KIB, LSVD, MIB, assert_same, has_faults,
                        one_line, poll, random_bytes, read_all, run,
                        set_rules, tree_state)

DEDUPE = BUILD / "dedupe" / "lsvd-dedupe"
POLICIES = ["r1", "r3", "ec42"]
SIZE = 24 * MIB
FULL = range(MIB, 21 * MIB)  # of the image: data


def lsvd(volume, *words, code=0):
    done = run(LSVD, *words, *volume.where(), check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def lsvd_succeeds(volume, *words):
    return run(LSVD, *words, *volume.where(), check=False).returncode == 0


def dedupe(volume, name, *words, code=0):
    done = run(DEDUPE, name, "--json", *words, *volume.where(), check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout) if code == 0 else one_line(done.stderr)


def serve(volume, name, *parameters):
    return volume.place.serve(name, *volume.parameters()[1:], *parameters)


def image():
    data = bytearray(SIZE)
    data[FULL.start:FULL.stop] = random_bytes(len(FULL), 1)
    return data


def write_image(server, data):
    h = server.connect()
    for at in range(FULL.start, FULL.stop, MIB):
        h.pwrite(bytes(data[at:at + MIB]), at)
    h.shutdown()


def two_copies(place, policy):
    """golden, which is read-only, and vm, with the same image, each alone."""
    data = image()
    volume = place.volume(policy, name="golden", size=SIZE, chunk=4 * MIB)
    server = volume.serve()
    write_image(server, data)
    server.stop()
    lsvd(volume, "set", "golden", "read-only=on")
    lsvd(volume, "clone", "golden", "vm")  # of the same shape and places
    lsvd(volume, "flatten", "vm")
    return volume, data


def used(volume, name):
    """Bytes that the files of a volume's chunks take on all parts."""
    number = json.loads(lsvd(volume, "info", name, "--json").stdout)["number"]
    return sum(path.stat().st_blocks * 512
               for root in volume.roots.values()
               for path in (root / str(number)).glob("?/[0-9]*"))


def check(volume, name, data):
    server = serve(volume, name)
    assert_same(read_all(server.connect(), len(data)), bytes(data))
    server.stop()
    done = volume.repair("verify", name, "--full")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("policy", POLICIES)
def test_a_copy_gives_its_space_back(place, policy):
    volume, data = two_copies(place, policy)
    before = used(volume, "vm")
    roots = list(volume.roots.values())
    state = tree_state(*roots)
    told = dedupe(volume, "vm", "--source", "golden", "--estimate")
    assert {k: v for k, v in tree_state(*roots).items()
            if k.split("/")[-1][0].isdigit()} == {
                k: v for k, v in state.items()
                if k.split("/")[-1][0].isdigit()}
    done = dedupe(volume, "vm", "--source", "golden")
    after = used(volume, "vm")
    assert done["blocks_matched"] == len(FULL) // 4096
    assert done["bytes_given_back"] == before - after
    assert after <= before * 5 // 100
    assert told["blocks_matched"] == done["blocks_matched"]
    assert abs(told["bytes_given_back"] - done["bytes_given_back"]) <= \
        done["bytes_given_back"] // 100
    check(volume, "vm", data)
    again = dedupe(volume, "vm", "--source", "golden")
    assert again["blocks_matched"] == again["bytes_given_back"] == 0
    for words in (["remove", "golden"], ["set", "golden", "read-only=off"]):
        assert "vm" in one_line(lsvd(volume, *words, code=1).stderr)
    dedupe(volume, "vm", "--rehydrate")
    assert used(volume, "vm") >= before * 95 // 100
    check(volume, "vm", data)
    lsvd(volume, "remove", "golden")
    check(volume, "vm", data)


class Storm(threading.Thread):
    """Writes here and there, some of it what golden has elsewhere."""

    def __init__(self, server, data):
        super().__init__()
        self.server, self.data = server, data
        self.golden = bytes(data)
        self.ending, self.writes = threading.Event(), 0

    def run(self):
        h = self.server.connect()
        while not self.ending.is_set():
            n = self.writes
            at = n * 1009 % (SIZE // 4096 - 8) * 4096
            if n % 3 == 0:
                new = random_bytes(4096, n)
            elif n % 3 == 1:
                start = n * 499 % (20 * MIB // 4096) * 4096
                new = self.golden[start:start + 8192]
            else:
                at, new = at + 100, random_bytes(3000, n)
            h.pwrite(new, at)
            self.data[at:at + len(new)] = new
            self.writes += 1
            if n % 50 == 0:
                h.flush()
        h.flush()
        h.shutdown()


@pytest.mark.parametrize("policy", POLICIES)
def test_while_it_is_written(place, policy):
    volume, data = two_copies(place, policy)
    server = serve(volume, "vm")
    storm = Storm(server, data)
    storm.start()
    poll(lambda: storm.writes > 20, "writes")
    found = dedupe(volume, "vm", "--source", "golden")
    more = storm.writes
    poll(lambda: storm.writes > more + 20, "writes afterwards")
    storm.ending.set()
    storm.join()
    assert found["blocks_matched"] > len(FULL) // 4096 // 4
    assert_same(read_all(server.connect(), SIZE), bytes(data))
    dedupe(volume, "vm", "--source", "golden")
    assert_same(read_all(server.connect(), SIZE), bytes(data))
    server.kill()
    check(volume, "vm", data)


def test_killed_and_run_again(place):
    volume, data = two_copies(place, "r3")
    for i in range(6):
        process = subprocess.Popen(
            [str(w) for w in (DEDUPE, "vm", "--source", "golden",
                              "--max-mbps", 8 + 8 * i, *volume.where())],
            stdout=subprocess.DEVNULL)
        refs = list(volume.roots["a"].glob("12/a/*.refs"))
        poll(lambda: process.poll() is not None or
             len(list(volume.roots["a"].glob("12/a/*.refs"))) > len(refs),
             "a reference file more")
        process.send_signal(signal.SIGKILL)
        process.wait()
        check(volume, "vm", data)
    dedupe(volume, "vm", "--source", "golden")
    check(volume, "vm", data)


def test_the_server_is_killed_meanwhile(place):
    volume, data = two_copies(place, "ec42")
    server = serve(volume, "vm")
    process = subprocess.Popen(
        [str(w) for w in (DEDUPE, "vm", "--source", "golden", "--max-mbps",
                          16, *volume.where())],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    poll(lambda: list(volume.roots["a"].glob("12/a/*.refs")),
         "a reference file")
    server.kill()
    assert "server ended" in one_line(process.communicate(timeout=60)[1])
    assert process.returncode == 1
    check(volume, "vm", data)
    dedupe(volume, "vm", "--source", "golden")
    check(volume, "vm", data)


def test_interrupted(place):
    volume, data = two_copies(place, "r1")
    process = subprocess.Popen(
        [str(w) for w in (DEDUPE, "vm", "--source", "golden", "--max-mbps",
                          2, *volume.where())],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    poll(lambda: list(volume.roots["a"].glob("12/a/*.refs")),
         "a reference file")
    process.send_signal(signal.SIGINT)
    assert "interrupted" in one_line(process.communicate(timeout=60)[1])
    assert process.returncode == 1
    check(volume, "vm", data)


def test_bad_input_changes_nothing(place):
    volume, data = two_copies(place, "r1")
    other = place.volume("r1", name="small", size=4 * MIB)
    lsvd(volume, "clone", "golden", "written")
    for words, says in (
            (["--source", "vm"], "itself"),
            (["--source", "written"], "read-only"),
            (["--source", "nobody"], "nobody"),
            (["--source", "golden", "--source", "golden"], "twice")):
        assert says in dedupe(volume, "vm", *words, code=1)
    for words in ([], ["--source", "golden", "--rehydrate"],
                  ["--source", "golden", "--memory", "1K"],
                  ["--source", "golden", "--max-mbps", "-1"]):
        assert run(DEDUPE, "vm", *words, *volume.where(),
                   check=False).returncode == 64
    assert "golden" in dedupe(volume, "golden", "--source", "golden", code=1)
    assert "nobody" in dedupe(other, "nobody", "--source", "small", code=1)
    assert not list(volume.roots["a"].glob("12/a/*.refs"))
    check(volume, "vm", data)


def test_a_part_without_its_reference_files(place):
    volume, data = two_copies(place, "r3")
    dedupe(volume, "vm", "--source", "golden")
    for path in volume.roots["b"].glob("12/b/*.refs"):
        path.unlink()
    done = volume.repair("verify", "vm", "--full")
    assert done.returncode == 1 and "reference file" in done.stdout
    done = volume.repair("rebuild", "vm")
    assert done.returncode == 0, done.stdout + done.stderr
    check(volume, "vm", data)
    volume.roots["c"].rename(volume.roots["c"].with_name("away"))
    volume.roots["c"].mkdir()
    done = volume.repair("replace", "vm", "c")
    assert done.returncode == 0, done.stdout + done.stderr
    for letter in "ab":
        for path in volume.roots[letter].glob(f"12/{letter}/*.refs"):
            path.unlink()
    server = serve(volume, "vm")
    assert_same(read_all(server.connect(), SIZE), bytes(data))
    server.kill()


def test_what_is_allocated(place):
    """A reference is data."""
    volume, _ = two_copies(place, "r1")
    dedupe(volume, "vm", "--source", "golden")
    server = serve(volume, "vm")
    done = run("nbdinfo", "--map", "--json", server.uri())
    hole = [e for e in json.loads(done.stdout) if e["type"] & 1]
    assert [(e["offset"], e["length"]) for e in hole] == [
        (0, FULL.start), (FULL.stop, SIZE - FULL.stop)]
    server.stop()


def test_little_memory(place):
    """The index is sorted in pieces, and blocks are found all the same."""
    volume, data = two_copies(place, "r1")
    done = dedupe(volume, "vm", "--source", "golden", "--memory", "1M")
    assert done["blocks_matched"] == len(FULL) // 4096
    assert done["index_memory_bytes"] <= MIB + 64 * KIB
    check(volume, "vm", data)


# ---- what snapshots hold ----

def snapshot_of(volume, data):
    """vm@then, which has what golden has, and vm, which has no more of it."""
    lsvd(volume, "snapshot", "create", "vm@then")
    return bytes(data)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_snapshot_while_the_volume_is_written(place, policy):
    volume, data = two_copies(place, policy)
    server = serve(volume, "vm")
    then = snapshot_of(volume, data)
    before = used(volume, "vm@then")
    storm = Storm(server, data)
    storm.start()
    poll(lambda: storm.writes > 20, "writes")
    told = dedupe(volume, "vm@then", "--source", "golden", "--estimate")
    found = dedupe(volume, "vm@then", "--source", "golden")
    more = storm.writes
    poll(lambda: storm.writes > more + 20, "writes afterwards")
    storm.ending.set()
    storm.join()
    assert found["blocks_matched"] == len(FULL) // 4096
    assert told["blocks_matched"] == found["blocks_matched"]
    assert abs(told["bytes_given_back"] - found["bytes_given_back"]) <= \
        found["bytes_given_back"] // 100
    assert used(volume, "vm@then") == before - found["bytes_given_back"]
    assert_same(read_all(server.connect(), SIZE), bytes(data))
    again = dedupe(volume, "vm@then", "--source", "golden")
    assert again["blocks_matched"] == 0
    server.kill()
    check(volume, "vm", data)
    check(volume, "vm@then", then)
    assert "vm@then" in one_line(lsvd(volume, "remove", "golden",
                                      code=1).stderr)
    dedupe(volume, "vm@then", "--rehydrate")
    check(volume, "vm@then", then)
    lsvd(volume, "remove", "golden")
    check(volume, "vm", data)


def run_slowly(volume, name):
    return subprocess.Popen(
        [str(w) for w in (DEDUPE, name, "--source", "golden", "--max-mbps",
                          8, *volume.where())],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("end", ["kill", "stop", "interrupt"])
def test_a_snapshot_and_the_end_of_it(place, end):
    volume, data = two_copies(place, "r3")
    server = serve(volume, "vm")
    then = snapshot_of(volume, data)
    process = run_slowly(volume, "vm@then")
    poll(lambda: list(volume.roots["a"].glob("12/a/*.refs")),
         "a reference file")
    if end == "kill":
        server.kill()
    elif end == "stop":
        server.stop()
    else:
        process.send_signal(signal.SIGINT)
    one_line(process.communicate(timeout=60)[1])
    assert process.returncode == 1
    if end == "interrupt":
        assert_same(read_all(server.connect(), SIZE), bytes(data))
        poll(lambda: lsvd_succeeds(volume, "snapshot", "create", "vm@more"),
             "the server to be done with it")
        server.stop()
    check(volume, "vm", data)
    check(volume, "vm@then", then)
    assert dedupe(volume, "vm@then", "--source",
                  "golden")["blocks_matched"] > 0
    check(volume, "vm@then", then)
    check(volume, "vm", data)


def read_slowly(volume, h, data, rules):
    """The parts answer late, yet soon enough but for a server that ends."""
    set_rules(rules, "".join(f"[{letter}]\npath={volume.roots[letter]}/12/*\n"
                             "call=read\ndelay-ms=4500\n"
                             for letter in "ab"))
    for at in range(20 * MIB, 10 * MIB, -4 * KIB):
        begun = time.monotonic()
        assert_same(h.pread(4 * KIB, at), data[at:at + 4 * KIB])
        if time.monotonic() - begun > 4:  # the rules are in force
            break
    else:
        pytest.fail("no read was slow")
    set_rules(rules, "")


def test_a_snapshot_that_is_needed_twice(place):
    """vm goes on from it, and has references to it; and what a kill left in
    its journal can't be moved, as a part is away."""
    volume, data = two_copies(place, "r3")
    then = snapshot_of(volume, data)
    server = serve(volume, "vm")
    h = server.connect()
    for at in range(5 * MIB, 9 * MIB, MIB):
        h.pwrite(then[at:at + MIB], at)
    h.flush()
    assert dedupe(volume, "vm", "--source", "vm@then")["blocks_matched"] > 0
    lsvd(volume, "snapshot", "create", "vm@two")
    h.pwrite(then[9 * MIB:10 * MIB], 9 * MIB)
    h.flush()
    assert dedupe(volume, "vm", "--source", "vm@then")["blocks_matched"] > 0
    server.stop()
    process = run_slowly(volume, "vm@then")
    poll(lambda: list(volume.roots["a"].glob("12/a/*.refs")),
         "a reference file")
    process.kill()
    process.communicate()
    part = volume.roots["c"] / "12" / "c"
    part.rename(part.with_name("away"))
    rules = place.path / "rules"
    rules.write_text("")
    has_fault = has_faults()
    for turn in range(2):
        server = serve(volume, "vm", *[f"fault={rules}"] * has_fault)
        h = server.connect()
        # of vm@two, the first time: what that needed, too, is not let go
        assert "needed twice" in one_line(lsvd(volume, "flatten", "vm",
                                               code=1).stderr)
        if has_fault and turn == 0:
            read_slowly(volume, h, then, rules)
        elif turn == 0:
            print("without parts that are slow: built without fault=")
        assert_same(read_all(h, SIZE), then)
        h.pwrite(b"new", 6 * MIB)
        h.flush()
        data[6 * MIB:6 * MIB + 3] = b"new"
        then = bytes(data)
        server.kill()
    part.with_name("away").rename(part)
    check(volume, "vm", data)
    lsvd(volume, "flatten", "vm")
    check(volume, "vm", data)
    assert volume.repair("verify", "vm@then", "--full").returncode == 0


def test_a_snapshot_that_somebody_reads(place):
    """What others have open is not added to."""
    volume, data = two_copies(place, "r1")
    then = snapshot_of(volume, data)
    lsvd(volume, "clone", "vm@then", "other")
    server = serve(volume, "other")
    assert "vm@then" in dedupe(volume, "vm@then", "--source", "golden",
                               code=1)
    assert_same(read_all(server.connect(), SIZE), then)
    server.stop()
    assert dedupe(volume, "vm@then", "--source", "golden")[
        "blocks_matched"] == len(FULL) // 4096
    check(volume, "other", then)
    check(volume, "vm", data)


def test_bad_input_for_snapshots(place):
    volume, data = two_copies(place, "r1")
    then = snapshot_of(volume, data)
    lsvd(volume, "snapshot", "create", "vm@later")
    for served in (False, True):
        server = serve(volume, "vm") if served else None
        for name, source, says in (("vm@never", "golden", "vm@never"),
                                   ("vm@then", "vm@then", "itself"),
                                   ("vm@then", "vm@later", "needs"),
                                   ("vm@then", "vm",
                                    "in use" if served else "read-only"),
                                   ("golden@then", "golden", "golden@then")):
            assert says in dedupe(volume, name, "--source", source, code=1)
        if server:
            server.stop()
    assert not list(volume.roots["a"].glob("*/a/*.refs"))
    check(volume, "vm@then", then)
    check(volume, "vm", data)
