"""Volumes over NFS: these tests run in a guest that tests/nfs/run boots."""

import pathlib
import shutil
import sys

import pytest

here = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(here), str(here.parent / "nbd")]

# pylint: disable=wrong-import-position
import nfsworld
from nbdharness import Place

STORES = 3


def pytest_configure(config):
    config.addinivalue_line("markers", "quick: for each pull request")


def pytest_collection_modifyitems(items):
    if items and not nfsworld.is_guest():
        raise pytest.UsageError("to be run by tests/nfs/run")


@pytest.fixture(scope="session")
def network():
    nfsworld.load_modules()
    n = nfsworld.Network()
    n.stores = [n.store() for _ in range(STORES)]
    n.one, n.two = n.host("one"), n.host("two")
    yield n
    n.end()


class NfsPlace(Place):
    """Directories of one test; those in `remote` lie on a mount."""

    def __init__(self, path, remote):
        self.remote = remote
        super().__init__(path)

    def root(self, name):
        if name not in self.remote:
            return super().root(name)
        path = self.remote[name]
        path.mkdir(exist_ok=True)
        return path


@pytest.fixture
def make_place(network, tmp_path):
    """make_place(host, {letter: store}, options): a place in which the roots
    of these parts lie on mounts that host has of the stores."""
    made = []

    def make(host, letters, options="hard"):
        mounts = {s: host.mount(network.stores[s], options)
                  for s in sorted(set(letters.values()))}
        for point in mounts.values():
            nfsworld.can_write(point)
        place = NfsPlace(tmp_path, {f"root-{x}": mounts[s] / f"root-{x}"
                                    for x, s in letters.items()})
        made.append((place, host, mounts))
        return place

    yield make
    for place, _, _ in made:
        place.end()
    for _, host, mounts in made:
        for point in mounts.values():
            host.unmount(point)
    for store in network.stores:
        store.wipe()
    shutil.rmtree(tmp_path, ignore_errors=True)
