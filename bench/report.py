"""The report as Markdown and as JSON."""
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import time

from common import Failed, call
from figures import plain
from runner import is_counted
from systems import BASE, is_limit
from workloads import BY_KEY, FILLED_4K

SOURCES = pathlib.Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- bench/run: begin -->", "<!-- bench/run: end -->"


def table(head, rows):
    """Markdown whose columns stand below each other."""
    rows = [head] + rows
    widths = [max(len(r[i]) for r in rows) for i in range(len(head))]
    lines = []
    for n, row in enumerate(rows):
        cells = [cell.ljust(widths[i]) if i == 0 else cell.rjust(widths[i])
                 for i, cell in enumerate(row)]
        lines.append("| %s |" % " | ".join(cells))
        if n == 0:
            lines.append("|%s|" % "|".join(
                "-" * (w + 2) if i == 0 else "-" * (w + 1) + ":"
                for i, w in enumerate(widths)))
    return "\n".join(lines) + "\n"


def number(value, digits=2):
    if value is None or math.isnan(value):
        return "-"
    if value and abs(value) < 0.5 * 10 ** -digits:
        return "<%.*f" % (digits, 10 ** -digits)
    return "%.*f" % (digits, value)


def amount(value, unit):
    if math.isnan(value):
        return "-"
    if unit == "IOPS" and value >= 1e4:
        return "%.0fk" % (value / 1e3)
    return "%.0f" % value


def spread(ratio):
    """Median, and what the runs said."""
    if math.isnan(ratio.median):
        return "-"
    if ratio.least == ratio.most:
        return "%.2f" % ratio.median
    return "%.2f (%.2f-%.2f)" % (ratio.median, ratio.least, ratio.most)


def title(workload):
    w = BY_KEY[workload]
    return w.name + (", after a 4K fill" if w.state == FILLED_4K else "")


def commit_of(directory):
    done = subprocess.run(["git", "-C", str(directory), "describe",
                           "--always", "--dirty"],
                          text=True, capture_output=True)
    return done.stdout.strip() or "unknown"


def facts(args, scale, directory, before):
    """Where and how, for the head of the report and for programs."""
    cpu = re.search(r"^model name\s*: (.*)$",
                    pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    return {
        "commit": commit_of(SOURCES), "date": time.strftime("%Y-%m-%d"),
        "kernel": os.uname().release, "cpus": os.cpu_count(),
        "cpu": cpu.group(1) if cpu else os.uname().machine,
        "file_system": call("df", "--output=fstype", directory).split()[-1],
        "load_after": os.getloadavg()[0],
        **before,
        "size_mib": scale.size, "journal_mib": scale.journal,
        "ram_mib": scale.ram, "seconds": scale.seconds,
        "sustained_seconds": scale.sustained, "runs": scale.runs,
        "scale": args.scale,
        "fill": "Volumes are\nwritten over by 1 MiB requests before each "
        "run that writes, unless a row says\notherwise." if scale.refill
        else "Written once,\nby 1 MiB requests.",
    }


def describe(f):
    return (
        "Commit %(commit)s, %(date)s, `--%(scale)s`; Linux %(kernel)s,\n"
        "%(cpus)d CPUs (%(cpu)s), %(file_system)s; load average "
        "%(load_before).1f before and %(load_after).1f after.\n"
        "A GiB of memory took %(memory_first).2f s at its first use, "
        "%(memory_again).2f s at once again.\n"
        "Volumes of %(size_mib)d MiB, journals of %(journal_mib)d MiB, "
        "`ram=%(ram_mib)dM`; runs: %(runs)d of %(seconds)g s (sustained: "
        "%(sustained_seconds)g s). %(fill)s\n" % f)


def part_systems(systems, absent):
    rows = [[s.name, s.redundancy, s.durability] for s in systems]
    rows += [[name, "-", "not run: " + why] for name, why in absent]
    return "\nWhat stands beside each other:\n\n" + table(
        ["", "redundancy", "durability"], rows)


def part_values(figures, systems, workloads):
    rows = []
    for w in workloads:
        rows.append(["%s, %s" % (title(w.key), w.unit)] + [
            amount(figures.value(w.key, s.key).median, w.unit)
            for s in systems])
    return "\nMedians:\n\n" + table([""] + [s.name for s in systems], rows)


def part_ratios(figures, systems, workloads):
    """Peers beside us; what keeps nothing, or has nothing in between,
    stands apart."""
    text = ""
    for caption, group in (
            ("As multiples of nbdkit file, taken within each run: median "
             "(least-most)", [s for s in systems if not is_limit(s)
                              and s.key != BASE]),
            ("Limits, the same way. The raw file syncs as nbdkit file does; "
             "memory and null keep nothing and sync nothing: bounds, not "
             "peers", [s for s in systems if is_limit(s)])):
        rows = [[title(w.key)] + [spread(figures.ratio(w.key, s.key))
                                  for s in group] for w in workloads]
        rows = [r for r in rows if set(r[1:]) - {"-"}]
        if rows:
            text += "\n%s:\n\n" % caption + table(
                [""] + [s.name for s in group], rows)
    return text


SMALL = """
This scale is too small and too short to be judged: its journals are smaller
than what large writes need to go past them, and each figure is of a moment.
It shows that everything works; targets are for --full.
"""


def part_targets(figures, systems, scale):
    names = {s.key: s.name for s in systems}
    names.update({w: title(w) for w in BY_KEY})
    rows = [[title(v["workload"]), names[v["system"]],
             "%.2f × %s" % (v["at_least"], names.get(v["than"], v["than"])),
             number(v["reached"]), v["limit"] or "-", v["verdict"]]
            for v in figures.verdicts()]
    text = SMALL if scale in ("quick", "tiny") else ""
    if rows:
        text += "\nTargets:\n\n" + table(
            ["", "", "at least", "reached", "limit, × nbdkit file", ""],
            rows)
    rows = [[title(v["workload"]), names[v["system"]], v["name"],
             number(v["at_most"]), number(v["reached"]), v["verdict"]]
            for v in figures.count_verdicts()]
    if rows:
        text += "\nTargets in counts:\n\n" + table(
            ["", "", "what", "at most", "reached", ""], rows)
    return text


def part_calls(figures, systems, workloads, counter):
    rows = []
    for w in workloads:
        for s in systems:
            if (w.key, s.key) not in figures.counts:
                continue
            f = figures.figures(w.key, s.key)
            rows.append([
                "%s, %s" % (title(w.key), s.name), number(f["syscalls"]),
                number(f["socket"]), number(f["futex"]),
                number(f["own"]), number(f["switches"]),
                number(f["copies"]),
                "-" if math.isnan(f["syncs"]) else "%s / %s" % (
                    number(f["syncs"]), f["syncs_of"])])
    head = ("\nSystem calls (%s: %s) and context switches of the server per "
            "request, bytes it copies in memory per byte asked for:\n\n")
    return head % (counter.name, counter.what) + table(
        ["", "calls", "socket", "futex", "others", "switches", "copies",
         "syncs"], rows)


def part_costs(figures, systems, workloads):
    rows = []
    for w in workloads:
        for s in systems:
            if not figures.has(w.key, s.key) or s.key == "raw":
                continue
            f = figures.figures(w.key, s.key)
            rows.append([
                "%s, %s" % (title(w.key), s.name), number(f["cpu_100k"]),
                number(f["cpu_gb"]), number(f["journal"]),
                number(f["parts"]), number(f["kernel"]),
                number(f["disk_read"]), number(f["journal_syncs"]),
                number(f["hit_share"], 3), number(f["rss"], 0),
                number(f["peak"], 0), number(f["p50_us"], 0),
                number(f["p99_us"], 0), number(f["p999_us"], 0),
                number(f["gap"], 1), number(f["drain_s"], 1)])
    return ("\nWhat it cost (CPU seconds of the server; bytes written per "
            "byte of the client's; memory in MiB; µs):\n\n") + table(
        ["", "CPU / 100k", "CPU / GB", "journal", "parts", "by the kernel",
         "disk reads", "syncs / flush", "RAM hits", "RSS", "peak", "p50",
         "p99", "p99.9", "gap, s", "drain, s"], rows)


def markdown(head, figures, systems, workloads, absent, counter, failures):
    counted = [s for s in systems if is_counted(s)]
    parts = [
        describe(head), part_systems(systems, absent),
        part_targets(figures, systems, head["scale"]),
        part_ratios(figures, systems, workloads),
        part_values(figures, systems, workloads),
        part_calls(figures, counted, workloads, counter),
        part_costs(figures, counted, workloads)]
    if failures:
        parts.append("\nFailed:\n\n" + "".join("- %s\n" % f
                                               for f in failures))
    return "".join(parts)


def dump(values):
    return json.dumps(plain(values), indent=1) + "\n"


def as_json(head, figures, systems, workloads, absent, counter, failures,
            results):
    return dump({
        "about": head, "absent": dict(absent), "failures": failures,
        "counter": counter.name,
        "systems": {s.key: {
            "name": s.name, "redundancy": s.redundancy,
            "durability": s.durability, "syncs": s.syncs} for s in systems},
        "workloads": {w.key: {"name": title(w.key), "unit": w.unit,
                              "state": w.state} for w in workloads},
        "medians": {w.key: {s.key: figures.value(w.key, s.key).median
                            for s in systems} for w in workloads},
        "ratios": {w.key: {s.key: vars(figures.ratio(w.key, s.key))
                           for s in systems} for w in workloads},
        "figures": {w.key: {s.key: figures.figures(w.key, s.key)
                            for s in systems if figures.has(w.key, s.key)}
                    for w in workloads},
        "targets": figures.verdicts(),
        "count_targets": figures.count_verdicts(),
        "runs": results,
    })


def update(path, text):
    """Replace what stands between the two marks."""
    old = path.read_text()
    if old.count(BEGIN) != 1 or old.count(END) != 1:
        raise Failed("%s: has not the lines %s and %s" % (path, BEGIN, END))
    head, rest = old.split(BEGIN)
    path.write_text(head + BEGIN + "\n" + text + END + rest.split(END)[1])


def write(path, text):
    """To a file, or to standard output."""
    if path is None:
        sys.stdout.write(text)
    else:
        path.write_text(text)
