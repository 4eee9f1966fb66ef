#!/bin/bash
# check-style.sh: what our files look like: no line of C over 80 columns, no
# // comments, no tabs in C, no blanks at the end of a line, a newline at the
# end of a file. Prints each place; exit status 1 if there is one.

set -u
cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}" || exit 2
export LC_ALL=C.UTF-8

folders=(admin bench control core docs plugin repair tests)
mapfile -d '' -t code < <(find "${folders[@]}" -type f -name '*.[ch]' \
    -print0 2>/dev/null)
mapfile -d '' -t text < <(find "${folders[@]}" .ci ./*.md ./*.build demo \
    check -type f \( -name '*.[ch]' -o -name '*.sh' -o -name '*.py' \
    -o -name '*.md' -o -name '*.pod' -o -name '*.bash' -o -name meson.build \
    -o -path '*/run' -o -name demo -o -name check \) -print0 2>/dev/null)
bad=0

# grep's own status tells whether there was a place.
complain()
{
    local what=$1
    shift
    if grep -nH "$@"; then
        echo "^ $what"
        bad=1
    fi
}

if ((${#code[@]} < 20 || ${#text[@]} < 20)); then
    echo "found only ${#code[@]} C files: not our tree?"
    exit 2
fi
complain 'over 80 columns' -E '^.{81}' "${code[@]}"
# Not within strings, and not in an address in a comment.
string='"(?:[^"\\]|\\.)*"'
complain '// comments' -P "^(?:[^\"/]|$string|/(?!/))*+(?<!:)//" "${code[@]}"
complain 'tabs' -P '\t' "${code[@]}"
complain 'blanks at the end of a line' -E '[[:blank:]]$' "${text[@]}"
for file in "${text[@]}"; do
    if [[ -s $file && -n $(tail -c 1 "$file") ]]; then
        echo "$file: no newline at the end"
        bad=1
    fi
done
exit $bad
