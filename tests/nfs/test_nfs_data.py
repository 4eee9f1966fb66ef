"""Volumes whose parts lie on NFS mounts do what volumes do."""

import pytest

from load import Clients
from nbdharness import MIB, assert_same, random_file, run

SIZE = 16 * MIB


@pytest.mark.parametrize("policy,letters", [
    ("r3", {"a": 0, "b": 1}),
    ("r3", {"a": 0, "b": 1, "c": 2}),
    ("ec21", {"a": 0, "b": 1, "c": 2}),
], ids=["r3-one-local", "r3", "ec21"])
def test_copy_load_kill_verify(make_place, network, policy, letters):
    place = make_place(network.one, letters)
    volume = place.volume(policy, size=SIZE)
    source = random_file(place.path / "source", SIZE, policy)
    copy = place.path / "copy"
    server = volume.serve()
    run("nbdcopy", "--flush", source, server.uri())
    run("nbdcopy", server.uri(), copy)
    assert_same(copy.read_bytes(), source.read_bytes())
    run("fio", "--name=verify", "--ioengine=nbd", f"--uri={server.uri()}",
        "--rw=randwrite", "--bs=4k", f"--size={SIZE}", "--io_size=4m",
        "--iodepth=16", "--verify=crc32c", "--do_verify=1",
        "--verify_fatal=1", "--fsync=64")
    server.stop()
    assert volume.verify(0, "--full")

    # what it holds is unknown to the model: begin with zeroes
    server = volume.serve("ram=4M")
    server.connect().zero(SIZE, 0)
    clients = Clients(SIZE, seed=policy)
    clients.start(server)
    clients.wait(300)
    server.kill()
    clients.stop()
    clients.check()
    clients.model.crashed()
    server = volume.serve("ram=4M")
    clients.check_all(server)
    server.stop()
    volume.verify(0, "--full")
