#!/usr/bin/python3
"""Count what passed, failed and was skipped in several test runs.

usage: count.py [LABEL=FILE ... | LABEL!TEXT ...]

FILE is a testlog*.json of meson or a junit XML file of pytest; TEXT is a step
that failed by itself (a build, say) and counts as one failure; LABEL?TEXT
likewise is a step that was skipped.

A test program that prints TAP or cmocka's lines counts by its cases, any
other as one. Prints the failures, the reasons of skips, and as last line the
sums. Exit status: 0 if something passed and nothing failed.
"""
import collections
import json
import os
import re
import sys
import xml.etree.ElementTree

CMOCKA = re.compile(r"^\[ +(OK|FAILED|SKIPPED) +\] (\S+)\s*$")
TAP = re.compile(r"^(not )?ok\b *\d*(?: *-)? *([^#]*)(?:# *(.*))?$")
GOOD = {"OK", "EXPECTEDFAIL"}


class Tally:
    def __init__(self):
        self.passed = 0
        self.failures = []
        self.skips = collections.Counter()

    def skip(self, label, reason):
        self.skips["%s: %s" % (label, reason or "no reason given")] += 1

    def fail(self, label, what):
        self.failures.append("%s: %s" % (label, what))


def cases(output):
    """The cases in a program's output: (name, verdict, reason)."""
    seen = {}
    for line in output.splitlines():
        m = CMOCKA.match(line)
        if m:
            # cmocka names failed tests once more in its summary.
            seen.setdefault(m[2], (m[1], ""))
            continue
        m = TAP.match(line)
        if m:
            name = m[2].strip() or "case %d" % len(seen)
            verdict = "FAILED" if m[1] else "OK"
            note = m[3] or ""
            if note.upper().startswith("SKIP"):
                verdict = "SKIPPED"
            seen.setdefault(name, (verdict, note))
    return seen


def last_line(output):
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


def count_program(tally, label, test):
    output = test.get("stdout", "") + "\n" + test.get("stderr", "")
    name = test["name"]
    result = test["result"]
    if result == "SKIP":
        tally.skip(label, "%s: %s" % (name, last_line(output)))
        return
    found = cases(output)
    failed = 0
    for case, (verdict, note) in found.items():
        if verdict == "OK":
            tally.passed += 1
        elif verdict == "SKIPPED":
            tally.skip(label, "%s: %s: %s" % (name, case, note))
        else:
            failed += 1
            tally.fail(label, "%s: %s" % (name, case))
    if result not in GOOD and not failed:
        # It died, hung, or a sanitizer found something after the last case.
        tally.fail(label, "%s: %s: %s" % (name, result.lower(),
                                          last_line(output)))
    elif result in GOOD and not found:
        tally.passed += 1


def count_meson(tally, label, path):
    with open(path, encoding="utf-8", errors="replace") as log:
        for line in log:
            count_program(tally, label, json.loads(line))


def count_junit(tally, label, path):
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        name = "%s.%s" % (case.get("classname"), case.get("name"))
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            tally.fail(label, name)
        elif skipped is not None:
            tally.skip(label, skipped.get("message"))
        else:
            tally.passed += 1


def count_argument(tally, argument):
    label, mark, rest = re.match(r"(\w+)([=!?])(.*)", argument, re.S).groups()
    if mark == "!":
        tally.fail(label, rest)
    elif mark == "?":
        tally.skip(label, rest)
    elif not os.path.exists(rest):
        tally.fail(label, "left no results")
    else:
        try:
            read = count_junit if rest.endswith(".xml") else count_meson
            read(tally, label, rest)
        except (ValueError, KeyError, xml.etree.ElementTree.ParseError) as e:
            tally.fail(label, "its results can't be read: %s" % e)


def main():
    tally = Tally()
    for argument in sys.argv[1:]:
        count_argument(tally, argument)
    for failure in tally.failures:
        print("failed: %s" % failure)
    for reason, times in sorted(tally.skips.items()):
        print("skipped: %s%s" % (reason, " (%d times)" % times
                                 if times > 1 else ""))
    skipped = sum(tally.skips.values())
    print("%d passed, %d failed%s" % (
        tally.passed, len(tally.failures),
        ", %d skipped" % skipped if skipped else ""))
    return 0 if tally.passed and not tally.failures else 1


if __name__ == "__main__":
    sys.exit(main())
