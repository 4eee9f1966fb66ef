"""docs/format.md: its tables add up, and its recipe recovers a volume."""
import os
import re

import pytest

from tools import SOURCES, run

TEXT = (SOURCES / "docs" / "format.md").read_text()
RECIPE = re.search(r"^## Recovery with dd$.*?^```sh\n(.*?)^```$", TEXT,
                   re.M | re.S).group(1)
MIB = 1 << 20


def tables():
    """Those that say where fields are: name of the record -> rows."""
    found = {}
    for name, rows in re.findall(
            r"^\| at \| bytes \| (.*?) \|\n\|[-:| ]*\n((?:\|.*\n)*)", TEXT,
            re.M):
        found[name] = [[cell.strip() for cell in row.split("|")[1:4]]
                       for row in rows.splitlines()]
    return found


def test_fields_follow_each_other():
    assert len(tables()) >= 11
    for name, rows in tables().items():
        end = 0
        for at, size, what in rows:
            assert int(at) == end, (name, what)
            end += int(size) if size.isdigit() else 0
            assert size.isdigit() or size == "8 K", (name, what)


# The image of the journal begins with a superblock; the records follow.
@pytest.mark.parametrize("name, image, start, size", [
    ("label", "v1-label.bin", 0, 4096),
    ("page", "v1-chunk-table.page", 0, 4096),
    ("header", "v1-replica.fragment", 0, 4096),
    ("superblock", "v1-journal.bin", 0, 4096),
    ("record header", "v1-journal.bin", 4096, 128),
    ("diff header", "v1-diff.bin", 0, 256),
    ("diff record", "v1-diff.bin", 256, 40),
])
def test_records_are_as_in_the_golden_images(name, image, start, size):
    rows = tables()[name]
    at, count, _ = rows[-1]
    assert int(at) + int(count) == size
    golden = (SOURCES / "tests" / "golden" / image).read_bytes()
    golden = golden[start:start + size]
    assert len(golden) == size
    for at, count, what in rows:
        field = golden[int(at):int(at) + int(count)]
        magic = re.match(r"magic `(\w{8})`", what)
        if magic:
            assert field == magic.group(1).encode()
        if what.startswith("format"):
            assert int.from_bytes(field, "little") == 1
        if what == "reserved":
            assert field == bytes(len(field))


def test_recipe_is_ten_lines():
    assert len(RECIPE.splitlines()) <= 10


def make_image(path, size):
    """Random bytes between holes, in the first and the last block too."""
    with open(path, "wb") as image:
        image.truncate(size)
        for at, count in [(0, 5000), (MIB, 300 << 10), (3 * MIB, 512),
                          (5 * MIB - 100, 200), (size - 77, 77)]:
            image.seek(at)
            image.write(os.urandom(count))


@pytest.mark.parametrize("replicas, block", [(3, "4K"), (1, "512"),
                                             (2, "64K")])
def test_recipe_recovers(world, replicas, block):
    size = 7 * MIB + 1234
    world.create("v", "--replicas", str(replicas), "--block-size", block,
                 size=str(size), parts=replicas)
    image = world.path / "image"
    make_image(image, size)
    # Over what was there before: trimmed within a chunk, and wholly.
    done = world.while_served("v", """
        set -e
        qemu-io -f raw -c 'write -P 7 2M 2M' -c flush "$uri"
        qemu-io -f raw -c 'write -P 8 6M 1M' -c flush "$uri"
        nbdcopy %s "$uri"
        qemu-io -f raw -c 'write -P 9 6400k 300k' "$uri"
        qemu-io -f raw -c 'discard 6500k 100k' "$uri"
        nbdcopy --request-size=65536 "$uri" %s""" % (
            image, world.path / "expected"))
    assert done.code == 0, done.err
    expected = (world.path / "expected").read_bytes()
    assert len(expected) == size
    assert expected[:5000] != bytes(5000)
    assert expected[6500 << 10:6600 << 10] == bytes(100 << 10)
    script = world.path / "recover.sh"
    script.write_text(RECIPE)
    for letter in "abc"[:replicas]:
        to = world.path / ("from-" + letter)
        to.write_bytes(b"old" * 1000)
        done = run("sh", script, world.part(letter), to)
        assert done.code == 0, done.err
        assert done.err == ""
        assert to.read_bytes() == expected
        assert to.stat().st_blocks * 512 < size  # holes stay holes
    meta = world.part("a") / ".meta"
    meta.unlink()
    done = run("sh", script, world.part("a"), world.path / "again", size)
    assert done.code == 0, done.err
    assert (world.path / "again").read_bytes() == expected


def test_recipe_recovers_a_clone_over_its_parent(world):
    world.create("golden", "--replicas", "2", size="7M", parts=2)
    world.fill("golden")
    for words in (("set", "golden", "read-only=on"),
                  ("clone", "golden", "vm1")):
        assert world.lsvd(*words).code == 0
    expected, to = world.path / "expected", world.path / "recovered"
    done = world.while_served("vm1", """
        set -e
        qemu-io -f raw -c 'write -P 7 1100k 300k' "$uri"
        qemu-io -f raw -c 'write -P 8 6200k 8k' "$uri"
        nbdcopy "$uri" %s""" % expected)
    assert done.code == 0, done.err
    script = world.path / "recover.sh"
    script.write_text(RECIPE)
    assert run("sh", script, world.part("a"), to).code == 0
    assert to.read_bytes() != expected.read_bytes()
    emptying = '; : >"$image"'
    assert emptying in RECIPE
    script.write_text(RECIPE.replace(emptying, ""))
    done = run("sh", script, world.part("a", 12), to)
    assert done.code == 0, done.err
    assert to.read_bytes() == expected.read_bytes()
