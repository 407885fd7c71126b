"""Flags of docopt: the usage patterns and the options of the text that ``docopt()`` gets."""

from __future__ import annotations

import ast
import re

from hpc_agent.experiment.reading import syntax
from hpc_agent.experiment.reading.flag_facts import ExecutorFacts, FlagFacts, SubcommandFacts
from hpc_agent.experiment.reading.modules import Module, StartedCall

_USAGE = re.compile(r"usage:(.*?)(?:\n[ \t]*\n|\Z)", re.IGNORECASE | re.DOTALL)
# An option, alone or with the name of its value: -n, --lr=<x>, --lr <x>, --lr=X.
_OPTION = re.compile(r"(?<![\w-])(--?[A-Za-z][\w-]*)(?:(?:=| (?=<))(<[^>]+>|[A-Za-z_]\w*)|[ ]([A-Z][A-Z0-9_]*)\b)?")
_DEFAULT = re.compile(r"\[default:\s*(.*?)\]", re.IGNORECASE)
_POSITIONAL = re.compile(r"<([\w -]+)>|\b([A-Z][A-Z0-9_]+)\b")
_NONE = ("--help", "-h", "--version")


def read_docopt(module: Module, facts: ExecutorFacts) -> None:
    call = next((call for call in module.started if call.name.rpartition(".")[2] == "docopt"), None)
    text = _text(call) if call is not None else None
    usage = _USAGE.search(text) if text else None
    if text is None or usage is None:
        facts.doubt("the text that docopt() reads is not known")
        return
    listed = _listed(text[: usage.start()] + text[usage.end() :])
    lines = [line.strip() for line in usage[1].splitlines() if line.strip()]
    program = lines[0].split()[0] if lines else ""
    patterns = " ".join(lines).split(program + " ") if program else []
    for pattern in [pattern.strip() for pattern in patterns if pattern.strip()]:
        word = pattern.split()[0]
        if any(f"{option} " in f"{pattern} " and len(pattern.split()) < 4 for option in _NONE):
            continue
        if re.fullmatch(r"[a-z][\w-]*", word):
            known = next((one for one in facts.subcommands if one.name == word), None)
            command = known or SubcommandFacts(name=word)
            facts.subcommands += [] if known else [command]
            facts.subcommand_name, facts.subcommand_required = "command", True
            _add(command.flags, pattern[len(word) :], listed)
            if re.search(r"(?<![\w<=.-])[a-z][\w-]+(?![\w>-])", re.sub(r"\[?options\]?", "", pattern[len(word) :])):
                facts.doubt(f"the usage of {word} has more words than those of options")
        else:
            _add(facts.flags, pattern, listed)
            if "(" in pattern or "|" in pattern:
                facts.doubt("the usage has alternatives, which are listed as if each were allowed alone")


def _text(call: StartedCall) -> str | None:
    node = call.node.args[0] if call.node.args else syntax.keywords_of(call.node).get("doc")
    if syntax.dotted(node) == "__doc__":
        return ast.get_docstring(call.module.tree)
    value = call.module.scope.value_or(node, None)
    return value if isinstance(value, str) else None


def _listed(text: str) -> dict[str, FlagFacts]:
    """Return the options that are described in lines of their own, by each of their names."""
    found = {}
    for line in text.splitlines():
        if not line.strip().startswith("-"):
            continue
        head = re.split(r"\s{2,}", line.strip(), maxsplit=1)[0]
        matches = list(_OPTION.finditer(head))
        default = _DEFAULT.search(line)
        flag = _flag([match[1] for match in matches], any(match[2] or match[3] for match in matches))
        flag.default = default[1] if default else flag.default
        found.update({match[1]: flag for match in matches if match[1] not in _NONE})
    return found


def _flag(options: list[str], has_value: bool) -> FlagFacts:
    long = [option for option in options if option.startswith("--")]
    flag = FlagFacts(name=(long or options)[0].lstrip("-").replace("-", "_"), options=options)
    if not has_value:
        flag.action, flag.type, flag.default = "store_true", "bool", False
    return flag


def _add(flags: list[FlagFacts], pattern: str, listed: dict[str, FlagFacts]) -> None:
    """Add the options and positional arguments of a usage pattern; those outside of brackets are required."""
    found: list[FlagFacts] = []
    if "[options]" in pattern:
        found += {id(flag): flag for flag in listed.values()}.values()
    depth, open_at = 0, []
    for character in pattern:
        depth += (character == "[") - (character == "]")
        open_at.append(depth)
    rest = pattern
    for match in _OPTION.finditer(pattern):
        flag = listed.get(match[1]) or _flag([match[1]], bool(match[2] or match[3]))
        flag.required |= open_at[match.start()] == 0 and flag.action == "store" and flag.default is None
        found.append(flag)
        rest = rest[: match.start()] + " " * len(match[0]) + rest[match.end() :]
    for match in _POSITIONAL.finditer(rest):
        name = (match[1] or match[2]).lower().replace("-", "_").replace(" ", "_")
        many = rest[match.end() :].lstrip(" ])").startswith("...")
        found.append(FlagFacts(name=name, required=open_at[match.start()] == 0, nargs="*" if many else None))
    flags += [flag for flag in found if all(flag.name != known.name for known in flags)]
