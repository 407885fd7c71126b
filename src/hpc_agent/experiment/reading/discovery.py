"""What a repo has to run: scripts with flags, functions decorated with @register_run, reducers. Nothing is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from hpc_agent.experiment.reading.argparse_flags import ParserReading
from hpc_agent.experiment.reading.decorated_flags import functions, read_click, read_fire, read_typer
from hpc_agent.experiment.reading.flag_facts import ExecutorFacts, ReducerFacts, RunFacts, Scope, dotted, first_line
from hpc_agent.experiment.reading.signature_flags import Function, flags_of_function, signature_sha
from hpc_agent.experiment.reading.sources import Source, python_sources

EXECUTOR_FOLDERS = ("executors", "scripts", "src", "experiments", "bin")
REDUCER_FOLDERS = ("aggregators", "reducers", "scoring", "scripts", "src")
EXECUTOR_WORDS = (b"__main__", b"argparse", b"optparse", b"click", b"typer", b"fire")
FRAMEWORKS = ("argparse", "optparse", "click", "typer", "fire")
NO_EXECUTORS = re.compile(
    r"(^|/)(test_[^/]*|[^/]*_test|conftest|setup|noxfile|fabfile|tasks|__init__)\.py$|(^|/)tests?/"
)
_REDUCES = re.compile(r"aggregat|reduc|evaluat|score|scoring|metric|rmse|mae|summar|collect")


def find_executors(root: Path, search_dirs: list[str] | None = None) -> tuple[list[ExecutorFacts], list[str]]:
    """Scripts that can be started, sorted by path, and what was noticed on the way.

    Looked for in executors/, scripts/, src/, experiments/ and bin/ where one of them has any, else in the whole repo.
    """
    notes: list[str] = []
    found = list(_executors(root, search_dirs or [d for d in EXECUTOR_FOLDERS if (root / d).is_dir()], notes))
    if not found and not search_dirs:
        found = list(_executors(root, [""], notes))
    return sorted(found, key=lambda facts: facts.path), list(dict.fromkeys(notes))


def _executors(root: Path, folders: list[str], notes: list[str]) -> Iterator[ExecutorFacts]:
    seen = set()
    for folder in folders:
        for source in python_sources(root, notes, EXECUTOR_WORDS, folder.strip("/")):
            if source.path in seen or source.is_notebook or NO_EXECUTORS.search(source.path):
                continue
            seen.add(source.path)
            facts = executor_facts(source, notes)
            if facts is not None:
                yield facts


def script_facts(root: Path, path: str) -> ExecutorFacts | None:
    """One script; None when it is not there or cannot be started."""
    full = root / path
    if not full.is_file():
        return None
    return executor_facts(Source(root, path, full.read_bytes()), [])


def executor_facts(source: Source, notes: list[str]) -> ExecutorFacts | None:
    tree = _parsed(source, notes)
    if tree is None:
        return None
    framework = _framework(tree)
    guard = any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in tree.body)
    starts = guard or (framework and _calls_at_top(tree))
    if not starts:
        return None
    facts = ExecutorFacts(
        name=Path(source.path).stem, path=source.path, framework="plain", has_main_guard=guard, doc=first_line(tree)
    )
    scope = Scope(tree)
    if framework in ("argparse", "optparse"):
        reading = ParserReading(scope, lambda name: _follow(source, tree, scope, name))
        reading.read(tree)
        facts.framework = framework  # type: ignore[assignment]
        facts.flags, facts.subcommands, facts.complete = reading.flags, reading.subcommands, reading.complete
    elif framework:
        facts.framework = framework  # type: ignore[assignment]
        {"click": read_click, "typer": read_typer, "fire": read_fire}[framework](tree, scope, facts)
    else:
        facts.complete = "argv" not in source.text()
    return facts


def _framework(tree: ast.Module) -> str:
    """The library that parses the command line: imported, and used in this very file."""
    imported = {name.partition(".")[0] for name in _imports(tree).values()}
    used = {dotted(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = {name.rpartition(".")[2] for name in used} | {name.partition(".")[0] for name in used}
    wanted = {"argparse": "ArgumentParser", "optparse": "OptionParser"}
    for framework in FRAMEWORKS:
        if framework in imported and (framework not in wanted or wanted[framework] in names or framework in names):
            return framework
    return ""


def _calls_at_top(tree: ast.Module) -> bool:
    """Whether the module does something when it is run: a call or an assignment from parse_args at its top level."""
    calls = [
        node for statement in tree.body if isinstance(statement, (ast.Expr, ast.Assign)) for node in ast.walk(statement)
    ]
    words = ("parse_args", "parse_known_args", "run", "Fire", "main", "cli", "app")
    return any(isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in words for node in calls)


def _imports(tree: ast.Module) -> dict[str, str]:
    """Local name -> what it stands for, in full."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name] = f"{'.' * node.level}{node.module or ''}.{alias.name}"
    return found


def _follow(source: Source, tree: ast.Module, scope: Scope, name: str) -> list[tuple[ast.FunctionDef, Scope]]:
    """The function of the repo behind a call: of this module, or of one that it imports from the repo."""
    plain = name.rpartition(".")[2]
    here = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == plain]
    if here:
        return [(here[0], scope)]
    target = _imports(tree).get(name.partition(".")[0], "")
    module = target.rpartition(".")[0] if "." not in name else target
    other = _module_file(source, module)
    if other is None:
        return []
    try:
        imported = ast.parse(other.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return []
    found = [node for node in imported.body if isinstance(node, ast.FunctionDef) and node.name == plain]
    return [(found[0], Scope(imported))] if found else []


def _module_file(source: Source, module: str) -> Path | None:
    folder = (source.root / source.path).parent
    level = len(module) - len(module.lstrip("."))
    bases = [folder, source.root, source.root / "src"]
    if level:
        bases = [folder.parents[level - 2] if level > 1 else folder]
    parts = [part for part in module.strip(".").split(".") if part]
    for base in bases:
        for path in (base.joinpath(*parts).with_suffix(".py"), base.joinpath(*parts, "__init__.py")):
            if parts and path.is_file():
                return path
    return None


def _parsed(source: Source, notes: list[str]) -> ast.Module | None:
    """A script's tree; None, and a note, when it cannot be read."""
    modules = _modules(source, notes)
    return modules[0][1] if modules else None


def _modules(source: Source, notes: list[str]) -> list[tuple[int | None, ast.Module]]:
    """Each cell or the whole file; nothing, and a note, when it cannot be read."""
    try:
        return source.modules()
    except SyntaxError as error:
        notes.append(f"{source.path}:{error.lineno or 0}: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        notes.append(f"{source.path}: {error}")
    return []


# -- registered functions --------------------------------------------------------------------------------------------


def find_runs(root: Path) -> tuple[list[RunFacts], list[str]]:
    """Functions decorated with @register_run, in scripts, modules and notebooks alike, sorted by path and line."""
    notes: list[str] = []
    found = []
    for source in python_sources(root, notes, (b"register_run",)):
        found += runs_of(source, _modules(source, notes))
    return sorted(found, key=lambda run: (run.path, run.cell or 0, run.line)), notes


def runs_of(source: Source, modules: list[tuple[int | None, ast.Module]]) -> list[RunFacts]:
    imports: dict[str, str] = {}
    names: dict[str, object] = {}
    found = []
    for cell, tree in modules:
        imports.update(_imports(tree))
        scope = Scope(tree)
        scope.names = {**names, **scope.names}
        names = scope.names
        for function in functions(tree):
            options = _registered(function, imports)
            if options is not None:
                found.append(_run(source, cell, function, scope, options))
    return found


def _registered(function: Function, imports: dict[str, str]) -> dict[str, object] | None:
    """The decorator's options; None when there is no such decorator."""
    for decorator in function.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        first, _, rest = dotted(called).partition(".")
        whole = f"{imports.get(first, first)}.{rest}" if rest else imports.get(first, first)
        if whole.rpartition(".")[2] != "register_run" or not whole.startswith("hpc_agent"):
            continue
        keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
        return {k.arg: k.value.value for k in keywords if k.arg and isinstance(k.value, ast.Constant)}
    return None


def _run(source: Source, cell: int | None, function: Function, scope: Scope, options: dict[str, object]) -> RunFacts:
    flags, anything = flags_of_function(function, scope)
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
        accepts_any=anything,
    )


def function_facts(root: Path, path: str, name: str) -> RunFacts | None:
    """Any top-level function of a file, registered or not, by its own name or that of its @register_run."""
    full = root / path
    if not full.is_file():
        return None
    source = Source(root, path, full.read_bytes())
    modules = _modules(source, [])
    for run in runs_of(source, modules):
        if name in (run.name, run.function):
            return run
    for cell, tree in modules:
        for function in functions(tree):
            if function.name == name:
                return _run(source, cell, function, Scope(tree), {})
    return None


# -- reducers --------------------------------------------------------------------------------------------------------


def find_reducers(root: Path) -> tuple[list[ReducerFacts], list[str]]:
    """Scripts that look as if they reduced results, the likeliest first: by their name, folder and functions."""
    notes: list[str] = []
    folders = [folder for folder in REDUCER_FOLDERS if (root / folder).is_dir()]
    found: dict[str, ReducerFacts] = {}
    for folder in [*folders, ""]:
        for source in python_sources(root, notes, (), folder):
            if source.is_notebook or source.path in found or NO_EXECUTORS.search(source.path):
                continue
            if not folder and "/" in source.path:
                continue  # of the root, its own files only
            facts = _reducer(source, notes)
            if facts is not None:
                found[source.path] = facts
    return sorted(found.values(), key=lambda facts: (-facts.score, facts.path)), list(dict.fromkeys(notes))


def _reducer(source: Source, notes: list[str]) -> ReducerFacts | None:
    stem = Path(source.path).stem.lower()
    matches = [f"the name has '{word}'" for word in dict.fromkeys(_REDUCES.findall(stem))]
    if not matches and not _REDUCES.search(source.text()):
        return None
    tree = _parsed(source, notes)
    if tree is None:
        return None
    matches += [f"function {node.name}()" for node in functions(tree) if _REDUCES.match(node.name.lower())]
    if source.path.split("/")[0] in ("aggregators", "reducers", "scoring"):
        matches.append(f"in {source.path.split('/')[0]}/")
    if not matches:
        return None
    return ReducerFacts(
        name=Path(source.path).stem, path=source.path, matches=matches, docstring=first_line(tree), score=len(matches)
    )
