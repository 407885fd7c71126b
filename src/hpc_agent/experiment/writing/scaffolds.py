"""Starters of executors: a script or a notebook that runs without a change, with the requested flags."""

from __future__ import annotations

import builtins
import json
import keyword
import math
import re
import sys
import textwrap
from dataclasses import dataclass
from string import Template
from typing import Any, Literal

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment_kit.registered_functions import option_of
from hpc_agent.infra.backends import TEMPLATES
from hpc_agent.node.shared.task_environment import is_reserved, problems

Shape = Literal["argparse", "register-run", "notebook"]

SCAFFOLDS = TEMPLATES / "scaffolds"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,59}")
KINDS = ("int", "float", "str", "bool")
# Names that the starter imports, calls or uses itself.
TAKEN = frozenset(
    ("hpc_agent", "main", "register_run", "options", "parser", "output", "metrics", "handle", *dir(builtins))
)
TAKEN_FLAGS = frozenset(("help", "output_file"))
DEFAULT_FLAGS = ["horizon:int=5", "alpha:float=0.1"]
WIDTH = 88  # the default of ruff
SUMMARY = "Error of a ridge forecast on a made-up series."
EXAMPLES = {"int": "1", "float": "0.1", "str": '"a"', "bool": "True"}


@dataclass(frozen=True)
class Flag:
    """A parameter of an executor; ``default`` is Python source, or None for a required flag."""

    name: str
    kind: str
    default: str | None

    @property
    def option(self) -> str:
        return option_of(self.name)

    @property
    def variable(self) -> str:
        """The environment variable that holds the value in a task."""
        return "HPC_KW_" + self.name.upper() if is_reserved(self.name) else self.name.upper()

    @property
    def parameter(self) -> str:
        return f"{self.name}: {self.kind}" + (f" = {self.default}" if self.default is not None else "")


def check_module_name(name: str, field: str, taken: frozenset[str]) -> str:
    """Return ``name``. Raises SpecInvalid for a name that no module can have, or that would hide another module."""
    if not NAME.fullmatch(name):
        problem = "is not a name: letters, digits and '_', at most 60, starting with a letter"
    elif keyword.iskeyword(name):
        problem = "is a keyword of Python"
    elif name in sys.stdlib_module_names:
        problem = "is a module of Python's own, which it would hide"
    elif name in taken:
        problem = "is taken: it would hide what runs it or what it uses itself"
    else:
        return name
    raise SpecInvalid(
        f"{name!r} {problem}",
        field=field,
        remediation=f"Run the same 'hpc-agent' command with another --{field}, such as 'ridge_study'.",
        details={"value": name},
    )


def parse_flags(words: list[str]) -> list[Flag]:
    """Return ``horizon:int=5`` as a flag. Flags without a default come first, as in a signature. Raises SpecInvalid."""
    flags = [_flag(word) for word in words]
    names = [flag.name for flag in flags]
    doubled = next((name for name in names if names.count(name) > 1), None)
    found = [f"{doubled!r} is there twice"] if doubled else problems(dict.fromkeys(names, 0))
    if found:
        raise _bad_flag(found[0])
    return sorted(flags, key=lambda flag: flag.default is not None)


def _flag(word: str) -> Flag:
    declared, given, value = word.partition("=")
    name, _, kind = (part.strip() for part in declared.partition(":"))
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise _bad_flag(f"{word!r}: {name!r} is not a name for a parameter (letters, digits and '_')")
    if name in TAKEN_FLAGS:
        raise _bad_flag(f"{word!r}: the script has a --{name.replace('_', '-')} of its own")
    if kind not in KINDS:
        raise _bad_flag(f"{word!r}: the type must be one of {', '.join(KINDS)}")
    return Flag(name, kind, _default(word, kind, value) if given else None)


def _default(word: str, kind: str, value: str) -> str:
    """Return the default as Python source in the format of ruff."""
    if kind == "str":
        if not value.isprintable():
            raise _bad_flag(f"{word!r}: a default may not hold control characters")
        return repr(value) if value.count('"') > value.count("'") else json.dumps(value, ensure_ascii=False)
    if kind == "bool":
        if value.strip().lower() not in ("true", "false"):
            raise _bad_flag(f"{word!r}: {value!r} is neither true nor false")
        return value.strip().capitalize()
    try:
        number = int(value) if kind == "int" else float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _bad_flag(f"{word!r}: {value!r} is not {'a whole number' if kind == 'int' else 'a finite number'}")
    return repr(number)


def _bad_flag(message: str) -> SpecInvalid:
    return SpecInvalid(
        message,
        field="flags",
        remediation='Spell them name:type=default: hpc-agent build-executor --flags "horizon:int=5,name:str" ...',
    )


def executor_source(name: str, shape: Shape, flags: list[Flag]) -> str:
    """Return the text of a starter; the same request gives the same bytes."""
    parts = {
        "name": name,
        "signature": _call(f"def {name}", [flag.parameter for flag in flags], len(" -> dict:")),
        "summary": SUMMARY,
        "body": _body(flags),
        "computation": _read("computation.py"),
    }
    if shape == "notebook":
        return notebook_text(_cells(parts, flags))
    if shape == "argparse":
        if any(flag.kind == "bool" for flag in flags):
            parts["computation"] += "\n\n" + _read("boolean.py")
        parts["arguments"] = "".join(_argument(flag) for flag in flags)
    return Template(_read(f"{shape.replace('-', '_')}.py.txt")).substitute(parts)


def command_of(path: str, flags: list[Flag]) -> str:
    """Return the shell command of a task: ``python3 executors/ridge.py --horizon "$HORIZON" ...``."""
    values = [f'{flag.option} "${flag.variable}"' for flag in flags]
    return " ".join(["python3", path, *values, '--output-file "$HPC_RESULT_DIR/metrics.json"'])


def _read(name: str) -> str:
    return (SCAFFOLDS / "executor" / name).read_text(encoding="utf-8")


def _body(flags: list[Flag]) -> str:
    """Return the body of the function. A comment names the flags that its computation does not use."""
    used = [flag for flag in flags if (flag.name, flag.kind) in (("horizon", "int"), ("alpha", "float"))]
    spare = ", ".join(flag.name for flag in flags if flag not in used)
    note = f"The starter does not need {spare}: that is for your own experiment." if spare else ""
    lines = textwrap.wrap(note, WIDTH, initial_indent="    # ", subsequent_indent="    # ")
    values = ", ".join(f"{flag.name}={flag.name}" for flag in used)
    return "\n".join([*lines, f'    return {{"score": _forecast_error({values})}}'])


def _argument(flag: Flag) -> str:
    kind = 'type=_boolean, nargs="?", const=True, metavar="BOOL"' if flag.kind == "bool" else f"type={flag.kind}"
    default = "required=True" if flag.default is None else f"default={flag.default}"
    call = _call("parser.add_argument", [f'"{flag.option}"', *kind.split(", "), default], len("    "))
    return textwrap.indent(call, "    ") + "\n"


def _call(name: str, arguments: list[str], more: int = 0) -> str:
    """Return ``name(...)``, with a line for each argument if one line and ``more`` characters are too long."""
    short = f"{name}({', '.join(arguments)})"
    if len(short) + more <= WIDTH:
        return short
    return "\n".join([f"{name}(", *(f"    {argument}," for argument in arguments), ")"])


def _cells(parts: dict[str, str], flags: list[Flag]) -> list[dict[str, Any]]:
    name, summary = parts["name"], parts["summary"]
    values = [f"{flag.name}={EXAMPLES[flag.kind]}" for flag in flags if flag.default is None]
    run = f'@register_run\n{parts["signature"]} -> dict:\n    """{summary}"""\n{parts["body"]}'
    return [
        _cell("about", "markdown", f"# {name}\n\n{summary} Everything down to `{name}` runs in each task."),
        _cell("imports", "code", "import random\n\nfrom hpc_agent.experiment_kit import register_run"),
        _cell("computation", "code", parts["computation"].rstrip()),
        _cell("run", "code", run),
        _cell("try", "code", _call(name, values), tags=["hpc-skip"]),
    ]


def _cell(identity: str, kind: str, source: str, tags: list[str] | None = None) -> dict[str, Any]:
    cell = {"id": identity, "cell_type": kind, "metadata": {"tags": tags} if tags else {}}
    results: dict[str, Any] = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {**cell, "source": source.splitlines(keepends=True), **results}


def notebook_text(cells: list[dict[str, Any]]) -> str:
    """Return an nbformat 4.5 document in the format of Jupyter."""
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    document = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
