# shellcheck shell=bash disable=SC2034
# packages.sh: the Debian packages that demo and check need. Sourced by them.

# To build plugin and programs.
packages_build=(gcc libc6-dev meson ninja-build pkg-config perl
    nbdkit nbdkit-plugin-dev libisal-dev libxxhash-dev libglib2.0-dev
    libjansson-dev)

# What the commands that demo suggests come from; without file, nbdinfo prints
# bytes that it never wrote.
packages_demo=(libnbd-bin qemu-utils file)

# What the tests use: their framework, and the clients that people use.
packages_check=(libcmocka-dev python3 python3-pytest python3-libnbd
    libnbd-bin qemu-utils fio nbd-client fuse3 mount util-linux
    util-linux-extra e2fsprogs xfsprogs gnutls-bin file jq procps libfuse3-dev
    spin strace)

# The guest with NFS (tests/nfs): its kernel, and the server's programs, which
# are used in it alone.
packages_nfs=(user-mode-linux kmod nfs-kernel-server nfs-common iproute2)

# are_installed PACKAGE...
are_installed()
{
    local package

    for package; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" \
            2>/dev/null) == installed ]] || return 1
    done
}

# Install those of the arguments that are missing, or say what is missing.
install_packages()
{
    local -a missing=() as_root=()
    local package output

    for package; do
        are_installed "$package" || missing+=("$package")
    done
    ((${#missing[@]})) || return 0

    if ((EUID != 0)); then
        if ! command -v sudo >/dev/null; then
            echo "$0: run as root: apt-get install ${missing[*]}" >&2
            return 1
        fi
        as_root=(sudo)
    fi
    echo "installing: ${missing[*]}"
    if ! output=$("${as_root[@]}" apt-get -qq update 2>&1 &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y \
            -o Dpkg::Use-Pty=0 install --no-install-recommends \
            "${missing[@]}" 2>&1); then
        printf '%s\n' "$output" >&2
        echo "$0: could not install: ${missing[*]}" >&2
        return 1
    fi
}
