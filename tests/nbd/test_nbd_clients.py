"""What people use on top of a volume."""

import os
import pathlib
import shutil
import socket
import subprocess

import nbd
import pytest

from conftest import need_root
from nbdharness import (MIB, assert_same, free_port, poll, random_bytes,
                        random_file, read_all, run)


def test_qemu_img_convert_compare_map(place):
    volume = place.volume("ec21")
    image = random_file(place.path / "image", 8 * MIB, 1)
    with open(image, "r+b") as f:
        f.truncate(volume.size)
    server = volume.serve()
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image,
        server.uri())
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, server.uri())
    mapped = run("qemu-img", "map", "-f", "raw", "--output=json",
                 server.uri()).stdout
    assert '"data": true' in mapped and '"zero": true' in mapped
    qcow = place.path / "image.qcow2"
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", server.uri(), qcow)
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", image, qcow)
    server.stop()
    assert_same(volume.content(), image.read_bytes())


def test_qemu_io(volume):
    server = volume.serve()
    run("qemu-io", "-f", "raw", server.uri(), "-c", "write -P 0xaa 512 1M",
        "-c", "write -f -P 0xbb 4k 4k", "-c", "write -z 64k 64k",
        "-c", "discard 128k 64k", "-c", "flush",
        "-c", "read -P 0xaa 512 3584", "-c", "read -P 0xbb 4k 4k",
        "-c", "read -P 0 64k 128k", "-c", "read -P 0xaa 192k 512")
    server.stop()


@pytest.mark.parametrize("rw", ["randwrite", "randrw"])
def test_fio_with_verify(place, rw):
    volume = place.volume("ec21")
    server = volume.serve("ram=8M")
    run("fio", "--name=verify", "--ioengine=nbd", f"--uri={server.uri()}",
        f"--rw={rw}", "--bsrange=512-64k", "--size=24m", "--io_size=12m",
        "--iodepth=16", "--verify=crc32c", "--verify_fatal=1", "--fsync=64",
        "--randseed=7", "--output-format=terse", cwd=place.path)
    server.stop()
    volume.verify(0, "--full")


class Fuse:
    """A volume as a file, by nbdfuse."""

    def __init__(self, place, server):
        need_root()
        for device in ("/dev/fuse", "/dev/loop-control"):
            if not os.path.exists(device):
                pytest.skip(f"no {device}")
        self.dir = place.root("fuse")
        self.file = self.dir / "disk"
        self.process = subprocess.Popen(
            ["nbdfuse", str(self.file), server.uri()],
            stderr=subprocess.PIPE, text=True)
        poll(self._up, "nbdfuse")

    def _up(self):
        if self.process.poll() is not None:
            pytest.skip(f"nbdfuse: {self.process.stderr.read()}")
        return self.file.exists()

    def end(self):
        run("fusermount3", "-u", self.dir)
        self.process.wait(60)
        self.process.stderr.close()


FILE_SYSTEMS = {
    "ext4": (["mkfs.ext4", "-q", "-E", "lazy_itable_init=0"],
             ["fsck.ext4", "-f", "-n"], 64 * MIB),
    "xfs": (["mkfs.xfs", "-q"], ["xfs_repair", "-n"], 320 * MIB),
}


@pytest.mark.parametrize("kind", FILE_SYSTEMS)
def test_file_system(place, mounts, kind):
    mkfs, fsck, size = FILE_SYSTEMS[kind]
    volume = place.volume("ec21", size=size, chunk=MIB)
    server = volume.serve()
    fuse = Fuse(place, server)
    mountpoint = place.root("mnt")
    run(*mkfs, fuse.file)
    done = run("mount", "-o", "loop", fuse.file, mountpoint, check=False)
    if done.returncode != 0:
        fuse.end()
        pytest.skip(f"mount -o loop: {done.stderr}")
    mounts.append(mountpoint)
    files = {f"file{i}": random_bytes(100000 * i + 1, i) for i in range(20)}
    for name, data in files.items():
        (mountpoint / name).write_bytes(data)
    for name in list(files)[::3]:
        (mountpoint / name).unlink()
        del files[name]
    run("fstrim", mountpoint, check=False)
    run("umount", mountpoint)
    run(*fsck, fuse.file)
    fuse.end()
    server.kill()
    server = volume.serve()
    fuse = Fuse(place, server)
    run(*fsck, fuse.file)
    run("mount", "-o", "loop,ro", fuse.file, mountpoint)
    assert {p.name: p.read_bytes() for p in mountpoint.iterdir()
            if p.is_file()} == files
    run("umount", mountpoint)
    fuse.end()
    server.stop()
    volume.verify(0, "--full")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, and a key and certificate for server and client."""
    path = tmp_path_factory.mktemp("pki")
    (path / "ca.info").write_text("cn = test\nca\ncert_signing_key\n")
    for who, usage in (("server", "tls_www_server"),
                       ("client", "tls_www_client")):
        (path / f"{who}.info").write_text(
            f"cn = localhost\ndns_name = localhost\n{usage}\n"
            "signing_key\nencryption_key\n")

    def certtool(*arguments):
        run("certtool", *arguments, cwd=path)

    for who in ("ca", "server", "client"):
        certtool("--generate-privkey", "--key-type=ecdsa", "--outfile",
                 f"{who}-key.pem")
    certtool("--generate-self-signed", "--load-privkey", "ca-key.pem",
             "--template", "ca.info", "--outfile", "ca-cert.pem")
    for who in ("server", "client"):
        certtool("--generate-certificate", "--load-ca-certificate",
                 "ca-cert.pem", "--load-ca-privkey", "ca-key.pem",
                 "--load-privkey", f"{who}-key.pem", "--template",
                 f"{who}.info", "--outfile", f"{who}-cert.pem")
    yield path
    shutil.rmtree(path)


def test_tls_with_certificates(place, certificates):
    volume = place.volume("ec21")
    image = random_file(place.path / "image", volume.size, 2)
    server = volume.serve(port=free_port(), options=[
        "--tls=require", f"--tls-certificates={certificates}",
        "--tls-verify-peer"])
    uri = server.uri(scheme="nbds") + f"?tls-certificates={certificates}"
    run("nbdcopy", image, uri)
    assert "with TLS" in run("nbdinfo", uri).stdout
    with pytest.raises(nbd.Error):
        server.connect()  # without TLS
    server.stop()
    assert_same(volume.content(), image.read_bytes())


def pause(server, place):
    """Stop and let go again through the filter's control socket."""
    h = server.connect()
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(place.path / "pause.sock"))
        control.sendall(b"p")
        assert control.recv(1) == b"P"
        cookie = h.aio_pwrite(nbd.Buffer.from_bytearray(
            bytearray(b"p" * 4096)), 0)
        assert h.poll(100) in (0, 1)
        assert not h.aio_command_completed(cookie)
        control.sendall(b"r")
        assert control.recv(1) == b"R"
    poll(lambda: h.poll(100) >= 0 and h.aio_command_completed(cookie),
         "the write goes on")


FILTERS = {
    "blocksize": ["minblock=4096", "maxdata=65536", "maxlen=1M"],
    "blocksize-policy": ["blocksize-minimum=512"],
    "cow": [],
    "log": ["logfile={}/filter.log"],
    "stats": ["statsfile={}/stats"],
    "rate": ["rate=4G", "connection-rate=4G"],
    "delay": ["rdelay=1ms", "wdelay=1ms", "delay-zero=1ms"],
    "noparallel": [],
    "multi-conn": ["multi-conn-mode=emulate"],
    "fua": ["fuamode=force"],
    "nocache": ["cachemode=none"],
    "noextents": [],
    "pause": ["pause-control={}/pause.sock"],
    "readahead": [],
    "retry": ["retries=1"],
}


@pytest.mark.parametrize("name", FILTERS)
def test_under_filter(place, name):
    volume = place.volume("ec21", size=8 * MIB)
    old = volume.fill(3)
    image = random_file(place.path / "image", volume.size, 4)
    server = volume.serve(*[a.format(place.path) for a in FILTERS[name]],
                          filters=[name])
    if name == "pause":
        pause(server, place)
    run("nbdcopy", "--flush", image, server.uri())
    run("nbdcopy", server.uri(), place.path / "back")
    assert_same((place.path / "back").read_bytes(), image.read_bytes())
    server.stop()
    want = old if name == "cow" else image.read_bytes()
    assert_same(volume.content(), want)
    volume.verify(0, "--full")


def test_under_filter_exitlast(volume):
    server = volume.serve(filters=["exitlast"])
    h = server.connect()
    h.pwrite(b"e" * 4096, 0)
    h.shutdown()
    assert server.wait() == 0
    assert volume.info()["clean"] is True
    assert volume.content()[:4096] == b"e" * 4096


def test_under_filter_error(place):
    """A client that repeats what failed ends up with the right bytes."""
    volume = place.volume("r2", size=4 * MIB)
    server = volume.serve("error=EIO", "error-rate=20%", filters=["error"])
    h = server.connect()
    data, failed = random_bytes(volume.size, 5), 0
    for at in range(0, volume.size, 65536):
        while True:
            try:
                h.pwrite(data[at:at + 65536], at)
                break
            except nbd.Error:
                failed += 1
    assert failed > 0
    server.stop()
    assert_same(volume.content(), data)


def test_run_with_a_captive_server(volume, place):
    image = random_file(place.path / "image", volume.size, 6)
    parameters = [str(p) for p in volume.parameters()]
    from nbdharness import PLUGIN
    run("nbdkit", "-U", "-", PLUGIN, *parameters, "--run",
        f'nbdcopy {image} "$uri"')
    assert volume.info()["clean"] is True
    assert_same(volume.content(), image.read_bytes())


def test_in_the_background(volume, place):
    """Without -f nbdkit forks: the lock goes with it, threads start after."""
    from nbdharness import PLUGIN
    sock, pidfile = place.path / "bg.sock", place.path / "bg.pid"
    run("nbdkit", "-U", sock, "-P", pidfile, PLUGIN, *volume.parameters())
    pid = int(poll(lambda: pidfile.exists() and pidfile.read_text().strip(),
                   "pidfile"))
    try:
        h = nbd.NBD()
        h.connect_unix(str(sock))
        h.pwrite(b"b" * MIB, 0)
        h.flush()
        owner = volume.info()
        assert owner["in_use"] is True
        assert str(pid) in owner["owner"]
        h.shutdown()
    finally:
        os.kill(pid, 15)
        poll(lambda: not pathlib.Path(f"/proc/{pid}").exists(), "its end")
    assert volume.info()["clean"] is True
    assert volume.content()[:MIB] == b"b" * MIB


def test_two_handles_see_each_other(volume):
    server = volume.serve()
    a, b = server.connect(), server.connect()
    for i in range(100):
        a.pwrite(bytes([i]) * 700, i * 333)
        assert b.pread(700, i * 333) == bytes([i]) * 700
    assert len(read_all(b, volume.size)) == volume.size
