"""The help of the command line: of all verbs, of a group, of one verb. At most 80 columns, from the catalogue."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from hpc_agent.cli.globals import GLOBAL_FLAGS
from hpc_agent.cli.parse import GROUP_WORDS, find_verb
from hpc_agent.cli.programs import PROGRAMS
from hpc_agent.contract.catalogue import CatalogueEntry, Flag
from hpc_agent.contract.command_words import example_line

WIDTH = 80
# The verbs' groups in the order of a run's life, and the stages of each.
LIFE = {
    "set up": ("setup",),
    "write the tasks": ("author",),
    "plan": ("plan", "validate"),
    "submit": ("submit",),
    "watch": ("monitor",),
    "repair": ("recover",),
    "results": ("aggregate", "report", "provenance"),
    "campaigns": ("campaign",),
    "memory": ("memory",),
    "for agents": ("introspect", "agents"),
}
FIRST = """\
First time here:
  hpc-agent demo                  a small experiment here, of 25 tasks
  hpc-agent load-context          where this folder stands, what next

A whole run, in a repo with .hpc/tasks.py (build-tasks-py writes it):
  hpc-agent submit --cluster local --executor 'python3 run.py --lr "$LR"'
  hpc-agent monitor-flow          wait for its end; status takes one look
  hpc-agent failures              what failed, why, and what to do
  hpc-agent aggregate --sort rmse
"""
LAST = """\
hpc-agent VERB --help     one command: what it does, an example, its options
hpc-agent completion -h   TAB for bash, zsh and fish
man hpc-agent             the same as pages of the manual

On a terminal you read a view; a pipe, or --json, gets one line of JSON, and
--field data.run_id one value of it.
exit codes: 0 done, 1 your request, 2 the cluster or the network, 3 a bug
"""
# Flags that people ask for in many verbs: they stand before the rest in a long help.
FREQUENT = {
    "campaign_id", "cluster", "cpus", "dry_run", "executor", "gpus", "limit", "mem_mb", "metric", "output_dir",
    "run_id", "run_name", "sort", "task_id", "walltime_sec", "where",
}  # fmt: skip
SHORT = 10  # flags that need no second heading
_METAVARS = {"int": "N", "float": "NUMBER", "str": "TEXT", "ints": "N,N", "strs": "A,B"}


def help_for(arguments: list[str], catalogue: Mapping[str, CatalogueEntry]) -> str | None:
    """Return the help that a command line asks for, None for a call. Raises SpecInvalid for an unknown verb."""
    words = arguments[: arguments.index("--")] if "--" in arguments else arguments
    asked = not words or words[0] == "help" or not {"-h", "--help"}.isdisjoint(words)
    words = [word for word in words if word not in ("-h", "--help")]
    words = words[1:] if words[:1] == ["help"] else words
    if asked and not words:
        return _overview(catalogue)
    if words in GROUP_WORDS:
        return _group(words[0], catalogue)
    if not asked:
        return None
    verb, _ = find_verb(words, catalogue)
    return _verb(verb, catalogue[verb])


def _overview(catalogue: Mapping[str, CatalogueEntry]) -> str:
    lines = ["hpc-agent runs experiments as job arrays, on clusters and on this machine.", ""]
    lines += ["usage: hpc-agent VERB [options]", "", *FIRST.splitlines(), ""]
    followed = Counter(verb for entry in catalogue.values() for verb in entry.next_verbs)
    for title, stages in LIFE.items():
        names = [name for name, entry in catalogue.items() if entry.stage in stages]
        names.sort(key=lambda name: -followed[name])
        if names:
            lines += [f"{title}:", *_rows({name: catalogue[name] for name in names}), ""]
    return "\n".join([*lines, f"programs of their own, each with --help: {', '.join(PROGRAMS)}", "", LAST])


def _rows(entries: Mapping[str, CatalogueEntry]) -> Iterator[str]:
    """Yield a line a verb."""
    for name, entry in entries.items():
        yield f"  {name:<34} {entry.brief}"


def _group(word: str, catalogue: Mapping[str, CatalogueEntry]) -> str:
    """Return the help of a first word: the verbs that may be written as two words."""
    entries = {name: entry for name, entry in catalogue.items() if name.startswith(f"{word}-")}
    lines = [f"usage: hpc-agent {word} VERB [options]   (the same as {word}-VERB)", ""]
    return "\n".join([*lines, *_rows(entries), "", f"hpc-agent {word} VERB --help     one of them", ""])


def by_use(entry: CatalogueEntry) -> tuple[list[Flag], list[Flag], list[Flag]]:
    """Return the flags of a verb that are required, those often used, and the rest."""
    required = [flag for flag in entry.flags if flag.required]
    optional = [flag for flag in entry.flags if not flag.required]
    often = [flag for flag in optional if flag.path[-1] in FREQUENT or flag.path[0] in entry.example]
    often.sort(key=lambda flag: flag.path[0] not in entry.example)
    if len(optional) <= SHORT or not often:
        return required, optional, []
    return required, often, [flag for flag in optional if flag not in often]


def everywhere(entry: CatalogueEntry) -> list[tuple[str, str]]:
    """Return the options of every command that this verb has no flag of its own for, and what they mean."""
    own = {flag.flag for flag in entry.flags}
    shared = [each for each in GLOBAL_FLAGS if each.flag not in own]
    whole = ("--spec FILE|-", "the whole request as JSON, or the answer of another verb; - reads standard input")
    return [whole, *((f"{each.flag} {each.metavar or ''}".strip(), each.help) for each in shared)]


def usage(verb: str, entry: CatalogueEntry) -> str:
    words = [
        f"{flag.flag} {_metavar(flag)}" for flag in entry.flags if flag.required and flag.path != [entry.positional]
    ]
    if entry.positional:
        is_required = any(flag.required for flag in entry.flags if flag.path == [entry.positional])
        words.insert(0, entry.positional.upper() if is_required else f"[{entry.positional.upper()}]")
    return " ".join(["hpc-agent", verb, *words, "[options]"])


def _verb(verb: str, entry: CatalogueEntry) -> str:
    required, often, rest = by_use(entry)
    lines = [*_wrapped(f"usage: {usage(verb, entry)}", "", "         "), "", *_wrapped(_plain(entry.summary), "", "")]
    if entry.aliases:
        lines += _wrapped(f"Also: {', '.join(entry.aliases)}.", "", "")
    lines += ["", "example:", *_command(example_line(verb, entry))]
    for title, rows in (
        ("required", map(row, required)),
        ("often used" if rest else "options", map(row, often)),
        ("more options", map(row, rest)),
        ("options of every command", everywhere(entry)),
    ):
        lines += _section(title, rows)
    if entry.next_verbs:
        lines += ["", *_wrapped(f"next: {', '.join(entry.next_verbs)}", "", "      ")]
    return "\n".join([*lines, f"every field, its errors: hpc-agent describe {verb}", ""])


def _section(title: str, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield a heading and the rows, explained from one column on; nothing where there is no row."""
    column = " " * 26
    for number, (left, right) in enumerate(rows):
        if not number:
            yield from ("", f"{title}:")
        first = f"  {left} ".ljust(len(column))
        if len(first) > len(column):
            yield first.rstrip()
            first = column
        yield from _wrapped(right, first, column)


def row(flag: Flag) -> tuple[str, str]:
    """Return a flag with the word for its value, and what it means, with its choices and default."""
    notes = []
    if flag.choices and _metavar(flag) == "CHOICE":
        notes.append("one of " + ", ".join(flag.choices))
    if flag.default not in (None, [], {}, "", False) and flag.kind != "bool":
        notes.append(f"default {flag.default if isinstance(flag.default, str) else json.dumps(flag.default)}")
    if flag.kind == "bool" and flag.default:
        notes.append("default yes")
    text = _plain(flag.help)
    return f"{_spelled(flag)} {_metavar(flag)}".strip(), text + "".join(f" [{note}]" for note in notes)


def _spelled(flag: Flag) -> str:
    return flag.flag if flag.kind != "bool" or flag.default is False else f"--[no-]{flag.flag[2:]}"


def _metavar(flag: Flag) -> str:
    if flag.kind == "bool":
        return ""
    if flag.choices:
        listed = "|".join(flag.choices)
        return listed if len(listed) <= WIDTH // 4 else "CHOICE"
    return _METAVARS.get(flag.kind, flag.kind.upper())


def _plain(text: str) -> str:
    """Return the text of a docstring without its marks for code."""
    return re.sub(r"``(.*?)``", r"'\1'", text)


def _wrapped(text: str, first: str, after: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=after, break_on_hyphens=False, break_long_words=False
    ) or [first.rstrip()]


def _command(line: str) -> Iterator[str]:
    """Yield a command in lines of the width where its words allow it; a long one goes on after backslashes."""
    parts: list[str] = []  # an option and its value stay together
    for word in shlex.split(line):
        alone = word.startswith("-") or not parts or not parts[-1].startswith("--") or " " in parts[-1]
        parts[len(parts) if alone else -1 :] = [shlex.quote(word) if alone else f"{parts[-1]} {shlex.quote(word)}"]
    row, end = " ", " \\"
    for part in parts:
        if len(row) + 1 + len(part) + len(end) > WIDTH and row.strip() not in ("", parts[0]):
            yield row + end
            row = "   "
        row += f" {part}"
    yield row
