"""Runs the workloads on the systems in turn.

For each run, for each workload, for each system (each time another one first):
state -> server -> client -> settle -> server down -> cold and synced. So each
pair of figures that is divided was taken within the same half a minute or so,
and no system finds its neighbour's dirty pages.
"""
import dataclasses
import os
import time

import clients
from common import Failed, MIB, progress
from counts import Copies, start_counting
from systems import BASE, MEMORY
from workloads import COLD, DEGRADED, FILLED, FILLED_4K, FRESH, WARM

FILL_1M = ["--rw=write", "--bs=1M", "--iodepth=8", "--end_fsync=1"]
FILL_4K = ["--rw=write", "--bs=4k", "--iodepth=64", "--end_fsync=1"]
WARM_UP = ["--rw=read", "--bs=1M", "--iodepth=8", "--loops=2"]
COUNTERS = {  # ours -> name among the metrics
    "journal_bytes": "journal_written_bytes_total",
    "part_bytes": "parts_written_bytes_total",
    "journal_syncs": "journal_syncs_total",
    "part_syncs": "parts_syncs_total",
    "hits": "cache_hits_total",
    "misses": "cache_misses_total",
    "user_bytes": "written_bytes_total",
}


def is_counted(system):
    """Ours, and what it is compared with."""
    return system.policy is not None or system.key in (BASE, MEMORY)


class Runner:
    def __init__(self, scale, systems, workloads, directory, counter,
                 copies=None):
        self.scale = scale
        self.systems, self.workloads = systems, workloads
        self.directory, self.counter = directory, counter
        self.copies = copies  # libcopies.so, or None
        self.failures = []
        self.results = []  # dicts: run, workload, system, …
        self.counts = {}   # (workload, system) -> counts per request
        self.image = directory / "image"
        if any(w.copy == "in" for w in workloads):
            with open(self.image, "wb") as image:
                for _ in range(scale.size):  # nothing to compress or punch
                    image.write(os.urandom(MIB))
        for system in systems:
            system.make_anew(directory)

    # ---- states ----

    def fill(self, system, server, words=FILL_1M):
        if system.key == "null":
            return
        clients.run_fio(server, ["--size=%dM" % self.scale.size, *words])
        system.settle(server)
        system.filled = True

    def fill_if_empty(self, system):
        if system.filled or not system.keeps:
            return
        server = system.start()
        try:
            self.fill(system, server)
            server.stop()
        finally:
            server.kill()
        system.make_cold()

    def prepare(self, system, server, state):
        """What is done with the server before it is measured."""
        if state in (FILLED, FILLED_4K):
            # Without the page cache it is all one how it was filled.
            again = self.scale.refill and system.page_cache
            if again or not system.filled or not system.keeps:
                self.fill(system, server,
                          FILL_4K if state == FILLED_4K else FILL_1M)
        elif state == WARM:
            if not system.keeps:
                self.fill(system, server)
            clients.run_fio(server, [
                "--size=%dM" % self.scale.working_set, *WARM_UP])
        elif state == FRESH:
            system.filled = True
        elif state == DEGRADED and system.counters(server)["healthy"] != 0:
            raise Failed("the server does not miss the part")

    # ---- one measurement ----

    def snapshot(self, system, server):
        metrics = system.counters(server)
        return server.usage(), {name: metrics[key]
                                for name, key in COUNTERS.items()
                                if key in metrics}

    def timed(self, system, server, workload, run):
        before, had = self.snapshot(system, server)
        if workload.copy:
            result = clients.nbdcopy(server, workload, self.image,
                                     self.scale.size * MIB)
        else:
            result = clients.fio(server, workload,
                                 workload.limits(self.scale), run + 1,
                                 self.directory)
        _, has = self.snapshot(system, server)
        result["journal_syncs"] = (has["journal_syncs"]
                                   - had["journal_syncs"]) if has else None
        begin = time.monotonic()
        system.settle(server)
        result["drain_s"] = time.monotonic() - begin
        after, has = self.snapshot(system, server)
        for name in has:
            if name != "journal_syncs":
                result[name] = has[name] - had[name]
        result.update(dataclasses.asdict(after.since(before)))
        return result

    def count(self, system, server, workload, run):
        """A few requests more, counted, not timed. Costs of what follows in
        the background are in it."""
        counter = start_counting(self.counter, server.process.pid)
        try:
            job = clients.run_fio(server, [
                *workload.fio, *workload.counted_limits(self.scale)],
                run + 1001)
            system.settle(server)
        finally:
            counted = counter.end()
        data = job["write"] if workload.writes else job["read"]
        counted["requests"] = data["total_ios"]
        counted["flushes"] = job["sync"]["total_ios"]
        return counted

    def count_copies(self, system, workload, run):
        """By a server of its own. What it writes over is as the one before it
        has left it."""
        copies = Copies(self.copies)
        if workload.state in (COLD, DEGRADED):
            system.make_cold()
        system.environment = copies.environment
        try:
            server = system.start()
        finally:
            system.environment = {}
        try:
            self.prepare(system, server,
                         WARM if workload.state == WARM else None)
            before = copies.copied_bytes()
            job = clients.run_fio(server, [
                *workload.fio, *workload.counted_limits(self.scale)],
                run + 2001)
            if workload.writes:  # whoever asks a server makes it copy, too
                system.settle(server)
            copied = copies.copied_bytes() - before
            server.stop()
        finally:
            server.kill()
        data = job["write"] if workload.writes else job["read"]
        return {"copied": copied, "asked": data["io_bytes"]}

    def measure(self, system, workload, run):
        if workload.state == FRESH and system.keeps:
            system.make_anew(self.directory)
        elif workload.state in (COLD, DEGRADED, WARM):
            self.fill_if_empty(system)
        away = None
        if workload.state == DEGRADED:
            away = system.take_part_away()
        try:
            return self.serve_and_measure(system, workload, run)
        finally:
            if away:
                system.bring_part_back(*away)
            if system.keeps:
                system.make_cold()

    def serve_and_measure(self, system, workload, run):
        server = system.start()
        try:
            self.prepare(system, server, workload.state)
            result = self.timed(system, server, workload, run)
            if run == 0 and workload.counted and is_counted(system):
                self.counts[workload.key, system.key] = self.count(
                    system, server, workload, run)
            begin = time.monotonic()
            server.stop()
            result["stop_s"] = time.monotonic() - begin
        except Failed as failed:
            raise Failed("%s (%s)" % (failed, server.complaint()))
        finally:
            server.kill()
        counts = self.counts.get((workload.key, system.key))
        if run == 0 and counts and self.copies:
            try:
                counts.update(self.count_copies(system, workload, run))
            except Failed as failed:
                self.fail("copies of %s, %s: %s" % (workload.name, system.name,
                                                    failed))
        return result

    def fail(self, what):
        self.failures.append(what)
        progress("FAILED: " + what)

    def all(self):
        for run in range(self.scale.runs):
            for workload in self.workloads:
                systems = [s for s in self.systems if workload.fits(s)]
                turn = run % len(systems) if systems else 0
                for system in systems[turn:] + systems[:turn]:
                    self.one(system, workload, run)

    def one(self, system, workload, run):
        """Never fails; what failed is told, and its disk made anew."""
        where = "run %d, %s, %s" % (run + 1, workload.name, system.name)
        try:
            result = self.measure(system, workload, run)
        except Failed as failed:
            self.fail("%s: %s" % (where, failed))
            system.make_anew(self.directory)
            return
        result.update(run=run, workload=workload.key, system=system.key)
        self.results.append(result)
        progress("%s: %.4g %s" % (where, result["value"], workload.unit))
