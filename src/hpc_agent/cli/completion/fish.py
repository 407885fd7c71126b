"""The script for fish."""

from __future__ import annotations

from collections.abc import Mapping

from hpc_agent.cli.completion.words import VerbWords, filled, first_words, group_words

_TEMPLATE = r"""# fish completion of hpc-agent
# @NOTICE@

function __hpc_agent_flags
    switch $argv[1]
@FLAGS@
    end
end

# Print the sources of values, with the option before each; a line that begins with = is for the word without one.
function __hpc_agent_sources
    switch $argv[1]
@VALUES@
    end
end

function __hpc_agent_names
    set -l folder $HOME/.cache
    set -q XDG_CACHE_HOME[1]; and test -n "$XDG_CACHE_HOME"; and set folder $XDG_CACHE_HOME
    set -l names
    switch $argv[1]
        case runs
            set names .hpc/runs/*.json latest.json
        case campaigns
            set names .hpc/campaigns/*/
    end
    string replace -r '(\.json|/)$' '' -- $names | string replace -r '.*/' '' | string match -r '^[A-Za-z0-9._-]+$'
    test -r $folder/hpc-agent/completion/$argv[1]; and string match -r '.+' <$folder/hpc-agent/completion/$argv[1]
end

function __hpc_agent_values -a source current
    switch $source
        case @runs
            __hpc_agent_names runs
        case @clusters
            __hpc_agent_names clusters
        case @campaigns
            __hpc_agent_names campaigns
        case @verbs
            printf '%s\n' @NAMES@
        case @folders
            __fish_complete_directories $current ''
        case @files
            __fish_complete_path $current
        case '*'
            string split -n '|' -- $source
    end
end

function __hpc_agent
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -q current[1]; or set current ''
    set -l verb $words[2]
    set -l first 2
    set -l previous $words[-1]
    set -l head ''
    if test (count $words) -eq 1
        printf '%s\n' @FIRST@
        return
    end
    if test (count $words) -eq 2
        switch $verb
@SECOND@
            case help
                printf '%s\n' @NAMES@
                return
            case completion
                printf '%s\n' @SHELLS@
                return
        end
    else if contains -- $verb @GROUPS@
        set verb $verb-$words[3]
        set first 3
    end
    if string match -q -- '--*=*' $current
        set -l parts (string split -m 1 = -- $current)
        set previous $parts[1]
        set current $parts[2]
        set head $previous=
    end
    set -l sources (__hpc_agent_sources $verb)
    set -l found (string match -- "$previous=*" $sources)
    if set -q found[1]
        set -l list (string match -r '.*,' -- "$current")
        set -q list[1]; or set list ''
        set -l rest (string replace -r '.*,' '' -- "$current")
        for value in (__hpc_agent_values (string replace -r '^[^=]*=' '' -- $found[1]) $rest)
            printf '%s\n' $head$list$value
        end
        return
    end
    set -l positional (string match -- '=*' $sources)
    if not string match -q -- '-*' $current; and set -q positional[1]; and test (count $words) -eq $first
        __hpc_agent_values (string sub -s 2 -- $positional[1]) $current
        return
    end
    __hpc_agent_flags $verb
end

complete -c hpc-agent -f -a '(__hpc_agent)'
"""


def script(verbs: list[VerbWords]) -> str:
    flags, values = [], []
    for verb in verbs:
        case = f"        case {' '.join([verb.name, *verb.aliases])}\n            printf '%s\\n' "
        flags.append(case + _described({option.flag: option.text for option in verb.options}))
        sources = [f"={verb.positional}"] if verb.positional else []
        sources += [f"{option.flag}={option.source}" for option in verb.options if option.source is not None]
        values.append(case + " ".join(map(_quoted, sources)))
    groups = group_words(verbs)
    second = [
        f"            case {group}\n                printf '%s\\n' {_described(words)}\n                return"
        for group, words in groups.items()
    ]
    parts = {
        "FLAGS": "\n".join(flags),
        "VALUES": "\n".join(values),
        "FIRST": _described(first_words(verbs)),
        "GROUPS": " ".join(groups),
        "SECOND": "\n".join(second),
    }
    return filled(_TEMPLATE, verbs, parts)


def _described(texts: Mapping[str, str]) -> str:
    """Return words with their texts after a tab, in quotes."""
    return " ".join(_quoted(f"{word}\t{text}") for word, text in texts.items())


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
