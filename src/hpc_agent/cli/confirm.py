"""Before a verb submits: show the plan, and ask the person at the terminal."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from hpc_agent.cli.output import Declined, show_blocks
from hpc_agent.contract.primitive import Request
from hpc_agent.errors import Interrupted
from hpc_agent.view.terminal.blocks import Block, Gap, Line, Para, Title
from hpc_agent.view.terminal.views import body
from hpc_agent.world import World

LOOK_SEC = 0.2
QUIT = "Nothing was submitted. Run the same 'hpc-agent' command again when you want it; --yes leaves out the question."


class Plan(NamedTuple):
    """What is shown before a submission, the question, and the data of the rehearsal."""

    blocks: list[Block]
    question: str
    data: Mapping[str, Any] = {}


# Returns the data of the answer to another request of the verb.
Rehearse = Callable[[Any], Mapping[str, Any]]
# Returns None where the call will submit nothing.
Planner = Callable[[str, Any, World, Rehearse], Plan | None]

# Verbs that submit and ask nothing, each with the reason.
NEVER_ASKED = {
    "run": "--confirmed says that a person has agreed; without it the worker only plans",
    "verify-canary": "the run was confirmed when it was submitted",
    "update-run-constraints": "it changes jobs that wait, and submits none",
}


def confirm(verb: str, request: Request, world: World, rehearse: Rehearse) -> Mapping[str, Any]:
    """Ask whether the plan of a call is to be submitted. Return the data that the person has seen.

    Raises Declined, and Interrupted for Control-C at the question.
    """
    if verb in NEVER_ASKED:
        return {}
    plan = PLANNERS.get(verb, _unplanned)(verb, request, world, rehearse)
    if plan is None:
        return {}
    show_blocks([*plan.blocks, Gap()])
    if not ask(f"\n{plan.question} [y/N] "):
        raise Declined
    sys.stdout.write("\n")
    return plan.data


def ask(question: str) -> bool:
    """Return True for yes. Only letters that are typed after the question count."""
    terminal = sys.stdin.fileno()
    with contextlib.suppress(ImportError, OSError):
        import termios

        termios.tcflush(terminal, termios.TCIFLUSH)
    try:
        while True:
            sys.stdout.write(question)
            sys.stdout.flush()
            answer = _typed(terminal)
            if answer is None:
                sys.stdout.write("\n")
                return False
            word = answer.strip().lower()
            if word in ("y", "yes"):
                return True
            if word in ("", "n", "no"):
                return False
            question = "Please answer y or n: "
    except KeyboardInterrupt:
        sys.stdout.write("\n")
        raise Interrupted("interrupted at the question", remediation=QUIT) from None


def _typed(terminal: int) -> str | None:
    """Return the line that is typed; None at the end of input. A read alone would go on waiting after Control-C."""
    while not select.select([terminal], [], [], LOOK_SEC)[0]:
        pass
    try:
        data = os.read(terminal, 1024)
    except OSError:  # the terminal is gone
        return None
    return data.decode(errors="replace") if data else None


def _rehearsed(verb: str, request: Any, world: World, rehearse: Rehearse) -> Plan | None:  # noqa: ARG001
    """Plan of a verb with a dry run."""
    if request.dry_run:
        return None
    data = rehearse(msgspec.structs.replace(request, dry_run=True))
    if data.get("deduped"):
        return None
    return Plan(body(verb, data), f"Submit {data['run_id']}?", data)


def _batch(verb: str, request: Any, world: World, rehearse: Rehearse) -> Plan | None:  # noqa: ARG001
    if all({**request.common, **spec}.get("dry_run") for spec in request.specs):
        return None
    data = rehearse(msgspec.structs.replace(request, specs=[{**spec, "dry_run": True} for spec in request.specs]))
    going = sum(item["ok"] and not item.get("deduped") for item in data["results"])
    # what comes next is the answer to the question
    shown = {**data, "results": [{**item, "next_step": ""} for item in data["results"]]}
    return Plan(body(verb, shown), f"Submit {going} runs?" if going > 1 else "Submit this run?") if going else None


def _resubmission(verb: str, request: Any, world: World, rehearse: Rehearse) -> Plan | None:  # noqa: ARG001
    if request.dry_run:
        return None
    data = rehearse(msgspec.structs.replace(request, dry_run=True))
    return Plan(body(verb, data), f"Submit these tasks of {data['run_id']} again?") if data["groups"] else None


def _campaign(verb: str, request: Any, world: World, rehearse: Rehearse) -> Plan | None:  # noqa: ARG001
    if request.dry_run:
        return None
    data = rehearse(msgspec.structs.replace(request, dry_run=True))
    if not data["detail"].startswith("next:"):
        return None
    if request.loop:
        return Plan(body(verb, data), f"Drive {data['campaign_id']} to its end, and submit its trials?")
    return Plan(body(verb, data), f"Go on with {data['campaign_id']}, and submit its next trials?")


def _reproduction(verb: str, request: Any, world: World, rehearse: Rehearse) -> Plan | None:  # noqa: ARG001
    from hpc_agent.ops.run.known_run import known_run
    from hpc_agent.ops.run.planned_run import plan_facts
    from hpc_agent.state.runs import read_run_sidecar
    from hpc_agent.view.terminal.runs import submit

    run = known_run(world, request)
    sidecar = read_run_sidecar(run.repo, run.record.run_id)
    facts = {"run_id": sidecar.run_id, "cluster": sidecar.cluster, "total_tasks": sidecar.task_count}
    blocks = submit({**facts, "plan": plan_facts(sidecar)})
    return Plan(blocks, f"Submit the code and parameters of {sidecar.run_id} once more?")


def _reduction(verb: str, request: Any, world: World, rehearse: Rehearse) -> Plan | None:
    """Plan of ``aggregate`` and ``cluster-reduce``, which submit one job with ``--as-job`` only."""
    return (
        _unplanned(verb, request, world, rehearse, "one job runs the reducer on the cluster")
        if request.as_job
        else None
    )


def _watch(verb: str, request: Any, world: World, rehearse: Rehearse) -> Plan | None:
    if not request.auto_resubmit:
        return None
    most = request.max_resubmits
    told = f"failed tasks are submitted again, {most} at most" if most else "failed tasks are submitted again"
    return _unplanned(
        verb, request, world, rehearse, f"{told}, except those that need a person", "Watch the run like this?"
    )


def _demo(verb: str, request: Any, world: World, rehearse: Rehearse) -> Plan | None:
    """On this machine the demo is what was asked for; elsewhere its tasks are somebody's jobs."""
    if request.cluster == "local":
        return None
    return _unplanned(verb, request, world, rehearse, f"25 small tasks on {request.cluster}")


def _unplanned(
    verb: str,
    request: Any,
    world: World,  # noqa: ARG001
    rehearse: Rehearse,  # noqa: ARG001
    told: str = "",
    question: str = "Submit?",
) -> Plan:
    """Plan of a verb without a dry run: what was asked for."""
    from hpc_agent.ops.run.command_line import command_line

    sentence: list[Block] = [Para(told[:1].upper() + told[1:] + ".")] if told else []
    return Plan([Title(verb), *sentence, Line(command_line(verb, request), 2)], question)


PLANNERS: dict[str, Planner] = {
    "aggregate": _reduction,
    "campaign-driver": _campaign,
    "cluster-reduce": _reduction,
    "demo": _demo,
    "monitor-flow": _watch,
    "reproduce-run": _reproduction,
    "resubmit": _resubmission,
    "submit": _rehearsed,
    "submit-and-verify": _rehearsed,
    "submit-flow-batch": _batch,
}
