"""Check a frozen run; each check returns findings. Only ``check_remote_inputs`` asks the cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from hpc_agent.campaign.space import key_of
from hpc_agent.campaign.tagged import read_prior
from hpc_agent.contract.primitive import Result
from hpc_agent.errors import ConfigInvalid, SpecInvalid
from hpc_agent.experiment.grid.tasks_file_facts import read_tasks_file
from hpc_agent.experiment.reading.executors import CHOOSER, Executor, executor_at, started_scripts
from hpc_agent.experiment.reading.kit_imports import ALLOWED, not_carried
from hpc_agent.experiment.reading.parameters import check_kwargs
from hpc_agent.experiment.reading.pushed_tree import MAX_BYTES
from hpc_agent.experiment.reading.starts import INTERPRETERS
from hpc_agent.experiment.series.axes_file import path_of, read_axes
from hpc_agent.experiment.writing.tasks_file import CLI
from hpc_agent.experiment_kit.axis import data_axis, evaluate_rows
from hpc_agent.infra.throughput import turns
from hpc_agent.infra.transport import quote
from hpc_agent.node.shared.ranges import encode_ranges
from hpc_agent.node.shared.task_environment import is_reserved
from hpc_agent.ops.run.evidence import FEW_ROWS, Evidence
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.run.freeze import FrozenRun
from hpc_agent.ops.run.planned_run import PlannedRun
from hpc_agent.state.journal import Journal, RunRecord
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.world import World

Severity = Literal["error", "warning", "info"]


class Finding(msgspec.Struct, frozen=True):
    """One observation of a validator."""

    validator: str
    severity: Severity
    code: str
    message: str
    suggested_fix: str = ""
    evidence: dict[str, Any] = {}


class ValidationResult(Result):
    overall: Annotated[Literal["pass", "warn", "fail"], doc("the worst finding decides; infos do not count")]
    findings: list[Finding]


def verdict(findings: list[Finding]) -> Literal["pass", "warn", "fail"]:
    """Return the verdict over all findings: the worst one decides."""
    severities = {finding.severity for finding in findings}
    return "fail" if "error" in severities else "warn" if "warning" in severities else "pass"


def result_of(findings: list[Finding]) -> ValidationResult:
    """Return the result of one validator. Raises SpecInvalid for an error among the findings."""
    refuse(findings)
    return ValidationResult(overall=verdict(findings), findings=findings)


def refuse(findings: list[Finding], see: str = "All findings: 'hpc-agent validate-campaign'.") -> None:
    """Raise SpecInvalid with all findings when one of them is an error; ``see`` ends its remediation."""
    first = next((finding for finding in findings if finding.severity == "error"), None)
    if first is not None:
        raise SpecInvalid(
            first.message,
            field=str(first.evidence.get("field") or first.validator),
            remediation=f"{first.suggested_fix} {see}".strip(),
            details={"findings": msgspec.to_builtins(findings)[:50]},
        )


MOST_TASKS = 20_000
FEW_TASKS = 200  # enough to see which scripts the tasks start
PATH_NAMES = ("_path", "_file", "_dir", "_csv", "_folder")
OUTPUT_WORDS = ("out", "result", "save", "log", "checkpoint", "ckpt", "metrics")
SIGNATURES, DATASET = "validate-executor-signatures", "validate-input-dataset"
HISTORY, STOCHASTIC = "validate-walltime-against-history", "validate-stochastic-marker"
LOCAL_VALIDATORS = [SIGNATURES, DATASET, HISTORY, STOCHASTIC]
SERIES = "axes-file"
SCHEDULER = "scheduler"
# Words of a program that reads all parameters.
READ_ALL = ("HPC_KW_JSON", "read_kw_env")
TOO_GENEROUS = 20


def sampled_tasks(frozen: FrozenRun) -> Iterator[tuple[int, dict[str, Any]]]:
    """Return number and parameters of at most 20,000 tasks, spread over all of them."""
    return frozen.tasks.every(max(1, -(-frozen.tasks.total // MOST_TASKS)))


def check_signatures(frozen: FrozenRun) -> list[Finding]:
    """Compare every task's parameters with the executor's flags, or with what a command of its own passes on."""
    static = read_tasks_file(frozen.repo.tasks)
    if not static.flags or f".hpc/{CLI}" not in frozen.request.executor:
        return _check_command(frozen)
    entries, rows = {}, {}
    findings: dict[str, Finding] = {}
    files = frozen.tree.files()
    for name, key in zip(static.executors, static.flags, strict=True):
        entry = executor_at(frozen.repo.root, key)
        if entry is None or key.partition(":")[0] not in files:
            where = "in the repo" if entry is None else "among the files that would be pushed"
            message = f"FLAGS of tasks.py names {key}, which is not {where}"
            return [Finding(SIGNATURES, "error", "executor_missing", message, "Run 'hpc-agent build-tasks-py' again.")]
        entries[name] = entries[key] = entry
        rows[key] = static.flags[key]
    only = next(iter(entries.values()))
    for task, kwargs in sampled_tasks(frozen):
        name = str(kwargs.get(CHOOSER, ""))
        if name and name not in entries:
            message = f"task {task}: there is no executor {name!r} in FLAGS"
            fix = f"Use one of {', '.join(static.executors)}."
            return [Finding(SIGNATURES, "error", "executor_missing", message, fix, {"task": task, "executor": name})]
        entry = entries.get(name, only)
        for problem in check_kwargs(entry, kwargs, rows[entry.key]):
            evidence = {**problem.evidence, "first_task": task, "field": "tasks.py"}
            finding = Finding(SIGNATURES, problem.severity, problem.code, problem.message, problem.fix, evidence)
            findings.setdefault(problem.message, finding)
    return list(findings.values())[:20]


def _check_command(frozen: FrozenRun) -> list[Finding]:
    """Find parameters that the command does not name, and that neither its script nor another file of the repo reads."""
    command, root = frozen.request.executor, frozen.repo.root
    words = set(re.findall(r"\w+", command))
    unnamed: dict[tuple[str, str], int] = {}  # script and parameter -> the first task
    tasks = () if "HPC_KW_JSON" in words else sampled_tasks(frozen)
    for task, kwargs, script in started_scripts(command, tasks, root):
        for name in kwargs:
            if name not in ("halo", "ahead") and words.isdisjoint(_variables(name)):
                unnamed.setdefault((script, name), task)
    entries = {script: executor_at(root, script) for script, _ in unnamed}
    unread = [
        (entry, name, task)
        for (script, name), task in unnamed.items()
        if (entry := entries[script]) is not None and not _reads(entry, name)
    ]
    read = _words_of(frozen, {word for _, name, _ in unread for word in _variables(name)}) if unread else set()
    found = [
        _not_read(frozen, entry, name, task)
        for entry, name, task in unread
        if read.isdisjoint((*_variables(name), *READ_ALL))
    ]
    said = "the command passes the parameters on by itself"
    return found[:20] or [Finding(SIGNATURES, "info", "not_checked", said)]


def _variables(name: str) -> list[str]:
    """Return the variables in which a parameter arrives."""
    return [f"HPC_KW_{name.upper()}", *([] if is_reserved(name) else [name.upper()])]


def _reads(entry: Executor, name: str) -> bool:
    return entry.accepts_any or any(flag.options[0][1:] in _variables(name) for flag in entry.environment)


def _words_of(frozen: FrozenRun, variables: set[str]) -> set[str]:
    """Return those of the variables, and of READ_ALL, that stand in a script or notebook of the repo."""
    pattern = re.compile(rf"\b({'|'.join(sorted({*variables, *READ_ALL}))})\b".encode())
    kinds, sizes = (*INTERPRETERS, ".ipynb", ""), frozen.tree.sizes
    named = [
        file for file in frozen.tree.files() if Path(file).suffix.lower() in kinds and not file.startswith(".hpc/")
    ]
    small = (frozen.repo.root / file for file in named if sizes.get(file, 0) <= MAX_BYTES)
    return {word.decode() for file in small for word in pattern.findall(file.read_bytes())}


def _not_read(frozen: FrozenRun, entry: Executor, name: str, task: int) -> Finding:
    """Return the finding for a parameter that no file of the repo reads from the environment.

    An error for a program that takes options, because it would run with its defaults. Otherwise a warning: the parameter
    may be a number of repetitions, which the program need not know.
    """
    script, variables = entry.key, _variables(name)
    message = f"'{name}' does not reach {script}: the command does not name ${variables[-1]}, and no file of the repo reads it"
    executor, words = frozen.request.executor, f' --{name} "${variables[-1]}"'
    script_end = re.search(rf"(?<![^\s/]){re.escape(script)}(?=[\s;|&<>)]|$)", executor)
    at = script_end.end() if script_end else len(executor)
    command = executor[:at] + words + executor[at:]
    fix = f"Pass it on: {quote(['--executor', command])}, or let .hpc/cli.py do it: "
    fix += f"{quote(['hpc-agent', 'build-tasks-py', '--executors', script])}."
    is_python = entry.start is not None and entry.start.is_python
    has_parser = is_python and entry.framework != "plain"
    takes_options = has_parser or any(flag.name == name for flag in entry.flags)
    severity: Severity = "error" if takes_options else "warning"
    evidence = {"first_task": task, "parameter": name, "command": command}
    if not takes_options and (others := [flag.options[0] for flag in entry.environment]):
        message, fix = (
            f"{message}; it reads {', '.join(others[:5])}",
            "Give the parameter the name that the program reads.",
        )
        del evidence["command"]
    return Finding(SIGNATURES, severity, "parameter_not_read", message, fix, evidence)


def check_series_axes(frozen: FrozenRun) -> list[Finding]:
    """Return findings for tasks that see fewer rows than .hpc/axes.yaml records for their executor, and for other grids."""
    file = read_axes(path_of(frozen.repo))
    if file is None:
        return []
    findings: dict[str, Finding] = {}
    values: dict[str, set[str]] = {axis.name: set() for axis in file.axes}
    only = frozen.executors[0] if len(frozen.executors) == 1 else ""
    for task, kwargs in sampled_tasks(frozen):
        for name in values.keys() & kwargs.keys():
            values[name].add(repr(kwargs[name]))
        record = file.executors.get(str(kwargs.get(CHOOSER) or only))
        if record and "start" in kwargs and "end" in kwargs:
            for message in _too_few_rows(kwargs, record.data_axis):
                fix = "Run 'hpc-agent build-tasks-py' with the recorded axis, or correct it: 'hpc-agent classify-axis'."
                findings.setdefault(message, Finding(SERIES, "error", "halo_too_small", message, fix, {"task": task}))
    for axis in file.axes:
        if values[axis.name] and len(values[axis.name]) != axis.size:
            message = f"{path_of(frozen.repo)} has {axis.size} values of '{axis.name}', and the tasks {len(values[axis.name])}"
            fix = "Write the axes anew: 'hpc-agent axes-init --force'."
            findings[axis.name] = Finding(SERIES, "warning", "other_grid", message, fix)
    return list(findings.values())[:20]


def _too_few_rows(kwargs: dict[str, Any], axis: dict[str, Any]) -> Iterator[str]:
    recorded = data_axis(axis)
    if recorded.kind == "sequential" and kwargs["start"] > 0:
        yield "a task has a part of a series whose recorded axis is sequential: one task has to see all of it"
    for name, rows in (("halo", recorded.halo), ("ahead", recorded.ahead)):
        try:
            needed = evaluate_rows(name, rows, kwargs)
        except ValueError as error:
            yield f"the recorded {error}"
            continue
        if int(kwargs.get(name) or 0) < needed:
            yield f"a task has {name} {kwargs.get(name) or 0}, and the recorded axis needs {needed}"


def check_inputs(frozen: FrozenRun) -> list[Finding]:
    """Find relative paths in parameters that are neither pushed with the code nor shared."""
    files = frozen.tree.files()
    folders = {str(parent) for name in files for parent in Path(name).parents}
    findings = []
    for task, parameter, value in named_paths(frozen):
        path = value.removeprefix("./")
        shared = any(path == name or path.startswith(name + "/") for name in frozen.shared)
        if not path.startswith("/") and path not in files and path not in folders and not shared:
            why, fix = "does not exist", "Correct the path."
            output = next((name for name in frozen.output_folders if f"{path}/".startswith(f"{name}/")), "")
            if path == output:
                continue
            if output and (frozen.repo.root / path).exists():
                why = f"is in the output folder {output}, of which each run has its own empty one"
                fix = f"Move the file, or leave {output} out of --outputs."
            elif (frozen.repo.root / path).exists():
                why = "is not pushed with the code"
                fix = f"Take it out of .hpcignore, or add --shared-paths {path.partition('/')[0]}."
            message = f"'{parameter}' of task {task} is {value}, which {why}"
            findings.append(Finding(DATASET, "error", "input_missing", message, fix, {"task": task}))
    return findings[:20]


def check_remote_inputs(frozen: FrozenRun) -> list[Finding]:
    """Find absolute paths in parameters that are missing on the cluster, in one SSH command."""
    named = [(task, name, path) for task, name, path in named_paths(frozen) if path.startswith("/")]
    if not named:
        return []
    there = frozen.node.bootstrap("paths", {"paths": sorted(path for _, _, path in named)})["paths"]
    findings = []
    for task, name, path in named:
        if path in there and not there[path].get("exists"):
            message = f"'{name}' of task {task} is {path}, which is not on '{frozen.cluster.name}'"
            fix = "Copy it there, or correct the path."
            findings.append(Finding(DATASET, "error", "input_missing", message, fix, {"task": task}))
    return findings[:20]


def named_paths(frozen: FrozenRun) -> Iterator[tuple[int, str, str]]:
    """Yield (task, parameter, path) once for each path in a parameter that names an input: data_path, train_csv ..."""
    seen = {""}
    for task, kwargs in sampled_tasks(frozen):
        for name, value in kwargs.items():
            lower = name.lower()
            names_input = lower.endswith(PATH_NAMES) and not any(word in lower for word in OUTPUT_WORDS)
            if names_input and isinstance(value, str) and value not in seen and "$" not in value and "://" not in value:
                seen.add(value)
                yield task, name, value


def check_history(
    walltime_sec: int | None, evidence: Evidence | None, pack: int = 1, ceiling: int | None = None, at_once: int = 1
) -> list[Finding]:
    """Compare the requested walltime with the measured time of such tasks; ``ceiling``: the most that is allowed."""
    time = evidence.time if evidence else None
    if time is None:
        message = "no task of this executor was measured on this cluster yet"
        fix = "Try one task first: 'hpc-agent submit-and-verify'."
        return [Finding(HISTORY, "info", "no_history", message, fix)]
    if walltime_sec is None:
        return []
    severity: Severity = "warning"
    in_turn = turns(pack, at_once)
    needed, advice, origin = time.needed_sec(in_turn), time.walltime_sec(in_turn), time.origin
    element = "such a task" if pack == 1 else f"an element of {pack} such tasks"
    element += f", {at_once} at once" if at_once > 1 else ""
    if walltime_sec < needed:
        severity, code = "error", "walltime_too_short"
        message = f"is less than the {needed} s of {element} ({origin})"
    elif walltime_sec < time.tight_sec(in_turn):
        code, message = "walltime_tight", f"leaves little room for the {needed} s of {element} ({origin})"
    elif walltime_sec > TOO_GENEROUS * advice and time.rows >= FEW_ROWS:
        code, message = "walltime_generous", f"is far more than the {needed} s of {element}, and waits longer"
    else:
        return []
    facts = {"field": "resources.walltime_sec", "asked": walltime_sec, "needed_sec": needed, "origin": origin}
    fix = f"Ask for --walltime-sec {advice}, or leave it out: then it follows the measurements."
    if ceiling is not None and advice > ceiling:
        fix = f"{advice} s would be right, and the cluster allows {ceiling} s: "
        fix += "give an element fewer tasks with --pack." if pack > 1 else "split the tasks into shorter ones."
    return [Finding(HISTORY, severity, code, f"walltime {walltime_sec} s {message}", fix, facts)]


def check_stochastic(campaign_id: str | None, cmd_sha: str, runs: list[RunRecord], mine: str | None) -> list[Finding]:
    """Find earlier iterations of the campaign with these parameters: an optimiser picked the same point again."""
    wanted = (campaign_id, cmd_sha)
    same = [run.run_id for run in runs if (run.campaign_id, run.cmd_sha) == wanted and run.run_id != mine]
    if not campaign_id or not same:
        return []
    message = f"campaign {campaign_id} has run these very parameters before, as {same[0]}"
    fix = "Add a seed or an iteration number to the parameters if it is meant; else the strategy has come to its end."
    return [Finding(STOCHASTIC, "warning", "parameters_repeated", message, fix, {"runs": same[:10]})]


def check_points(
    repo: RepoLayout, campaign_id: str | None, tasks: Iterable[dict[str, Any]], mine: str
) -> list[Finding]:
    """Find tasks whose parameters an earlier iteration of the campaign has a result of."""
    earlier: dict[str, str] = {}
    for iteration in read_prior(repo, campaign_id) if campaign_id else []:
        if iteration["run_id"] != mine:
            earlier.update({key_of(row["params"]): iteration["run_id"] for row in iteration["rows"]})
    again = [(number, params) for number, params in enumerate(tasks) if key_of(params) in earlier] if earlier else []
    if not again:
        return []
    number, params = again[0]
    told = (
        f"{len(again)} task{'s have' if len(again) > 1 else ' has'} parameters with a result in campaign {campaign_id}"
    )
    message = f"{told}: task {number}, {json.dumps(params)}, in {earlier[key_of(params)]}"
    fix = "Leave those tasks out, or add a seed to the parameters if a repetition is meant."
    evidence = {"tasks": encode_ranges([number for number, _ in again])}
    return [Finding(STOCHASTIC, "warning", "points_repeated", message, fix, evidence)]


def check_early_stop(frozen: FrozenRun) -> list[Finding]:
    """Find a rule of early stopping that no file of the repo asks about."""
    rule = frozen.request.early_stop or (frozen.trials and frozen.trials.early_stop)
    signs = {"should_stop", "experiment_kit"}
    if not rule or signs & (set(re.findall(r"\w+", frozen.request.executor)) | _words_of(frozen, signs)):
        return []
    message = "early_stop has no effect: no script of the repo calls should_stop() of hpc_agent.experiment_kit"
    fix = "In the training loop, call report(step, value), then 'if should_stop(): break'."
    return [Finding(SIGNATURES, "warning", "early_stop_unused", message, fix)]


def check_imports(frozen: FrozenRun) -> list[Finding]:
    """Find modules of hpc-agent that tasks.py or an executor imports and that do not travel with the run."""
    root, static = frozen.repo.root, read_tasks_file(frozen.repo.tasks)
    few_tasks = frozen.tasks.every(max(1, frozen.tasks.total // FEW_TASKS))
    scripts = {script for _, _, script in started_scripts(frozen.request.executor, few_tasks, root)}
    scripts |= {str(key).partition(":")[0] for key in static.flags}
    findings = []
    for script in sorted({".hpc/tasks.py", *scripts} - {f".hpc/{CLI}"}):
        for name, line in not_carried(root / script).items():
            message = f"{script} imports {name} (line {line}), which a task only has where hpc-agent is installed"
            fix = f"Import from {' or '.join(ALLOWED)}, which travel with the run."
            findings.append(Finding(SIGNATURES, "warning", "not_carried", message, fix, {"file": script, "line": line}))
    return findings[:20]


def check_scheduler(planned: PlannedRun) -> list[Finding]:
    """Find what the request asks for and the cluster's scheduler has no means for."""
    backend, request = planned.frozen.node.backend, planned.request
    cannot = dict(backend.cannot)
    if request.resources.gpus:
        try:
            backend.template(request.resources.gpus)
        except ConfigInvalid as error:
            cannot.setdefault("gpus", error.message)
    asked = (
        ("max_running", "max_running", request.max_running),
        ("gpus", "resources.gpus", request.resources.gpus),
        ("memory", "resources.mem_mb", request.resources.mem_mb),
    )
    findings = []
    for feature, field, value in asked:
        if value and feature in cannot:
            severity: Severity = "warning" if feature == "memory" else "error"
            fix = f"Leave --{field.rpartition('.')[2].replace('_', '-')} out."
            message = f"{field} has no effect on {backend.name}: {cannot[feature]}"
            findings.append(Finding(SCHEDULER, severity, "not_offered", message, fix, {"field": field}))
    return findings


def local_findings(world: World, planned: PlannedRun) -> list[Finding]:
    """Return the findings of every check that needs neither the cluster nor a task's run."""
    frozen, request = planned.frozen, planned.request
    runs = Journal(world, frozen.repo).all()[0] if request.campaign_id else []
    repeated = check_stochastic(request.campaign_id, frozen.tasks.cmd_sha, runs, frozen.run_id())
    return [
        *check_signatures(frozen),
        *check_inputs(frozen),
        *check_series_axes(frozen),
        *check_early_stop(frozen),
        *check_imports(frozen),
        *check_scheduler(planned),
        *check_history(
            request.resources.walltime_sec,
            planned.evidence,
            planned.arrays.pack,
            frozen.constraints.max_walltime_sec,
            planned.arrays.at_once,
        ),
        *(repeated or check_points(frozen.repo, request.campaign_id, frozen.tasks.kwargs(), frozen.run_id())),
    ]


def warnings_of(world: World, planned: PlannedRun) -> list[str]:
    """Return the messages that submit shows. Raises SpecInvalid for an error, except with skip_validation."""
    findings = local_findings(world, planned)
    if not planned.request.skip_validation:
        refuse(findings)
    return [finding.message for finding in findings if finding.severity != "info"]
