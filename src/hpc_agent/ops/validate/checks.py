"""The checks themselves, on a frozen run; each gives findings. None but ``check_remote_inputs`` asks the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpc_agent.experiment.grid.tasks_file_facts import read_static
from hpc_agent.experiment.reading.entries import CHOOSER, entry_for
from hpc_agent.experiment.reading.parameter_checks import check_kwargs
from hpc_agent.experiment.writing.tasks_file import CLI
from hpc_agent.ops.plan.evidence import Evidence
from hpc_agent.ops.submit.freeze import Frozen
from hpc_agent.ops.validate.findings import Finding
from hpc_agent.state.journal import RunRecord

MOST_TASKS = 20_000
PATH_NAMES = ("_path", "_file", "_dir", "_csv", "_folder")
OUTPUT_WORDS = ("out", "result", "save", "log", "checkpoint", "ckpt", "metrics")
SIGNATURES, DATASET = "validate-executor-signatures", "validate-input-dataset"
HISTORY, STOCHASTIC = "validate-walltime-against-history", "validate-stochastic-marker"
TOO_GENEROUS = 20


def sampled_tasks(frozen: Frozen) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and kwargs of at most 20,000 tasks, spread over all of them."""
    return frozen.tasks.every(max(1, -(-frozen.tasks.total // MOST_TASKS)))


def check_signatures(frozen: Frozen, command: str) -> list[Finding]:
    """Every task's kwargs against the executor as it is now; only where .hpc/cli.py starts it by its flags."""
    static = read_static(frozen.repo.tasks)
    if not static.flags or f".hpc/{CLI}" not in command:
        return [Finding(SIGNATURES, "info", "not_checked", "the command passes the parameters on by itself")]
    entries = {}
    findings: dict[str, Finding] = {}
    for name, key in zip(static.executors, static.flags, strict=True):
        entry = entry_for(frozen.repo.root, key)
        if entry is None:
            message = f"FLAGS of tasks.py names {key}, which is not in the repo"
            return [Finding(SIGNATURES, "error", "executor_missing", message, "Run 'hpc-agent build-tasks-py' again.")]
        entries[name] = entries[key] = entry
    only = next(iter(entries.values()))
    for task, kwargs in sampled_tasks(frozen):
        name = str(kwargs.get(CHOOSER, ""))
        if name and name not in entries:
            message = f"task {task}: there is no executor {name!r} in FLAGS"
            fix = f"Use one of {', '.join(static.executors)}."
            return [Finding(SIGNATURES, "error", "executor_missing", message, fix, {"task": task, "executor": name})]
        for problem in check_kwargs(entries.get(name, only), kwargs):
            evidence = {**problem.evidence, "first_task": task, "field": "tasks.py"}
            finding = Finding(SIGNATURES, problem.severity, problem.code, problem.message, problem.fix, evidence)
            findings.setdefault(problem.message, finding)
    return list(findings.values())[:20]


def check_inputs(frozen: Frozen) -> list[Finding]:
    """Files that kwargs name by a relative path: they must travel with the code or be shared."""
    files = frozen.tree.files()
    folders = {str(parent) for name in files for parent in Path(name).parents}
    findings: dict[str, Finding] = {}
    for task, name, value in named_paths(frozen):
        path = value.removeprefix("./")
        if not path.startswith("/") and path not in files and path not in folders and not _shared(frozen, path):
            here = (frozen.repo.root / path).exists()
            why = "is left out of what is pushed" if here else "does not exist"
            fix = (
                f"Take it out of .hpcignore, or add --shared-paths {path.partition('/')[0]}."
                if here
                else "Correct the path."
            )
            message = f"'{name}' of task {task} is {value}, which {why}"
            findings.setdefault(value, Finding(DATASET, "error", "input_missing", message, fix, {"task": task}))
    return list(findings.values())[:20]


def check_remote_inputs(frozen: Frozen) -> list[Finding]:
    """Files that kwargs name by an absolute path: they must be on the cluster, which is asked for all of them at once."""
    named = [(task, name, path) for task, name, path in named_paths(frozen) if path.startswith("/")]
    if not named:
        return []
    there = frozen.node.bootstrap("paths", {"paths": sorted({path for _, _, path in named})})["paths"]
    findings: dict[str, Finding] = {}
    for task, name, path in named:
        if path in there and not there[path].get("exists"):
            message = f"'{name}' of task {task} is {path}, which is not on '{frozen.cluster.name}'"
            fix = "Copy it there, or correct the path."
            findings.setdefault(path, Finding(DATASET, "error", "input_missing", message, fix, {"task": task}))
    return list(findings.values())[:20]


def named_paths(frozen: Frozen) -> Iterator[tuple[int, str, str]]:
    """(task, parameter, path) for parameters that clearly name an input: data_path, config_file, train_csv ..."""
    seen: set[tuple[str, str]] = set()
    for task, kwargs in sampled_tasks(frozen):
        for name, value in kwargs.items():
            lower = name.lower()
            names_input = lower.endswith(PATH_NAMES) and not any(word in lower for word in OUTPUT_WORDS)
            if not names_input or not isinstance(value, str) or not value or "$" in value or "://" in value:
                continue
            if (name, value) not in seen:
                seen.add((name, value))
                yield task, name, value


def _shared(frozen: Frozen, path: str) -> bool:
    return any(path == name or path.startswith(name + "/") for name in frozen.shared)


def check_history(walltime_sec: int | None, evidence: Evidence | None, pack: int = 1) -> list[Finding]:
    """The asked walltime against what such tasks took."""
    if evidence is None:
        message = "no task of this executor was measured on this cluster yet"
        fix = "Try one task first: 'hpc-agent submit-and-verify'."
        return [Finding(HISTORY, "info", "no_history", message, fix)]
    needed = evidence.worst_sec * pack
    facts = {
        "field": "resources.walltime_sec",
        "asked": walltime_sec,
        "needed_sec": round(needed, 1),
        "origin": evidence.time_origin,
    }
    if walltime_sec is None:
        return []
    fix = f"Ask for --walltime-sec {evidence.walltime_sec(pack)}, or leave it out: then it follows the measurements."
    if walltime_sec < needed:
        message = (
            f"walltime {walltime_sec} s is less than the {needed:.0f} s that such tasks take ({evidence.time_origin})"
        )
        return [Finding(HISTORY, "error", "walltime_too_short", message, fix, facts)]
    if walltime_sec < evidence.task_sec * pack:
        message = f"walltime {walltime_sec} s leaves little room: such tasks take up to {needed:.0f} s"
        return [Finding(HISTORY, "warning", "walltime_tight", message, fix, facts)]
    if walltime_sec > TOO_GENEROUS * evidence.walltime_sec(pack):
        message = (
            f"walltime {walltime_sec} s is far more than the {needed:.0f} s that such tasks take, and waits longer"
        )
        return [Finding(HISTORY, "warning", "walltime_generous", message, fix, facts)]
    return []


def check_stochastic(campaign_id: str | None, cmd_sha: str, runs: list[RunRecord], mine: str | None) -> list[Finding]:
    """An earlier iteration of the campaign had these very parameters: an optimiser that picks the same point again."""
    if not campaign_id:
        return []
    same = [
        run.run_id for run in runs if run.campaign_id == campaign_id and run.cmd_sha == cmd_sha and run.run_id != mine
    ]
    if not same:
        return []
    message = f"campaign {campaign_id} has run these very parameters before, as {same[0]}"
    fix = "Add a seed or an iteration number to the parameters if it is meant; else the strategy has come to its end."
    return [Finding(STOCHASTIC, "warning", "parameters_repeated", message, fix, {"runs": same[:10]})]
