# bash completion for davit(8), made by: davit completion bash
_davit_words() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$current")
}
_davit_files() {
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen "$1" -- "$current")
}
_davit_ids() {
    _davit_words "$(davit "${globals[@]}" list --quiet 2>/dev/null)"
}
_davit() {
    local current=${COMP_WORDS[COMP_CWORD]} command= option= place=0 at word
    local -a globals=()
    COMPREPLY=()
    for ((at = 1; at < COMP_CWORD; at++)); do
        word=${COMP_WORDS[at]}
        if [[ $word == = ]]; then
            # bash splits --option=value into three words.
            option=${option:-=}
            continue
        elif [[ -n $option ]]; then
            [[ -n $command || $option == = ]] || globals+=("$word")
            option=
            continue
        fi
        case $word in
        -*)
            case $command:$word in
            @WITH_VALUE@) option=$command:$word ;;
            esac
            [[ -n $command ]] || globals+=("$word") ;;
        *)
            if [[ -z $command ]]; then command=$word; else ((place += 1)); fi
            case $command:$place in
            @ENDS@) return ;;
            esac ;;
        esac
    done
    if [[ $current == = ]]; then
        current=
        option=${option:-=}
    fi
    if [[ -n $option ]]; then
        case $option in
@VALUES@        esac
    elif [[ $current == -* ]]; then
        case $command in
@OPTIONS@        esac
    else
        case $command:$place in
@ARGUMENTS@        esac
    fi
}
complete -F _davit davit
