"""What a client sees before its first request."""

import json

import nbd
import pytest

from nbdharness import (BUILD, LSVD, MIB, PLUGIN, POLICIES, free_port,
                        random_bytes, run)


def info_of(server, export="", *options):
    done = run("nbdinfo", "--json", *options, server.uri(export))
    return json.loads(done.stdout)["exports"]


@pytest.mark.parametrize("policy", POLICIES)
def test_nbdinfo_flags(place, policy):
    volume = place.volume(policy)
    server = volume.serve()
    export = info_of(server)[0]
    assert export["export-name"] == "mydevice1"
    assert export["export-size"] == volume.size
    assert export["is_read_only"] is False
    for can in ("cache", "fast_zero", "flush", "fua", "multi_conn", "trim",
                "zero", "df"):
        assert export[f"can_{can}"] is True, can
    assert export["is_rotational"] is False
    assert export["contexts"] == ["base:allocation"]
    assert (export["block_size_minimum"], export["block_size_preferred"],
            export["block_size_maximum"]) == (1, 4096, 32 * MIB)


@pytest.mark.parametrize("block", [512, 65536])
def test_preferred_size_is_the_block_size(place, block):
    server = place.volume("r1", block=block).serve()
    assert info_of(server)[0]["block_size_preferred"] == block


def test_map_shows_data_and_holes(volume):
    server = volume.serve()
    h = server.connect()
    h.pwrite(random_bytes(MIB, 1), 4 * MIB)
    del h
    done = run("nbdinfo", "--map", "--json", server.uri())
    entries = [(e["offset"], e["length"], e["type"])
               for e in json.loads(done.stdout)]
    assert entries == [(0, 4 * MIB, 3), (4 * MIB, MIB, 0),
                       (5 * MIB, 27 * MIB, 3)]


def test_volume_is_served_by_its_own_name_too(volume):
    server = volume.serve()
    assert server.connect("mydevice1").get_size() == volume.size


@pytest.mark.parametrize("name", ["other", "mydevice1/", "x" * 4000,
                                  "a\nforged line"],
                         ids=["other", "slash", "long", "newline"])
def test_another_export_name_is_refused(volume, name):
    server = volume.serve()
    with pytest.raises(nbd.Error):
        server.connect(name)
    assert server.connect().get_size() == volume.size
    assert not [s for s in server.log().splitlines()
                if s.startswith("forged")]


def two_volumes(place):
    root = place.root("data")
    where = [f"--data={root}", f"--cache={place.cache}"]
    run(LSVD, "create", "first", "8M", *where)
    run(LSVD, "create", "second", "16M", "--replicas", "2", *where)
    return [f"data={root}", f"cache={place.cache}"]


def test_each_volume_is_an_export(place):
    server = place.serve(*two_volumes(place))
    listed = {e["export-name"]: e for e in info_of(server, "", "--list")}
    assert set(listed) == {"first", "first@now", "second", "second@now"}
    assert listed["first"]["export-size"] == 8 * MIB
    assert listed["second"]["export-size"] == 16 * MIB
    assert listed["second"]["description"] == "16 MiB, 2 replicas"
    assert listed["second@now"]["export-size"] == 16 * MIB
    assert info_of(server, "second")[0]["description"] == \
        "16 MiB, 2 replicas"
    server.stop()


def test_several_volumes_at_once_do_not_mix(place):
    server = place.serve(*two_volumes(place))
    first, second = server.connect("first"), server.connect("second")
    a, b = random_bytes(MIB, 1), random_bytes(MIB, 2)
    first.pwrite(a, 0)
    second.pwrite(b, 0)
    again = server.connect("first")
    assert again.pread(MIB, 0) == a
    assert second.pread(MIB, 0) == b
    server.stop()


def test_many_clients_open_the_same_export_together(place):
    server = place.serve(*two_volumes(place))
    handles = []
    for _ in range(8):
        h = nbd.NBD()
        h.set_export_name("first")
        h.aio_connect_unix(str(server.socket))
        handles.append(h)
    for h in handles:
        while h.aio_is_connecting():
            h.poll(1000)
        assert h.get_size() == 8 * MIB
    server.stop()


def test_no_default_among_several(place):
    server = place.serve(*two_volumes(place))
    with pytest.raises(nbd.Error):
        server.connect("")
    with pytest.raises(nbd.Error):
        server.connect("third")
    assert "third" in server.log()


def test_a_lone_volume_is_the_default(place):
    root = place.root("data")
    run(LSVD, "create", "lone", "8M", f"--data={root}",
        f"--cache={place.cache}")
    server = place.serve(f"data={root}", f"cache={place.cache}")
    assert server.connect("").get_size() == 8 * MIB
    assert info_of(server, "", "--list")[0]["export-name"] == "lone"


def test_export_names_that_are_paths(place):
    server = place.serve(*two_volumes(place))
    for name in ("../first", "first/..", "/", "..", ".", "fir\x1bst",
                 "x" * 4096):
        with pytest.raises(nbd.Error):
            server.connect(name)
    assert "\x1b" not in server.log()
    assert server.connect("first").get_size() == 8 * MIB


def test_minus_r_is_read_only(volume):
    data = volume.fill(1)
    server = volume.serve(options=["-r"])
    assert info_of(server)[0]["is_read_only"] is True
    h = server.connect()
    h.set_strict_mode(0)
    for request in (lambda: h.pwrite(b"x" * 512, 0), lambda: h.trim(512, 0),
                    lambda: h.zero(512, 0)):
        with pytest.raises(nbd.Error) as e:
            request()
        assert e.value.errnum in (1, 30)  # EPERM, EROFS
    assert h.pread(volume.size, 0) == data
    server.stop()


def test_minus_r_by_export_name(place):
    parameters = two_volumes(place)
    server = place.serve(*parameters, options=["-r"])
    assert info_of(server, "first")[0]["is_read_only"] is True
    server.stop()


def test_read_only_volume(volume):
    data = volume.fill(1)
    run(LSVD, "set", volume.name, "read-only=on", *volume.where())
    server = volume.serve()
    assert info_of(server)[0]["is_read_only"] is True
    h = server.connect()
    assert h.pread(volume.size, 0) == data
    h.set_strict_mode(0)
    with pytest.raises(nbd.Error):
        h.pwrite(b"x" * 512, 0)
    server.stop()
    run(LSVD, "set", volume.name, "read-only=off", *volume.where())
    server = volume.serve()
    server.connect().pwrite(b"x" * 512, 0)
    server.stop()


def test_nbd_client_lists_exports(place):
    port = free_port()
    place.serve(*two_volumes(place), port=port)
    done = run("nbd-client", "-l", "localhost", "-p", port, check=False)
    assert "first" in done.stdout and "second" in done.stdout, done


def test_dump_plugin(place):
    lines = run("nbdkit", PLUGIN, "--dump-plugin").stdout.splitlines()
    fields = dict(line.split("=", 1) for line in lines)
    assert fields["name"] == "lsvd"
    assert fields["thread_model"] == "parallel"
    assert fields["magic_config_key"] == "volume"
    assert len([f for f in fields if f.startswith("lsvd_")]) >= 3, fields


def test_help_names_every_parameter_and_so_does_the_manual(place):
    text = run("nbdkit", PLUGIN, "--help").stdout
    manual = (BUILD / "plugin" / "nbdkit-lsvd-plugin.1").read_text()
    for key in ("volume=", "data=", "cache=", "ram=", "config="):
        assert key in text.replace("]", ""), key
        assert key in manual.replace("\\fR", "").replace("\\fB", ""), key


def test_debug_flags(volume):
    server = volume.serve(options=["-v", "-D", "lsvd.io=1", "-D",
                                   "lsvd.engine=1"])
    server.connect().pwrite(b"x" * 4096, 8192)
    server.stop()
    assert "lsvd: write 4096 at 8192: ok" in server.log()


def test_exports_nothing_but_what_nbdkit_looks_for(place):
    lines = run("nm", "-D", "--defined-only", PLUGIN).stdout.splitlines()
    symbols = {line.split()[-1] for line in lines}
    assert symbols == {"plugin_init", "lsvd_debug_io", "lsvd_debug_engine"}
