# bash completion for caplet(1), made from its command line by shell/src/pages: edit that.
# shellcheck shell=bash

_caplet() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} first=${COMP_WORDS[1]} n=2
    local options='' valued='' capability='' file='' user='' word='' list
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W 'run shell why learn list sessions end check caps edit forget log doctor --help --version' -- "$cur")
        return
    fi
    case $first in
    run)
        options="-h --help -p --profile --cap-add --cap-drop --privileged --dry-run --quiet -n -S --stdin -A --askpass --policy"
        valued="-p --profile --cap-add --cap-drop --policy"
        capability="--cap-add --cap-drop"
        file="--policy"
        word="command"
        ;;
    shell)
        options="-h --help -p --profile --cap-add --cap-drop --privileged --dry-run --quiet -n -S --stdin -A --askpass --policy"
        valued="-p --profile --cap-add --cap-drop --policy"
        capability="--cap-add --cap-drop"
        file="--policy"
        ;;
    why)
        options="-h --help -p --profile --cap-add --cap-drop --privileged --dry-run --quiet -n -S --stdin -A --askpass --policy --json"
        valued="-p --profile --cap-add --cap-drop --policy"
        capability="--cap-add --cap-drop"
        file="--policy"
        word="command"
        ;;
    learn)
        options="-h --help -p --profile --policy"
        valued="-p --profile --policy"
        file="--policy"
        word="command"
        ;;
    list)
        options="-h --help --json --policy"
        valued="--policy"
        file="--policy"
        ;;
    sessions)
        options="-h --help --json"
        ;;
    end)
        options="-h --help"
        ;;
    check)
        options="-h --help --strict -p --profile --cap-add --cap-drop --privileged --dry-run --quiet -n -S --stdin -A --askpass --policy --as --machine --at"
        valued="-p --profile --cap-add --cap-drop --policy --as --machine --at"
        capability="--cap-add --cap-drop"
        file="--policy"
        user="--as"
        word="file"
        ;;
    caps)
        options="-h --help --json"
        word="capability"
        ;;
    edit)
        options="-h --help"
        word="file"
        ;;
    forget)
        options="-h --help"
        ;;
    log)
        options="-h --help --user --since --json --file"
        valued="--user --since --file"
        file="--file"
        user="--user"
        ;;
    doctor)
        options="-h --help --user --json"
        valued="--user"
        user="--user"
        ;;
    *) return ;;
    esac
    # Options end at the first word of the command: from there on completion is the command's own.
    if [[ $word == command || ($first == check && " ${COMP_WORDS[*]} " == *" --as"[\ =]*) ]]; then
        while ((n < COMP_CWORD)); do
            case ${COMP_WORDS[n]} in
            --)
                ((n += 1))
                break
                ;;
            -*)
                if [[ ${COMP_WORDS[n + 1]} == = ]]; then
                    ((n += 3))
                elif [[ " $valued " == *" ${COMP_WORDS[n]} "* ]]; then
                    ((n += 2))
                else
                    ((n += 1))
                fi
                ;;
            *) break ;;
            esac
        done
        if ((n < COMP_CWORD)) || [[ $n -eq $COMP_CWORD && $cur != -* ]]; then
            if declare -F _comp_command_offset >/dev/null; then
                _comp_command_offset "$n"
            elif declare -F _command_offset >/dev/null; then
                _command_offset "$n"
            elif ((n == COMP_CWORD)); then
                mapfile -t COMPREPLY < <(compgen -c -- "$cur")
            else
                compopt -o filenames
                mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            fi
            return
        fi
    fi
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    if [[ " $valued " == *" $prev "* ]]; then
        word=
        [[ " $capability " != *" $prev "* ]] || word='capability'
        [[ " $file " != *" $prev "* ]] || word='file'
        [[ " $user " != *" $prev "* ]] || word='user'
    elif [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
        return
    fi
    case $word in
    capability)
        # Several in one comma list, in any case, as in Docker.
        list=${cur%"${cur##*,}"} cur=${cur##*,} cur=${cur^^}
        mapfile -t COMPREPLY < <(compgen -P "$list" -W 'CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE ALL' -- "${cur#CAP_}")
        ;;
    file)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        ;;
    user) mapfile -t COMPREPLY < <(compgen -u -- "$cur") ;;
    '') ;;
    esac
}
complete -F _caplet caplet
