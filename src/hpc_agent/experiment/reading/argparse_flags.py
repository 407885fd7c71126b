"""argparse and optparse: every ``add_argument`` of a script, and of the repo's own helpers that it hands its parser to."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from typing import Any

from hpc_agent.experiment.reading.flag_facts import (
    Action,
    FlagFacts,
    FlagType,
    Scope,
    Unknown,
    as_json,
    dotted,
    text_of,
)

ADDERS = ("add_argument", "add_option")
_ACTIONS: dict[str, Action] = {
    "store": "store", "store_true": "store_true", "store_false": "store_false", "append": "append", "extend": "append",
    "count": "count", "store_const": "store_const", "append_const": "store_const",
}  # fmt: skip
_SILENT = ("help", "version", "callback")
_TYPES: dict[str, FlagType] = {
    "int": "int", "float": "float", "str": "str", "bool": "bool", "Path": "path", "string": "str", "long": "int", "loads": "json",
    "FileType": "path",
}  # fmt: skip
MOST_ROUNDS = 200
Follow = Callable[[str], list[tuple[ast.FunctionDef, Scope]]]


class ParserReading:
    """What the calls of a module say; ``complete`` turns false where a flag is added in a way that the source does not tell."""

    def __init__(self, scope: Scope, follow: Follow) -> None:
        self.scope, self._follow = scope, follow
        self.flags: list[FlagFacts] = []
        self.subcommands: list[str] = []
        self.complete = True
        self.defaults: dict[str, Any] = {}
        self._seen: set[tuple[str, int]] = set()

    def read(self, tree: ast.AST) -> None:
        self._statements(_body(tree), self.scope)
        for flag in self.flags:
            if flag.name in self.defaults:
                flag.default, flag.required = self.defaults[flag.name], False

    def _statements(self, nodes: Iterable[ast.AST], scope: Scope) -> None:
        for node in nodes:
            if isinstance(node, ast.For) and _adds(node):
                self._loop(node, scope)
            elif isinstance(node, ast.Call):
                self._call(node, scope)
                self._statements(ast.iter_child_nodes(node), scope)
            else:
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    self._seen.add((node.name, id(scope)))
                self._statements(ast.iter_child_nodes(node), scope)

    def _loop(self, node: ast.For, scope: Scope) -> None:
        """``for name in ("a", "b"): parser.add_argument(...)``, unrolled where the values are known."""
        try:
            values = list(scope.value(node.iter))[:MOST_ROUNDS]
        except (Unknown, TypeError):
            self.complete = False
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
        name = dotted(node.func).rpartition(".")[2] or (node.func.attr if isinstance(node.func, ast.Attribute) else "")
        if name in ADDERS and isinstance(node.func, ast.Attribute):
            self._add(node, scope, name == "add_option")
        elif name == "add_parser" and node.args:
            self._subcommand(node, scope)
        elif name == "set_defaults":
            self._set_defaults(node, scope)
        elif name and _gives_parser(node):
            self._helper(dotted(node.func))

    def _helper(self, name: str) -> None:
        for function, scope in self._follow(name):
            key = (function.name, id(scope))
            if key not in self._seen and _adds(function):
                self._seen.add(key)
                self._statements(function.body, scope)

    def _subcommand(self, node: ast.Call, scope: Scope) -> None:
        try:
            self.subcommands.append(str(scope.value(node.args[0])))
        except Unknown:
            self.complete = False

    def _set_defaults(self, node: ast.Call, scope: Scope) -> None:
        for keyword in node.keywords:
            if keyword.arg is None:
                continue
            try:
                self.defaults[keyword.arg] = as_json(scope.value(keyword.value))
            except Unknown:
                continue

    def _add(self, node: ast.Call, scope: Scope, optparse: bool) -> None:
        given = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
        if any(keyword.arg is None for keyword in node.keywords) or any(isinstance(a, ast.Starred) for a in node.args):
            self.complete = False
        try:
            names = [scope.value(argument) for argument in node.args if not isinstance(argument, ast.Starred)]
        except Unknown:
            self.complete = False
            return
        if not names:  # optparse's own Option objects; or a positional named by dest alone
            dest = _constant(given.get("dest"))
            names = [dest] if dest else []
        if not names or not all(isinstance(name, str) and name for name in names):
            self.complete = self.complete and bool(names)
            return
        flag = _flag(names, given, scope, optparse)
        if flag is not None and all(flag.name != known.name or flag.options != known.options for known in self.flags):
            self.flags.append(flag)


def _flag(names: list[str], given: dict[str, ast.expr], scope: Scope, optparse: bool) -> FlagFacts | None:
    options = [name for name in names if name.startswith("-")]
    dest = _constant(given.get("dest"))
    if not dest:
        long = [name for name in options if name.startswith("--")]
        dest = (long or options or names)[0].lstrip("-").replace("-", "_")
    facts = FlagFacts(name=dest, options=options, required=not options)
    if not _action(facts, given.get("action"), scope):
        return None
    facts.type = _type(given.get("type"), optparse)
    _nargs(facts, given.get("nargs"), scope)
    _fill(facts, given, scope)
    if facts.type == "str" and facts.action in ("store_true", "store_false", "boolean_optional"):
        facts.type = "bool"
    elif facts.type == "str" and facts.action == "count":
        facts.type = "int"
    if facts.action == "boolean_optional":
        facts.options += ["--no-" + option[2:] for option in options if option.startswith("--")]
    return facts


def _action(facts: FlagFacts, node: ast.expr | None, scope: Scope) -> bool:
    """Sets the action; false for --help, --version and the like, which are no parameters."""
    if node is None:
        return True
    if dotted(node).endswith("BooleanOptionalAction"):
        facts.action = "boolean_optional"
        return True
    try:
        word = scope.value(node)
    except Unknown:
        facts.dynamic = True  # an action class of their own takes a value, as a rule
        return True
    if word in _SILENT:
        return False
    facts.action = _ACTIONS.get(word, "store")
    if facts.action == "store_true":
        facts.default = False
    elif facts.action == "store_false":
        facts.default = True
    return True


def _type(node: ast.expr | None, optparse: bool) -> FlagType:
    if node is None:
        return "str"
    name = _constant(node) if optparse else ""
    called = node.func if isinstance(node, ast.Call) else node
    return _TYPES.get(name or dotted(called).rpartition(".")[2], "str")


def _nargs(facts: FlagFacts, node: ast.expr | None, scope: Scope) -> None:
    if node is None:
        return
    if dotted(node).endswith(("REMAINDER", "PARSER")):
        facts.nargs, facts.required = "*", False
        return
    try:
        value = scope.value(node)
    except Unknown:
        facts.dynamic = True
        return
    facts.nargs = value if isinstance(value, (int, str)) else None
    if facts.nargs in ("?", "*"):
        facts.required = False


def _fill(facts: FlagFacts, given: dict[str, ast.expr], scope: Scope) -> None:
    """default, choices, required, help."""
    if "default" in given:
        facts.required = False
        try:
            facts.default = as_json(scope.value(given["default"]))
        except Unknown:
            facts.default_text = text_of(given["default"])
        if dotted(given["default"]).endswith("SUPPRESS"):
            facts.default_text = None
    if "choices" in given:
        try:
            facts.choices = as_json(list(scope.value(given["choices"])))
        except (Unknown, TypeError):
            facts.dynamic = True
    if "required" in given:
        facts.required = bool(getattr(given["required"], "value", False))
    if "help" in given:
        facts.hidden = dotted(given["help"]).endswith(("SUPPRESS", "SUPPRESS_HELP"))
        try:
            facts.help = str(scope.value(given["help"]))
        except Unknown:
            facts.help = ""


def _constant(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _adds(tree: ast.AST) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr in (*ADDERS, "add_parser") for node in ast.walk(tree))


def _gives_parser(node: ast.Call) -> bool:
    """Whether a call hands something on that is called like a parser, or makes one."""
    words = [dotted(argument).lower() for argument in [*node.args, *(k.value for k in node.keywords)]]
    name = dotted(node.func).lower()
    return any("pars" in word or "group" in word or word == "ap" for word in words) or "pars" in name or "arg" in name


def _body(tree: ast.AST) -> list[ast.AST]:
    return list(ast.iter_child_nodes(tree))
