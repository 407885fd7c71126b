"""Flags of argparse and its kin: the parser is followed through functions, classes and modules of the repo."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hpc_agent.experiment.reading.flag_facts import TYPES, ExecutorFacts, FlagFacts, SubcommandFacts, Switch
from hpc_agent.experiment.reading.modules import Found, Module, bases_of, lineage
from hpc_agent.experiment.reading.syntax import (
    Scope,
    Unknown,
    as_json,
    dotted,
    is_guard,
    keywords_of,
    last_name,
)

ADDERS = ("add_argument", "add_option", "add_arg")
PARSERS = ("ArgumentParser", "OptionParser", "ArgParser")
_PLAIN: Switch = ("store", "str", None)
_SWITCHES: dict[str, Switch] = {
    "store_true": ("store_true", "bool", False), "store_false": ("store_false", "bool", True),
    "boolean_optional": ("boolean_optional", "bool", None), "count": ("count", "int", None),
    "append": ("append", "str", None), "extend": ("append", "str", None),
    "store_const": ("store_const", "str", None), "append_const": ("store_const", "str", None),
}  # fmt: skip
_NO_PARAMETERS = ("help", "version", "callback")
_HARMLESS = ("autocomplete", "print", "isinstance", "len", "vars", "str", "type", "super", "append", "hasattr")
_GROUPS = ("add_argument_group", "add_mutually_exclusive_group", "add_option_group", "OptionGroup")
MOST_ROUNDS = 200
MOST_DEPTH = 20
MOST_CALLS = 2_000


@dataclass(eq=False)
class Parser:
    """One parser, or a subcommand's; ``module`` is where it is made."""

    module: Module | None = None
    flags: list[FlagFacts] = field(default_factory=list)
    parents: list[Parser] = field(default_factory=list)
    defaults: dict[str, Any] = field(default_factory=dict)
    commands: Commands | None = None
    found: Found | None = None  # the class of the repo that it is an object of
    doc: str = ""
    is_parsed: bool = False

    def all_flags(self) -> list[FlagFacts]:
        found: list[FlagFacts] = []
        for flag in [*(flag for parent in self.parents for flag in parent.all_flags()), *self.flags]:
            if flag.name in self.defaults:
                flag.default, flag.required = self.defaults[flag.name], False
            if all((flag.name, flag.options) != (known.name, known.options) for known in found):
                found.append(flag)
        return found


@dataclass(eq=False)
class Commands:
    """The subcommands of one parser."""

    name: str | None = None
    is_required: bool = False
    parsers: dict[str, Parser] = field(default_factory=dict)


@dataclass(eq=False)
class Instance:
    """An object of a class of the repo."""

    found: Found


@dataclass(eq=False)
class Adder:
    """A method that adds a flag, by another name: ``add = parser.add_argument``."""

    parser: Parser
    name: str


Value = Parser | Commands | Instance | Adder | None
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_PARSES = ("parse_args", "parse_known_args", "parse_intermixed_args", "parse_known_intermixed_args")


@dataclass(eq=False)
class Frame:
    """The names of one call. ``owner`` is the class of the method that runs."""

    module: Module
    scope: Scope
    names: dict[str, Value] = field(default_factory=dict)
    owner: Found | None = None
    result: Value = None
    depth: int = 0


class ParserReader:
    """Follows the statements of a script as they run, as far as parsers are concerned, and fills in ``facts``."""

    def __init__(self, facts: ExecutorFacts, module: Module) -> None:
        self._facts, self._module = facts, module
        self._parsers: list[Parser] = []
        self._unowned = Parser()
        self._attributes: dict[str, Value] = {}
        self._globals: dict[Module, dict[str, Value]] = {}
        self._called: dict[tuple[int, ...], Value] = {}
        self._left_over: set[str] = set()

    def read(self) -> None:
        module = self._module
        for imported in reversed(module.imported):
            if imported is module or imported.parsed.adds_flags:
                names = self._globals.setdefault(imported, {})
                self._statements(imported.tree.body, Frame(imported, imported.scope, names))
        for node in module.definitions.values():  # functions that nobody calls by name
            is_class = isinstance(node, ast.ClassDef)
            for function in node.body if is_class else [node]:
                if isinstance(function, _FUNCTIONS) and _adds_flags(function):
                    owner = Found(node, module) if is_class else None
                    if not any(key[0] == id(function) for key in self._called):
                        self._run(Found(function, module), [], {}, owner)
        self._conclude()

    def _conclude(self) -> None:
        facts = self._facts
        as_parents = {id(parent) for parser in self._everything() for parent in parser.parents}
        inner = {id(p) for parser in self._parsers if parser.commands for p in parser.commands.parsers.values()}
        tops = [parser for parser in self._parsers if id(parser) not in inner]
        roots = [p for p in tops if p.is_parsed] or [p for p in tops if id(p) not in as_parents]
        # A parser of the script that is parsed in a way that was not followed.
        roots += [p for p in tops if p.module is self._module and p not in roots and id(p) not in as_parents]
        for parser in [*roots, self._unowned]:
            known = [(flag.name, flag.options) for flag in facts.flags]
            facts.flags += [flag for flag in parser.all_flags() if (flag.name, flag.options) not in known]
        with_commands = [parser.commands for parser in [*roots, self._unowned] if parser.commands]
        for commands in with_commands:
            facts.subcommand_name = commands.name or "command"
            facts.subcommand_required = commands.is_required
            for name, parser in commands.parsers.items():
                facts.subcommands.append(SubcommandFacts(name=name, doc=parser.doc, flags=parser.all_flags()))
                if parser.commands:
                    facts.doubt(f"the subcommand {name} has subcommands of its own, which are not listed")
        if self._left_over:
            words = ", ".join(sorted(self._left_over))
            facts.doubt(f"words that the parser does not know are read from {words}")
        if not roots or len(with_commands) > 1 or (with_commands and self._unowned.flags):
            facts.doubt("the source does not show which flags belong to which parser")

    def _everything(self) -> list[Parser]:
        inner = [list(parser.commands.parsers.values()) for parser in self._parsers if parser.commands]
        return [*self._parsers, *(parser for parsers in inner for parser in parsers)]

    # -- statements

    def _statements(self, nodes: Iterable[ast.AST], frame: Frame) -> None:
        for node in nodes:
            if isinstance(node, (*_FUNCTIONS, ast.ClassDef)) or (frame.module is not self._module and is_guard(node)):
                continue
            if isinstance(node, (ast.For, ast.AsyncFor)) and _adds_flags(node):
                self._loop(node, frame)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                self._assign(node, frame)
            elif isinstance(node, ast.Return):
                frame.result = self._value(node.value, frame) or frame.result
            elif isinstance(node, ast.expr):
                self._value(node, frame)
            else:
                self._statements(ast.iter_child_nodes(node), frame)

    def _assign(self, node: ast.Assign | ast.AnnAssign, frame: Frame) -> None:
        value = self._value(node.value, frame)
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if value is not None:
                for part in target.elts if isinstance(target, ast.Tuple) else [target]:
                    names = self._attributes if isinstance(part, ast.Attribute) else frame.names
                    names[dotted(part)] = value
            if last_name(node.value) == "parse_known_args":
                rest = target.elts[-1] if isinstance(target, (ast.Tuple, ast.List)) else target
                self._left_over |= {dotted(rest)} - {"", "_", "__"}

    def _loop(self, node: ast.For | ast.AsyncFor, frame: Frame) -> None:
        """Read ``for name in ("a", "b"): parser.add_argument(...)`` once for each value, or for each parser."""
        outer = frame.scope
        if isinstance(node.iter, (ast.Tuple, ast.List)):
            parsers = [self._value(item, frame) for item in node.iter.elts]
        else:
            owner = self._value(node.iter, frame)
            parsers = [*owner.parsers.values()] if isinstance(owner, Commands) else []
        if parsers and None not in parsers:
            for parser in parsers:
                frame.names[dotted(node.target)] = parser
                self._statements(node.body, frame)
            return
        try:
            values = list(outer.value(node.iter))[:MOST_ROUNDS]
        except (Unknown, TypeError):
            values = []
            self._facts.doubt(f"{_place(node, frame)} adds flags in a loop over values that are not known")
        for value in values:
            frame.scope = Scope(ast.Module([], []), outer.names)
            if isinstance(node.target, ast.Name):
                frame.scope.names[node.target.id] = value
            elif isinstance(node.target, ast.Tuple) and isinstance(value, (list, tuple)):
                named = zip(node.target.elts, value, strict=False)
                frame.scope.names.update({target.id: item for target, item in named if isinstance(target, ast.Name)})
            self._statements(node.body, frame)
        frame.scope = outer

    # -- expressions

    def _value(self, node: ast.AST | None, frame: Frame) -> Value:
        """Return the parser, subcommands or object that an expression stands for, after reading the calls inside."""
        if isinstance(node, ast.Name):
            return frame.names.get(node.id) or self._global(frame.module, node.id)
        if isinstance(node, ast.Attribute):
            owner = self._value(node.value, frame)
            if node.attr in ADDERS and isinstance(owner, Parser):
                return Adder(owner, node.attr)
            found = self._attributes.get(dotted(node)) or self._global(frame.module, dotted(node))
            return found or (owner if node.attr == "choices" else None)
        if isinstance(node, ast.NamedExpr):
            value = frame.names[node.target.id] = self._value(node.value, frame)
            return value
        if isinstance(node, ast.Call):
            return self._call(node, frame)
        values = [self._value(child, frame) for child in ast.iter_child_nodes(node)] if node is not None else []
        return next((value for value in values if value), None) if isinstance(node, (ast.IfExp, ast.BoolOp)) else None

    def _global(self, module: Module, name: str) -> Value:
        """Return what a name stands for at the top level of a module, or of the module of the repo that it comes from."""
        found = self._globals.get(module, {}).get(name)
        owner, last = module.origin(name)
        return found or (self._globals.get(owner, {}).get(last) if owner else None)

    def _call(self, node: ast.Call, frame: Frame) -> Value:
        given = [self._value(part.value if isinstance(part, ast.Starred) else part, frame) for part in node.args]
        named = {part.arg or "": self._value(part.value, frame) for part in node.keywords}
        is_method = isinstance(node.func, ast.Attribute)
        owner = self._value(node.func.value, frame) if isinstance(node.func, ast.Attribute) else None
        name = node.func.attr if isinstance(node.func, ast.Attribute) else dotted(node.func)
        parser = owner if isinstance(owner, Parser) else self._unowned
        if isinstance(owner, (Instance, Parser)) and owner.found and (found := _method(owner.found, name)):
            return self._run(found[0], [owner, *given], named, found[1], frame, node)
        if isinstance(node.func, ast.Name) and isinstance(adder := self._value(node.func, frame), Adder):
            self._add(node, frame, adder.parser, adder.name)
        elif is_method and (name in ADDERS or (name == "add" and isinstance(owner, Parser))):
            self._add(node, frame, parser, name)
        elif name == "add_subparsers":
            parser.commands = parser.commands or Commands()
            parser.commands.name = _text(keywords_of(node).get("dest")) or None
            parser.commands.is_required = frame.scope.value_or(keywords_of(node).get("required"), False) is True
            return parser.commands
        elif name == "add_parser" and node.args:
            return self._command(node, frame, owner)
        elif name in _GROUPS:
            return next((value for value in given if isinstance(value, Parser)), owner)
        elif name == "values":
            return owner
        elif name == "set_defaults":
            for key, value in keywords_of(node).items():
                with contextlib.suppress(Unknown):
                    parser.defaults[key] = as_json(frame.scope.value(value))
        elif name.startswith("parse_") and is_method and (isinstance(owner, Parser) or name in _PARSES):
            self._parse(node, parser)
        else:
            return self._other_call(node, frame, given, named)
        return None

    def _parse(self, node: ast.Call, parser: Parser) -> None:
        words = node.args[0] if node.args else keywords_of(node).get("args")
        if isinstance(words, (ast.List, ast.Tuple)):
            return  # the words are written in the source
        parser.is_parsed = True
        if isinstance(words, ast.Name) and last_name(node) == "parse_args":
            self._left_over.discard(words.id)

    def _command(self, node: ast.Call, frame: Frame, owner: Value) -> Parser | None:
        command, given = frame.scope.value_or(node.args[0], None), keywords_of(node)
        if command is None:
            self._facts.doubt(f"{_place(node, frame)} adds a subcommand whose name is not known")
            return Parser()
        if not isinstance(owner, Commands):
            owner = self._unowned.commands = self._unowned.commands or Commands()
        parser = owner.parsers.setdefault(str(command), Parser())
        parser.doc = str(frame.scope.value_or(given.get("help"), ""))
        self._set_parents(parser, given, frame)
        return parser

    def _set_parents(self, parser: Parser, given: dict[str, ast.expr], frame: Frame) -> None:
        parents = given.get("parents")
        for part in parents.elts if isinstance(parents, (ast.List, ast.Tuple)) else [parents] if parents else []:
            value = self._value(part, frame)
            if isinstance(value, Parser):
                parser.parents.append(value)
            else:
                self._facts.doubt(f"{_place(part, frame)}: the flags of the parser {ast.unparse(part)} are not known")

    def _other_call(self, node: ast.Call, frame: Frame, given: list[Value], named: dict[str, Value]) -> Value:
        """Follow a call of the repo's own function or class. Of another one that gets a parser, no more is known."""
        full, name = frame.module.full_name(node), dotted(node.func)
        values = [value.parser if isinstance(value, Adder) else value for value in [*given, *named.values()]]
        parsers = [value for value in values if isinstance(value, Parser)]
        if last_name(node).endswith(PARSERS) and not frame.module.find(name):
            return self._new_parser(node, frame)
        if isinstance(node.func, ast.Attribute) and last_name(node.func.value) == "super":
            found = _method(frame.owner, node.func.attr, above=True) if frame.owner else None
            me = frame.names.get("self")
            return self._run(found[0], [me, *given], named, found[1], frame, node) if found else None
        target = frame.module.find(name) if name else None
        if target is None and "." in name and (of_class := frame.module.find(name.rpartition(".")[0])):
            found = _method(of_class, last_name(node)) if isinstance(of_class.node, ast.ClassDef) else None
            if found:
                static = any(last_name(part) == "staticmethod" for part in found[0].node.decorator_list)
                of_object = any(isinstance(value, Instance) for value in given) or static
                return self._run(found[0], given if of_object else [None, *given], named, found[1], frame, node)
        if target is not None and isinstance(target.node, ast.ClassDef):
            return self._instance(target, node, frame, given, named)
        if target is not None:
            near = target.module is self._module or parsers or target.module.parsed.adds_flags
            return self._run(target, given, named, None, frame, node) if near else None
        if parsers and last_name(node) not in _HARMLESS:
            self._facts.doubt(f"{_place(node, frame)}: {full or 'a call'} may add flags to the parser")
            parsers[0].is_parsed = True
            return parsers[0]
        return None

    def _new_parser(self, node: ast.Call, frame: Frame, found: Found | None = None) -> Parser:
        parser = Parser(frame.module, found=found)
        self._parsers.append(parser)
        self._set_parents(parser, keywords_of(node), frame)
        return parser

    def _instance(
        self, target: Found, node: ast.Call, frame: Frame, given: list[Value], named: dict[str, Value]
    ) -> Value:
        """Return a new object of the repo's class after running its ``__init__``; a subclass of a parser is a parser."""
        is_parser = any(last_name(base).endswith(PARSERS) for base, _ in bases_of(target))
        value = self._new_parser(node, frame, target) if is_parser else Instance(target)
        if start := _method(target, "__init__"):
            self._run(start[0], [value, *given], named, start[1], frame, node)
        return value

    def _run(
        self,
        target: Found,
        given: list[Value],
        named: dict[str, Value],
        owner: Found | None,
        caller: Frame | None = None,
        call: ast.Call | None = None,
    ) -> Value:
        """Read the statements of a function with the parsers and the known values that it gets; each call once."""
        function, module = target
        assert isinstance(function, _FUNCTIONS)
        names = [argument.arg for argument in [*function.args.posonlyargs, *function.args.args]]
        bound = {**dict(zip(names, given, strict=False)), **named}
        scope = Scope(ast.Module([], []), module.scope.names)
        if caller and call:
            values = dict(zip(names[len(given) - len(call.args) :], call.args, strict=False)) | keywords_of(call)
            for name, node in values.items():
                scope.names[name] = caller.scope.value_or(node, None)
        known = repr([scope.names.get(name) for name in names])
        key = (id(function), hash(known), *(_identity(bound.get(name)) for name in names if bound.get(name)))
        depth = caller.depth + 1 if caller else 1
        if key in self._called or depth > MOST_DEPTH:
            return self._called.get(key)
        if len(self._called) == MOST_CALLS:
            self._facts.doubt(f"only the first {MOST_CALLS:,} function calls were followed")
            return None
        self._called[key] = None
        frame = Frame(module, scope, dict(bound), owner, depth=depth)
        if names and given:
            frame.names["self"] = given[0]
        self._statements(function.body, frame)
        self._called[key] = frame.result
        return frame.result

    def _add(self, node: ast.Call, frame: Frame, parser: Parser, adder: str) -> None:
        given, scope = keywords_of(node), frame.scope
        plain = [argument for argument in node.args if not isinstance(argument, ast.Starred)]
        names = [scope.value_or(argument, None) for argument in plain]
        if not names and _text(given.get("dest")):  # a positional argument that is named by dest alone
            names = [_text(given["dest"])]
        if len(given) < len(node.keywords) or len(plain) < len(node.args) or not names or None in names:
            self._facts.doubt(f"{_place(node, frame)} adds a flag whose name or settings are not known")
        if names and all(isinstance(name, str) and name for name in names):
            flag = _flag(names, given, scope, adder == "add_option")
            parser.flags += [flag] if flag else []


def _identity(value: Value) -> int:
    """Return the same number for all objects of a class: attributes are known by name, not by object."""
    return id(value.found.node) if isinstance(value, Instance) else id(value)


def _place(node: ast.expr | ast.stmt, frame: Frame) -> str:
    return f"{frame.module.shown}:{node.lineno}"


def _method(found: Found, name: str, above: bool = False) -> tuple[Found, Found] | None:
    """Return a method of the class or of its bases, and the class that it stands in; with ``above`` of its bases only."""
    for owner in lineage(found)[above:]:
        for node in owner.node.body:
            if isinstance(node, _FUNCTIONS) and node.name == name:
                return Found(node, owner.module), owner
    return None


def _flag(names: list[str], given: dict[str, ast.expr], scope: Scope, optparse: bool) -> FlagFacts | None:
    """Return the flag of one call; None for --help, --version and the like, which are no parameters."""
    optional = dotted(given.get("action")).endswith("BooleanOptionalAction")
    word = "boolean_optional" if optional else scope.value_or(given.get("action"), ...)
    if word in _NO_PARAMETERS:
        return None
    options = [name for name in names if name.startswith("-")]
    long = [name for name in options if name.startswith("--")]
    dest = _text(given.get("dest")) or (long or options or names)[0].lstrip("-").replace("-", "_").replace(".", "__")
    facts = FlagFacts(name=dest, options=options, required=not options)
    facts.action, facts.type, facts.default = _SWITCHES.get(word, _PLAIN)
    facts.dynamic = "action" in given and word is ...  # an action class of the repo usually takes a value
    if optional:
        facts.options = options + ["--no-" + option[2:] for option in long]
    kind = (_text(given.get("type")) if optparse else "") or last_name(given.get("type"))
    if TYPES.get(kind, "str") != "str":
        facts.type = TYPES[kind]
    converts = "type" in given and kind not in TYPES  # such as str.lower: more texts fit than the choices
    if "nargs" in given:
        rest = dotted(given["nargs"]).endswith(("REMAINDER", "PARSER"))
        value = "*" if rest else scope.value_or(given["nargs"], ...)
        facts.dynamic |= value is ...
        facts.nargs = value if isinstance(value, (int, str)) else None
    if facts.nargs in ("?", "*") or "default" in given:
        facts.required = False
    if "default" in given and not facts.set_default(given["default"], scope):
        facts.default_text = None if dotted(given["default"]).endswith("SUPPRESS") else facts.default_text
    if "choices" in given and not converts:
        facts.set_choices(given["choices"], scope)
    if "required" in given:
        required = scope.value_or(given["required"], ...)
        facts.required, facts.dynamic = required is True, facts.dynamic or required is ...
    facts.hidden = dotted(given.get("help")).endswith(("SUPPRESS", "SUPPRESS_HELP"))
    facts.help = str(scope.value_or(given.get("help"), ""))
    return facts


def _text(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _adds_flags(tree: ast.AST) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr in (*ADDERS, "add_parser") for node in ast.walk(tree))
