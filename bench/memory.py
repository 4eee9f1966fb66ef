"""What the machine takes for memory that nobody has used for a while.

Where a host takes back what a virtual machine has free, each page has to be
fetched from it again: who needs more memory, be it page cache, pays for that.
"""
import mmap
import pathlib
import re
import time


def take_seconds(mib):
    """Have so much, every page of it, and let it go again."""
    began = time.monotonic()
    with mmap.mmap(-1, mib << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
                   | mmap.MAP_POPULATE):
        return time.monotonic() - began


def available_mib():
    found = re.search(r"^MemAvailable:\s+(\d+) kB",
                      pathlib.Path("/proc/meminfo").read_text(), re.M)
    return int(found.group(1)) // 1024


def first_use(mib):
    """Seconds for a GiB of so much: at first, and at once again."""
    mib = min(mib, available_mib() // 2)
    return [take_seconds(mib) / (mib / 1024) for _ in range(2)]
