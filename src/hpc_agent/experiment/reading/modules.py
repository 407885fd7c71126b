"""Modules of the repo as a script imports them: names are followed from file to file, and nothing is imported."""

from __future__ import annotations

import ast
import contextlib
import sys
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from hpc_agent.experiment.reading import syntax

Definition = syntax.Function | ast.ClassDef
MOST_HOPS = 12
MOST_MODULES = 40
MOST_CALLS = 20_000
_WORDS = (
    b"argv", b"Parser", b"parse_", b"parse(", b"get_args", b"click", b"typer", b"Fire", b"tyro", b"hydra", b"flags", b"docopt",
    b"CLI", b"exec(", b"Conf", b"Tap", b"plac", b"defopt", b"opts", b"options(",
)  # fmt: skip


class Found(NamedTuple):
    """A function or class, and the module that it stands in."""

    node: Definition
    module: Module


class Parsed:
    """The tree of a file, and what is the same for every script that imports it."""

    def __init__(self, tree: ast.Module, data: bytes) -> None:
        self.tree = tree
        self.reads_variables = b"environ" in data or b"getenv" in data
        self.reads_words = b"argv" in data
        self.adds_flags = any(word in data for word in (b".add_arg", b".add_option", b".add_parser"))
        # Calls of an imported file without any of these words read no command line.
        self.may_parse = any(word in data for word in _WORDS)

    @cached_property
    def imports(self) -> dict[str, str]:
        return syntax.imports_of(self.tree)

    @cached_property
    def definitions(self) -> dict[str, Definition]:
        """The functions and classes, also those inside of a function or an ``if``; those at the top level count first."""
        nodes = [node for node in ast.walk(self.tree) if isinstance(node, Definition)]
        top = [node for node in self.tree.body if isinstance(node, Definition)]
        found = {node.name: node for node in [*reversed(nodes), *top]}
        return dict(sorted(found.items(), key=lambda item: item[1].lineno))

    @cached_property
    def own_calls(self) -> list[ast.Call]:
        """The calls of the statements at the top level that also an import runs."""
        nodes = [node for node in self.tree.body if not syntax.is_guard(node)] if self.may_parse else []
        return _calls_in(nodes)


class Files:
    """The files that were read: their trees by path, and their modules by the folder of the script that imports them."""

    def __init__(self) -> None:
        self.parsed: dict[Path, Parsed | None] = {}
        self.modules: dict[Path, dict[Path, Module]] = {}
        self.readings: dict[Module, Any] = {}  # what a module reads is the same for every script that imports it

    def read(self, path: Path) -> Parsed | None:
        """Return the parsed file; None when it does not exist or is no Python."""
        if path not in self.parsed:
            self.parsed[path] = None
            if path.is_file():
                with warnings.catch_warnings(), contextlib.suppress(SyntaxError, ValueError, OSError, RecursionError):
                    warnings.simplefilter("ignore")
                    data = path.read_bytes()
                    self.parsed[path] = Parsed(ast.parse(data), data)
        return self.parsed[path]


class Module:
    """One file, with the constants and imports of its top level."""

    def __init__(self, root: Path, path: Path, parsed: Parsed, start: Path, files: Files) -> None:
        self.root, self.path, self.parsed, self.start = root, path, parsed, start
        self.tree = parsed.tree
        self._files = files
        self._loaded: dict[str, Module | None] = {}
        self._found: dict[str, Found | None] = {}
        self._made: dict[str, str] = {}
        files.modules.setdefault(start, {})[path] = self

    @classmethod
    def script(cls, root: Path, path: str, tree: ast.Module, data: bytes, files: Files) -> Module:
        """Return the module of a script, whose folder comes first on Python's path."""
        parsed = files.parsed[root / path] = Parsed(tree, data)
        return cls(root, root / path, parsed, (root / path).parent, files)

    @property
    def shown(self) -> str:
        """The path from the root."""
        return self.path.relative_to(self.root).as_posix()

    @cached_property
    def scope(self) -> syntax.Scope:
        """The constants, with those that are imported from modules of the repo."""
        origins = {name: self.origin(name) for name in self.imports}
        names = {
            name: module.own_scope.names[last]
            for name, (module, last) in origins.items()
            if module is not None and last in module.own_scope.names
        }
        return syntax.Scope(self.tree, names)

    @cached_property
    def own_scope(self) -> syntax.Scope:
        return syntax.Scope(self.tree)

    @property
    def imports(self) -> dict[str, str]:
        return self.parsed.imports

    @property
    def definitions(self) -> dict[str, Definition]:
        return self.parsed.definitions

    def full_name(self, node: ast.AST | None) -> str:
        """Return the dotted name of an expression with its import filled in: ``A(...)`` of ``from x import A`` is ``x.A``."""
        return self.full_name_of(syntax.dotted(syntax.called(node)))

    def full_name_of(self, name: str) -> str:
        first, dot, rest = name.partition(".")
        return self.imports.get(first, first) + dot + rest

    @cached_property
    def makers(self) -> dict[str, str]:
        """The full name of the call that made each object of the top level: ``typer.Typer`` for ``app = typer.Typer()``."""
        found = [
            node for node in ast.walk(self.tree) if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        ]
        return {syntax.dotted(target): self.full_name(node.value) for node in found for target in node.targets}

    def made_name(self, node: ast.AST) -> str:
        """Return the full name of an expression; the maker of an object stands for the object: ``typer.Typer.command``."""
        name = syntax.dotted(node)
        if name not in self._made:
            self._made[name] = self._made_name(name)
        return self._made[name]

    def _made_name(self, name: str) -> str:
        first, dot, rest = name.partition(".")
        owner, last = self.origin(first)
        makers = owner.makers if owner is not None else self.makers
        maker = makers.get(last if owner is not None else first)
        return maker + dot + rest if maker else self.full_name_of(name)

    def load(self, target: str) -> Module | None:
        """Return the repo's module of this dotted name (``..a`` is relative to this file); None when it is not in the repo."""
        if target not in self._loaded:
            self._loaded[target] = self._load(target)
        return self._loaded[target]

    def _load(self, target: str) -> Module | None:
        level = len(target) - len(target.lstrip("."))
        if level > len(self.path.parents):
            return None
        bases = [self.path.parents[level - 1]] if level else [self.start, self.root, self.root / "src"]
        paths = syntax.module_paths(target) or (("__init__.py",) if level else ())
        known = self._files.modules[self.start]
        for path in (base / name for base in bases for name in paths):
            if path in known:
                return known[path]
            parsed = self._files.read(path) if path.is_relative_to(self.root) else None
            if parsed is not None:
                return Module(self.root, path, parsed, self.start, self._files)
        return None

    def find(self, name: str, hops: int = MOST_HOPS) -> Found | None:
        """Return the function or class behind a dotted name, in this module or in one of the repo that it imports."""
        if name not in self._found:
            self._found[name] = self._find(name, hops)
        return self._found[name]

    def _find(self, name: str, hops: int) -> Found | None:
        if name in self.definitions:
            return Found(self.definitions[name], self)
        owner, last = self.origin(name) if hops else (None, "")
        if owner is not None and owner is not self:
            return owner.find(last, hops - 1)
        return self._star(name, hops) if hops and "." not in name else None

    def origin(self, name: str) -> tuple[Module | None, str]:
        """Return the module of the repo that an imported dotted name comes from, and its last name there."""
        first, _, rest = name.partition(".")
        module, last = _parted(self.full_name_of(name)) if first in self.imports else ("", rest)
        return self.load(module) if module else None, last

    def _star(self, name: str, hops: int) -> Found | None:
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
                module = self.load("." * node.level + (node.module or ""))
                found = module.find(name, hops - 1) if module is not None and module is not self else None
                if found:
                    return found
        return None

    @cached_property
    def neighbours(self) -> list[Module]:
        """The modules of the repo that this one imports, and the packages that they are in."""
        targets = (part for target in self.imports.values() for part in (target, _parted(target)[0]))
        return [found for target in dict.fromkeys(targets) if target and (found := self.load(target))]

    @cached_property
    def imported(self) -> list[Module]:
        """Each module of the repo that this one imports, also through others, after itself; at most MOST_MODULES."""
        found = {self.path: self}
        todo = [self]
        while todo and len(found) < MOST_MODULES:
            new = [one for one in todo.pop(0).neighbours if one.path not in found]
            found.update((one.path, one) for one in new)
            todo += new
        return list(found.values())

    @property
    def unread(self) -> list[str]:
        """The relative imports of modules that do not exist or cannot be read."""
        targets = [target for target in self.imports.values() if target.startswith(".")]
        return [target for target in targets if not self.load(target) and not self.load(_parted(target)[0])]

    @cached_property
    def uses_argv(self) -> bool:
        if not self.parsed.reads_words:
            return False
        nodes = (node for node in ast.walk(self.tree) if isinstance(node, (ast.Name, ast.Attribute)))
        return any(self.full_name(node) == "sys.argv" for node in nodes)

    @cached_property
    def started(self) -> list[StartedCall]:
        """The calls when the script starts: of its statements, its imports, and the repo's functions that they name.

        Functions are followed until there are more than MOST_CALLS.
        """
        seen: set[ast.AST] = set()
        guarded = [node for node in self.tree.body if syntax.is_guard(node)]
        others = [node for node in self.tree.body if node not in guarded]  # such as ``main()`` of another module
        found = [StartedCall(node, self) for node in _calls_in([*guarded, *others])]
        found += [StartedCall(node, one) for one in self.imported[1:] for node in one.parsed.own_calls]
        for call in found:
            if len(found) > MOST_CALLS:
                break
            for part in [call.node.func, *call.node.args, *(keyword.value for keyword in call.node.keywords)]:
                target = call.module.find(syntax.dotted(part)) if isinstance(part, (ast.Name, ast.Attribute)) else None
                if target is None or target.node in seen:
                    continue
                seen.add(target.node)
                found += [StartedCall(node, target.module) for node in _calls_in(target.node.decorator_list)]
                for one in lineage(target):
                    if one.module is not self and not one.module.parsed.may_parse:
                        continue
                    parts = one.node.body if isinstance(one.node, ast.ClassDef) else [one.node]
                    functions = [part for part in parts if isinstance(part, syntax.Function)]
                    found += [StartedCall(node, one.module) for part in functions for node in _calls_in(part.body)]
        return found

    @cached_property
    def foreign(self) -> set[str]:
        """Return the first names of the imported modules that are neither of the repo nor of Python itself."""
        names = {target.partition(".")[0] for target in self.imports.values() if not target.startswith(".")}
        return {name for name in names if name not in sys.stdlib_module_names and self.load(name) is None}


def _parted(target: str) -> tuple[str, str]:
    """Return the module and the last name of ``a.b.c``; of ``..c`` they are ``..`` and ``c``."""
    plain = target.lstrip(".")
    module, _, last = plain.rpartition(".")
    return target[: len(target) - len(plain)] + module, last


def lineage(found: Found) -> list[Found]:
    """Return a class and its bases in the repo, the nearest first."""
    classes = [found]
    for one in classes:
        bases = one.node.bases if isinstance(one.node, ast.ClassDef) else []
        classes += [base for node in bases if (base := one.module.find(syntax.dotted(node))) and base not in classes]
    return classes


def bases_of(found: Found | None) -> list[tuple[ast.expr, Module]]:
    """Return the bases of a class and of its bases in the repo, each with the module that names it; none for a function."""
    classes = lineage(found) if found else []
    return [(base, one.module) for one in classes if isinstance(one.node, ast.ClassDef) for base in one.node.bases]


class StartedCall(NamedTuple):
    """A call that a script makes when it starts, and the module that it stands in."""

    node: ast.Call
    module: Module

    @property
    def name(self) -> str:
        """The full name of the function; of a method of an object that the module makes, the maker's name comes first."""
        return self.module.made_name(self.node.func)

    @property
    def place(self) -> str:
        return f"{self.module.shown}:{self.node.lineno}"


def _calls_in(nodes: Sequence[ast.AST]) -> list[ast.Call]:
    """Return the calls in statements or expressions, without those inside of a function or a class."""
    found = []
    todo: list[ast.AST] = list(reversed(nodes))
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Call):
            found.append(node)
        if not isinstance(node, Definition):
            todo += reversed(list(ast.iter_child_nodes(node)))
    return found
