"""The script for zsh."""

from __future__ import annotations

from collections.abc import Mapping

from hpc_agent.cli.completion.words import VerbWords, filled, first_words, group_words

_TEMPLATE = r"""#compdef hpc-agent
# @NOTICE@

# The options of a verb with their texts, the sources of their values, and that of the word without an option.
_hpc_agent_verb() {
    positional= flags=() values=()
    case $1 in
@VERBS@
    *) return 1 ;;
    esac
}

_hpc_agent_names() {
    local file=${XDG_CACHE_HOME:-$HOME/.cache}/hpc-agent/completion/$1
    local -a names
    case $1 in
    runs) names=(.hpc/runs/*.json(N:t:r)) ;;
    campaigns) names=(.hpc/campaigns/*(N/:t)) ;;
    esac
    names=(${names:#*[^A-Za-z0-9._-]*})
    [[ -r $file ]] && names+=(${(f)"$(<$file)"})
    compadd -a names
}

_hpc_agent_values() {
    compset -P '*,'
    case $1 in
    @runs) _hpc_agent_names runs; compadd latest ;;
    @clusters) _hpc_agent_names clusters ;;
    @campaigns) _hpc_agent_names campaigns ;;
    @verbs) compadd @NAMES@ ;;
    @folders) _files -/ ;;
    @files) _files ;;
    '') _message value ;;
    *) compadd ${(s:|:)1} ;;
    esac
}

_hpc-agent() {
    local verb=${words[2]} previous=${words[CURRENT-1]} value found=- positional
    local -a flags values listed
    integer first=3
    if [[ $PREFIX == --*=* ]]; then
        previous=${PREFIX%%=*}
        compset -P 1 '*='
    fi
    if ((CURRENT > 3)); then
        case $verb in @GROUPS@) verb=$verb-${words[3]} first=4 ;; esac
    fi
    if ((CURRENT == 2)); then
        listed=(@FIRST@)
        _describe command listed
        return
    fi
    if ((CURRENT == 3)); then
        case $verb in
@SECOND@
        help) compadd @NAMES@; return ;;
        completion) compadd @SHELLS@; return ;;
        esac
    fi
    _hpc_agent_verb $verb || return
    for value in $values; do
        [[ $value != $previous=* ]] || found=${value#*=}
    done
    if [[ $found != - ]]; then
        _hpc_agent_values $found
    elif [[ $PREFIX != -* && $CURRENT -eq $first && -n $positional ]]; then
        _hpc_agent_values $positional
    else
        _describe -o option flags
    fi
}

if [[ $funcstack[1] == _hpc-agent ]]; then
    _hpc-agent "$@"
else
    compdef _hpc-agent hpc-agent
fi
"""


def script(verbs: list[VerbWords]) -> str:
    cases = []
    for verb in verbs:
        names = "|".join([verb.name, *verb.aliases])
        given = f"positional={verb.positional} " if verb.positional else ""
        flags = _described({option.flag: option.text for option in verb.options})
        values = " ".join(f"'{option.flag}={option.source}'" for option in verb.options if option.source is not None)
        cases.append(f"    {names}) {given}flags=({flags})\n        values=({values}) ;;")
    groups = group_words(verbs)
    second = [
        f"        {group}) listed=({_described(words)}); _describe command listed; return ;;"
        for group, words in groups.items()
    ]
    parts = {
        "VERBS": "\n".join(cases),
        "FIRST": _described(first_words(verbs)),
        "GROUPS": "|".join(groups),
        "SECOND": "\n".join(second),
    }
    return filled(_TEMPLATE, verbs, parts)


def _described(texts: Mapping[str, str]) -> str:
    """Return words with their texts as ``_describe`` takes them, in single quotes."""
    return " ".join("'" + f"{word}:{text}".replace("'", "'\\''") + "'" for word, text in texts.items())
