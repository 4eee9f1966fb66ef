/* help.c: the texts of lsvd --help. */
#include "request.h"

#include <stdio.h>
#include <string.h>

static const char common_options[] =
    "\n"
    "Where the volumes are (all commands):\n"
    "  -d, --data DIR     a root that knows the volumes; may be repeated\n"
    "  -c, --cache DIR    the directory of the journals\n"
    "      --config FILE  defaults (else /etc/lsvd/lsvd.conf; without it\n"
    "                     /data and /cache)\n"
    "Output:\n"
    "      --json         for programs\n"
    "  -v, --verbose      say what is done on the way, too\n"
    "  -h, --help         after a command: help for it\n"
    "  -V, --version\n";

static const char program_help[] =
    "lsvd makes and changes volumes: virtual disks over directories, served\n"
    "by nbdkit lsvd. lsvd-repair checks them.\n"
    "\n"
    "  lsvd create NAME SIZE       make a volume\n"
    "  lsvd clone PARENT NAME      make a volume that shares a read-only one\n"
    "  lsvd snapshot create|list|rollback|remove NAME\n"
    "                              freeze a volume, while it is in use\n"
    "  lsvd flatten NAME           make a clone that needs no other volume\n"
    "  lsvd diff FROM [TO]         what has changed since a snapshot\n"
    "  lsvd export-diff TO FILE, lsvd import-diff FILE NAME\n"
    "                              the same, with the data: for backups\n"
    "  lsvd list                   which volumes are there\n"
    "  lsvd info NAME              policy and state of one\n"
    "  lsvd resize NAME SIZE       make it larger (smaller with --force)\n"
    "  lsvd set NAME KEY=VALUE     read-only=on|off, append-only=on|off\n"
    "  lsvd rename NAME NEWNAME    and its snapshots\n"
    "  lsvd remove NAME            delete it and its data\n"
    "  lsvd status [NAME]          how is it, what is going on\n"
    "  lsvd events NAME            what happened while it was served\n"
    "  lsvd metrics [NAME]         numbers for Prometheus\n"
    "\n"
    "Examples:\n"
    "  lsvd create mydevice1 100G --ec 4+2 --data /data --cache /cache\n"
    "  lsvd list --data /data\n"
    "  nbdkit lsvd mydevice1 data=/data cache=/cache\n"
    "\n"
    "Exit status: 0 done, 1 failed (and why on stderr), 64 wrong usage;\n"
    "of status: 0 healthy, 1 not healthy, 3 can't tell.\n";

static const char create_help[] =
    "lsvd create NAME SIZE [options]: make a volume\n"
    "\n"
    "NAME: letters, digits, . _ - (at most 64). SIZE: 10G, 1.5T, 4096.\n"
    "  --replicas N         full copies on N parts (1 to 8; default 1)\n"
    "  --ec K+M             K data and M parity parts: any M may be lost\n"
    "  --part a=DIR         the root of part a (b, c, …); the others all lie\n"
    "                       under the first --data\n"
    "  --chunk-size SIZE    256K to 64M; default 4M\n"
    "  --block-size SIZE    512 to 64K; default 4K\n"
    "  --journal-size SIZE  default: chosen from the size\n"
    "\n"
    "Examples:\n"
    "  lsvd create scratch 10G --data /data --cache /cache\n"
    "  lsvd create db 200G --replicas 3 --cache /nvme/lsvd \\\n"
    "       --part a=/mnt/disk1 --part b=/mnt/disk2 --part c=/mnt/node2\n"
    "  lsvd create images 4T --ec 4+2 --data /data --cache /cache\n";

static const char clone_help[] =
    "lsvd clone PARENT NAME [options]: make a volume that begins as another\n"
    "\n"
    "PARENT is read-only (lsvd set PARENT read-only=on), and stays so, and\n"
    "where it is, as long as the clone is there. Nothing is copied: what is\n"
    "written to the clone is its own, all else is read from the parent.\n"
    "  --size SIZE          larger or smaller than the parent\n"
    "  --replicas N, --ec K+M, --chunk-size, --journal-size, --part a=DIR\n"
    "                       as of lsvd create; else as the parent has it, and\n"
    "                       each part beside the parent's\n"
    "\n"
    "Examples:\n"
    "  lsvd set golden read-only=on\n"
    "  lsvd clone golden vm1\n"
    "  lsvd clone golden vm2 --size 200G --replicas 3\n";

static const char snapshot_help[] =
    "lsvd snapshot create NAME@SNAPSHOT [options]: freeze a volume\n"
    "lsvd snapshot list NAME: which snapshots it has\n"
    "lsvd snapshot rollback NAME@SNAPSHOT: what was written since is gone\n"
    "lsvd snapshot remove NAME@SNAPSHOT: give it up\n"
    "\n"
    "A snapshot holds what the volume held at one moment, and can be served,\n"
    "read-only, and cloned under its name. Nothing is copied: the volume goes\n"
    "on, and keeps what is written from then on apart. Of a volume that is\n"
    "served on this host its server does it: clients wait for a moment. All\n"
    "parts must be in sync.\n"
    "\n"
    "For a rollback the volume must not be in use. There is no question asked\n"
    "and no way back but another snapshot, made before. Later snapshots stay.\n"
    "\n"
    "What a snapshot that is removed holds, and the one volume or snapshot\n"
    "that depends on it does not, is copied to that one; of a volume that is\n"
    "served on this host its server does it, beside requests. It can be\n"
    "interrupted and called again. If several depend on it, as clones do:\n"
    "flatten or remove all but one.\n"
    "\n"
    "Options of remove:\n"
    "      --max-mbps N   copy no more than N megabytes a second (100 if the\n"
    "                     volume is served)\n"
    "      --no-progress  no progress bar\n"
    "\n"
    "Examples:\n"
    "  lsvd snapshot create mydevice1@monday\n"
    "  nbdkit lsvd mydevice1@monday\n"
    "  lsvd clone mydevice1@monday trial\n";

static const char flatten_help[] =
    "lsvd flatten NAME [options]: copy what a clone has from its parents\n"
    "\n"
    "The clone is independent then. Of a volume that is served on this host\n"
    "its server does it, beside requests. It can be interrupted and called\n"
    "again.\n"
    "\n"
    "Options:\n"
    "      --max-mbps N   copy no more than N megabytes a second (100 if the\n"
    "                     clone is served)\n"
    "      --no-progress  no progress bar\n"
    "\n"
    "Example:\n"
    "  lsvd flatten vm1\n";

static const char diff_help[] =
    "lsvd diff FROM [TO] [options]: in what two states of a volume differ\n"
    "\n"
    "FROM is a snapshot; TO another one of the family, or a volume; without\n"
    "it, the volume as it is now. Nothing is read of the data: what is not\n"
    "listed is the same, what is listed was written, trimmed or zeroed.\n"
    "What is written to a volume meanwhile may be listed or not.\n"
    "With --json a list in the form of qemu-img map.\n"
    "\n"
    "Examples:\n"
    "  lsvd diff mydevice1@monday mydevice1@tuesday\n"
    "  lsvd diff mydevice1@monday --json\n";

static const char export_diff_help[] =
    "lsvd export-diff TO FILE [options]: write what has changed, for backups\n"
    "\n"
    "TO is a snapshot, or a volume that is not served. FILE is made anew and\n"
    "must not be there yet; - is standard output. The stream checks itself.\n"
    "  --from SNAPSHOT      what has changed since; else all that TO holds\n"
    "\n"
    "Examples:\n"
    "  lsvd export-diff mydevice1@monday full.lsvd\n"
    "  lsvd export-diff --from mydevice1@monday mydevice1@tuesday - |\n"
    "       ssh backup lsvd import-diff - copy1\n";

static const char import_diff_help[] =
    "lsvd import-diff FILE NAME [options]: apply such a stream to a volume\n"
    "\n"
    "NAME must not be in use. It must be what the stream leads from: its\n"
    "newest snapshot is the one of --from, by an import of that, and it was\n"
    "not written since; or the stream has all, and NAME is empty. It gets the\n"
    "size, and the snapshot that the stream leads to. FILE - is standard\n"
    "input. When it fails, or at Ctrl-C, NAME is what it was.\n"
    "\n"
    "Examples:\n"
    "  lsvd create copy1 100G --replicas 2\n"
    "  lsvd import-diff full.lsvd copy1\n";

static const char list_help[] =
    "lsvd list [options]: which volumes the roots know\n"
    "\n"
    "Examples:\n"
    "  lsvd list\n"
    "  lsvd list --data /mnt/disk1 --data /mnt/disk2 --json\n";

static const char info_help[] =
    "lsvd info NAME [options]: policy and state of a volume\n"
    "\n"
    "Reads only; works beside a server. It does not check data: see\n"
    "lsvd-repair verify.\n"
    "\n"
    "Examples:\n"
    "  lsvd info mydevice1\n"
    "  lsvd info mydevice1 --data /data --json | jq .in_use\n";

static const char resize_help[] =
    "lsvd resize NAME SIZE [options]: change the size of a volume\n"
    "\n"
    "A volume that is served grows at once; clients see it when they connect\n"
    "again. To make it smaller its server must be stopped: what lies beyond\n"
    "the new size is lost.\n"
    "  --force  allow a smaller size\n"
    "\n"
    "Examples:\n"
    "  lsvd resize mydevice1 200G\n"
    "  lsvd resize mydevice1 50G --force\n";

static const char set_help[] =
    "lsvd set NAME KEY=VALUE [options]: change a property of a volume\n"
    "\n"
    "  read-only=on|off     no writes at all\n"
    "  append-only=on|off\n"
    "\n"
    "Of a volume that is served on this host its server does it, at once.\n"
    "\n"
    "Example:\n"
    "  lsvd set golden-image read-only=on\n";

static const char rename_help[] =
    "lsvd rename NAME NEWNAME [options]: call a volume otherwise\n"
    "\n"
    "Its snapshots are renamed, too. The volume must not be in use; clones of\n"
    "its snapshots may be.\n"
    "\n"
    "Example:\n"
    "  lsvd rename mydevice1 db-old\n";

static const char remove_help[] =
    "lsvd remove NAME [options]: delete a volume and its data\n"
    "\n"
    "There is no question asked and no way back. The volume must not be in\n"
    "use. An interrupted removal goes on when it is called again.\n"
    "\n"
    "Example:\n"
    "  lsvd remove scratch --data /data --cache /cache\n";

static const char status_help[] =
    "lsvd status [NAME] [options]: how volumes are, and what is going on\n"
    "\n"
    "Of a volume that is served on this host its server is asked: parts with\n"
    "state, what they lack (bytes/chunks) and how quick they are, journal,\n"
    "resync and scrub. Of others, what the roots tell.\n"
    "  -w, --watch  again each second, until Ctrl-C\n"
    "\n"
    "Exit status: 0 healthy, 1 not healthy, 3 can't tell; the worst of all.\n"
    "\n"
    "Examples:\n"
    "  lsvd status\n"
    "  lsvd status mydevice1 --watch\n"
    "  lsvd status mydevice1 --json | jq .healthy\n";

static const char events_help[] =
    "lsvd events NAME [options]: what happened since the server started\n"
    "\n"
    "The last 1000 changes of state: number, time, kind, part, and what\n"
    "happened.\n"
    "  -f, --follow  wait for more, until Ctrl-C\n"
    "\n"
    "Examples:\n"
    "  lsvd events mydevice1\n"
    "  lsvd events mydevice1 --follow --json\n";

static const char metrics_help[] =
    "lsvd metrics [NAME] [options]: numbers, as Prometheus reads them\n"
    "\n"
    "Of one volume, or of all that are served here. A server writes them to\n"
    "a file by itself with metrics=FILE.\n"
    "\n"
    "Example:\n"
    "  lsvd metrics mydevice1 --cache /cache\n";

static const struct {
    const char *command, *text;
} helps[] = {
    { "create", create_help },
    { "clone", clone_help },
    { "snapshot", snapshot_help },
    { "flatten", flatten_help },
    { "diff", diff_help },
    { "export-diff", export_diff_help },
    { "import-diff", import_diff_help },
    { "list", list_help },
    { "info", info_help },
    { "resize", resize_help },
    { "set", set_help },
    { "rename", rename_help },
    { "remove", remove_help },
    { "status", status_help },
    { "events", events_help },
    { "metrics", metrics_help },
};

void
help_print(const char *command)
{
    const char *text = program_help;

    for (size_t i = 0; command && i < sizeof helps / sizeof helps[0]; i++)
        if (strcmp(helps[i].command, command) == 0)
            text = helps[i].text;
    fputs(text, stdout);
    fputs(common_options, stdout);
}
