"""What belongs to another volume stays as it is: one of another host, which
has the same number there, or one that can't be read just now."""
import pytest

from tools import World


@pytest.fixture
def hosts(tmp_path):
    """Two of them, each with a volume 11 on four disks."""
    worlds = []
    for name in ("h1", "h2"):
        (tmp_path / name).mkdir()
        worlds.append(World(tmp_path / name))
        worlds[-1].create("on-" + name, "--replicas", "4", parts=4)
        worlds[-1].fill("on-" + name, 1 << 20)
    return worlds


def content(root):
    """Of all files; not who has it locked."""
    return {path.relative_to(root): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file() and path.name != ".lock"}


def exchange_second_disk(hosts):
    """The first host gets that of the other one; its content."""
    first, other = hosts
    first.roots[1].rename(first.path / "shelf")
    other.roots[1].rename(first.roots[1])
    return content(first.roots[1])


def exchange_back(hosts):
    first, other = hosts
    first.roots[1].rename(other.roots[1])
    (first.path / "shelf").rename(first.roots[1])


def check(world, name, code=0):
    done = world.repair("verify", name)
    assert done.code == code, done.out + done.err


def test_a_disk_of_another_host_is_not_emptied(hosts):
    before = exchange_second_disk(hosts)
    hosts[0].lsvd("remove", "on-h1").failed_with_one_line(
        "lsvd", 1, "volume on-h1", "another volume", str(hosts[0].roots[1]))
    assert content(hosts[0].roots[1]) == before
    exchange_back(hosts)
    for world, name in zip(hosts, ("on-h1", "on-h2")):
        check(world, name)
    assert hosts[0].lsvd("remove", "on-h1").code == 0


def test_policies_of_another_host_are_not_replaced(hosts):
    before = exchange_second_disk(hosts)
    another = hosts[0].path / "disk5"
    another.mkdir()
    done = hosts[0].repair("replace", "on-h1", "c=%s" % another)
    assert done.code == 1, done.err  # there is no part b
    assert content(hosts[0].roots[1]) == before
    exchange_back(hosts)
    check(hosts[1], "on-h2")
    assert hosts[0].repair("rebuild", "on-h1").code == 0
    check(hosts[0], "on-h1")


def test_no_part_is_made_in_the_place_of_another_volume(hosts):
    """B has only a part a there, so nothing is in the way of a part b."""
    first, other = hosts
    (first.roots[1] / "11" / "b").rename(first.path / "lost")
    before = content(other.roots[0])
    done = first.repair("replace", "on-h1", "b=%s" % other.roots[0])
    assert done.code == 3
    assert "another volume, on-h2" in done.err
    assert content(other.roots[0]) == before
    check(other, "on-h2")


def test_a_name_of_what_can_not_be_read_is_taken(world):
    world.create("vm1", "--replicas", "2", parts=2)
    world.create("vm2", "--replicas", "2", parts=2)
    policies = {path: path.read_bytes() for root in world.roots[:2]
                for path in (root / "12").rglob(".meta")}
    assert len(policies) == 4
    for path in policies:
        path.write_bytes(b"garbage")
    before = [content(root) for root in world.roots]
    world.lsvd("rename", "vm1", "vm2").failed_with_one_line(
        "lsvd", 1, "volume vm2")
    assert [content(root) for root in world.roots] == before
    for path, text in policies.items():
        path.write_bytes(text)
    for name in ("vm1", "vm2"):
        check(world, name)
