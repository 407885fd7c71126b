"""Executors of an interview's entry point: a registered function, any function of a module, a shell command in a wrapper."""

from __future__ import annotations

import keyword
import string
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from hpc_agent.contract.envelope import did_you_mean
from hpc_agent.errors import ExecutorNotFound, SpecInvalid
from hpc_agent.experiment.grid.literals import literal
from hpc_agent.experiment.reading.discovery import find_executors
from hpc_agent.experiment.reading.executors import Executor, executor_at, named_executors
from hpc_agent.experiment.reading.flag_facts import FlagFacts
from hpc_agent.experiment.reading.syntax import module_paths
from hpc_agent.experiment.writing.tasks_file import sign
from hpc_agent.experiment_kit.registered_functions import option_of
from hpc_agent.state.repo_files import RepoLayout

Identifier = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,59}\Z")]


class RegisterRun(msgspec.Struct, tag="register_run", tag_field="kind", forbid_unknown_fields=True):
    """A function with @register_run, by its name."""

    run_name: Annotated[str, Meta(description="the name of its run, or of the function")]


class PythonModule(msgspec.Struct, tag="python_module", tag_field="kind", forbid_unknown_fields=True):
    """Any function of a module of the repo, such as ``fit`` of ``pkg.models``. The module is not imported."""

    module: Annotated[
        str, Meta(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z", description="dotted name, from the repo or its src/")
    ]
    function: Annotated[Identifier, Meta(description="a function at its top level")] = "main"


class ShellCommand(msgspec.Struct, tag="shell_command", tag_field="kind", forbid_unknown_fields=True):
    """A command with ``{param}`` in its words, started without a shell. ``signature`` gives each parameter its type."""

    run_name: Annotated[Identifier, Meta(description="name of the wrapper and its function")]
    argv: Annotated[list[str], Meta(min_length=1, description="the words of the command; {parameter} is filled in")]
    signature: Annotated[
        dict[Identifier, Literal["str", "int", "float", "bool"]], Meta(description="type of each parameter")
    ]


EntryPoint = RegisterRun | PythonModule | ShellCommand


def executor_of(repo: RepoLayout, point: EntryPoint) -> tuple[Executor, dict[Path, str]]:
    """Return the executor of an entry point, and path -> text of the wrapper that a shell command needs.

    Raises ExecutorNotFound for a function that does not exist, SpecInvalid for a command whose parameters do not fit.
    """
    if isinstance(point, RegisterRun):
        return named_executors(repo.root, [point.run_name])[0], {}
    if isinstance(point, ShellCommand):
        return _wrapped(repo, point)
    places = [base + path for path in module_paths(point.module) for base in ("", "src/")]
    place = next((place for place in places if (repo.root / place).is_file()), None)
    if place is None:
        message, details = f"there is no module {point.module} in {repo.root}", {"looked_for": places}
        modules = {found.path.removesuffix(".py").replace("/", ".") for found in find_executors(repo.root)[0]}
        remedy = did_you_mean(point.module, modules) + "See what there is with 'hpc-agent discover-executors'."
        raise ExecutorNotFound(message, field="entry_point.module", details=details, remediation=remedy)
    found = executor_at(repo.root, f"{place}:{point.function}")
    if found is None:
        message = f"{place} has no function {point.function}()"
        remedy = f"Name a top-level function of {place}, then run 'hpc-agent interview' again."
        raise ExecutorNotFound(message, field="entry_point.function", remediation=remedy)
    return found, {}


def _wrapped(repo: RepoLayout, point: ShellCommand) -> tuple[Executor, dict[Path, str]]:
    used = {name for word in point.argv for name in _fields(word)}
    known = set(point.signature)
    if unmatched := sorted(used - known) or sorted(known - used):
        name = unmatched[0]
        problem = f"{{{name}}} is not in the signature" if name in used else f"{name!r} of the signature is not used"
        remedy = "Make signature name exactly the {parameters} of argv, then run 'hpc-agent interview' again."
        raise SpecInvalid(f"argv: {problem}", field="entry_point.argv", remediation=remedy)
    for name in (*point.signature, point.run_name):
        if keyword.iskeyword(name):
            raise SpecInvalid(f"{name!r} is a word of Python and cannot be a name", field="entry_point.signature")
    path = f".hpc/wrappers/{point.run_name}.py"
    flags = [FlagFacts(name=n, options=[option_of(n)], type=t, required=True) for n, t in point.signature.items()]
    parameters = ", ".join(f"{name}: {kind}" for name, kind in point.signature.items())
    given = ", ".join(f"{name}={name}" for name in point.signature)
    text = sign(f'''"""Runs a command for each task; {{names}} in its words are the task's parameters."""

import subprocess

from hpc_agent.experiment_kit import register_run

ARGV = {literal(point.argv, 0, 7)}


@register_run
def {point.run_name}({parameters}):
    subprocess.run([word.format({given}) for word in ARGV], check=True)
''')
    executor = Executor(f"{path}:{point.run_name}", point.run_name, "shell_command", flags, True)
    return executor, {repo.root / path: text}


def _fields(word: str) -> list[str]:
    try:
        parts = list(string.Formatter().parse(word))
    except ValueError as error:
        raise SpecInvalid(f"argv: {word!r}: {error}", field="entry_point.argv") from error
    for _, name, spec, conversion in parts:
        if name is not None and (not name.isidentifier() or spec or conversion):
            problem = f"argv: {{{name}}} in {word!r} is not the plain name of a parameter"
            raise SpecInvalid(problem, field="entry_point.argv")
    return [name for _, name, _, _ in parts if name is not None]
