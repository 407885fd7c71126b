"""``run``: leave one workflow to a worker, a fresh ``claude`` that may run hpc-agent and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from hpc_agent.contract.primitive import Effect, Request, Result, primitive
from hpc_agent.errors import PreconditionFailed, SpecInvalid, WorkerAuthUnavailable, WorkerFailed, WorkerNotInstalled
from hpc_agent.ops.agents.claude_process import call, environment, find_program, read_report
from hpc_agent.ops.agents.credentials import read_settings, sign_in, with_settings
from hpc_agent.ops.agents.prompt import Decision, Outcome, Workflow, report_schema, worker_prompt
from hpc_agent.ops.run.fields import ExperimentDir, Positive, PositiveFloat, doc
from hpc_agent.state.repo_files import experiment_root, local_path
from hpc_agent.world import WORKER, World

ALLOWED = "Bash(hpc-agent *)"
# Fields of the request that tell the worker what it is about.
FACTS = ("goal", "run_id", "campaign_id", "cluster", "known", "confirmed", "accept_defaults")


class RunRequest(Request):
    """A workflow, what it is about, and the worker's limits."""

    workflow: Annotated[Workflow, doc("the procedure that the worker follows")]
    experiment_dir: ExperimentDir = "."
    goal: Annotated[str | None, doc("what is wanted, in a sentence")] = None
    run_id: Annotated[str | None, doc("status, aggregate: the run; the newest by default")] = None
    campaign_id: Annotated[str | None, doc("campaign: which one")] = None
    cluster: Annotated[str | None, doc("submit: name in clusters.yaml")] = None
    known: Annotated[dict[str, Any], doc("submit: fields of its request that are decided")] = {}
    confirmed: Annotated[bool, doc("a person has agreed to submissions; without this the worker can only plan")] = False
    accept_defaults: Annotated[bool, doc("the worker may take safe defaults of unclear fields")] = False
    inline: Annotated[bool, doc("return the prompt, for an agent that does the work itself; starts nothing")] = False
    max_turns: Annotated[Positive, doc("turns of the worker")] = 40
    max_budget_usd: Annotated[PositiveFloat, doc("money that the worker may use")] = 2.0
    timeout_sec: Annotated[PositiveFloat, doc("the worker is ended after so long")] = 1800.0
    model: Annotated[str | None, doc("model of the worker; Claude Code's default without it")] = None
    settings: Annotated[str | None, doc("settings file for the worker, such as one with apiKeyHelper")] = None


class RunResult(Result):
    workflow: Workflow
    result: Annotated[Outcome | None, doc("what became of it; null with inline")] = None
    decisions: Annotated[list[Decision], doc("values that the worker chose, and why")] = []
    anomalies: Annotated[list[str], doc("whatever was not as expected")] = []
    prompt: Annotated[str | None, doc("with inline: what to do")] = None
    report_schema: Annotated[dict[str, Any] | None, doc("with inline: JSON Schema of the report to give")] = None
    num_turns: int | None = None
    total_cost_usd: float | None = None


@primitive(
    stage="agents",
    effects=[Effect.FILES, Effect.JOURNAL, Effect.SSH, Effect.PUSH, Effect.SUBMIT],
    idempotent=False,
    errors=[PreconditionFailed, SpecInvalid, WorkerAuthUnavailable, WorkerFailed, WorkerNotInstalled],
    progress=True,
    brief="a workflow by a worker",
    example={"workflow": "status", "run_id": "latest", "inline": True},
    next_verbs=["load-context", "status"],
)
def run(request: RunRequest, world: World) -> RunResult:
    """Leave a workflow to a worker: a fresh claude with one tool, hpc-agent, which ends with a report.

    It signs in with ANTHROPIC_API_KEY or a cloud provider's credentials only: a login of Claude Code does not reach it.
    With ``inline`` the prompt is returned, and an agent does the work itself.
    """
    if world.env.get(WORKER):
        raise PreconditionFailed("a worker starts no worker", remediation="Run the 'hpc-agent' commands themselves.")
    repo = experiment_root(world.cwd, request.experiment_dir)
    facts = {name: value for name in FACTS if (value := getattr(request, name))}
    prompt = worker_prompt(request.workflow, {"experiment_dir": str(repo.root), **facts})
    if request.inline:
        return RunResult(workflow=request.workflow, prompt=prompt, report_schema=report_schema())
    settings = local_path(world.cwd, request.settings, "settings") if request.settings else None
    known_settings = read_settings(settings)
    signed_in_by = sign_in(world.env, known_settings)
    argv = [find_program(world.env), *_arguments(request, prompt, settings)]
    world.progress.update("worker", workflow=request.workflow, signed_in_by=signed_in_by)
    answer = call(argv, repo.root, environment(world.env, request.confirmed), request.timeout_sec)
    said, report = read_report(answer, with_settings(world.env, known_settings))
    return RunResult(
        workflow=request.workflow,
        **{name: getattr(report, name) for name in report.__struct_fields__},
        num_turns=said.get("num_turns"),
        total_cost_usd=said.get("total_cost_usd"),
    )


def _arguments(request: RunRequest, prompt: str, settings: Path | None) -> list[str]:
    """Return the arguments of claude: no hooks, plugins, servers or memory; one tool, and one command in it."""
    optional = ["--model", request.model] if request.model else []
    optional += ["--settings", str(settings)] if settings else []
    return [
        "--bare", "-p", prompt,
        "--output-format", "json",
        "--json-schema", json.dumps(report_schema(), separators=(",", ":")),
        "--allowedTools", ALLOWED,
        "--permission-mode", "dontAsk",
        "--tools", "Bash",
        "--max-turns", str(request.max_turns),
        "--max-budget-usd", f"{request.max_budget_usd:g}",
        "--no-session-persistence",
        "--strict-mcp-config",
        *optional,
    ]  # fmt: skip
