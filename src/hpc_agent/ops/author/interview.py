"""``interview``: write a campaign's intent, and the tasks that follow from the intent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import ExecutorNotFound, PreconditionFailed, SpecInvalid
from hpc_agent.experiment.writing.entry_points import EntryPoint, executor_of
from hpc_agent.experiment.writing.generated_file import write_generated
from hpc_agent.experiment.writing.tasks_file import refuse_edited, write_files
from hpc_agent.node.shared.timestamps import iso
from hpc_agent.ops.author.build_tasks_py import TaskPlan, TaskRequest, plan_tasks_file
from hpc_agent.ops.run.fields import ClusterName, doc
from hpc_agent.state.repo_files import RepoLayout, experiment_root
from hpc_agent.state.run_sha import compute_cmd_sha
from hpc_agent.world import World

INTERVIEW = "interview.json"
ALLOWED = "Bash(hpc-agent:*)"
DENIED = ("Bash(scancel:*)", "Bash(qdel:*)")


class ProducedBy(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The author of the intent: a person or an agent."""

    kind: Annotated[Literal["human", "agent"], doc("who")] = "human"
    operator: Annotated[str | None, doc("the person")] = None
    session_sha: Annotated[str | None, doc("the agent's session")] = None
    at: Annotated[str | None, doc("when")] = None


class ClusterTarget(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The cluster of the campaign, for resolve-submit-inputs."""

    cluster: ClusterName
    constraint: Annotated[str | None, doc("node feature")] = None


class Said(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One turn of the conversation."""

    role: Annotated[Literal["agent", "operator", "system"], doc("who spoke")]
    text: Annotated[str, doc("the words")]
    at: Annotated[str | None, doc("when")] = None


class InterviewRequest(TaskRequest, kw_only=True):
    """The intent of a campaign, and its tasks."""

    goal: Annotated[str, doc("the question of the campaign, in a sentence", min_length=1)]
    task_count: Annotated[int, doc("expected number of tasks; another number is an error", gt=0)]
    entry_point: Annotated[
        EntryPoint | None, doc("instead of executors: register_run, python_module or shell_command")
    ] = None
    task_kind: Annotated[str | None, doc("a word for this kind of work, for recall")] = None
    produced_by: Annotated[ProducedBy | None, doc("who wants it: a human or an agent")] = None
    budget: Annotated[dict[str, Any], doc("limits such as wall_clock_max_h")] = {}
    abort_if: Annotated[dict[str, Any], doc("when to give up: metric, after_tasks, ...")] = {}
    cluster_target: Annotated[ClusterTarget | None, doc("where it is to run")] = None
    transcript: Annotated[list[Said], doc("the conversation")] = []
    notes: Annotated[str, doc("anything else")] = ""
    campaign_dir: Annotated[str, doc("the experiment repo; interview.json lies there")] = "."
    allow_cli: Annotated[bool, doc("allow Claude Code to run hpc-agent here: a rule in .claude/settings.json")] = False
    force: Annotated[bool, doc("overwrite files that were edited")] = False


class InterviewResult(Result):
    campaign_dir: str
    artifacts: Annotated[dict[str, str], doc("path -> written, or kept for equal content")]
    total_tasks: int
    cmd_sha: Annotated[str, doc("SHA-256 of all parameters, as submit will have it")]
    executor: Annotated[str, doc("the command of a task, for submit")]
    executors: Annotated[dict[str, str], doc("value of the parameter 'executor' -> script or function")]
    metrics_file: str | None
    preview: Annotated[dict[str, dict[str, Any]], doc("parameters of the first, middle and last task")]
    notes: list[str]
    next_step: str


@primitive(stage="author", effects=[Effect.FILES], errors=[SpecInvalid, ExecutorNotFound, PreconditionFailed])
def interview(request: InterviewRequest, world: World) -> InterviewResult:
    """Write interview.json, .hpc/tasks.py and .hpc/cli.py (and a wrapper for a shell command) from one intent.

    Names, values and the count are checked before anything is written. The same request changes nothing.
    """
    repo = experiment_root(world.cwd, request.campaign_dir)
    wrapped = executor_of(repo, request.entry_point) if request.entry_point else None
    plan = plan_tasks_file(repo, request, request.task_count, request.force, wrapped)
    settings = _settings(repo) if request.allow_cli else None
    files = dict(plan.files)
    if wrapped and wrapped.path:
        refuse_edited(repo, repo.root / wrapped.path, wrapped.text, request.force)
        files = {repo.root / wrapped.path: wrapped.text, **files}
    written = write_files(repo, files)
    cmd_sha = compute_cmd_sha(plan.source.make())
    written[INTERVIEW] = _remember(repo, request, plan, cmd_sha, world)
    if settings:
        written[settings[0].relative_to(repo.root).as_posix()] = write_generated(*settings, True, repo.root)
    facts = plan.facts()
    if request.budget or request.abort_if:
        facts["notes"] = [*facts["notes"], "budget and abort_if are kept for recall; a run does not enforce them"]
    return InterviewResult(
        campaign_dir=str(repo.root),
        artifacts=written,
        cmd_sha=cmd_sha,
        next_step="hpc-agent resolve-submit-inputs",
        **facts,
    )


def _remember(repo: RepoLayout, request: InterviewRequest, plan: TaskPlan, cmd_sha: str, world: World) -> str:
    """Write interview.json: the intent and the facts of its tasks. An equal intent keeps its time."""
    given = msgspec.to_builtins(request)
    for name in ("campaign_dir", "allow_cli", "force"):
        del given[name]
    path = repo.root / INTERVIEW
    materialized = {"cmd_sha": cmd_sha, "total_tasks": plan.source.count, "executor": plan.executor}
    document = {**given, "_materialized": {**materialized, "at": iso(world.now())}}
    try:
        before = json.loads(path.read_bytes())
        if before.get("_materialized", {}).get("at") and _timeless(before) == _timeless(document):
            document["_materialized"]["at"] = before["_materialized"]["at"]
    except (OSError, ValueError, AttributeError):
        pass
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    return write_generated(path, text, True, repo.root)


def _timeless(document: dict[str, Any]) -> dict[str, Any]:
    made = {name: value for name, value in document["_materialized"].items() if name != "at"}
    return {**document, "_materialized": made}


def _settings(repo: RepoLayout) -> tuple[Path, str]:
    """Return the project's settings with the rule added. Raises SpecInvalid for broken settings."""
    path = repo.root / ".claude" / "settings.json"
    document: Any = {}
    if path.exists():
        try:
            document = json.loads(path.read_bytes())
        except ValueError:
            document = None
    permissions = document.setdefault("permissions", {}) if isinstance(document, dict) else None
    lists = [permissions.setdefault(name, []) for name in ("allow", "deny")] if isinstance(permissions, dict) else []
    if not lists or not all(isinstance(rules, list) for rules in lists):
        raise SpecInvalid(
            f"{path} is not a settings file with permissions",
            field="allow_cli",
            remediation=f"Correct {path}, or leave out --allow-cli; then run 'hpc-agent interview' again.",
        )
    lists[0] += [ALLOWED] if ALLOWED not in lists[0] else []
    lists[1] += [rule for rule in DENIED if rule not in lists[1]]
    return path, json.dumps(document, indent=2, ensure_ascii=False) + "\n"
