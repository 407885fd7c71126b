"""Starters of executors: a script or a notebook that runs without a change, with the requested flags."""

from __future__ import annotations

import builtins
import contextlib
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
from hpc_agent.experiment_kit.notebooks import SKIP_TAG
from hpc_agent.experiment_kit.registered_functions import option_of
from hpc_agent.infra.backends import TEMPLATES
from hpc_agent.node.shared.task_environment import is_reserved, problems

Shape = Literal["argparse", "register-run", "notebook"]

SCAFFOLDS = TEMPLATES / "scaffolds"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,59}")
KINDS = ("int", "float", "str", "bool")
NOT_OF_KIND = {"int": "not a whole number", "float": "not a finite number", "bool": "neither true nor false"}
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
    remedy = f"Run the same 'hpc-agent' command with another --{field}, such as 'ridge_study'."
    raise SpecInvalid(f"{name!r} {problem}", field=field, remediation=remedy, details={"value": name})


def parse_flags(words: list[str]) -> list[Flag]:
    """Return ``horizon:int=5`` as a flag. Flags without a default come first, as in a signature. Raises SpecInvalid."""
    try:
        flags = [_flag(word) for word in words]
        names = [flag.name for flag in flags]
        doubled = next((name for name in names if names.count(name) > 1), None)
        found = [f"{doubled!r} is there twice"] if doubled else problems(dict.fromkeys(names, 0))
        if found:
            raise ValueError(found[0])
    except ValueError as error:
        remedy = 'Spell them name:type=default: hpc-agent build-executor --name train --flags "horizon:int=5,name:str"'
        raise SpecInvalid(str(error), field="flags", remediation=remedy) from None
    return sorted(flags, key=lambda flag: flag.default is not None)


def _flag(word: str) -> Flag:
    declared, given, value = word.partition("=")
    name, _, kind = (part.strip() for part in declared.partition(":"))
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ValueError(f"{word!r}: {name!r} is not a name for a parameter (letters, digits and '_')")
    if name in TAKEN_FLAGS:
        raise ValueError(f"{word!r}: the script has a --{name.replace('_', '-')} of its own")
    if kind not in KINDS:
        raise ValueError(f"{word!r}: the type must be one of {', '.join(KINDS)}")
    return Flag(name, kind, _default(word, kind, value) if given else None)


def _default(word: str, kind: str, value: str) -> str:
    """Return the default as Python source in the format of ruff. Raises ValueError."""
    if kind == "str" and value.isprintable():
        return repr(value) if value.count('"') > value.count("'") else json.dumps(value, ensure_ascii=False)
    if kind == "bool" and value.strip().lower() in ("true", "false"):
        return value.strip().capitalize()
    with contextlib.suppress(ValueError):
        number = {"int": int, "float": float}[kind](value) if kind in ("int", "float") else math.nan
        if math.isfinite(number):
            return repr(number)
    problem = "a default may not hold control characters" if kind == "str" else f"{value!r} is {NOT_OF_KIND[kind]}"
    raise ValueError(f"{word!r}: {problem}")


def executor_source(name: str, shape: Shape, flags: list[Flag]) -> str:
    """Return the text of a starter; the same request gives the same bytes."""
    # The computation needs two of the flags; a comment names the others.
    used = [flag for flag in flags if (flag.name, flag.kind) in (("horizon", "int"), ("alpha", "float"))]
    spare = ", ".join(flag.name for flag in flags if flag not in used)
    note = f"The starter does not need {spare}: that is for your own experiment." if spare else ""
    lines = textwrap.wrap(note, WIDTH, initial_indent="    # ", subsequent_indent="    # ")
    values = ", ".join(f"{flag.name}={flag.name}" for flag in used)
    parts = {
        "name": name,
        "signature": _call(f"def {name}", [flag.parameter for flag in flags], len(" -> dict:")),
        "summary": SUMMARY,
        "body": "\n".join([*lines, f'    return {{"score": _forecast_error({values})}}']),
        "computation": _read("computation.py"),
    }
    if shape == "notebook":
        return _notebook(parts, [f"{flag.name}={EXAMPLES[flag.kind]}" for flag in flags if flag.default is None])
    if shape == "argparse":
        if any(flag.kind == "bool" for flag in flags):
            parts["computation"] += "\n\n" + _read("boolean.py")
        parts["arguments"] = ""
        for flag in flags:
            is_bool = flag.kind == "bool"
            kind = ["type=_boolean", 'nargs="?"', "const=True", 'metavar="BOOL"'] if is_bool else [f"type={flag.kind}"]
            default = "required=True" if flag.default is None else f"default={flag.default}"
            call = _call("parser.add_argument", [f'"{flag.option}"', *kind, default], len("    "))
            parts["arguments"] += textwrap.indent(call, "    ") + "\n"
    return Template(_read(f"{shape.replace('-', '_')}.py.txt")).substitute(parts)


def command_of(path: str, flags: list[Flag]) -> str:
    """Return the shell command of a task: ``python3 executors/ridge.py --horizon "$HORIZON" ...``."""
    values = [f'{flag.option} "${flag.variable}"' for flag in flags]
    return " ".join(["python3", path, *values, '--output-file "$HPC_RESULT_DIR/metrics.json"'])


def _read(name: str) -> str:
    return (SCAFFOLDS / "executor" / name).read_text(encoding="utf-8")


def _call(name: str, arguments: list[str], more: int = 0) -> str:
    """Return ``name(...)``, with a line for each argument if one line and ``more`` characters are too long."""
    short = f"{name}({', '.join(arguments)})"
    if len(short) + more <= WIDTH:
        return short
    return "\n".join([f"{name}(", *(f"    {argument}," for argument in arguments), ")"])


def _notebook(parts: dict[str, str], needed: list[str]) -> str:
    """Return an nbformat 4.5 document in the format of Jupyter; its last cell, which tasks leave out, calls the function."""
    name, summary = parts["name"], parts["summary"]
    sources = {
        "about": f"# {name}\n\n{summary} Everything down to `{name}` runs in each task.",
        "imports": "import random\n\nfrom hpc_agent.experiment_kit import register_run",
        "computation": parts["computation"].rstrip(),
        "run": f'@register_run\n{parts["signature"]} -> dict:\n    """{summary}"""\n{parts["body"]}',
        "try": _call(name, needed),
    }
    code: dict[str, Any] = {"cell_type": "code", "execution_count": None, "outputs": []}
    cells = []
    for key, source in sources.items():
        kind = {"cell_type": "markdown"} if key == "about" else code
        tags = {"tags": [SKIP_TAG]} if key == "try" else {}
        cells.append({**kind, "id": key, "metadata": tags, "source": source.splitlines(keepends=True)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    document = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
