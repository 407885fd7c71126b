"""Discovery of scripts with flags, functions with @register_run, and reducers in a repo, by reading its source."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from hpc_agent.experiment.reading import syntax
from hpc_agent.experiment.reading.argparse_flags import ParserReader
from hpc_agent.experiment.reading.click_flags import read_click
from hpc_agent.experiment.reading.environment import environment_of
from hpc_agent.experiment.reading.flag_facts import ExecutorFacts, ReducerFacts, RunFacts
from hpc_agent.experiment.reading.modules import Module
from hpc_agent.experiment.reading.pushed_tree import Source, python_sources
from hpc_agent.experiment.reading.signature_flags import (
    flags_of_function,
    read_fire,
    read_typer,
    signature_sha,
)

EXECUTOR_FOLDERS = ("executors", "scripts", "src", "experiments", "bin")
REDUCER_FOLDERS = ("aggregators", "reducers", "scoring", "scripts", "src")
EXECUTOR_WORDS = (b"__main__", b"argparse", b"optparse", b"click", b"typer", b"fire")
PARSERS: dict[str, str] = {"argparse": "ArgumentParser", "optparse": "OptionParser"}
READERS: dict[str, Callable[[Module, ExecutorFacts], None]] = {
    "click": read_click, "typer": read_typer, "fire": read_fire,
}  # fmt: skip
STARTERS = ("parse_args", "parse_known_args", "run", "Fire", "main", "cli", "app")
NO_EXECUTORS = re.compile(
    r"(^|/)(test_[^/]*|[^/]*_test|conftest|setup|noxfile|fabfile|tasks|__init__)\.py$|(^|/)tests?/"
)
REGISTER = "register_run"
# The names under which the kit that travels with a run has the decorator.
REGISTERS = [f"hpc_agent{part}.{REGISTER}" for part in (".experiment_kit", ".experiment_kit.registered_functions", "")]
REGISTER_LINE = f"from hpc_agent.experiment_kit import {REGISTER}"
_REDUCES = re.compile(r"aggregat|reduc|evaluat|score|scoring|metric|rmse|mae|summar|collect")


def find_executors(root: Path, search_dirs: list[str] | None = None) -> tuple[list[ExecutorFacts], list[str]]:
    """Return the scripts that can be started, sorted by path, and notes about files that cannot be read.

    The folders executors/, scripts/, src/, experiments/ and bin/ are searched, and the whole repo when they hold none.
    """
    notes: list[str] = []
    found: list[ExecutorFacts] = []
    usual = [folder for folder in EXECUTOR_FOLDERS if (root / folder).is_dir()]
    for folders in [search_dirs] if search_dirs else [usual, [""]]:
        sources = _scripts(root, folders, notes, EXECUTOR_WORDS)
        found = [facts for source in sources if (facts := executor_facts(source, notes))]
        if found:
            break
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
    is_file = (root / path).is_file()
    return executor_facts(Source(root, path, (root / path).read_bytes()), []) if is_file else None


def named_script_facts(root: Path, path: str) -> ExecutorFacts:
    """Return the facts of a script that somebody named, although nothing at its top level may show that it can be started."""
    notes: list[str] = []
    source = Source(root, path, (root / path).read_bytes())
    facts = executor_facts(source, notes, asked=True) or ExecutorFacts(
        name=Path(path).stem, path=path, framework="plain", has_main_guard=False
    )
    for note in notes:
        facts.doubt(note)
    return facts


def executor_facts(source: Source, notes: list[str], asked: bool = False) -> ExecutorFacts | None:
    """Return the facts of a script; None when nothing starts at its top level, unless somebody ``asked`` for the script."""
    tree = next((tree for _, tree in source.cells(notes)), ast.Module([], []))
    framework = _framework(tree)
    guard = any(syntax.is_guard(node) for node in tree.body)
    at_top = ast.Module([node for node in tree.body if isinstance(node, (ast.Expr, ast.Assign))], [])
    called_at_top = {syntax.last_name(node) for node in ast.walk(at_top) if isinstance(node, ast.Call)}
    if not asked and not guard and (framework == "plain" or called_at_top.isdisjoint(STARTERS)):
        return None
    name, doc = Path(source.path).stem, syntax.first_line(tree)
    facts = ExecutorFacts(name=name, path=source.path, framework=framework, has_main_guard=guard, doc=doc)
    module = Module.script(source.root, source.path, tree)
    if framework in PARSERS:
        facts.spelling = "--{name}"
        ParserReader(facts, module).read()
    elif framework in READERS:
        READERS[framework](module, facts)
    elif b"argv" in source.data:
        facts.doubt("words of the command line are read from sys.argv")
    for one in module.imported():
        variables, reasons = environment_of(one.tree, one.scope)
        facts.environment += [flag for flag in variables if flag.options not in [f.options for f in facts.environment]]
        for reason in reasons:
            facts.doubt(f"{one.path.relative_to(source.root).as_posix()}: {reason}")
    return facts


def _framework(tree: ast.Module) -> str:
    """Return the library that parses the command line: the file imports and uses it."""
    imported = {name.partition(".")[0] for name in syntax.imports_of(tree).values()}
    used = {syntax.dotted(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = {name.rpartition(".")[2] for name in used} | {name.partition(".")[0] for name in used}
    parsers = (name for name in PARSERS if name in imported and not names.isdisjoint((name, PARSERS[name])))
    return next(chain(parsers, (name for name in READERS if name in imported)), "plain")


def find_runs(root: Path) -> tuple[list[RunFacts], list[str]]:
    """Return the functions with @register_run in scripts, modules and notebooks, sorted by path and line, and notes."""
    notes: list[str] = []
    sources = python_sources(root, notes, (b"register_run",))
    found = [run for source in sources for run, is_registered in _functions_of(source, notes) if is_registered]
    found.sort(key=lambda run: (run.path, run.cell or 0, run.line))
    return found, [*notes, *(run.problem for run in found if run.problem)]


def function_facts(root: Path, path: str, name: str) -> RunFacts | None:
    """Return a top-level function of a file, registered or not, by its own name or the name of its @register_run."""
    if not (root / path).is_file():
        return None
    found = list(_functions_of(Source(root, path, (root / path).read_bytes()), []))
    registered = [run for run, is_registered in found if is_registered and name in (run.name, run.function)]
    return next(iter([*registered, *(run for run, _ in found if run.function == name)]), None)


def _functions_of(source: Source, notes: list[str]) -> Iterator[tuple[RunFacts, bool]]:
    """Yield each top-level function, and True when it has @register_run."""
    imports: dict[str, str] = {}  # a name that the file defines itself stands for itself, as ``.name``
    names: dict[str, object] = {}
    parts = Path(source.path).with_suffix("").parts
    importable = not source.is_notebook and all(part.isidentifier() for part in parts)
    for cell, tree in source.cells(notes):
        imports.update({**{name: f".{name}" for name in syntax.defined_in(tree)}, **syntax.imports_of(tree)})
        scope = syntax.Scope(tree)
        names = scope.names = {**names, **scope.names}
        for function in syntax.functions_of(tree):
            options, problem = _run_options(function, imports)
            flags, accepts_any = flags_of_function(function, scope)
            run = RunFacts(
                name=str((options or {}).get("name") or function.name),
                function=function.name,
                path=source.path,
                module=".".join(parts) if importable else None,
                cell=cell,
                line=function.lineno,
                gpu=bool((options or {}).get("gpu")),
                doc=syntax.first_line(function),
                run_signature_sha=signature_sha(flags),
                flags=flags,
                accepts_any=accepts_any,
                problem=f"{source.path}, line {function.lineno}: {problem}" if problem else None,
            )
            yield run, options is not None


def _run_options(function: syntax.Function, imports: dict[str, str]) -> tuple[dict[str, object] | None, str]:
    """Return the options of @register_run, and what is wrong with its import; None when the function is not decorated."""
    for decorator in function.decorator_list:
        dotted = syntax.dotted(syntax.called(decorator))
        first, dot, rest = dotted.partition(".")
        name = imports.get(first, first) + dot + rest
        stars = [full[:-1] + REGISTER for full in imports.values() if name == REGISTER and full.endswith(".*")]
        name = next(iter([star for star in stars if star in REGISTERS] + stars), name)
        if name == REGISTER or (name.startswith("hpc_agent.") and name.endswith(f".{REGISTER}")):
            given = syntax.keywords_of(decorator) if isinstance(decorator, ast.Call) else {}
            options: dict[str, object] = {
                key: node.value for key, node in given.items() if isinstance(node, ast.Constant)
            }
            told = f"{name} is not imported" if name == REGISTER else f"there is no {name}"
            return options, "" if name in REGISTERS else f"{told}; write '{REGISTER_LINE}'"
    return None, ""


def find_reducers(root: Path) -> tuple[list[ReducerFacts], list[str]]:
    """Return the scripts that seem to reduce results, the most likely first, and notes.

    A script's name, folder and functions count. Outside of the usual folders only the files of the root are read.
    """
    notes: list[str] = []
    folders = [folder for folder in REDUCER_FOLDERS if (root / folder).is_dir()]
    found = []
    for source in _scripts(root, [*folders, ""], notes, ()):
        name, folder = Path(source.path).stem, source.path.split("/")[0]
        if "/" in source.path and folder not in folders:
            continue
        matches = [f"the name has '{word}'" for word in dict.fromkeys(_REDUCES.findall(name.lower()))]
        if not matches and not _REDUCES.search(source.data.decode("latin-1")):
            continue
        for _, tree in source.cells(notes):
            functions = [node.name for node in syntax.functions_of(tree) if _REDUCES.match(node.name.lower())]
            matches += [f"function {function}()" for function in functions]
            matches += [f"in {folder}/"] if folder in ("aggregators", "reducers", "scoring") else []
            doc, score = syntax.first_line(tree), len(matches)
            if matches:
                found.append(ReducerFacts(name=name, path=source.path, matches=matches, docstring=doc, score=score))
    return sorted(found, key=lambda facts: (-facts.score, facts.path)), list(dict.fromkeys(notes))
