"""Flags of argparse and optparse: each ``add_argument`` of a script, and of the repo's own helpers that get its parser."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from hpc_agent.experiment.reading.flag_facts import TYPES, ExecutorFacts, FlagFacts, Switch
from hpc_agent.experiment.reading.syntax import Function, Scope, Unknown, as_json, dotted, keywords_of, last_name

ADDERS = ("add_argument", "add_option")
_PLAIN: Switch = ("store", "str", None)
_SWITCHES: dict[str, Switch] = {
    "store_true": ("store_true", "bool", False), "store_false": ("store_false", "bool", True),
    "boolean_optional": ("boolean_optional", "bool", None), "count": ("count", "int", None),
    "append": ("append", "str", None), "extend": ("append", "str", None),
    "store_const": ("store_const", "str", None), "append_const": ("store_const", "str", None),
}  # fmt: skip
_NO_PARAMETERS = ("help", "version", "callback")
MOST_ROUNDS = 200


class ParserReader:
    """Adds a module's flags and subcommands to ``facts``; ``find_function`` returns the repo's function behind a name."""

    def __init__(self, facts: ExecutorFacts, find_function: Callable[[str], tuple[Function, Scope] | None]) -> None:
        self._facts, self._find_function = facts, find_function
        self._defaults: dict[str, Any] = {}
        self._seen: set[tuple[str, int]] = set()

    def read(self, tree: ast.Module, scope: Scope) -> None:
        self._statements(tree.body, scope)
        for flag in self._facts.flags:
            if flag.name in self._defaults:
                flag.default, flag.required = self._defaults[flag.name], False

    def _statements(self, nodes: Iterable[ast.AST], scope: Scope) -> None:
        for node in nodes:
            if isinstance(node, ast.For) and _adds_flags(node):
                self._loop(node, scope)
                continue
            if isinstance(node, ast.Call):
                self._call(node, scope)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self._seen.add((node.name, id(scope)))
            self._statements(ast.iter_child_nodes(node), scope)

    def _loop(self, node: ast.For, scope: Scope) -> None:
        """Read ``for name in ("a", "b"): parser.add_argument(...)`` once for each value."""
        try:
            values = list(scope.value(node.iter))[:MOST_ROUNDS]
        except (Unknown, TypeError):
            self._facts.complete = False
            return
        inner = Scope(ast.Module([], []))
        for value in values:
            inner.names = {**scope.names}
            if isinstance(node.target, ast.Name):
                inner.names[node.target.id] = value
            elif isinstance(node.target, ast.Tuple) and isinstance(value, (list, tuple)):
                named = zip(node.target.elts, value, strict=False)
                inner.names.update({target.id: item for target, item in named if isinstance(target, ast.Name)})
            self._statements(node.body, inner)

    def _call(self, node: ast.Call, scope: Scope) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else dotted(node.func)
        if name in ADDERS and isinstance(node.func, ast.Attribute):
            self._add(node, scope, name == "add_option")
        elif name == "add_parser" and node.args:
            command = scope.value_or(node.args[0], None)
            self._facts.subcommands += [] if command is None else [str(command)]
            self._facts.complete &= command is not None
        elif name == "set_defaults":
            for key, value in keywords_of(node).items():
                with contextlib.suppress(Unknown):
                    self._defaults[key] = as_json(scope.value(value))
        elif name and _gets_parser(node) and (found := self._find_function(dotted(node.func))):
            function, scope = found
            if (function.name, id(scope)) not in self._seen and _adds_flags(function):
                self._seen.add((function.name, id(scope)))
                self._statements(function.body, scope)

    def _add(self, node: ast.Call, scope: Scope, optparse: bool) -> None:
        given = keywords_of(node)
        plain = [argument for argument in node.args if not isinstance(argument, ast.Starred)]
        names = [scope.value_or(argument, None) for argument in plain]
        if not names and _text(given.get("dest")):  # a positional argument that is named by dest alone
            names = [_text(given["dest"])]
        if len(given) < len(node.keywords) or len(plain) < len(node.args) or not names or None in names:
            self._facts.complete = False
        if names and all(isinstance(name, str) and name for name in names):
            flag = _flag(names, given, scope, optparse)
            if flag and all((flag.name, flag.options) != (f.name, f.options) for f in self._facts.flags):
                self._facts.flags.append(flag)


def _flag(names: list[str], given: dict[str, ast.expr], scope: Scope, optparse: bool) -> FlagFacts | None:
    """Return the flag of one call; None for --help, --version and the like, which are no parameters."""
    optional = dotted(given.get("action")).endswith("BooleanOptionalAction")
    word = "boolean_optional" if optional else scope.value_or(given.get("action"), ...)
    if word in _NO_PARAMETERS:
        return None
    options = [name for name in names if name.startswith("-")]
    long = [name for name in options if name.startswith("--")]
    dest = _text(given.get("dest")) or (long or options or names)[0].lstrip("-").replace("-", "_")
    facts = FlagFacts(name=dest, options=options, required=not options)
    facts.action, facts.type, facts.default = _SWITCHES.get(word, _PLAIN)
    facts.dynamic = "action" in given and word is ...  # an action class of the repo usually takes a value
    if optional:
        facts.options = options + ["--no-" + option[2:] for option in long]
    kind = (_text(given.get("type")) if optparse else "") or last_name(given.get("type"))
    if TYPES.get(kind, "str") != "str":
        facts.type = TYPES[kind]
    if "nargs" in given:
        rest = dotted(given["nargs"]).endswith(("REMAINDER", "PARSER"))
        value = "*" if rest else scope.value_or(given["nargs"], ...)
        facts.dynamic |= value is ...
        facts.nargs = value if isinstance(value, (int, str)) else None
    if facts.nargs in ("?", "*") or "default" in given:
        facts.required = False
    if "default" in given and not facts.set_default(given["default"], scope):
        facts.default_text = None if dotted(given["default"]).endswith("SUPPRESS") else facts.default_text
    if "choices" in given:
        facts.set_choices(given["choices"], scope)
    if "required" in given:
        facts.required = bool(getattr(given["required"], "value", False))
    facts.hidden = dotted(given.get("help")).endswith(("SUPPRESS", "SUPPRESS_HELP"))
    facts.help = str(scope.value_or(given.get("help"), ""))
    return facts


def _text(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _adds_flags(tree: ast.AST) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr in (*ADDERS, "add_parser") for node in ast.walk(tree))


def _gets_parser(node: ast.Call) -> bool:
    """Return True when a call passes on something that is named like a parser, or makes a parser."""
    words = [dotted(argument).lower() for argument in [*node.args, *(k.value for k in node.keywords)]]
    name = dotted(node.func).lower()
    return any("pars" in word or "group" in word or word == "ap" for word in words) or "pars" in name or "arg" in name
