import os
import shutil
import subprocess

import pytest

import nbdharness
from faultfs import FaultFs, need_faultfs


def pytest_collection_modifyitems(items):
    for needed in (nbdharness.PLUGIN, nbdharness.LSVD, nbdharness.REPAIR):
        if not needed.exists():
            raise pytest.UsageError(f"{needed} is not built (LSVD_BUILD)")


@pytest.fixture
def place(tmp_path):
    p = nbdharness.Place(tmp_path)
    yield p
    p.end()
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def volume(place):
    """One with two replicas, for what doesn't depend on the policy."""
    return place.volume("r2")


@pytest.fixture
def mounts():
    """Mount points to be unmounted at the end, last first."""
    paths = []
    yield paths
    for path in reversed(paths):
        subprocess.run(["umount", str(path)], check=False,
                       stderr=subprocess.DEVNULL)


def need_faults():
    if not nbdharness.has_faults():
        pytest.skip("built without the parameter fault=")


def need_root():
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")


@pytest.fixture
def faultfs(tmp_path):
    """Makes directories that misbehave: faultfs("name") is one at
    tmp_path/name, whose files are in name.behind."""
    need_faultfs()
    made = []

    def make(name, **kwargs):
        fs = FaultFs(tmp_path / f"{name}.behind", tmp_path / name, **kwargs)
        made.append(fs)
        return fs

    yield make
    for fs in reversed(made):
        fs.unmount(force=True)
