# bash completion for lsvd-dedupe(8)

# Names of volumes: the first column of lsvd list, less its heading, with the
# options before the cursor that say where volumes are.
_lsvd_dedupe_names()
{
    local -a where
    local i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --data | --cache | --config | -d | -c)
            where+=("${COMP_WORDS[i]}" "${COMP_WORDS[i + 1]}")
            ((i++))
            ;;
        esac
    done
    lsvd list "${where[@]}" 2>/dev/null | LC_ALL=C sed -n '2,$s/ .*//p'
}

_lsvd_dedupe()
{
    local options='--source --estimate --rehydrate --memory --max-mbps
        --data --cache --config --json --quiet --verbose --no-progress --help
        --version'
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}

    COMPREPLY=()
    case $prev in
    --data | --cache | -d | -c)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        return
        ;;
    --config)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    --memory | --max-mbps) return ;;
    esac
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
    else
        mapfile -t COMPREPLY < <(compgen -W "$(_lsvd_dedupe_names)" -- "$cur")
    fi
}

complete -F _lsvd_dedupe lsvd-dedupe
