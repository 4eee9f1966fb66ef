"""Help, man pages and completion know the same options."""
import re

import pytest

from tools import BUILD, SOURCES, run

PROGRAMS = {
    "lsvd": ("admin", ["create", "list", "info", "resize", "set", "remove",
                       "status", "events", "metrics"]),
    "lsvd-repair": ("repair", ["verify", "rebuild", "replace",
                                "force-start", "takeover"]),
}


def options(text):
    return set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", text))


def helps(program):
    folder, commands = PROGRAMS[program]
    path = BUILD / folder / program
    for words in [[]] + [[c] for c in commands]:
        done = run(path, *words, "--help")
        assert done.code == 0
        assert done.err == ""
        yield done.out


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_help_has_examples(program):
    for text in helps(program):
        assert "Example" in text
        assert all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.parametrize("program", PROGRAMS)
def test_man_page_and_completion_have_the_options(program):
    folder, _ = PROGRAMS[program]
    helped = options("".join(helps(program)))
    pod = (SOURCES / folder / (program + ".pod")).read_text()
    items = options("".join(re.findall(r"^=item .*", pod, re.M)))
    completed = options((SOURCES / folder / (program + ".bash")).read_text())
    assert helped == items
    assert helped == completed


@pytest.mark.parametrize("program", PROGRAMS)
def test_version(program):
    folder, _ = PROGRAMS[program]
    done = run(BUILD / folder / program, "--version")
    assert re.fullmatch(program + r" \d+\.\d+\.\d+\n", done.out)
