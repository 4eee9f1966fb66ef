"""From single runs to what the report says. Ratios are taken within a run,
then their median; never of medians."""
import dataclasses
import math
import statistics

from systems import BASE
from workloads import BY_KEY, COUNT_TARGETS, TARGETS


@dataclasses.dataclass
class Ratio:
    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values):
        if not values:
            return cls(math.nan, math.nan, math.nan)
        return cls(statistics.median(values), min(values), max(values))


class Figures:
    def __init__(self, results, counts, systems):
        self.runs = {}  # (workload, system) -> {run: result}
        for result in results:
            self.runs.setdefault((result["workload"], result["system"]),
                                 {})[result["run"]] = result
        self.counts = counts
        self.systems = {s.key: s for s in systems}

    def has(self, workload, system):
        return (workload, system) in self.runs

    def value(self, workload, system, key="value"):
        """Median and bounds of a result's figure."""
        return Ratio.of([
            r[key] for r in self.runs.get((workload, system), {}).values()
            if r.get(key) is not None and not math.isnan(r[key])])

    def ratio(self, workload, system, than=BASE, than_workload=None):
        """Greater is better, whatever the unit."""
        ours = self.runs.get((workload, system), {})
        theirs = self.runs.get((than_workload or workload, than), {})
        values = []
        for run in sorted(set(ours) & set(theirs)):
            a, b = ours[run]["value"], theirs[run]["value"]
            if BY_KEY[workload].small_is_good:
                a, b = b, a
            if b > 0:
                values.append(a / b)
        return Ratio.of(values)

    def ratio_of_target(self, target, system):
        if target.than_itself:
            return self.ratio(target.workload, system, system, target.than)
        return self.ratio(target.workload, system, target.than)

    # ---- counts ----

    def per(self, workload, system, key, of="bytes"):
        """Median of a counter by another."""
        return Ratio.of([
            r[key] / r[of]
            for r in self.runs.get((workload, system), {}).values()
            if r.get(key) is not None and r.get(of)]).median

    def counted(self, workload, system, key, of="requests"):
        c = self.counts.get((workload, system))
        if not c or key not in c or not c.get(of):
            return math.nan
        return c[key] / c[of]

    def figures(self, workload, system):
        """All that is counted, by the names of the count targets."""
        get, per, counted = self.value, self.per, self.counted
        flushes = BY_KEY[workload].fio and any(
            x.startswith("--fsync=") for x in BY_KEY[workload].fio)
        runs = self.runs.get((workload, system), {}).values()
        hits = sum(r.get("hits", 0) for r in runs)
        looks = hits + sum(r.get("misses", 0) for r in runs)
        figures = {
            "syscalls": counted(workload, system, "syscalls"),
            "socket": counted(workload, system, "socket"),
            "futex": counted(workload, system, "futex"),
            "own": counted(workload, system, "syscalls")
            - counted(workload, system, "socket")
            - counted(workload, system, "futex"),
            "switches": counted(workload, system, "switches"),
            "copies": counted(workload, system, "copied", "asked"),
            "syncs": counted(workload, system, "sync",
                             "flushes" if flushes else "requests"),
            "syncs_of": "flush" if flushes else "request",
            "journal_syncs": per(workload, system, "journal_syncs",
                                 "flushes") if flushes else math.nan,
            "journal": per(workload, system, "journal_bytes"),
            "parts": per(workload, system, "part_bytes"),
            "kernel": per(workload, system, "given_bytes"),
            "disk_read": per(workload, system, "disk_read_bytes"),
            "cpu_100k": per(workload, system, "cpu_seconds", "requests")
            * 1e5,
            "cpu_gb": per(workload, system, "cpu_seconds") * 1e9,
            "rss": get(workload, system, "rss_mib").median,
            "peak": get(workload, system, "peak_mib").median,
            "hit_share": hits / looks if looks else math.nan,
            "gap": get(workload, system, "gap_s").most,
            "drain_s": get(workload, system, "drain_s").median,
            "stop_s": get(workload, system, "stop_s").median,
            "p50_us": get(workload, system, "p50_us").median,
            "p99_us": get(workload, system, "p99_us").median,
            "p999_us": get(workload, system, "p999_us").median,
        }
        figures["tail"] = figures["p999_us"] / figures["p50_us"] \
            if figures["p50_us"] else math.nan
        figures["written"] = figures["journal"] + figures["parts"]
        if not BY_KEY[workload].writes:
            for key in ("journal", "parts", "written", "kernel"):
                figures[key] = math.nan
        return figures

    def count_of_target(self, target, system):
        """What was reached, in the unit of at_most."""
        value = self.figures(target.workload, system)[target.figure]
        if target.beyond:
            value -= self.figures(target.workload,
                                  target.beyond)[target.figure]
        if target.times == "copies":
            value /= self.systems[system].copies
        elif target.times:
            other = self.figures(target.workload,
                                 target.times)[target.figure]
            value = value / other if other else math.nan
        return value

    # ---- verdicts ----

    def verdicts(self):
        """Of every target that was run: dicts."""
        result = []
        for target in TARGETS:
            for system in self.systems.values():
                if system.policy not in target.at_least:
                    continue
                r = self.ratio_of_target(target, system.key)
                if self.has(target.workload, system.key):
                    result.append({
                        "workload": target.workload, "system": system.key,
                        "than": target.than, "limit": target.limit,
                        "at_least": target.at_least[system.policy],
                        "reached": r.median, "from": r.least, "to": r.most,
                        "verdict": verdict(r.median >= target.at_least[
                            system.policy], r.median)})
        return result

    def count_verdicts(self):
        result = []
        for target in COUNT_TARGETS:
            for system in self.systems.values():
                if system.policy is None or not self.has(target.workload,
                                                         system.key):
                    continue
                value = self.count_of_target(target, system.key)
                result.append({
                    "workload": target.workload, "name": target.name,
                    "system": system.key, "at_most": target.at_most,
                    "reached": value, "verdict": verdict(
                        value <= target.at_most, value)})
        return result


def verdict(met, value):
    if math.isnan(value):
        return "not measured"
    return "met" if met else "missed"


def plain(value):
    """For JSON, which knows no NaN."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value
