"""File servers, hosts and the wires between them, in one guest (see uml).

A Store is an NFS server with a file system of its own, in namespaces of its
own; a Host is a client: a host name, a network stack, an NFS client identity.
All hang on one bridge, each by a wire that can be cut. The mounts of all hosts
are seen by the tests, and by everybody: what makes them one host's is the
network they go through.
"""

import os
import pathlib
import subprocess
import threading

from nbdharness import poll

LEASE_S = 10  # of the servers, the least: they forget a silent client, and wait as long
             # for those of before after they were started
NETWORK = "10.77.0"
RUN = pathlib.Path("/run/nfs")


def sh(*command, check=True, timeout=120, **kwargs):
    done = subprocess.run([str(c) for c in command], text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=timeout, stdin=subprocess.DEVNULL, **kwargs)
    if check and done.returncode != 0:
        raise AssertionError(f"{command}: {done.returncode}: {done.stdout}")
    return done


class Node:
    """Something with a network stack and a host name."""

    def __init__(self, network, name):
        self.network, self.name = network, name
        self.number = network.next_number()
        self.address = f"{NETWORK}.{self.number}"
        self.wire = f"w-{name}"
        # A process that has the namespaces.
        self.holder = subprocess.Popen(
            ["unshare", "--net", "--uts", "--mount", "--propagation",
             "private", "sh", "-c",
             f"hostname {name} && mount -t sysfs sysfs /sys && "
             "echo up && exec sleep 100000"],
            stdout=subprocess.PIPE)
        assert self.holder.stdout.readline() == b"up\n"
        self.pid = self.holder.pid
        sh("ip", "link", "add", self.wire, "type", "veth", "peer", "name",
           "eth0", "netns", str(self.pid))
        sh("ip", "link", "set", self.wire, "master", "bridge0", "up")
        self.on("ip", "addr", "add", f"{self.address}/24", "dev", "eth0")
        self.on("ip", "link", "set", "eth0", "up")
        self.on("ip", "link", "set", "lo", "up")

    def prefix(self, mounts=True):
        """To be put before a command that runs there."""
        return ["nsenter", "--target", str(self.pid), "--net", "--uts",
                *(["--mount"] if mounts else [])]

    def on(self, *command, mounts=True, **kwargs):
        return sh(*self.prefix(mounts), *command, **kwargs)

    def cut(self):
        """The cable is out."""
        sh("ip", "link", "set", self.wire, "down")

    def join(self):
        sh("ip", "link", "set", self.wire, "up")

    def drop(self):
        """Every packet is lost, both ways."""
        sh("tc", "qdisc", "replace", "dev", self.wire, "root", "netem",
           "loss", "100%")
        self.on("tc", "qdisc", "replace", "dev", "eth0", "root", "netem",
                "loss", "100%")

    def delay(self, milliseconds):
        """Every packet that comes from it."""
        self.on("tc", "qdisc", "replace", "dev", "eth0", "root", "netem",
                "delay", f"{milliseconds}ms")

    def mend(self):
        """No more cut, drop, delay."""
        self.join()
        sh("tc", "qdisc", "del", "dev", self.wire, "root", check=False)
        self.on("tc", "qdisc", "del", "dev", "eth0", "root", check=False)

    def end(self):
        self.holder.kill()
        self.holder.wait()
        sh("ip", "link", "del", self.wire, check=False)


class Store(Node):
    """An NFS server; what it exports is in behind(), for those on it."""

    def __init__(self, network, name, size="256M"):
        super().__init__(network, name)
        self.dir = RUN / name
        self.image = RUN / f"{name}.img"
        self.export = self.dir / "export"
        self.export.mkdir(parents=True)
        (self.dir / "clients").mkdir()
        self.make_files(size)
        # One shell for all of it: processes are dear in a guest. nfsdcld
        # remembers who had locks.
        self.on("sh", "-e", "-c", f"""
            mount -t tmpfs tmpfs /var/lib/nfs
            mkdir -p /var/lib/nfs/v4recovery /var/lib/nfs/rpc_pipefs
            touch /var/lib/nfs/etab /var/lib/nfs/rmtab
            mount -t nfsd nfsd /proc/fs/nfsd
            mount -t rpc_pipefs pipefs /var/lib/nfs/rpc_pipefs
            nfsdcld -p /var/lib/nfs/rpc_pipefs -s {self.dir}/clients
            echo {LEASE_S} >/proc/fs/nfsd/nfsv4leasetime
            echo {LEASE_S} >/proc/fs/nfsd/nfsv4gracetime
            rpc.mountd --no-nfs-version 3""")
        self.share()
        self.start()

    def make_files(self, size=None):
        if size:
            sh("truncate", "-s", size, self.image)
        sh("mkfs.ext4", "-q", "-F", self.image)
        self.on("mount", "-o", "loop", self.image, self.export)
        self.on("chmod", "1777", self.export)

    def share(self):
        self.on("exportfs", "-o", "rw,sync,no_root_squash,no_subtree_check,"
                "fsid=0,insecure", f"*:{self.export}")

    def start(self):
        self.on("rpc.nfsd", "--no-nfs-version", "3", "--no-udp", "4")

    def stop(self):
        self.on("rpc.nfsd", "0")

    def mend(self):
        super().mend()
        self.empty()
        if self.on("cat", "/proc/fs/nfsd/threads").stdout.strip() == "0":
            self.start()

    def replace_files(self):
        """Another, empty file system in the place of the first."""
        self.stop()
        self.on("exportfs", "-ua")
        self.on("umount", self.export)
        self.make_files()
        self.share()
        self.start()

    def fill(self):
        """Leave no space."""
        self.on("sh", "-c", f"cat /dev/zero >{self.export}/ballast",
                check=False)

    def empty(self):
        self.on("rm", "-f", f"{self.export}/ballast")

    def wipe(self):
        self.on("sh", "-c", f"rm -rf {self.export}/*")

    def end(self):
        self.on("sh", "-c", "rpc.nfsd 0; exportfs -ua; pkill -x nfsdcld; "
                "pkill -x rpc.mountd", check=False)
        super().end()


class Host(Node):
    """An NFS client."""

    def __init__(self, network, name):
        super().__init__(network, name)
        self.on("sh", "-c",
                f"echo {name} >/sys/fs/nfs/net/nfs_client/identifier")
        self.mounts = []

    def mount(self, store, options="hard"):
        """Returns where it is."""
        point = pathlib.Path(f"/mnt/{self.name}-{store.name}-"
                             f"{len(self.mounts)}")
        point.mkdir()
        # In the mounts of everybody, but through this network.
        self.on("mount", "-t", "nfs", "-o", f"vers=4.2,{options}",
                f"{store.address}:/", point, mounts=False)
        self.mounts.append(point)
        return point

    def unmount(self, point):
        sh("umount", "-fl", point, check=False)

    def end(self):
        for point in self.mounts:
            self.unmount(point)
        super().end()


class Network:
    def __init__(self):
        self.count = 1
        self.nodes = []
        self.lock = threading.Lock()
        RUN.mkdir(exist_ok=True)
        sh("ip", "link", "add", "bridge0", "type", "bridge")
        sh("ip", "link", "set", "bridge0", "up")

    def next_number(self):
        with self.lock:
            self.count += 1
            return self.count

    def store(self, **kwargs):
        node = Store(self, f"store{len(self.nodes)}", **kwargs)
        self.nodes.append(node)
        return node

    def host(self, name=None):
        node = Host(self, name or f"host{len(self.nodes)}")
        self.nodes.append(node)
        return node

    def end(self):
        for node in reversed(self.nodes):
            node.end()
        sh("ip", "link", "del", "bridge0", check=False)


def load_modules():
    for name in ("nfsd", "nfs", "nfsv4", "veth", "bridge", "loop",
                 "sch_netem"):
        sh("modprobe", name)


def can_write(path, deadline_s=60):
    """Writes wait while a server that was started waits for its clients."""
    def look():
        return sh("sh", "-c", f"echo >{path}/probe && sync {path}/probe && "
                  f"rm {path}/probe", check=False).returncode == 0
    poll(look, f"{path} can be written", deadline_s, 0.2)


def is_guest():
    return os.uname().nodename == "guest" and \
        pathlib.Path("/run/guest/command").exists()
