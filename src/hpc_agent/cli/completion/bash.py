"""The script for bash."""

from __future__ import annotations

import shlex

from hpc_agent.cli.completion.words import VerbWords, filled, first_words, group_words

_TEMPLATE = r"""# bash completion of hpc-agent
# @NOTICE@

# The options of a verb, those of them that take values with the source of the values, and that of the word without an option.
_hpc_agent_verb() {
    positional= flags= values=
    case $1 in
@VERBS@
    *) return 1 ;;
    esac
}

_hpc_agent_names() {
    local file=${XDG_CACHE_HOME:-$HOME/.cache}/hpc-agent/completion/$1 name
    case $1 in
    runs) set -- .hpc/runs/*.json ;;
    campaigns) set -- .hpc/campaigns/*/ ;;
    *) set -- ;;
    esac
    for name; do
        name=${name%/} name=${name%.json} name=${name##*/}
        [[ $name == *[!A-Za-z0-9._-]* ]] || words+=("$name")
    done
    [[ ! -r $file ]] || mapfile -t -O ${#words[@]} words <"$file"
}

_hpc_agent_values() {
    local IFS=$' \t\n|'
    case $1 in
    @runs) _hpc_agent_names runs ; words+=(latest) ;;
    @clusters) _hpc_agent_names clusters ;;
    @campaigns) _hpc_agent_names campaigns ;;
    @verbs) words=(@NAMES@) ;;
    @folders) compopt -o dirnames ;;
    @files) compopt -o default ;;
    *) words=($1) ;;
    esac
}

_hpc_agent() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]} first=2
    local flags values positional value word head= seen=" " words=() found=-
    COMPREPLY=()
    if [[ $cur == = ]]; then cur=; elif [[ $prev == = ]]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi
    if ((COMP_CWORD > 2)); then
        case $verb in @GROUPS@) verb=$verb-${COMP_WORDS[2]} first=3 ;; esac
    fi
    if ((COMP_CWORD == 1)); then
        words=(@FIRST@)
    elif ((COMP_CWORD == 2)) && case $verb in
@SECOND@
        help) words=(@NAMES@) ;;
        completion) words=(@SHELLS@) ;;
        *) false ;;
    esac; then :
    elif _hpc_agent_verb "$verb"; then
        for value in $values; do
            [[ $value != "$prev="* ]] || found=${value#*=}
        done
        if [[ $found != - ]]; then
            _hpc_agent_values "$found"
        elif [[ $cur == -* ]]; then
            words=($flags)
        elif ((COMP_CWORD == first)) && [[ $positional ]]; then
            _hpc_agent_values "$positional"
        else
            words=($flags)
        fi
    fi
    [[ $found == - || $cur != *,* ]] || head=${cur%,*}, cur=${cur##*,}
    for word in "${words[@]}"; do
        [[ $word != "$cur"* || $seen == *" $word "* ]] || { seen+="$word " ; COMPREPLY+=("$head$word"); }
    done
}

complete -F _hpc_agent hpc-agent
"""


def script(verbs: list[VerbWords]) -> str:
    cases = []
    for verb in verbs:
        flags = " ".join(option.flag for option in verb.options)
        values = " ".join(f"{option.flag}={option.source}" for option in verb.options if option.source is not None)
        names = "|".join([verb.name, *verb.aliases])
        given = f"positional={shlex.quote(verb.positional)} " if verb.positional else ""
        cases.append(f"    {names}) {given}flags={shlex.quote(flags)}\n        values={shlex.quote(values)} ;;")
    groups = group_words(verbs)
    parts = {
        "VERBS": "\n".join(cases),
        "FIRST": " ".join(first_words(verbs)),
        "GROUPS": "|".join(groups),
        "SECOND": "\n".join(f"        {group}) words=({' '.join(words)}) ;;" for group, words in groups.items()),
    }
    return filled(_TEMPLATE, verbs, parts)
