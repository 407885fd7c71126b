"""Flags of argparse and optparse: each ``add_argument`` of a script, and of the repo's own helpers that get its parser."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from typing import Any

from hpc_agent.experiment.reading.flag_facts import Action, FlagFacts, FlagType
from hpc_agent.experiment.reading.signature_flags import set_choices
from hpc_agent.experiment.reading.syntax import Scope, Unknown, dotted, keywords_of, last_name, source_of

ADDERS = ("add_argument", "add_option")
_ACTIONS: dict[str, Action] = {
    "store": "store", "store_true": "store_true", "store_false": "store_false", "append": "append", "extend": "append",
    "count": "count", "store_const": "store_const", "append_const": "store_const",
}  # fmt: skip
_NO_PARAMETERS = ("help", "version", "callback")
_TYPES: dict[str, FlagType] = {
    "int": "int", "float": "float", "str": "str", "bool": "bool", "Path": "path", "string": "str", "long": "int", "loads": "json",
    "FileType": "path",
}  # fmt: skip
_TYPES_OF_ACTIONS: dict[Action, FlagType] = {
    "store_true": "bool", "store_false": "bool", "boolean_optional": "bool", "count": "int",
}  # fmt: skip
MOST_ROUNDS = 200
FindFunctions = Callable[[str], list[tuple[ast.FunctionDef, Scope]]]


class ParserReader:
    """The flags and subcommands of a module. ``complete`` is false when a flag cannot be read from the source.

    ``find_functions`` returns the functions of the repo behind the name in a call.
    """

    def __init__(self, scope: Scope, find_functions: FindFunctions) -> None:
        self.scope, self._find_functions = scope, find_functions
        self.flags: list[FlagFacts] = []
        self.subcommands: list[str] = []
        self.complete = True
        self.defaults: dict[str, Any] = {}
        self._seen: set[tuple[str, int]] = set()

    def read(self, tree: ast.AST) -> None:
        self._statements(ast.iter_child_nodes(tree), self.scope)
        for flag in self.flags:
            if flag.name in self.defaults:
                flag.default, flag.required = self.defaults[flag.name], False

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
        name = node.func.attr if isinstance(node.func, ast.Attribute) else dotted(node.func)
        if name in ADDERS and isinstance(node.func, ast.Attribute):
            self._add(node, scope, name == "add_option")
        elif name == "add_parser" and node.args:
            name = scope.value_or(node.args[0], None)
            self.subcommands += [] if name is None else [str(name)]
            self.complete = self.complete and name is not None
        elif name == "set_defaults":
            self._set_defaults(node, scope)
        elif name and _gets_parser(node):
            self._helper(dotted(node.func))

    def _helper(self, name: str) -> None:
        for function, scope in self._find_functions(name):
            key = (function.name, id(scope))
            if key not in self._seen and _adds_flags(function):
                self._seen.add(key)
                self._statements(function.body, scope)

    def _set_defaults(self, node: ast.Call, scope: Scope) -> None:
        for name, value in keywords_of(node).items():
            try:
                self.defaults[name] = scope.json(value)
            except Unknown:
                continue

    def _add(self, node: ast.Call, scope: Scope, optparse: bool) -> None:
        given = keywords_of(node)
        plain = [argument for argument in node.args if not isinstance(argument, ast.Starred)]
        if len(given) < len(node.keywords) or len(plain) < len(node.args):
            self.complete = False
        names = [scope.value_or(argument, None) for argument in plain]
        if not names and _text(given.get("dest")):  # a positional argument that is named by dest alone
            names = [_text(given["dest"])]
        if not names or None in names:
            self.complete = False
        elif all(isinstance(name, str) and name for name in names):
            flag = _flag(names, given, scope, optparse)
            if flag and all((flag.name, flag.options) != (known.name, known.options) for known in self.flags):
                self.flags.append(flag)


def _flag(names: list[str], given: dict[str, ast.expr], scope: Scope, optparse: bool) -> FlagFacts | None:
    """Return the flag of one call; None for --help, --version and the like, which are no parameters."""
    options = [name for name in names if name.startswith("-")]
    long = [name for name in options if name.startswith("--")]
    dest = _text(given.get("dest")) or (long or options or names)[0].lstrip("-").replace("-", "_")
    facts = FlagFacts(name=dest, options=options, required=not options)
    if "action" in given and not _set_action(facts, given["action"], scope):
        return None
    kind = given.get("type")
    facts.type = _TYPES.get((_text(kind) if optparse else "") or last_name(kind), "str")
    if facts.type == "str":
        facts.type = _TYPES_OF_ACTIONS.get(facts.action, "str")
    if "nargs" in given:
        _set_nargs(facts, given["nargs"], scope)
    _set_values(facts, given, scope)
    if facts.action == "boolean_optional":
        facts.options += ["--no-" + option[2:] for option in options if option.startswith("--")]
    return facts


def _set_action(facts: FlagFacts, node: ast.expr, scope: Scope) -> bool:
    """Set the action. Return False for an action that stores no parameter."""
    if dotted(node).endswith("BooleanOptionalAction"):
        facts.action = "boolean_optional"
        return True
    try:
        word = scope.value(node)
    except Unknown:
        facts.dynamic = True  # an action class of the repo usually takes a value
        return True
    facts.action = _ACTIONS.get(word, "store")
    if facts.action in ("store_true", "store_false"):
        facts.default = facts.action == "store_false"
    return word not in _NO_PARAMETERS


def _set_nargs(facts: FlagFacts, node: ast.expr, scope: Scope) -> None:
    try:
        value = "*" if dotted(node).endswith(("REMAINDER", "PARSER")) else scope.value(node)
    except Unknown:
        facts.dynamic = True
        return
    facts.nargs = value if isinstance(value, (int, str)) else None
    if facts.nargs in ("?", "*"):
        facts.required = False


def _set_values(facts: FlagFacts, given: dict[str, ast.expr], scope: Scope) -> None:
    """Set default, choices, required and help."""
    if "default" in given:
        facts.required = False
        try:
            facts.default = scope.json(given["default"])
        except Unknown:
            suppressed = dotted(given["default"]).endswith("SUPPRESS")
            facts.default_text = None if suppressed else source_of(given["default"])
    if "choices" in given:
        set_choices(facts, given["choices"], scope)
    if "required" in given:
        facts.required = bool(getattr(given["required"], "value", False))
    if "help" in given:
        facts.hidden = dotted(given["help"]).endswith(("SUPPRESS", "SUPPRESS_HELP"))
        facts.help = str(scope.value_or(given["help"], ""))


def _text(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _adds_flags(tree: ast.AST) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr in (*ADDERS, "add_parser") for node in ast.walk(tree))


def _gets_parser(node: ast.Call) -> bool:
    """Return True when a call passes on something that is named like a parser, or makes a parser."""
    words = [dotted(argument).lower() for argument in [*node.args, *(k.value for k in node.keywords)]]
    name = dotted(node.func).lower()
    return any("pars" in word or "group" in word or word == "ap" for word in words) or "pars" in name or "arg" in name
