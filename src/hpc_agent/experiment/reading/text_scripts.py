"""Parameters of scripts that are not Python, as their text shows them, and of notebooks with a cell tagged ``parameters``."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from hpc_agent.experiment.reading import syntax
from hpc_agent.experiment.reading.environment import READS_ALL, parameter_of
from hpc_agent.experiment.reading.flag_facts import ExecutorFacts, FlagFacts
from hpc_agent.experiment.reading.starts import Start
from hpc_agent.experiment_kit.notebooks import code_cells, parameters_cell

MOST_CHARACTERS = 500_000
SHELLS = ("bash", "sh", "zsh", "ksh", "dash", "fish", "csh", "tcsh")
_COMMENT = re.compile(r"^\s*(#|//|%).*$", re.MULTILINE)
# Libraries that take --name=value; without them a script compares words, and the value is the next one.
_LIBRARY = re.compile(
    r"\b(optparse|argparse|docopt|ArgParse|Comonicon|Getopt::Long|OptionParser|yargs|commander|minimist)\b"
)
# A flag is text in quotes of its own; in a shell also a pattern of ``case``: --depth) and --depth=*).
_QUOTED = re.compile(r"""(["'])(--?[A-Za-z][\w.-]*)(=?)\1""")
_CASE = re.compile(r"(?<![\w-])()(--?[A-Za-z][\w.-]*)(=?)\*?(?=\s*[)|])")
_USAGE = re.compile(r"(?<![\w-])()(--[A-Za-z][\w.-]*)()")  # the text that docopt reads
_SHELL_VARIABLE = re.compile(r"\$(?:\{[#!]?(\w+)|(\w+)|env:(\w+))")
_VARIABLE = re.compile(r"""\b(?:getenv|ENV|environ|env)\s*(?:\.(?:fetch|get)\b)?[(\[{.,]+\s*["':]?([A-Za-z_]\w*)""")
# A shell's own variable: NAME=..., set NAME = ..., for NAME in ..., read NAME; not NAME=${NAME:-3}.
_SETTERS = "export|local|readonly|declare|typeset|set|setenv|for|foreach|read"
_BEGIN = r"(?:^|[;&|]|\b(?:then|do|else)\s)[ \t]*"
_SET = _BEGIN + rf"(?:(?:{_SETTERS})\s+(?:-\w+\s+)*)?" + r"{0}(?:\s*=|(?=[\s;]|$))(?![^;&|\n]*\$\{{?{0}\b)"


def text_facts(root: Path, path: str, start: Start) -> tuple[ExecutorFacts, bool]:
    """Return the facts of a script that is not Python, and True when a value follows its flag as a word of its own.

    Flags that are built at run time are not seen, so the facts are never complete. A program that is no text has none.
    """
    data = (root / path).read_bytes()
    text = "" if b"\0" in data else _COMMENT.sub("", data.decode("utf-8", "replace")[:MOST_CHARACTERS])
    language = Path(start.words[0]).name if len(start.words) > 1 else "program"
    is_shell = language in SHELLS
    spelt: dict[str, str] = {}
    for pattern in [_QUOTED, *([_CASE] if is_shell else []), *([_USAGE] if "docopt" in text else [])]:
        for _, option, joined in pattern.findall(text):
            name = re.sub(r"\W", "_", option.lstrip("-"))
            spelt[name] = option + joined if name not in spelt or not joined else spelt[name]
    facts = ExecutorFacts(name=Path(path).stem, path=path, framework=language, has_main_guard=False)
    facts.flags = [FlagFacts(name=name, options=[option]) for name, option in spelt.items()]
    pattern = _SHELL_VARIABLE if is_shell else _VARIABLE
    names = list(dict.fromkeys(found[found.lastindex or 0] for found in pattern.finditer(text)))
    names = [name for name in names if not (is_shell and re.search(_SET.format(re.escape(name)), text, re.MULTILINE))]
    known = {name: parameter for name in names if (parameter := parameter_of(name)) and name != "HPC_KW_JSON"}
    facts.environment = [FlagFacts(name=parameter, options=[f"${name}"]) for name, parameter in known.items()]
    facts.doubt(f"a script of {language} is read as text only")
    if "HPC_KW_JSON" in text:
        facts.doubt(f"it {READS_ALL} from HPC_KW_JSON")
    return facts, _LIBRARY.search(text) is None


def notebook_facts(root: Path, path: str) -> ExecutorFacts:
    """Return what the cell tagged ``parameters`` sets, with the values as defaults."""
    text = (root / path).read_text(encoding="utf-8")
    number = parameters_cell(text)
    tree = ast.parse(next(source for cell, source in code_cells(text) if cell == number))
    scope = syntax.Scope(tree)
    facts = ExecutorFacts(name=Path(path).stem, path=path, framework="papermill", has_main_guard=False)
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            if isinstance(target, ast.Name) and isinstance(node, (ast.Assign, ast.AnnAssign)):
                flag = FlagFacts(name=target.id)
                if node.value is not None and flag.set_default(node.value, scope):
                    flag.infer_type()
                facts.flags.append(flag)
    return facts
