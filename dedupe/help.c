/* help.c: the text of lsvd-dedupe --help. */
#include "dedupe.h"

#include <stdio.h>

static const char text[] =
    "lsvd-dedupe NAME --source BASE [--source BASE2 ...] [options]\n"
    "lsvd-dedupe NAME --rehydrate [options]\n"
    "\n"
    "Blocks of a volume, or of a snapshot of it, that are equal to a block of a\n"
    "read-only volume become references to it, and blocks of zeroes become holes:\n"
    "their space is given back. The volume may be served and written meanwhile.\n"
    "\n"
    "  -s, --source BASE  a read-only volume or snapshot; may be repeated\n"
    "  -n, --estimate     write nothing: what would a run give back?\n"
    "      --rehydrate    references become blocks of its own again\n"
    "      --memory SIZE  for the indexes of the sources (512M)\n"
    "      --max-mbps N   read no more than N megabytes of it a second\n"
    "Where the volumes are:\n"
    "  -d, --data DIR     a root that knows the volumes; may be repeated\n"
    "  -c, --cache DIR    the directory of the journals, and of the indexes\n"
    "      --config FILE  defaults (else /etc/lsvd/lsvd.conf; without it\n"
    "                     /data and /cache)\n"
    "Output:\n"
    "      --json         for programs: an object\n"
    "  -q, --quiet        print only when something is wrong (for cron)\n"
    "  -v, --verbose      say what is done on the way, too\n"
    "      --no-progress  no progress bar (there is none anyway when stderr\n"
    "                     is not a terminal)\n"
    "  -h, --help\n"
    "  -V, --version\n"
    "\n"
    "Examples:\n"
    "  lsvd-dedupe mydevice1 --source golden --estimate\n"
    "  lsvd-dedupe mydevice1 --source golden --source golden2@v3\n"
    "  lsvd-dedupe mydevice1@monday --source golden\n"
    "\n"
    "Exit status: 0, 1 if it failed, 64 for wrong usage.\n";

void
help_print(void)
{
    fputs(text, stdout);
}
