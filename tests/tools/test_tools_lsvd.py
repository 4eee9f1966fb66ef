"""lsvd: create, list, info, resize, set, remove."""
import signal
import subprocess

import pytest

from tools import BUILD, run

LSVD = BUILD / "admin" / "lsvd"


def refused(done, code, *words):
    done.failed_with_one_line("lsvd", code, *words)


def test_create_says_what_and_how_to_serve(world):
    done = world.create("vm1", "--replicas", "3")
    assert done.err == ""
    assert len(done.out.splitlines()) == 1
    assert "created vm1: 16M, 3 replicas" in done.out
    assert "nbdkit lsvd vm1 data=%s" % world.roots[0] in done.out
    assert "cache=%s" % world.cache in done.out


def test_create_takes_relative_directories(world):
    done = run(LSVD, "create", "vm1", "4M", "--data", "disk1",
               "--cache", "./cache", cwd=world.path)
    assert done.code == 0, done.err
    parts = world.lsvd("info", "vm1", "--json").json()["parts"]
    assert parts[0]["path"] == str(world.roots[0] / "11" / "a")


def test_create_with_all_parts_needs_no_data(world):
    done = run(LSVD, "create", "vm1", "4M", "--replicas", "3", "--cache",
               world.cache, "--json", *world.parts(3))
    assert done.code == 0, done.err
    assert [p["part"] for p in done.json()["parts"]] == ["a", "b", "c"]


@pytest.mark.parametrize("alias", ["same", "dots", "symlink"])
def test_create_refuses_one_directory_for_two_parts(world, alias):
    root = world.roots[0]
    link = world.path / "link"
    link.symlink_to(root)
    other = {"same": root, "dots": root / ".." / root.name,
             "symlink": link}[alias]
    done = run(LSVD, "create", "vm1", "4M", "--replicas", "2", "--cache",
               world.cache, "--part", "a=%s" % root, "--part",
               "b=%s" % other)
    refused(done, 64, "parts a and b", "same directory")
    assert list(root.iterdir()) == []


def line_about_roots(world, *words):
    """What create says of several parts under one of several roots."""
    done = run(LSVD, "create", "vm1", "4M", "--cache", world.cache, *words)
    assert done.code == 0, done.err
    return done.err


@pytest.mark.parametrize("roots, given, words", [
    (3, "", ["parts a, b and c", "--part"]),
    (2, "c", ["parts a and b", "--part"]),
    (2, "a", ["parts a, b and c", "--part"]),
    (2, "ab", ["parts a and c", "--part"]),
    (1, "", []), (2, "bc", []), (3, "abc", []),
])
def test_create_warns_that_data_does_not_spread_parts(world, roots, given,
                                                      words):
    """Several --data are where volumes are looked for. Whoever gives them to
    spread the parts is told that all lie on one disk."""
    places = {"a": world.roots[0], "b": world.roots[2], "c": world.roots[3]}
    err = line_about_roots(
        world, "--replicas", "3",
        *[w for r in world.roots[:roots] for w in ("--data", r)],
        *[w for x in given for w in ("--part", f"{x}={places[x]}")])
    assert len(err.splitlines()) == (1 if words else 0), err
    if words:
        assert err.startswith("lsvd: warning: ")
        assert f"lie under {world.roots[0]}:" in err
    for word in words:
        assert word in err


def test_create_warns_of_the_roots_of_a_config_file_too(world):
    config = world.path / "lsvd.conf"
    config.write_text(f"[defaults]\ndata = {world.roots[2]};"
                      f"{world.roots[3]}\n")
    err = line_about_roots(world, "--ec", "2+2", "--config", config)
    assert len(err.splitlines()) == 1, err
    assert f"parts a, b, c and d lie under {world.roots[2]}:" in err
    err = run(LSVD, "create", "vm2", "4M", "--cache", world.cache,
              "--config", config).err
    assert err == ""  # of one part there is nothing to spread


def test_create_warns_of_a_single_parity(world):
    done = world.create("vm1", "--ec", "2+1")
    assert len(done.err.splitlines()) == 1
    assert "loss of one part only" in done.err


def test_numbers_begin_at_11_and_names_are_listed(world):
    world.create("vm1", "--replicas", "2", parts=2)
    world.create("vm2", "--ec", "2+2", parts=4)
    listed = world.lsvd("list", "--json").json()
    assert [(v["name"], v["number"], v["size"], v["redundancy"])
            for v in listed] == [("vm1", 11, 16 << 20, "2 replicas"),
                                 ("vm2", 12, 16 << 20, "EC 2+2")]
    assert all(v["problem"] is None for v in listed)
    text = world.lsvd("list").out.splitlines()
    assert text[0].split()[:2] == ["NAME", "NUMBER"]
    assert text[1].split()[0] == "vm1"
    assert text[2].split()[0] == "vm2"


def test_numbers_do_not_run_out(world):
    """After the last come those that nobody has any more."""
    (world.roots[0] / "65535").mkdir()
    world.create("vm1", parts=1)
    world.create("vm2", parts=1)
    world.lsvd("remove", "vm1")
    world.create("vm3", parts=1)
    listed = world.lsvd("list", "--json").json()
    assert {(v["name"], v["number"]) for v in listed} == {
        ("vm2", 12), ("vm3", 11)}
    assert all(v["problem"] is None for v in listed)


def test_list_of_nothing(world):
    assert world.lsvd("list", "--json").json() == []
    assert world.lsvd("list").out == "no volumes\n"


def test_info_tells_policy_and_parts(world):
    world.create("vm1", "--ec", "2+1", "--block-size", "512")
    info = world.lsvd("info", "vm1", "--json").json()
    assert info["name"] == "vm1"
    assert (info["ec_data"], info["ec_parity"]) == (2, 1)
    assert (info["chunk_size"], info["block_size"]) == (256 << 10, 512)
    assert not info["in_use"]
    assert [(p["part"], p["state"], p["path"]) for p in info["parts"]] == [
        (letter, "ok", str(world.part(letter))) for letter in "abc"]
    text = world.lsvd("info", "vm1").out
    assert "EC 2+1" in text
    assert str(world.part("b")) in text


def test_info_names_a_missing_part(world):
    world.create("vm1", "--replicas", "3")
    world.roots[2].rename(world.path / "away")
    parts = world.lsvd("info", "vm1", "--json").json()["parts"]
    assert [p["state"] for p in parts] == ["ok", "ok", "missing"]
    assert parts[2]["problem"]


@pytest.mark.parametrize("name", [
    "a/b", "..", "", ".hidden", "a\nb", "x" * 65, "-x", "a b", "\x1b[1m"])
def test_bad_names_are_refused(world, name):
    before = world.files()
    done = run(LSVD, "create", *world.where(), "--replicas", "1", "--", name,
               "4M")
    refused(done, 1)
    assert "\x1b" not in done.err
    assert world.files() == before


@pytest.mark.parametrize("options,word", [
    (["0", "--replicas", "2"], "size"),
    (["9P", "--replicas", "2"], "size"),
    (["4M", "--replicas", "9"], "replicas"),
    (["4M", "--ec", "1+1"], ""),
    (["4M", "--ec", "17+1"], ""),
    (["4M", "--ec", "2+5"], ""),
    (["4M", "--chunk-size", "128K"], "chunk"),
    (["4M", "--chunk-size", "128M"], "chunk"),
    (["4M", "--chunk-size", "300K"], "chunk"),
    (["4M", "--block-size", "256"], "block"),
    (["4M", "--block-size", "128K"], "block"),
    (["4M", "--block-size", "5000"], "block"),
    (["4M", "--replicas", "2", "--part", "c=/tmp"], "c"),
])
def test_values_out_of_range_change_nothing(world, options, word):
    before = world.files()
    refused(world.lsvd("create", "vm1", *options), 1, word)
    assert world.files() == before


@pytest.mark.parametrize("words", [
    [], ["create"], ["create", "x"], ["create", "x", "1G", "y"],
    ["create", "x", "ten"], ["create", "x", "1G", "--ec", "4"],
    ["create", "x", "1G", "--ec", "4+"], ["create", "x", "1G", "--ec", "+1"],
    ["create", "x", "1G", "--replicas", "two"],
    ["create", "x", "1G", "--replicas", "2", "--ec", "2+1"],
    ["create", "x", "1G", "--part", "/dir"],
    ["create", "x", "1G", "--part", "a=/1", "--part", "a=/2"],
    ["create", "x", "1G", "--force"], ["list", "x"], ["info"],
    ["info", "--frobnicate", "x"], ["frobnicate"], ["set", "x", "read-only"],
    ["set", "x", "=on"], ["resize", "x"], ["list", "--json=yes"],
])
def test_nonsense_is_64(world, words):
    refused(world.lsvd(*words), 64, "--help")


def test_a_name_is_given_once(world):
    world.create("vm1", "--replicas", "2", parts=2)
    before = world.files()
    refused(world.lsvd("create", "vm1", "4M", *world.parts(1)), 1, "vm1")
    assert world.files() == before


def test_a_missing_directory_is_named(world):
    refused(world.lsvd("create", "vm1", "4M", "--replicas", "2",
                       *world.parts(1), "--part", "b=/no/such/dir"),
            1, "/no/such/dir")
    assert world.lsvd("list", "--json").json() == []


def test_unknown_volumes_are_named(world):
    for words in (["info", "nope"], ["resize", "nope", "1G"],
                  ["set", "nope", "read-only=on"], ["remove", "nope"]):
        refused(world.lsvd(*words), 1, "nope")


def test_resize_grows_and_shrinks_only_by_force(world):
    world.create("vm1", "--replicas", "2", parts=2)
    data = world.fill("vm1", 1 << 20)
    assert world.lsvd("resize", "vm1", "32M").code == 0
    assert world.lsvd("info", "vm1", "--json").json()["size"] == 32 << 20
    assert world.read("vm1", 2 << 20) == data + bytes(1 << 20)
    refused(world.lsvd("resize", "vm1", "8M"), 1, "vm1", "force")
    assert world.lsvd("info", "vm1", "--json").json()["size"] == 32 << 20
    done = world.lsvd("resize", "vm1", "8M", "--force", "--json")
    assert done.json()["size"] == 8 << 20
    assert world.read("vm1", 1 << 20) == data


def test_what_was_cut_off_does_not_come_back(world):
    world.create("vm1", "--ec", "2+1")
    data = world.fill("vm1", 4 << 20)
    keep = (1 << 20) + 12345
    assert world.lsvd("resize", "vm1", str(keep), "--force").code == 0
    assert world.lsvd("resize", "vm1", "4M").code == 0
    assert world.read("vm1", 4 << 20) == \
        data[:keep] + bytes((4 << 20) - keep)
    assert world.repair("verify", "vm1").code == 0


def test_set_read_only(world):
    world.create("vm1", "--replicas", "2", parts=2)
    assert world.lsvd("set", "vm1", "read-only=on").code == 0
    assert world.lsvd("list", "--json").json()[0]["read_only"]
    done = world.while_served("vm1", "nbdinfo --is read-only \"$uri\"")
    assert done.code == 0, done.err
    assert world.lsvd("set", "vm1", "read-only=off").code == 0
    done = world.while_served("vm1", "nbdinfo --is read-only \"$uri\"")
    assert done.code == 2


def test_set_names_what_can_be_set(world):
    world.create("vm1", "--replicas", "2", parts=2)
    refused(world.lsvd("set", "vm1", "size=1"), 1, "size", "read-only")
    refused(world.lsvd("set", "vm1", "read-only=maybe"), 1, "maybe")


def test_remove_leaves_nothing_of_a_volume(world):
    world.create("keep", "--replicas", "2", parts=2)
    before = world.files()
    world.create("vm1", "--ec", "2+1")
    world.fill("vm1", 1 << 20)
    assert world.lsvd("remove", "vm1", "--json").json() == {"removed": "vm1"}
    left = set(world.files()) - set(before)
    assert all(path.endswith(".volumesmeta") for path in left)
    assert [v["name"] for v in world.lsvd("list", "--json").json()] == \
        ["keep"]


def test_a_volume_in_use_is_left_alone(world):
    world.create("vm1", "--replicas", "2", parts=2)
    where = " ".join(str(w) for w in world.where())
    # `set` and `resize` the server does, if it can be asked: see
    # test_tools_control.
    done = world.while_served("vm1", "%s remove vm1 %s" % (LSVD, where))
    assert done.code == 1
    assert "lsvd: " in done.err
    assert "pid" in done.err, done.err
    done = world.while_served("vm1", "%s info vm1 %s --json" % (LSVD, where))
    assert done.json()["in_use"]
    assert "pid" in done.json()["owner"]
    assert world.lsvd("info", "vm1", "--json").json()["size"] == 16 << 20


def test_a_full_disk_for_output_is_an_error(world):
    with open("/dev/full", "w", encoding="ascii") as full:
        import subprocess
        done = subprocess.run([LSVD, "--help"], stdout=full, text=True,
                              stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert "No space left" in done.stderr


def test_ctrl_c_leaves_a_whole_volume_or_none(world):
    """At many moments; signal.SIGINT may find the program before main, too."""
    for i in range(24):
        words = [LSVD, "create", "vm%d" % i, "64M", "--replicas", "3",
                 "--cache", world.cache, *world.parts(3)]
        child = subprocess.Popen([str(w) for w in words],
                                 stdout=subprocess.DEVNULL)
        try:
            child.wait(0.002 * (i + 1))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGINT)
        assert child.wait() in (0, -signal.SIGINT)
    listed = world.lsvd("list", "--json").json()
    assert [v["problem"] for v in listed] == [None] * len(listed)
    numbers = {v["number"] for v in listed}
    for root in world.roots[:3]:
        found = {int(d.name) for d in root.iterdir() if d.name.isdigit()}
        assert found == numbers
