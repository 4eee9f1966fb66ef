/* help.c: the texts of lsvd-repair --help. */
#include "repair.h"

#include <stdio.h>
#include <string.h>

static const char common_help[] =
    "\n"
    "Where the volumes are (all commands):\n"
    "  -d, --data DIR     a root that knows the volumes; may be repeated\n"
    "  -c, --cache DIR    the directory of the journals\n"
    "      --config FILE  defaults (else /etc/lsvd/lsvd.conf; without it\n"
    "                     /data and /cache)\n"
    "Output:\n"
    "      --json         for programs: an object, or with several volumes\n"
    "                     or --all an array of them\n"
    "  -q, --quiet        print only when something is wrong (for cron)\n"
    "  -v, --verbose      say what is done on the way, too\n"
    "      --no-progress  no progress bar (there is none anyway when stderr\n"
    "                     is not a terminal)\n"
    "  -h, --help         after a command: help for it\n"
    "  -V, --version\n"
    "\n"
    "Exit status, the worst of all volumes:\n"
    "  0   every part holds all that it should\n"
    "  1   redundancy is below policy; all data can be read\n"
    "  2   data is lost or, after force-start, doubtful (the ranges are\n"
    "      printed)\n"
    "  3   could not check\n"
    "  64  wrong usage\n";

static const char program_help[] =
    "lsvd-repair checks volumes of lsvd and puts back what is missing.\n"
    "\n"
    "  lsvd-repair verify NAME...        is everything there and right?\n"
    "  lsvd-repair rebuild NAME...       write back what is not\n"
    "  lsvd-repair replace NAME b[=DIR]  a new, empty part b, refilled\n"
    "  lsvd-repair force-start NAME --accept-loss=TEXT  start anew without "
    "what\n"
    "                                    is lost for good\n"
    "  lsvd-repair takeover NAME         take it from a host that is gone\n"
    "\n"
    "Examples:\n"
    "  lsvd-repair verify --all --data /data --cache /cache\n"
    "  lsvd-repair verify --quick mydevice1 --json\n"
    "  lsvd-repair rebuild mydevice1\n";

static const char verify_help[] =
    "lsvd-repair verify NAME... | --all [options]: check volumes\n"
    "\n"
    "Changes nothing. Of a volume that is served on this host its server does\n"
    "the work, so that nothing in flux looks wrong.\n"
    "  --full     read everything: every checksum, parity against data, parts\n"
    "             against each other (the default)\n"
    "  --quick    listings and chunk tables alone: which files are missing,\n"
    "             misplaced or of the wrong size\n"
    "  --no-lock  look at it even if somebody has it who can't be asked; what\n"
    "             is found is unconfirmed\n"
    "  -a, --all  every volume that the roots know\n"
    "\n"
    "Examples:\n"
    "  lsvd-repair verify mydevice1 --data /data --cache /cache\n"
    "  lsvd-repair verify --all --quick --quiet        (hourly, from cron)\n"
    "  lsvd-repair verify --all --json > report.json   (weekly)\n";

static const char rebuild_help[] =
    "lsvd-repair rebuild NAME... | --all [options]: write back what is "
    "missing,\n"
    "stale or corrupt\n"
    "\n"
    "Of a volume that is served on this host its server does the work. May be\n"
    "interrupted and called again.\n"
    "  --part b       only this part\n"
    "  -n, --dry-run  only say what would be done; the exit status is that\n"
    "                 of the state found\n"
    "  -a, --all      every volume that the roots know\n"
    "\n"
    "Examples:\n"
    "  lsvd-repair rebuild mydevice1 --dry-run\n"
    "  lsvd-repair rebuild mydevice1 --part b\n";

static const char replace_help[] =
    "lsvd-repair replace NAME b[=NEWDIR] [options]: make a new, empty part "
    "and\n"
    "refill it from the others\n"
    "\n"
    "For a part whose disk or directory is gone. An empty directory is never\n"
    "taken for a blank part by itself: perhaps a mount is missing. Without\n"
    "NEWDIR the part is made where it was; NEWDIR is the new root of it. Of a\n"
    "volume that is served on this host its server does the work.\n"
    "\n"
    "Examples:\n"
    "  lsvd-repair replace mydevice1 b\n"
    "  lsvd-repair replace mydevice1 b=/mnt/newdisk\n";

static const char force_start_help[] =
    "lsvd-repair force-start NAME --accept-loss=TEXT [options]: start anew\n"
    "without what is lost for good\n"
    "\n"
    "For a volume whose journal is missing or damaged, or of which too few\n"
    "parts are left to prove that nothing newer exists. Look everywhere else\n"
    "first: what was answered, and is only there, is given up. Parts that are\n"
    "not there are dropped; all others are read and made alike; what is\n"
    "doubtful is listed. TEXT, who and when are kept in the volume for ever.\n"
    "Refused when the volume starts without it, and when the journal, or,\n"
    "without one, a part is there and can't be read: it may have what nothing\n"
    "else has. Try again, or take it away. Afterwards run fsck.\n"
    "\n"
    "Example:\n"
    "  lsvd-repair force-start db --accept-loss=\"NVMe of n2 died, ticket "
    "77\"\n";

static const char takeover_help[] =
    "lsvd-repair takeover NAME [--i-fenced-it] [options]: take a volume from\n"
    "a host that is gone\n"
    "\n"
    "For a volume that does not start because a server on another host has\n"
    "its lock. That server must not be able to write any more: power it off,\n"
    "or take its access to the storage away. A fence-cmd in the configuration\n"
    "is run to do so, and must succeed; without one say that you did it. Then\n"
    "its heartbeat is watched for 180 s. Start the volume afterwards; it\n"
    "needs its journal.\n"
    "  --i-fenced-it  you have made sure of that; fence-cmd is not run\n"
    "\n"
    "Example:\n"
    "  lsvd-repair takeover db --i-fenced-it\n";

static const struct {
    const char *command, *text;
} helps[] = {
    { "verify", verify_help },
    { "rebuild", rebuild_help },
    { "replace", replace_help },
    { "force-start", force_start_help },
    { "takeover", takeover_help },
};

void
help_print(const char *command)
{
    const char *text = program_help;

    for (size_t i = 0; command && i < sizeof helps / sizeof helps[0]; i++)
        if (strcmp(helps[i].command, command) == 0)
            text = helps[i].text;
    fputs(text, stdout);
    fputs(common_help, stdout);
}
