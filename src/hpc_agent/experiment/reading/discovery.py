"""Discovery of scripts with flags, functions with @register_run, and reducers in a repo, by reading its source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from hpc_agent.experiment.reading import syntax
from hpc_agent.experiment.reading.console_scripts import console_scripts
from hpc_agent.experiment.reading.environment import environment_of
from hpc_agent.experiment.reading.flag_facts import ExecutorFacts, ReducerFacts, RunFacts
from hpc_agent.experiment.reading.libraries import Library, may_read, read_parsers, unknown_reader, uses_of
from hpc_agent.experiment.reading.modules import MOST_CALLS, MOST_MODULES, Definition, Files, Module, StartedCall
from hpc_agent.experiment.reading.pushed_tree import Source, python_sources
from hpc_agent.experiment.reading.returns import RIGHT, returns_metrics
from hpc_agent.experiment.reading.signature_flags import flags_of_function, read_fire, signature_sha
from hpc_agent.experiment.reading.starts import Start, module_of
from hpc_agent.infra.transport import quote

EXECUTOR_FOLDERS = ("executors", "scripts", "src", "experiments", "bin")
REDUCER_FOLDERS = ("aggregators", "reducers", "scoring", "scripts", "src")
# A file without any of these words is no script.
EXECUTOR_WORDS = tuple(
    b"__main__ argv environ getenv parse_ click typer ire docopt CLI flags exec( .cli .run from_cli from_dotlist automain".split()
)
# The calls by which a script without a guard reads its command line.
STARTERS = (
    "parse_args parse_known_args parse_args_into_dataclasses parse run Fire main cli app docopt CLI auto_cli LightningCLI "
    "from_cli from_dotlist invoke call exec tapify"
).split()
_AUTOMAIN = "automain"  # the decorator of sacred that starts a function
# A line that may act at the top level; a file without one is not parsed.
_ACT_LINE = re.compile(rb"^(?:(?:for|while|with)\b|[A-Za-z_][\w.]*\()", re.MULTILINE)
_MOST_NAMED = 10
_READS = ("os.environ", "os.getenv", "sys.argv")
_ACTS = (ast.Expr, ast.For, ast.While, ast.With, ast.Try)
NO_EXECUTORS = re.compile(
    r"(^|/)(test_[^/]*|[^/]*_test|conftest|setup|noxfile|fabfile|tasks|__init__)\.py$|(^|/)tests?/"
)
CONSOLE = "a-command.py"  # stands for the script that an installation would make
REGISTER = "register_run"
# The names under which the kit that travels with a run has the decorator.
REGISTERS = [f"hpc_agent{part}.{REGISTER}" for part in (".experiment_kit", ".experiment_kit.registered_functions", "")]
REGISTER_LINE = f"from hpc_agent.experiment_kit import {REGISTER}"
_REDUCES = re.compile(r"aggregat|reduc|evaluat|score|scoring|metric|rmse|mae|summar|collect")
# What only a reducer of cluster-reduce has: each counts more than all names together usually do.
_SIGNS, _SIGN_SCORE = ("HPC_TASKS", "HPC_AGGREGATED_OUTPUT"), 10


def find_executors(root: Path, search_dirs: list[str] | None = None) -> tuple[list[ExecutorFacts], list[str]]:
    """Return the scripts that can be started, and notes about files that cannot be read.

    The whole repo is searched, or ``search_dirs``. Scripts of the root come first, then those of executors/, scripts/,
    src/, experiments/ and bin/.
    """
    notes: list[str] = []
    files, found, others = Files(), [], []
    for source in _scripts(root, search_dirs or [""], notes, ()):
        has_word = any(word in source.data for word in EXECUTOR_WORDS)
        if has_word and (facts := executor_facts(source, notes, files)):
            found.append(facts)
        elif _ends_with_an_act(source):
            others.append(source.path)
    paths = {facts.path for facts in found}
    notes += [
        f"the command {command} of {file} is {function}() of {path}: name it as an executor by '{command}'"
        for file, command, path, function in console_scripts(root)
        if path not in paths and not search_dirs
    ]
    if others:
        named = ", ".join(others[:_MOST_NAMED]) + (", ..." if len(others) > _MOST_NAMED else "")
        command = quote(["hpc-agent", "build-tasks-py", "--executors", others[0]])
        told = "Python file(s) with statements that act at the top level, and with no parameter in the source"
        notes.append(f"not listed: {len(others)} {told}: {named}; name one: {command}")
    return sorted(found, key=_order), list(dict.fromkeys(notes))


def _ends_with_an_act(source: Source) -> bool:
    """Return True when the last statement of a file does something: a call, a loop, ``with``; modules end with definitions."""
    if b"register_run" in source.data or not _ACT_LINE.search(source.data):
        return False
    last = next((tree.body[-1] for _, tree in source.cells([]) if tree.body), None)
    return isinstance(last, (ast.For, ast.While, ast.With)) or (
        isinstance(last, ast.Expr) and isinstance(last.value, ast.Call)
    )


def _order(facts: ExecutorFacts) -> tuple[int, str]:
    first, slash, _ = facts.path.partition("/")
    return (0 if not slash else 1 if first in EXECUTOR_FOLDERS else 2, facts.path)


def _scripts(root: Path, folders: list[str], notes: list[str], words: tuple[bytes, ...]) -> Iterator[Source]:
    """Yield each script of the folders once, without tests, notebooks and files of tools."""
    seen: set[str] = set()
    for folder in folders:
        start = PurePosixPath(folder.strip("/")).as_posix().removeprefix(".")
        for source in python_sources(root, notes, words, start):
            if source.path not in seen and not source.is_notebook and not NO_EXECUTORS.search(source.path):
                seen.add(source.path)
                yield source


def script_facts(root: Path, path: str) -> ExecutorFacts | None:
    """Return the facts of one script; None when it does not exist or cannot be started."""
    is_file = (root / path).is_file()
    return executor_facts(Source(root, path, (root / path).read_bytes()), []) if is_file else None


def named_script_facts(root: Path, path: str, start: Start | None = None) -> ExecutorFacts:
    """Return the facts of a script that somebody named, although nothing at its top level may show that it can be started.

    ``start`` calls one of its functions, as a command does that the repo would install.
    """
    notes: list[str] = []
    if start is not None:
        source = Source(root, f"{start.path}/{CONSOLE}".lstrip("/"), start.words[-1].encode())
        facts = executor_facts(source, notes, asked=True)
        if facts:
            facts.name, facts.path = Path(path).stem, path
            return facts
    facts = executor_facts(Source(root, path, (root / path).read_bytes()), notes, asked=True) or ExecutorFacts(
        name=Path(path).stem, path=path, framework="plain", has_main_guard=False
    )
    for note in notes:
        facts.doubt(note)
    return facts


def executor_facts(
    source: Source, notes: list[str], files: Files | None = None, asked: bool = False
) -> ExecutorFacts | None:
    """Return the facts of a script; None when nothing starts at its top level, unless somebody ``asked`` for the script."""
    tree = next((tree for _, tree in source.cells(notes)), None)
    if tree is None:
        return None
    files = files or Files()
    module = Module.script(source.root, source.path, tree, source.data, files)
    guard = any(syntax.is_guard(node) for node in tree.body)
    reads = asked or guard or _reads_at_top(module)
    if not reads and not _calls_a_starter(tree):
        return None
    uses = uses_of(module)
    if not reads and not uses:
        return None
    name = Path(source.path).parent.name if Path(source.path).stem == "__main__" else Path(source.path).stem
    framework = uses[0][0].name if uses else "plain"
    doc = syntax.first_line(tree)
    facts = ExecutorFacts(name=name, path=source.path, framework=framework, has_main_guard=guard, doc=doc)
    facts.module = module_of(source.root, source.path)
    if uses:
        _read_flags(module, facts, uses)
    elif unknown := unknown_reader(module):
        facts.framework = unknown.name.partition(".")[0]
        facts.spelling = "--{name}"
        read_parsers(module, facts)
        facts.doubt(f"{unknown.place}: {unknown.name}() may read parameters, which are not listed")
    if not uses and len(module.imported) >= MOST_MODULES:
        facts.doubt(f"more than {MOST_MODULES} modules of the repo are imported, of which the others were not read")
    if len(module.started) > MOST_CALLS:
        facts.doubt(f"it makes more than {MOST_CALLS} calls when it starts, of which the others were not read")
    if not uses and module.unread:
        facts.doubt(f"it imports {module.unread[0]}, which cannot be read")
    _read_modules(module, facts, bool(uses), files)
    return facts


def _read_modules(module: Module, facts: ExecutorFacts, uses_library: bool, files: Files) -> None:
    """Add the variables of the environment, and other readings, of the script and of the modules that it imports."""
    for one in module.imported:
        if not uses_library and one.uses_argv:
            facts.doubt(f"{one.shown} reads words of the command line from sys.argv")
        if one not in files.readings:
            files.readings[one] = may_read(one), environment_of(one)
        reads_words, (variables, reasons) = files.readings[one]
        if not uses_library and one is not module and reads_words:
            facts.doubt(f"{one.shown} reads a command line; the source does not show when")
        known = [flag.options for flag in facts.environment]
        facts.environment += [flag for flag in variables if flag.options not in known]
        for reason in reasons:
            facts.doubt(f"{one.shown}: {reason}")


def _read_flags(module: Module, facts: ExecutorFacts, uses: list[tuple[Library, StartedCall]]) -> None:
    """Read the flags of the first library. Of the others, and of one without a reader, the parameters are not known."""
    library, call = uses[0]
    facts.spelling = library.spelling
    if library.reader is None:
        facts.doubt(f"{call.place}: the parameters that {library.name} reads are not listed")
    else:
        library.reader(module, facts)
    for other, call in uses[1:]:
        if other.reader != read_parsers or library.reader == read_fire:
            facts.spelling = other.spelling if other.name == "omegaconf" else facts.spelling
            facts.doubt(f"{call.place}: {other.name} reads parameters too, which are not listed")


def _calls_a_starter(tree: ast.Module) -> bool:
    """Return True when a statement at the top level calls a function that is named like one that parses or starts."""
    at_top = [node for node in tree.body if isinstance(node, (ast.Expr, ast.Assign))]
    called = {syntax.last_name(node) for top in at_top for node in ast.walk(top) if isinstance(node, ast.Call)}
    marks = {syntax.last_name(mark) for function in syntax.functions_of(tree) for mark in function.decorator_list}
    return not called.isdisjoint(STARTERS) or _AUTOMAIN in marks


def _reads_at_top(module: Module) -> bool:
    """Return True when statements at the top level read parameters from the environment or sys.argv, and act on them."""
    own = [node for node in module.tree.body if not isinstance(node, Definition)]
    acts = any(isinstance(node, _ACTS) and not isinstance(getattr(node, "value", None), ast.Constant) for node in own)
    parts = (part for node in own for part in ast.walk(node)) if acts else ()
    names = {module.full_name(part) for part in parts if isinstance(part, (ast.Name, ast.Attribute))}
    return not names.isdisjoint(_READS) and "globals" not in names


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
            metrics = returns_metrics(function)
            if metrics is False:
                problem = problem or f"{function.name}() returns rows or text; {RIGHT}"
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
                returns_metrics=metrics,
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

    The variables of cluster-reduce count most, then a script's name, folder and functions. Outside of the usual folders
    only the files of the root are read.
    """
    notes: list[str] = []
    folders = [folder for folder in REDUCER_FOLDERS if (root / folder).is_dir()]
    found = []
    for source in _scripts(root, [*folders, ""], notes, ()):
        name, folder = Path(source.path).stem, source.path.split("/")[0]
        if "/" in source.path and folder not in folders:
            continue
        matches = [f"uses {sign}" for sign in _SIGNS if sign.encode() in source.data]
        signs_score = _SIGN_SCORE * len(matches)
        matches += [f"the name has '{word}'" for word in dict.fromkeys(_REDUCES.findall(name.lower()))]
        if not matches and not _REDUCES.search(source.data.decode("latin-1")):
            continue
        for _, tree in source.cells(notes):
            functions = [node.name for node in syntax.functions_of(tree) if _REDUCES.match(node.name.lower())]
            matches += [f"function {function}()" for function in functions]
            matches += [f"in {folder}/"] if folder in ("aggregators", "reducers", "scoring") else []
            doc, score = syntax.first_line(tree), len(matches) + signs_score
            if matches:
                found.append(ReducerFacts(name=name, path=source.path, matches=matches, docstring=doc, score=score))
    return sorted(found, key=lambda facts: (-facts.score, facts.path)), list(dict.fromkeys(notes))
