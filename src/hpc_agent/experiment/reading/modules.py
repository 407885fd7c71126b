"""Modules of the repo as a script imports them: names are followed from file to file, and nothing is imported."""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from hpc_agent.experiment.reading import syntax

Definition = syntax.Function | ast.ClassDef
MOST_HOPS = 12


class Found(NamedTuple):
    """A function or class, and the module that it stands in."""

    node: Definition
    module: Module


class Module:
    """One file, with the constants and imports of its top level."""

    def __init__(self, root: Path, path: Path, tree: ast.Module, start: Path, known: dict[Path, Module]) -> None:
        self.root, self.path, self.tree, self.start = root, path, tree, start
        self._known = known
        known[path] = self

    @classmethod
    def script(cls, root: Path, path: str, tree: ast.Module) -> Module:
        """Return the module of a script, whose folder comes first on Python's path."""
        return cls(root, root / path, tree, (root / path).parent, {})

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
        first, dot, rest = name.partition(".")
        owner, last = self.origin(first)
        makers = owner.makers if owner is not None else self.makers
        maker = makers.get(last if owner is not None else first)
        return maker + dot + rest if maker else self.full_name_of(name)

    def load(self, target: str) -> Module | None:
        """Return the repo's module of this dotted name (``..a`` is relative to this file); None when it is not in the repo."""
        level = len(target) - len(target.lstrip("."))
        if level > len(self.path.parents):
            return None
        bases = [self.path.parents[level - 1]] if level else [self.start, self.root, self.root / "src"]
        paths = syntax.module_paths(target) or (("__init__.py",) if level else ())
        for path in (base / name for base in bases for name in paths):
            if path in self._known:
                return self._known[path]
            if path.is_file() and path.is_relative_to(self.root):
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        return Module(self.root, path, ast.parse(path.read_bytes()), self.start, self._known)
                except (SyntaxError, ValueError, OSError, RecursionError):
                    return None
        return None

    def find(self, name: str, hops: int = MOST_HOPS) -> Found | None:
        """Return the function or class behind a dotted name, in this module or in one of the repo that it imports."""
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

    def imported(self) -> Iterator[Module]:
        """Yield this module and each module of the repo that it imports, also through others, once."""
        seen: set[Path] = set()
        todo = [self]
        while todo:
            module = todo.pop(0)
            if module.path in seen:
                continue
            seen.add(module.path)
            yield module
            targets = (part for target in module.imports.values() for part in (target, _parted(target)[0]))
            todo += [found for target in dict.fromkeys(targets) if target and (found := module.load(target))]

    @cached_property
    def started(self) -> list[StartedCall]:
        """Return the calls when the script starts: of its statements, its imports, and the repo's functions that they name."""
        found: list[StartedCall] = []
        seen: set[ast.AST] = set()
        bodies: list[tuple[list[ast.stmt], Module]] = [
            ([node for node in one.tree.body if one is self or not syntax.is_guard(node)], one)
            for one in self.imported()
        ]
        for body, owner in bodies:
            for node in _outside_functions(body):
                if not isinstance(node, ast.Call):
                    continue
                found.append(StartedCall(node, owner))
                for part in [node.func, *node.args, *(keyword.value for keyword in node.keywords)]:
                    target = owner.find(syntax.dotted(part)) if isinstance(part, (ast.Name, ast.Attribute)) else None
                    if target is not None and target.node not in seen:
                        seen.add(target.node)
                        decorators = [ast.Expr(one) for one in target.node.decorator_list]
                        is_class = isinstance(target.node, ast.ClassDef)
                        functions = (
                            [one for one in target.node.body if isinstance(one, syntax.Function)]
                            if is_class
                            else [target.node]
                        )
                        inner = [node for function in functions for node in function.body]
                        bodies.append(([*decorators, *inner], target.module))
        return found

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


def _outside_functions(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Yield each node of the statements that does not stand inside of a function or a class."""
    todo: list[ast.AST] = list(body)
    while todo:
        node = todo.pop(0)
        if not isinstance(node, Definition):
            yield node
            todo[:0] = ast.iter_child_nodes(node)
