"""Help, man pages and completion know the same options."""
import re

import pytest

from tools import BUILD, SOURCES, run

PROGRAMS = {
    "lsvd": ("admin", ["create", "clone", "snapshot", "flatten", "diff",
                       "export-diff", "import-diff", "list", "info", "resize",
                       "set", "rename", "remove", "status", "events",
                       "metrics"]),
    "lsvd-repair": ("repair", ["verify", "rebuild", "replace",
                                "force-start", "takeover"]),
    "lsvd-dedupe": ("dedupe", []),
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


def test_man_pages_have_the_parameters_of_the_plugin():
    """CONFIG_HELP, which nbdkit prints, and the keys of the file."""
    source = (SOURCES / "plugin" / "config.h").read_text()
    source = source[source.index("#define CONFIG_HELP"):]
    helped = set(re.findall(r'"(?:\[volume=\])?([a-z-]+)=', source))
    helped |= {"volume"}
    pod = (SOURCES / "plugin" / "nbdkit-lsvd-plugin.pod").read_text()
    items = "".join(re.findall(r"^=item .*", pod, re.M))
    assert set(re.findall(r"B<([a-z-]+)=>", items)) == helped
    keys = set(re.findall(r'^    \{ "([a-z-]+)", set_',
                          (SOURCES / "core" / "meta" / "config.c")
                          .read_text(), re.M))
    assert keys - {"journal-size"} == helped - {"volume", "config"}
    page = (SOURCES / "admin" / "lsvd.pod").read_text()
    assert keys <= set(re.findall(r"C<([a-z-]+)>", page))


def test_the_tests_that_the_faults_name_exist():
    table = [line for line in
             (SOURCES / "docs" / "faults.md").read_text().splitlines()
             if re.match(r"\| \d+ \|", line)]
    assert [int(line.split("|")[1]) for line in table] == \
        list(range(1, len(table) + 1))
    known = "".join(path.read_text() for path in
                    sorted((SOURCES / "tests").rglob("*"))
                    if path.suffix in (".c", ".py"))
    for line in table:
        shown = line.split("|")[4]
        names = re.findall(r"`([\w-]+)`", shown)
        assert names or "not covered" in shown, line
        for name in names:
            assert is_a_test(name, known), name


def is_a_test(name, known):
    tests = SOURCES / "tests"
    if name == "thrash":
        return (tests / "thrash" / "thrash.py").exists()
    kind, _, rest = name.partition("-")
    if kind == "sim":
        return f"'{rest}': [" in (tests / "sim" / "meson.build").read_text()
    if kind == "unit":
        folder, _, _ = rest.partition("-")
        return (tests / "unit" / folder / f"test-{rest}.c").exists()
    return re.search(rf"^(?:def )?{name}\(", known, re.M) is not None


@pytest.mark.parametrize("program", PROGRAMS)
def test_version(program):
    folder, _ = PROGRAMS[program]
    done = run(BUILD / folder / program, "--version")
    assert re.fullmatch(program + r" \d+\.\d+\.\d+\n", done.out)
