"""The executors of a repo: scripts with flags and functions with parameters, and their rows in the FLAGS of tasks.py."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpc_agent.errors import ExecutorNotFound, SpecInvalid
from hpc_agent.experiment.reading.discovery import find_executors, find_runs, function_facts, script_facts
from hpc_agent.experiment.reading.flag_facts import ExecutorFacts, FlagFacts, RunFacts

FILE_NAMES = (
    "output_file out_file outfile output_path out_path output out metrics_file metrics_path metrics_out metrics_output "
    "result_file results_file result_path results_path json_out save_path"
).split()  # fmt: skip
FOLDER_NAMES = "output_dir out_dir outdir output_folder result_dir results_dir save_dir".split()
RESULT_DIR = "$HPC_RESULT_DIR"
# The parameter that names the executor of a task.
CHOOSER = "executor"


@dataclass(frozen=True)
class Executor:
    """One executor: ``key`` is its path, or ``path:function``; ``name`` is its value of the parameter ``executor``."""

    key: str
    name: str
    framework: str
    flags: list[FlagFacts]
    complete: bool
    accepts_any: bool = False
    metrics_file: str | None = None

    @property
    def is_function(self) -> bool:
        return ":" in self.key

    @property
    def aliases(self) -> tuple[str, ...]:
        path, _, function = self.key.partition(":")
        return (self.key, self.name, path, Path(path).stem, Path(path).name, *([function] if function else []))

    @property
    def output_flag(self) -> FlagFacts | None:
        """The flag that names the file or folder that a script writes to."""
        names = () if self.is_function else (*FILE_NAMES, *FOLDER_NAMES)
        by_name = {flag.name: flag for flag in self.flags if flag.type in ("str", "path") and flag.action == "store"}
        return next((by_name[name] for name in names if name in by_name), None)


def all_executors(root: Path) -> tuple[list[Executor], list[str]]:
    """Return every registered function and every executor script of the repo, and notes."""
    runs, notes = find_runs(root)
    scripts, more_notes = find_executors(root)
    registered = {run.path for run in runs}
    found = [_of_function(f"{run.path}:{run.name}", run.name, "register_run", run) for run in runs]
    found += [_of_script(root, script) for script in scripts if script.path not in registered]
    names = [executor.name for executor in found]
    unique = [one if names.count(one.name) == 1 else replace(one, name=one.key) for one in found]
    return unique, [*notes, *more_notes]


def executor_at(root: Path, key: str) -> Executor | None:
    """Return the executor with this key; None when it does not exist. Only its file is read."""
    path, _, function = key.partition(":")
    if function:
        run = function_facts(root, path, function)
        return _of_function(key, function, "function", run) if run else None
    script = script_facts(root, path)
    if script is not None:
        return _of_script(root, script)
    return _without_facts(path) if (root / path).is_file() else None


def named_executors(root: Path, names: list[str]) -> list[Executor]:
    """Return the executors with these names (path, stem, function, or ``path:function``); all for no names.

    Raises ExecutorNotFound with the names that exist, and SpecInvalid for a name that fits several.
    """
    found, _ = all_executors(root)
    return [_named(found, name, root) for name in names] if names else found


def _named(executors: list[Executor], name: str, root: Path) -> Executor:
    plain = name.removeprefix("./")
    fitting = [e for e in executors if plain in (e.key, e.name)] or [e for e in executors if plain in e.aliases]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise SpecInvalid(
            f"{name!r} may be {' or '.join(e.key for e in fitting)}",
            field="executors",
            remediation="Name one of them in full, then call again.",
        )
    if (root / plain).is_file() and plain.endswith((".sh", ".R", ".jl", ".py")):
        return _without_facts(plain)
    close = difflib.get_close_matches(plain, [alias for e in executors for alias in e.aliases], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ExecutorNotFound(
        f"there is no executor {name!r} in {root}{hint}",
        field="executors",
        details={"found": [executor.key for executor in executors][:50]},
        remediation="See them with 'hpc-agent discover-executors' and 'hpc-agent discover-runs'.",
    )


def _of_function(key: str, name: str, framework: str, run: RunFacts) -> Executor:
    return Executor(key, name, framework, list(run.flags), True, run.accepts_any)


def _of_script(root: Path, script: ExecutorFacts) -> Executor:
    executor = Executor(script.path, script.name, script.framework, script.flags, script.complete)
    flag = executor.output_flag
    if flag is None or flag.name in FOLDER_NAMES:
        return executor
    return replace(executor, metrics_file=_metrics_file_name(root / script.path, flag))


def _without_facts(path: str) -> Executor:
    return Executor(path, Path(path).stem, "plain", [], complete=False)


def _metrics_file_name(path: Path, flag: FlagFacts) -> str | None:
    """Return metrics.json or metrics.csv, by the suffix of the flag's default, else by the script's calls."""
    suffix = Path(str(flag.default or "")).suffix.lower()
    if suffix not in (".json", ".csv", ""):
        return f"output{suffix}"
    source = path.read_text(encoding="utf-8", errors="replace")
    writes_csv = any(word in source for word in ("to_csv(", "csv.writer(", "DictWriter(", "write_csv("))
    if suffix == ".csv" or (not suffix and writes_csv and "json.dump" not in source):
        return "metrics.csv"
    return "metrics.json"


def flag_rows(executor: Executor) -> list[dict[str, Any]]:
    """Return the executor's rows of FLAGS, which .hpc/cli.py reads."""
    rows = [_flag_row(flag) for flag in executor.flags]
    for flag, row in zip(executor.flags, rows, strict=True):
        if flag is executor.output_flag:
            row["value"] = RESULT_DIR if flag.name in FOLDER_NAMES else f"{RESULT_DIR}/{executor.metrics_file}"
    return rows


def _flag_row(flag: FlagFacts) -> dict[str, Any]:
    row: dict[str, Any] = {"name": flag.name}
    long = [option for option in flag.options if option.startswith("--")]
    if flag.options:
        row["option"] = (long or flag.options)[0]
    row["type"] = flag.type
    if flag.action != "store":
        row["action"] = flag.action
    if flag.action == "boolean_optional":
        off = [option for option in long if option.startswith("--no-")]
        row["option"] = next((option for option in long if option not in off), row.get("option", ""))
        if off and off[0] != "--no-" + row["option"][2:]:
            row["off"] = off[0]
    row.update({name: getattr(flag, name) for name in ("nargs", "choices") if getattr(flag, name) is not None})
    if flag.required:
        row["required"] = True
    elif flag.default is not None:
        row["default"] = flag.default
    if flag.help:
        row["help"] = " ".join(flag.help.split())[:80]
    return row


def metrics_file_of(flags: dict[str, list[dict[str, Any]]]) -> str | None:
    """Return the name of the file that every executor of FLAGS writes its metrics to.

    None stands for the default file, and for executors that differ.
    """
    found: set[str | None] = set()
    for key, rows in flags.items():
        values = [row["value"] for row in rows if "value" in row and row["value"] != RESULT_DIR]
        found |= {Path(values[0]).name if values else None} | ({None} if ":" in key else set())
    name = found.pop() if len(found) == 1 else None
    return name if name and name.endswith((".json", ".csv")) else None
