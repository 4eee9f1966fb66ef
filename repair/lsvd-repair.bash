# bash completion for lsvd-repair(8)

# Names of volumes: the first column of lsvd list, less its heading, with the
# options before the cursor that say where volumes are.
_lsvd_repair_names()
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

_lsvd_repair()
{
    local common='--data --cache --config --json --quiet --verbose
        --no-progress --help --version'
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local command='' words=0 i

    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --data | --cache | --config | -d | -c | --part) ((i++)) ;;
        -*) ;;
        *)
            if [[ -z $command ]]; then
                command=${COMP_WORDS[i]}
            else
                ((words++))
            fi
            ;;
        esac
    done

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
    --part)
        mapfile -t COMPREPLY < <(compgen -W 'a b c d e f' -- "$cur")
        return
        ;;
    esac

    if [[ $cur == -* ]]; then
        case $command in
        verify) common+=' --all --quick --full --no-lock' ;;
        rebuild) common+=' --all --part --dry-run' ;;
        takeover) common+=' --i-fenced-it' ;;
        force-start) common+=' --accept-loss=' ;;
        esac
        mapfile -t COMPREPLY < <(compgen -W "$common" -- "$cur")
    elif [[ -z $command ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'verify rebuild replace \
            force-start takeover' -- "$cur")
    elif [[ $command == replace && $words == 1 ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'a b c d e f' -- "$cur")
    elif [[ $command != @(replace|force-start|takeover) || $words == 0 ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_lsvd_repair_names)" \
            -- "$cur")
    fi
}

complete -F _lsvd_repair lsvd-repair
