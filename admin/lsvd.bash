# bash completion for lsvd(1)

# The options before the cursor that say where volumes are.
_lsvd_where()
{
    local i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --data | --cache | --config | -d | -c)
            printf '%s\n' "${COMP_WORDS[i]}" "${COMP_WORDS[i + 1]}"
            ((i++))
            ;;
        esac
    done
}

# Names of volumes: the first column of the list, less its heading.
_lsvd_names()
{
    local -a where
    mapfile -t where < <(_lsvd_where)
    lsvd list "${where[@]}" 2>/dev/null | LC_ALL=C sed -n '2,$s/ .*//p'
}

_lsvd()
{
    local commands='create clone snapshot flatten diff export-diff import-diff list info resize set rename remove status events metrics'
    local common='--data --cache --config --json --verbose --help --version'
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local command='' words=0 i

    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --data | --cache | --config | -d | -c | --part | --replicas | --ec | \
            --chunk-size | --block-size | --journal-size | --size | --from | \
            --max-mbps)
            ((i++))
            ;;
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
    --replicas)
        mapfile -t COMPREPLY < <(compgen -W '1 2 3 4 5 6 7 8' -- "$cur")
        return
        ;;
    --ec)
        mapfile -t COMPREPLY < <(compgen -W '2+1 2+2 4+2 8+3' -- "$cur")
        return
        ;;
    --chunk-size)
        mapfile -t COMPREPLY < <(compgen -W '256K 1M 4M 16M 64M' -- "$cur")
        return
        ;;
    --block-size)
        mapfile -t COMPREPLY < <(compgen -W '512 4K 16K 64K' -- "$cur")
        return
        ;;
    --journal-size | --part | --size | --max-mbps)
        return
        ;;
    --from)
        mapfile -t COMPREPLY < <(compgen -W "$(_lsvd_names)" -- "$cur")
        return
        ;;
    esac

    if [[ $cur == -* ]]; then
        case $command in
        create)
            common+=' --part --replicas --ec --chunk-size --block-size'
            common+=' --journal-size'
            ;;
        clone)
            common+=' --size --part --replicas --ec --chunk-size'
            common+=' --journal-size'
            ;;
        resize) common+=' --force' ;;
        snapshot | flatten) common+=' --max-mbps --no-progress' ;;
        export-diff) common+=' --from' ;;
        status) common+=' --watch' ;;
        events) common+=' --follow' ;;
        esac
        mapfile -t COMPREPLY < <(compgen -W "$common" -- "$cur")
    elif [[ -z $command ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$cur")
    elif [[ $command == snapshot && $words == 0 ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'create list rollback remove' \
            -- "$cur")
    elif [[ $command == snapshot && $words == 1 ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_lsvd_names)" -- "$cur")
    elif [[ $command == set && $words == 1 ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'read-only=on read-only=off
            append-only=on append-only=off' -- "$cur")
    elif [[ $command == diff && $words == 1 ]] ||
        [[ $command == import-diff && $words == 1 ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_lsvd_names)" -- "$cur")
    elif [[ $command == export-diff && $words == 1 ]] ||
        [[ $command == import-diff && $words == 0 ]]; then
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    elif [[ $words == 0 && $command != create && $command != list ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_lsvd_names)" -- "$cur")
    fi
}

complete -F _lsvd lsvd
