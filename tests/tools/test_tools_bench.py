"""The benchmark works. How fast anything is is not looked at here."""
import json
import math
import subprocess
import sys
import types
import xml.dom.minidom

import pytest

from tools import BUILD, SOURCES, run

sys.path.append(str(SOURCES / "bench"))
import clients  # noqa: E402
import counts  # noqa: E402
import figures  # noqa: E402
import workloads  # noqa: E402


@pytest.fixture
def work(tmp_path):
    """Where the volumes lie for a while."""
    path = tmp_path / "work"
    path.mkdir()
    yield path
    assert list(path.iterdir()) == []  # nothing is left behind


def test_run_measures_judges_and_reports(tmp_path, work):
    done = run(SOURCES / "bench" / "run", "--tiny", "--build", BUILD,
               "--dir", work, "--systems", "lsvd-ec",
               "--workloads", "seq-write,write-flush-32,read",
               "--json", tmp_path / "json", "--svg", tmp_path / "svg")
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "json").read_text())
    assert found["failures"] == []
    for workload in ("seq-write", "write-flush-32", "read"):
        for system in ("file", "lsvd-ec", "memory"):
            assert found["medians"][workload][system] > 0
            assert found["figures"][workload][system]["syscalls"] > 0
    # What is compared with whom, and what is not, is in the report.
    assert found["absent"]["nbd-server"] == "not among --systems"
    assert "not run: not among --systems" in done.out
    assert {(t["workload"], t["than"]) for t in found["targets"]} == {
        ("seq-write", "file"), ("write-flush-32", "file"),
        ("read", "memory")}
    assert {t["verdict"] for t in found["targets"]} <= {"met", "missed"}
    # Figures that do not depend on the machine.
    ours = found["figures"]
    assert 1.5 < ours["seq-write"]["lsvd-ec"]["parts"] < 1.7
    assert 1.1 < ours["write-flush-32"]["lsvd-ec"]["journal"] < 6
    assert 0 < ours["write-flush-32"]["lsvd-ec"]["journal_syncs"] <= 1
    assert ours["read"]["lsvd-ec"]["hit_share"] == 1
    for system, copies in (("file", 0), ("memory", 1), ("lsvd-ec", 1)):
        assert ours["read"][system]["copies"] == pytest.approx(copies,
                                                               abs=0.05)
    assert ours["seq-write"]["file"]["kernel"] == pytest.approx(1, abs=0.01)
    picture = xml.dom.minidom.parseString((tmp_path / "svg").read_text())
    assert len(picture.getElementsByTagName("rect")) > 3


def test_only_the_same_seed_asks_for_the_same_places(tmp_path):
    """Else what is counted after a cold run was read before."""
    file = types.SimpleNamespace(process=None, path=tmp_path / "file")
    (tmp_path / "file").write_bytes(bytes(1 << 20))

    def places(seed):
        log = tmp_path / "log"
        log.unlink(missing_ok=True)
        clients.run_fio(file, [*workloads.RANDREAD, "--size=1M",
                               "--io_size=64k", "--direct=0",
                               "--write_iolog=%s" % log], seed)
        return [words[3] for words in map(str.split, log.open())
                if "read" in words]

    assert len(places(1)) == 16
    assert places(1) == places(1)
    assert places(1) != places(2)


def test_compare_sets_two_builds_beside_each_other(tmp_path, work):
    done = run(SOURCES / "bench" / "compare", "--tiny", "--runs", 2,
               "--base", BUILD, "--new", BUILD, "--dir", work,
               "--policies", "1", "--workloads", "read",
               "--json", tmp_path / "json")
    assert done.code == 0, done.err
    row, = json.loads((tmp_path / "json").read_text())["rows"]
    assert row["policy"] == "1"
    assert row["ratio"]["least"] <= row["ratio"]["median"] \
        <= row["ratio"]["most"]
    assert "new / base" in done.out


@pytest.mark.parametrize("option", [
    ["--systems", "nothing"], ["--workloads", "nothing"], ["--size", "1"]])
def test_run_refuses_nonsense(work, option):
    done = run(SOURCES / "bench" / "run", *option, "--dir", work)
    assert done.code == 2
    assert "bench/run: error:" in done.err
    assert "Traceback" not in done.err


def test_micro_times_the_pieces():
    done = run(BUILD / "bench" / "micro", "--batches", 1, "--json")
    assert done.code == 0, done.err
    assert len(done.json()) > 10
    assert all(piece["ns"] > 0 for piece in done.json())


@pytest.mark.parametrize("counter", [counts.Perf, counts.Strace,
                                     counts.Proc])
def test_each_way_to_count_counts(tmp_path, counter):
    program = ("import os, sys\n"
               "print(flush=True)\n"
               "sys.stdin.readline()\n"
               "for _ in range(500): os.write(1, b'x')\n"
               "print(flush=True)\n"
               "sys.stdin.readline()\n")
    with subprocess.Popen([sys.executable, "-c", program], text=True,
                          stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        process.stdout.readline()  # it has started
        try:
            counting = counter(process.pid)
        except (counts.Failed, OSError) as error:
            process.kill()
            pytest.skip("not here: %s" % error)
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        counted = counting.end()
        process.kill()
    assert 500 <= counted["syscalls"] < 600
    if counter is not counts.Proc:
        assert 500 <= counted["socket"] < 520  # write is among them


def results(**values):
    """Of one workload: system -> value in run 0, 1, …"""
    return [{"workload": values["workload"], "system": system.replace(
                "_", "-"), "run": n, "value": v}
            for system, list_ in values.items() if system != "workload"
            for n, v in enumerate(list_)]


class System:
    def __init__(self, key, policy=None):
        self.key, self.policy, self.copies = key, policy, 1.0


def test_ratios_are_taken_within_a_run():
    f = figures.Figures(results(workload="write-burst", file=[1, 10, 100],
                                lsvd_1=[6, 20, 400]), {}, [])
    # Medians by each other would be 2.
    assert vars(f.ratio("write-burst", "lsvd-1")) == {
        "median": 4, "least": 2, "most": 6}


def test_a_latency_is_better_when_less():
    f = figures.Figures(results(workload="write-flush-1", file=[300, 300],
                                lsvd_1=[100, 100]), {}, [])
    assert f.ratio("write-flush-1", "lsvd-1").median == 3


def test_a_run_that_failed_is_not_paired():
    found = results(workload="write-burst", file=[1, 1], lsvd_1=[6, 8])
    f = figures.Figures(found[1:], {}, [])
    assert f.ratio("write-burst", "lsvd-1").median == 8
    assert math.isnan(figures.Figures(found[2:], {}, []).ratio(
        "write-burst", "lsvd-1").median)


@pytest.mark.parametrize("value, verdict", [
    (5.0, "met"), (4.99, "missed"), (math.nan, "not measured")])
def test_targets_are_judged(value, verdict):
    f = figures.Figures(
        results(workload="write-burst", file=[1], lsvd_1=[value]), {},
        [System("file"), System("lsvd-1", "1")])
    judged, = f.verdicts()
    assert judged["at_least"] == 5.0
    assert judged["verdict"] == verdict


def test_each_target_is_of_a_workload_there_is():
    for target in workloads.TARGETS + workloads.COUNT_TARGETS:
        assert target.workload in workloads.BY_KEY


@pytest.mark.parametrize("refusals", [2, 1000])
def test_a_counter_that_refuses_is_asked_again(refusals):
    asked = []

    def counter(pid):
        asked.append(pid)
        if len(asked) <= refusals:
            raise counts.Failed("a thread has ended")
        return "counter"

    if refusals == 2:
        assert counts.start_counting(counter, 7) == "counter"
    else:
        with pytest.raises(counts.Failed):
            counts.start_counting(counter, 7)


def test_readcache_measures_slow_parts(tmp_path, work):
    if b"\0fault\0" not in (BUILD / "plugin" /
                             "nbdkit-lsvd-plugin.so").read_bytes():
        pytest.skip("built without the parameter fault=")
    done = run(SOURCES / "bench" / "readcache", "--build", BUILD, "--dir",
               work, "--size", 32, "--working-set", 16, "--cache", 32,
               "--ram", 2, "--seconds", 1, "--warm", 8, "--runs", 1,
               "--json", tmp_path / "json")
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "json").read_text())
    assert len(found) == 14
    # However slow this machine is, it is not ten times as slow as that.
    assert found["slow, cache, warm QD1"][0] > \
        3 * found["slow, no cache QD1"][0]


def test_failures_measures_each_phase(tmp_path, work):
    done = run(SOURCES / "bench" / "failures", "--build", BUILD, "--dir",
               work, "--size", 32, "--ram", 4, "--seconds", 1, "--json",
               tmp_path / "json")
    assert done.code == 0, done.err
    assert "0 errors of clients" in done.out
    found = json.loads((tmp_path / "json").read_text())
    assert len(found) == 4
    assert all(0 < p["p50"] <= p["p99"] <= p["longest"]
               for p in found.values())


def test_scale_makes_and_verifies(tmp_path, work):
    done = run(SOURCES / "bench" / "scale", "--build", BUILD, "--dir", work,
               "--tib", 1, "--files", 96, "--runs", 1, "--volumes", 3,
               "--requests", 1000, "--seconds", 1, "--journal", 16, "--json",
               tmp_path / "json")
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "json").read_text())
    assert set(found["took"]) == {"create", "first open, new journal",
                                  "open", "trim", "write zeroes"}
    assert len(found["costs_us"]) == 2 and len(found["written_mib"]) == 3
    assert found["volumes"]["open_s"] > 0
    assert len(found["verify"]) == 1


def test_sharing_shares_and_measures(tmp_path, work):
    done = run(SOURCES / "bench" / "sharing", "--build", BUILD, "--dir", work,
               "--size", 32, "--ram", 8, "--seconds", 1, "--runs", 1,
               "--json", tmp_path / "json")
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "json").read_text())
    # All blocks were references after one run, which gave their space back.
    assert found["dedupe"]["run"]["matched"] == 32 * 256
    before, after = found["dedupe"]["allocated"]
    assert after < before / 10
    assert len(found["reads"]) == 9
    assert all(us > 0 for values in found["reads"].values() for us in values)
    assert len(found["clone_s"]) == 20 and len(found["pauses_us"]) == 8
    if found["opened"]:
        assert found["opened"] == {"its own": 1, "a reference": 2,
                                   "its parent's parent's": 1}
    else:
        assert "files opened: not counted: " in done.err
