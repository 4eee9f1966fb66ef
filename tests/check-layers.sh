#!/bin/bash
# check-layers.sh: who may include what. Each layer knows only those below it;
# libraries and system calls have the places where they belong. Prints each
# breach; exit status 1 if there is one.

set -u
shopt -s extglob
cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}" || exit 2
export LC_ALL=C.UTF-8
bad=0

breach()
{
    echo "$1 includes $2: $3"
    bad=1
}

# The folders below core that files of each may include, besides their own.
declare -A below=(
    [base]=''
    [target]='base'
    [meta]='target base'
    [redundancy]='target meta base'
    [chunk]='redundancy target meta base'
    [journal]='target meta base'
    [cache]='base'
    [readcache]='target base'
    [dedupe]='target base'
    [volume]='cache readcache dedupe journal chunk redundancy target meta base'
)

check_core_file()
{
    local file=$1 folder=$2 include other
    while read -r include; do
        case $include in
        lsvd.h)
            [[ $folder == volume ]] ||
                breach "$file" "$include" 'only volume knows the API'
            ;;
        */*)
            other=${include%%/*}
            [[ $other == "$folder" || " ${below[$folder]} " == *" $other "* ]] ||
                breach "$file" "$include" "$folder does not know $other"
            ;;
        *)
            [[ -e core/$folder/$include ]] ||
                breach "$file" "$include" 'includes are written from core/'
            ;;
        esac
    done < <(sed -n 's/^ *# *include *"\(.*\)".*/\1/p' "$file")
}

# Of the engine the programs and the plugin know lsvd.h alone, and so does
# what they speak with each other, which knows nothing of them.
check_edge_file()
{
    local file=$1 include
    while read -r include; do
        case $include in
        control/*) ;;
        */*) breach "$file" "$include" 'only lsvd.h is for programs' ;;
        lsvd.h) ;;
        *)
            [[ $file != control/* ]] ||
                breach "$file" "$include" 'control knows lsvd.h alone'
            ;;
        esac
    done < <(sed -n -e 's/^ *# *include *"\(.*\)".*/\1/p' \
        -e 's/^ *# *include *<\(control\/.*\)>.*/\1/p' "$file")
}

# Library header, and the only files (a pattern) that may include it.
check_owner()
{
    local header=$1 owners=$2 file
    while read -r file; do
        # shellcheck disable=SC2053  # a pattern is wanted
        [[ $file == $owners ]] || breach "$file" "$header" "only in $owners"
    done < <(grep -rlE "^ *# *include *[<\"]$header" --include='*.[ch]' \
        core control plugin admin repair dedupe)
}

count=0
while read -r file; do
    folder=${file#core/}
    folder=${folder%%/*}
    [[ -v below[$folder] ]] || {
        breach "$file" "something" "core has no layer $folder"
        continue
    }
    check_core_file "$file" "$folder"
    count=$((count + 1))
done < <(find core -mindepth 2 -name '*.[ch]')
while read -r file; do
    check_edge_file "$file"
    count=$((count + 1))
done < <(find control plugin admin repair dedupe -name '*.[ch]')
if ((count < 20)); then
    echo "found only $count files: not our tree?"
    exit 2
fi

# Their versions are for lsvd_versions to tell.
check_owner 'xxhash\.h' '@(core/base/*|core/volume/info.c)'
check_owner '(isa-l|isa-l/.*|erasure_code)\.h' '@(core/redundancy/*|core/volume/info.c)'
check_owner 'glib.*\.h' 'core/meta/*'
check_owner 'jansson\.h' '@(control|admin|repair|dedupe)/*'
check_owner 'nbdkit-.*\.h' 'plugin/*'
check_owner 'getopt\.h' '@(admin|repair)/*'
for header in fcntl sys/stat sys/mman sys/random sys/ioctl sys/file dirent \
    linux/.*; do
    check_owner "$header\\.h" \
        '@(core/base|core/target|control|plugin|admin|repair)/*'
done

# A call of one of these functions; a member or a longer name is not one.
calls()
{
    grep -rnE --include='*.[ch]' \
        "(^|[^[:alnum:]_>.])($1)[[:blank:]]*\\(" "${@:2}" |
        grep -v '^[^:]*:[0-9]*: \*\|__attribute__'
}

# The seam: what reaches the disk, the clock or chance.
if calls "open|openat|fopen|p?readv?|p?writev?|f(data)?sync|unlink(at)?|\
rename(at)?|ftruncate|fallocate|lseek|mmap|opendir|mkdir(at)?|fstat(at)?|\
clock_gettime|gettimeofday|time|nanosleep|u?sleep|getrandom|s?random|s?rand" \
    core/{meta,redundancy,chunk,journal,cache,readcache,dedupe,volume}; then
    echo '^ only core/base and core/target reach disk, clock and chance'
    bad=1
fi

# Nothing in core prints, exits, or reads options and the environment.
if calls 'v?f?printf|puts|fputs|perror|_?exit|getenv|getopt(_long)?' core
then
    echo '^ nothing in core prints, exits or reads options'
    bad=1
fi
exit $bad
