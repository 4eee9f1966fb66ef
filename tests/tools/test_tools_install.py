"""meson install puts everything where it is found."""
import os
import subprocess

import pytest

from tools import BUILD, run


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The files that an installation makes, by path below its root."""
    root = tmp_path_factory.mktemp("root")
    done = subprocess.run(
        ["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet"],
        env=dict(os.environ, DESTDIR=str(root)), text=True,
        capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {str(p.relative_to(root)): p for p in root.rglob("*")
            if p.is_file()}


def find(installed, ending):
    found = [p for name, p in installed.items() if name.endswith(ending)]
    assert len(found) == 1, sorted(installed)
    return found[0]


@pytest.mark.parametrize("ending", [
    "/man1/lsvd.1", "/man1/nbdkit-lsvd-plugin.1", "/man8/lsvd-repair.8",
    "/man8/lsvd-dedupe.8",
    "/bash-completion/completions/lsvd",
    "/bash-completion/completions/lsvd-repair",
    "/bash-completion/completions/lsvd-dedupe"])
def test_files_for_people(installed, ending):
    assert find(installed, ending).stat().st_size > 1000


@pytest.mark.parametrize("program", ["lsvd", "lsvd-repair", "lsvd-dedupe"])
def test_programs_run(installed, program):
    done = run(find(installed, "/bin/" + program), "--version")
    assert done.code == 0
    assert done.out.startswith(program + " ")


def test_the_plugin_is_where_nbdkit_looks(installed):
    where = run("pkg-config", "--variable=plugindir", "nbdkit").out.strip()
    path = find(installed, "/nbdkit-lsvd-plugin.so")
    assert str(path).endswith(where + "/nbdkit-lsvd-plugin.so")
    done = run("nbdkit", path, "--dump-plugin")
    assert done.code == 0, done.err
    assert "name=lsvd\n" in done.out


def test_nothing_else_is_installed(installed):
    assert not [name for name in installed
                if name.endswith((".h", ".a", ".py", ".sh"))]
