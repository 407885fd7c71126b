"""What a task may start: scripts with flags, functions with parameters; found in the repo, and how tasks.py spells them."""

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
# The parameter that chooses among several executors.
CHOOSER = "executor"


@dataclass(frozen=True)
class Entry:
    """One executor: ``key`` is its path, or ``path:function``; ``name`` what the parameter ``executor`` calls it."""

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


def find_entries(root: Path) -> tuple[list[Entry], list[str]]:
    """Every registered function and every executor script of the repo, and what was noticed on the way."""
    runs, notes = find_runs(root)
    scripts, more = find_executors(root)
    registered = {run.path for run in runs}
    entries = [_of_run(run) for run in runs] + [_of_script(root, s) for s in scripts if s.path not in registered]
    return _unique(entries), [*notes, *more]


def entry_for(root: Path, key: str) -> Entry | None:
    """The entry of one key, as its source is now; None when it is not there. Only that file is read."""
    path, _, function = key.partition(":")
    if function:
        run = function_facts(root, path, function)
        return Entry(key, function, "function", run.flags, True, run.accepts_any) if run else None
    script = script_facts(root, path)
    if script is not None:
        return _of_script(root, script)
    return Entry(path, Path(path).stem, "plain", [], complete=False) if (root / path).is_file() else None


def choose_entries(root: Path, names: list[str]) -> list[Entry]:
    """The entries that are named (path, stem, function, or ``path:function``); all when none is named.

    Raises ExecutorNotFound with the names there are, and SpecInvalid for a name that fits several.
    """
    entries, _ = find_entries(root)
    if not names:
        return entries
    return [_named(entries, name, root) for name in names]


def _named(entries: list[Entry], name: str, root: Path) -> Entry:
    plain = name.removeprefix("./")
    fitting = [e for e in entries if plain in (e.key, e.name)] or [e for e in entries if plain in _aliases(e)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise SpecInvalid(
            f"{name!r} may be {' or '.join(e.key for e in fitting)}",
            field="executors",
            remediation="Name one of them in full, then call again.",
        )
    if (root / plain).is_file() and plain.endswith((".sh", ".R", ".jl", ".py")):
        return Entry(plain, Path(plain).stem, "plain", [], complete=False)
    close = difflib.get_close_matches(plain, [alias for e in entries for alias in _aliases(e)], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ExecutorNotFound(
        f"there is no executor {name!r} in {root}{hint}",
        field="executors",
        details={"found": [entry.key for entry in entries][:50]},
        remediation="See them with 'hpc-agent discover-executors' and 'hpc-agent discover-runs'.",
    )


def _aliases(entry: Entry) -> tuple[str, ...]:
    path, _, function = entry.key.partition(":")
    return (entry.key, entry.name, path, Path(path).stem, Path(path).name, *([function] if function else []))


def _unique(entries: list[Entry]) -> list[Entry]:
    """Short names where they are unique, else the whole key."""
    names = [entry.name for entry in entries]
    return [entry if names.count(entry.name) == 1 else replace(entry, name=entry.key) for entry in entries]


def _of_run(run: RunFacts) -> Entry:
    return Entry(f"{run.path}:{run.name}", run.name, "register_run", list(run.flags), True, run.accepts_any)


def _of_script(root: Path, script: ExecutorFacts) -> Entry:
    entry = Entry(script.path, script.name, script.framework, script.flags, script.complete)
    found = output_flag(entry)
    if found is None or found.name in FOLDER_NAMES:
        return entry
    return replace(entry, metrics_file=_file_name(root / script.path, found))


def output_flag(entry: Entry) -> FlagFacts | None:
    """The flag that names the file or folder a script writes to, if it has one."""
    by_name = {flag.name: flag for flag in entry.flags if flag.type in ("str", "path") and flag.action == "store"}
    return next((by_name[name] for name in (*FILE_NAMES, *FOLDER_NAMES) if name in by_name), None)


def _file_name(path: Path, flag: FlagFacts) -> str | None:
    """What a task's file is called: metrics.json or metrics.csv, going by the default, else by how the script writes."""
    suffix = Path(str(flag.default or "")).suffix.lower()
    if suffix not in (".json", ".csv", ""):
        return f"output{suffix}"
    source = path.read_text(encoding="utf-8", errors="replace")
    writes_csv = any(word in source for word in ("to_csv(", "csv.writer(", "DictWriter(", "write_csv("))
    if suffix == ".csv" or (not suffix and writes_csv and "json.dump" not in source):
        return "metrics.csv"
    return "metrics.json"


def flags_of(entry: Entry) -> list[dict[str, Any]]:
    """The entry of FLAGS: what .hpc/cli.py needs, and what a reader wants to know."""
    output = None if entry.is_function else output_flag(entry)
    rows = []
    for flag in entry.flags:
        row = _flag(flag)
        if flag is output:
            row["value"] = RESULT_DIR if flag.name in FOLDER_NAMES else f"{RESULT_DIR}/{entry.metrics_file}"
        rows.append(row)
    return rows


def _flag(flag: FlagFacts) -> dict[str, Any]:
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
    for name in ("nargs", "choices"):
        if getattr(flag, name) is not None:
            row[name] = getattr(flag, name)
    if flag.required:
        row["required"] = True
    elif flag.default is not None:
        row["default"] = flag.default
    if flag.help:
        row["help"] = " ".join(flag.help.split())[:80]
    return row


def metrics_file_of(flags: dict[str, list[dict[str, Any]]]) -> str | None:
    """The file that every executor of FLAGS writes its metrics to; None where it is the default, or they differ."""
    found = set()
    for key, rows in flags.items():
        values = [row["value"] for row in rows if "value" in row and row["value"] != RESULT_DIR]
        found.add(Path(values[0]).name if values else None)
        if ":" in key:
            found.add(None)
    if len(found) != 1:
        return None
    [name] = found
    return name if name and name.endswith((".json", ".csv")) else None
