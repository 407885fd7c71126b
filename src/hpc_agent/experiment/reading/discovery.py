"""Discovery of scripts with flags, functions with @register_run, and reducers in a repo, by reading its source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from hpc_agent.experiment.reading.argparse_flags import ParserReader
from hpc_agent.experiment.reading.flag_facts import ExecutorFacts, ReducerFacts, RunFacts
from hpc_agent.experiment.reading.python_sources import Cell, Source, python_sources
from hpc_agent.experiment.reading.signature_flags import (
    flags_of_function,
    read_click,
    read_fire,
    read_typer,
    signature_sha,
)
from hpc_agent.experiment.reading.syntax import (
    Function,
    Scope,
    called,
    dotted,
    first_line,
    functions_of,
    imports_of,
    keywords_of,
    module_paths,
)

EXECUTOR_FOLDERS = ("executors", "scripts", "src", "experiments", "bin")
REDUCER_FOLDERS = ("aggregators", "reducers", "scoring", "scripts", "src")
EXECUTOR_WORDS = (b"__main__", b"argparse", b"optparse", b"click", b"typer", b"fire")
Framework = Literal["argparse", "optparse", "click", "typer", "fire"]
FRAMEWORKS: dict[Framework, str] = {
    "argparse": "ArgumentParser", "optparse": "OptionParser", "click": "", "typer": "", "fire": "",
}  # fmt: skip
STARTERS = ("parse_args", "parse_known_args", "run", "Fire", "main", "cli", "app")
NO_EXECUTORS = re.compile(
    r"(^|/)(test_[^/]*|[^/]*_test|conftest|setup|noxfile|fabfile|tasks|__init__)\.py$|(^|/)tests?/"
)
_REDUCES = re.compile(r"aggregat|reduc|evaluat|score|scoring|metric|rmse|mae|summar|collect")


def find_executors(root: Path, search_dirs: list[str] | None = None) -> tuple[list[ExecutorFacts], list[str]]:
    """Return the scripts that can be started, sorted by path, and notes about files that cannot be read.

    The folders executors/, scripts/, src/, experiments/ and bin/ are searched, and the whole repo when they hold none.
    """
    notes: list[str] = []

    def facts_in(folders: list[str]) -> list[ExecutorFacts]:
        sources = _scripts(root, folders, notes, EXECUTOR_WORDS)
        return [facts for source in sources if (facts := executor_facts(source, notes))]

    found = facts_in(search_dirs or [folder for folder in EXECUTOR_FOLDERS if (root / folder).is_dir()])
    if not found and not search_dirs:
        found = facts_in([""])
    return sorted(found, key=lambda facts: facts.path), list(dict.fromkeys(notes))


def _scripts(root: Path, folders: list[str], notes: list[str], words: tuple[bytes, ...]) -> Iterator[Source]:
    """Yield each script of the folders once, without tests, notebooks and files of tools."""
    seen: set[str] = set()
    for folder in folders:
        for source in python_sources(root, notes, words, folder.strip("/")):
            if source.path not in seen and not source.is_notebook and not NO_EXECUTORS.search(source.path):
                seen.add(source.path)
                yield source


def script_facts(root: Path, path: str) -> ExecutorFacts | None:
    """Return the facts of one script; None when it does not exist or cannot be started."""
    source = Source.at(root, path)
    return executor_facts(source, []) if source else None


def executor_facts(source: Source, notes: list[str]) -> ExecutorFacts | None:
    """Return the facts of a script; None when nothing starts at its top level."""
    tree = _parsed(source, notes)
    if tree is None:
        return None
    framework = _framework(tree)
    guard = any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in tree.body)
    if not guard and not (framework and _calls_at_top(tree)):
        return None
    facts = ExecutorFacts(
        name=Path(source.path).stem,
        path=source.path,
        framework=framework or "plain",
        has_main_guard=guard,
        doc=first_line(tree),
    )
    scope = Scope(tree)
    if framework in ("argparse", "optparse"):
        reader = ParserReader(scope, lambda name: _find_functions(source, tree, scope, name))
        reader.read(tree)
        facts.flags, facts.subcommands, facts.complete = reader.flags, reader.subcommands, reader.complete
    elif framework:
        {"click": read_click, "typer": read_typer, "fire": read_fire}[framework](tree, scope, facts)
    else:
        facts.complete = "argv" not in source.text()
    return facts


def _framework(tree: ast.Module) -> Framework | None:
    """Return the library that parses the command line: the file imports and uses it."""
    imported = {name.partition(".")[0] for name in imports_of(tree).values()}
    used = {dotted(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = {name.rpartition(".")[2] for name in used} | {name.partition(".")[0] for name in used}
    for framework, parser in FRAMEWORKS.items():
        if framework in imported and (not parser or parser in names or framework in names):
            return framework
    return None


def _calls_at_top(tree: ast.Module) -> bool:
    """Return True when the module calls a parser or a main function at its top level."""
    statements = [node for node in tree.body if isinstance(node, (ast.Expr, ast.Assign))]
    calls = [node for statement in statements for node in ast.walk(statement) if isinstance(node, ast.Call)]
    return any(dotted(call.func).rpartition(".")[2] in STARTERS for call in calls)


def _find_functions(source: Source, tree: ast.Module, scope: Scope, name: str) -> list[tuple[ast.FunctionDef, Scope]]:
    """Return the function behind a call: of this module, or of a module of the repo that it imports."""
    plain = name.rpartition(".")[2]
    here = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == plain]
    if here:
        return [(here[0], scope)]
    target = imports_of(tree).get(name.partition(".")[0], "")
    path = _module_file(source, target if "." in name else target.rpartition(".")[0])
    try:
        imported = ast.parse(path.read_bytes()) if path else ast.Module([], [])
    except (SyntaxError, ValueError, OSError):
        return []
    found = [node for node in imported.body if isinstance(node, ast.FunctionDef) and node.name == plain]
    return [(found[0], Scope(imported))] if found else []


def _module_file(source: Source, module: str) -> Path | None:
    """Return the repo's file of a module; None for a library's module."""
    folder = (source.root / source.path).parent
    level = len(module) - len(module.lstrip("."))
    bases = [folder, source.root, source.root / "src"]
    if level:
        bases = [folder.parents[level - 2] if level > 1 else folder]
    files = (base / path for base in bases for path in module_paths(module))
    return next((path for path in files if path.is_file()), None)


def _parsed(source: Source, notes: list[str]) -> ast.Module | None:
    """Return the tree of a script; None, and a note, when it cannot be read."""
    cells = _cells(source, notes)
    return cells[0][1] if cells else None


def _cells(source: Source, notes: list[str]) -> list[Cell]:
    """Return the trees of a source; none, and a note, when it cannot be read."""
    try:
        return source.cells()
    except SyntaxError as error:
        notes.append(f"{source.path}:{error.lineno or 0}: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        notes.append(f"{source.path}: {error}")
    return []


# -- registered functions --------------------------------------------------------------------------------------------


def find_runs(root: Path) -> tuple[list[RunFacts], list[str]]:
    """Return the functions with @register_run in scripts, modules and notebooks, sorted by path and line, and notes."""
    notes: list[str] = []
    found = []
    for source in python_sources(root, notes, (b"register_run",)):
        found += _runs_of(source, _cells(source, notes))
    return sorted(found, key=lambda run: (run.path, run.cell or 0, run.line)), notes


def _runs_of(source: Source, cells: list[Cell]) -> list[RunFacts]:
    imports: dict[str, str] = {}
    names: dict[str, object] = {}
    found = []
    for cell, tree in cells:
        imports.update(imports_of(tree))
        scope = Scope(tree)
        names = scope.names = {**names, **scope.names}
        for function in functions_of(tree):
            options = _run_options(function, imports)
            if options is not None:
                found.append(_run(source, cell, function, scope, options))
    return found


def _run_options(function: Function, imports: dict[str, str]) -> dict[str, object] | None:
    """Return the options of @register_run; None when the function does not have this decorator."""
    for decorator in function.decorator_list:
        first, dot, rest = dotted(called(decorator)).partition(".")
        name = imports.get(first, first) + dot + rest
        if name.startswith("hpc_agent") and name.endswith(".register_run"):
            given = keywords_of(decorator) if isinstance(decorator, ast.Call) else {}
            return {key: node.value for key, node in given.items() if isinstance(node, ast.Constant)}
    return None


def _run(source: Source, cell: int | None, function: Function, scope: Scope, options: dict[str, object]) -> RunFacts:
    flags, accepts_any = flags_of_function(function, scope)
    parts = Path(source.path).with_suffix("").parts
    importable = not source.is_notebook and all(part.isidentifier() for part in parts)
    return RunFacts(
        name=str(options.get("name") or function.name),
        function=function.name,
        path=source.path,
        module=".".join(parts) if importable else None,
        cell=cell,
        line=function.lineno,
        gpu=bool(options.get("gpu")),
        doc=first_line(function),
        run_signature_sha=signature_sha(flags),
        flags=flags,
        accepts_any=accepts_any,
    )


def function_facts(root: Path, path: str, name: str) -> RunFacts | None:
    """Return a top-level function of a file, registered or not, by its own name or the name of its @register_run."""
    source = Source.at(root, path)
    if source is None:
        return None
    cells = _cells(source, [])
    for run in _runs_of(source, cells):
        if name in (run.name, run.function):
            return run
    for cell, tree in cells:
        for function in functions_of(tree):
            if function.name == name:
                return _run(source, cell, function, Scope(tree), {})
    return None


# -- reducers --------------------------------------------------------------------------------------------------------


def find_reducers(root: Path) -> tuple[list[ReducerFacts], list[str]]:
    """Return the scripts that seem to reduce results, the most likely first, and notes.

    A script's name, folder and functions count. Outside of the usual folders only the files of the root are read.
    """
    notes: list[str] = []
    folders = [folder for folder in REDUCER_FOLDERS if (root / folder).is_dir()]
    sources = _scripts(root, [*folders, ""], notes, ())
    usual = (source for source in sources if "/" not in source.path or source.path.split("/")[0] in folders)
    found = [facts for source in usual if (facts := _reducer(source, notes))]
    return sorted(found, key=lambda facts: (-facts.score, facts.path)), list(dict.fromkeys(notes))


def _reducer(source: Source, notes: list[str]) -> ReducerFacts | None:
    name, folder = Path(source.path).stem, source.path.split("/")[0]
    matches = [f"the name has '{word}'" for word in dict.fromkeys(_REDUCES.findall(name.lower()))]
    if not matches and not _REDUCES.search(source.text()):
        return None
    tree = _parsed(source, notes)
    if tree is None:
        return None
    matches += [f"function {node.name}()" for node in functions_of(tree) if _REDUCES.match(node.name.lower())]
    matches += [f"in {folder}/"] if folder in ("aggregators", "reducers", "scoring") else []
    if not matches:
        return None
    return ReducerFacts(name=name, path=source.path, matches=matches, docstring=first_line(tree), score=len(matches))
