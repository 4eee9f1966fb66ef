"""The clients: fio and nbdcopy, and what they say."""
import json
import math
import os
import time

from common import Failed, MIB, call

SECOND_MS = 1000


def where(server):
    """Options of fio for a server, or for the raw file."""
    if server.process is None:
        return ["--ioengine=io_uring", "--direct=1",
                "--filename=%s" % server.path]
    return ["--ioengine=nbd", "--uri=%s" % server.uri]


def run_fio(server, options, seed=1, log=None):
    """Returns fio's account of the job, all its connections together. The
    same seed asks for the same places in the same order, another one for
    others (which takes --randrepeat=0)."""
    words = ["fio", "--name=bench", *where(server), "--output-format=json",
             "--randrepeat=0", "--randseed=%d" % seed, "--group_reporting",
             "--percentile_list=50:99:99.9", "--lat_percentiles=1",
             "--clat_percentiles=0", *options]
    if log:
        words += ["--write_iops_log=%s" % log, "--log_avg_msec=100",
                  "--per_job_logs=0"]
    text = call(*words)
    job = json.loads(text[text.index("{"):])["jobs"][0]
    if job["error"] != 0:
        raise Failed("fio: %s" % os.strerror(job["error"]))
    return job


def percentile(data, name):
    """Microseconds, or NaN."""
    return data.get("percentile", {}).get(name, math.nan) / 1e3


def longest_gap(log, runtime_ms):
    """The longest time without an answer, in seconds, within the 0.1 s of
    the log: it has a line for each tenth in which something was done."""
    times = sorted({int(line.split(",")[0])
                    for line in open(log) if line.strip()})
    marks = [0] + times + [runtime_ms]
    return max((b - a for a, b in zip(marks, marks[1:])),
               default=runtime_ms) / SECOND_MS


def fio(server, workload, limits, seed, directory):
    """A timed run. value: in the workload's unit."""
    log = directory / "pace" if workload.amount == "sustained" else None
    job = run_fio(server, [*workload.fio, *limits], seed, log)
    data = job["write"] if workload.writes else job["read"]
    flush_each = "--fsync=1" in workload.fio
    p50 = percentile(data["lat_ns"], "50.000000")
    flush_p50 = percentile(job["sync"]["lat_ns"], "50.000000")
    result = {
        "requests": data["total_ios"], "bytes": data["io_bytes"],
        "flushes": job["sync"]["total_ios"],
        "seconds": data["runtime"] / SECOND_MS,
        "p50_us": p50, "flush_p50_us": flush_p50,
        "p99_us": percentile(data["lat_ns"], "99.000000"),
        "p999_us": percentile(data["lat_ns"], "99.900000"),
    }
    if data["total_ios"] == 0 or data["runtime"] == 0:
        raise Failed("fio: nothing was done")
    if workload.unit == "IOPS":
        result["value"] = data["total_ios"] / result["seconds"]
    elif workload.unit == "MB/s":
        result["value"] = data["io_bytes"] / 1e6 / result["seconds"]
    else:
        result["value"] = p50 + (flush_p50 if flush_each else 0)
    if log:
        path, = directory.glob("pace_iops*.log")
        result["gap_s"] = longest_gap(path, data["runtime"])
        path.unlink()
    return result


def nbdcopy(server, workload, image, size):
    """Copy an image of this size in or out, with one connection."""
    words = ["nbdcopy", "--request-size=%d" % MIB, "--connections=1",
             "--requests=16"]
    if workload.copy == "in":
        words += ["--flush", image, server.uri]
    else:
        words += [server.uri, "null:"]
    begin = time.monotonic()
    call(*words)
    seconds = time.monotonic() - begin
    return {"requests": size // MIB, "bytes": size, "flushes": 1,
            "seconds": seconds, "value": size / 1e6 / seconds}
