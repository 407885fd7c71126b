"""The help of the command line: of all verbs, of a group, of one verb. At most 80 columns, from the catalogue."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from collections.abc import Iterable, Iterator, Mapping

from hpc_agent.cli.globals import GLOBAL_FLAGS
from hpc_agent.cli.parse import GROUPS, find_verb
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
    "campaigns: one sweep after another": ("campaign",),
    "memory": ("memory",),
    "for agents": ("introspect", "agents"),
}
FIRST = """\
First time here:
  hpc-agent demo                  a small experiment on this machine, 25 tasks
  hpc-agent load-context          where this folder stands, and what comes next

The whole of a run (in examples/horizon_sweep of the sources):
  hpc-agent submit --cluster local --executor 'python3 run.py --lr "$LR"'
  hpc-agent monitor-flow          wait until it has ended; status takes one look
  hpc-agent failures              what failed, why, and what to do
  hpc-agent aggregate --sort rmse
"""
LAST = """\
hpc-agent VERB --help     one command: what it does, an example, its options
hpc-agent completion -h   TAB for bash, zsh and fish
man hpc-agent             the same as pages of the manual

On a terminal you read a view; a pipe, or --json, gets one line of JSON.
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
    if words in [[group] for group in GROUPS]:
        return _group(words[0], catalogue)
    if not asked:
        return None
    verb, _ = find_verb(words, catalogue)
    return _verb(verb, catalogue[verb])


def _overview(catalogue: Mapping[str, CatalogueEntry]) -> str:
    lines = ["hpc-agent runs experiments as job arrays, on clusters and on this machine.", ""]
    lines += ["usage: hpc-agent VERB [options]", "", *FIRST.splitlines(), ""]
    for title, stages in LIFE.items():
        lines += [f"{title}:", *_rows({n: e for n, e in catalogue.items() if e.stage in stages}), ""]
    return "\n".join([*lines, LAST])


def _rows(entries: Mapping[str, CatalogueEntry]) -> Iterator[str]:
    """Yield a line a verb."""
    for name, entry in entries.items():
        yield f"  {name:<34} {entry.brief}"


def _group(word: str, catalogue: Mapping[str, CatalogueEntry]) -> str:
    """Return the help of a first word: the verbs that may be written as two words."""
    entries = {name: entry for name, entry in catalogue.items() if name.startswith(f"{word}-")}
    lines = [f"usage: hpc-agent {word} VERB [options]     (hpc-agent {word}-VERB is the same)", ""]
    return "\n".join([*lines, *_rows(entries), "", f"hpc-agent {word} VERB --help     one of them", ""])


def _verb(verb: str, entry: CatalogueEntry) -> str:
    required = [flag for flag in entry.flags if flag.required]
    optional = [flag for flag in entry.flags if not flag.required]
    often = [flag for flag in optional if flag.path[-1] in FREQUENT or flag.path[0] in entry.example]
    often.sort(key=lambda flag: flag.path[0] not in entry.example)
    if len(optional) <= SHORT or not often:
        often, optional = optional, []
    rest = [flag for flag in optional if flag not in often]
    words = ["usage: hpc-agent", verb, *(f"{flag.flag} {_metavar(flag)}" for flag in required), "[options]"]
    if entry.positional:
        words.insert(2, f"[{entry.positional.upper()}]")
        words = [word for word in words if not word.startswith(f"--{entry.positional.replace('_', '-')} ")]
    lines = [*_wrapped(" ".join(words), "", "         "), "", *_wrapped(_plain(entry.summary), "", "")]
    if entry.aliases:
        lines += [*_wrapped(f"Also: {', '.join(entry.aliases)}.", "", "")]
    lines += ["", "example:", *_command(example_line(verb, entry))]
    whole = ("--spec FILE|-", "the whole request as JSON, or the answer of another verb; - reads standard input")
    own = {flag.flag for flag in entry.flags}
    shared = [each for each in GLOBAL_FLAGS if each.flag not in own]
    everywhere = [(f"{each.flag} {each.metavar}" if each.metavar else each.flag, each.help) for each in shared]
    for title, rows in (
        ("required", map(_row, required)),
        ("options" if not rest else "often used", map(_row, often)),
        ("more options", map(_row, rest)),
        ("options of every command", [whole, *everywhere]),
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


def _row(flag: Flag) -> tuple[str, str]:
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
    row, end = " ", " \\"
    for word in map(shlex.quote, shlex.split(line)):
        if len(row) + len(word) + len(end) >= WIDTH and row.strip() and word.startswith(("-", "'")):
            yield row + end
            row = "   "
        row += f" {word}"
    yield row
