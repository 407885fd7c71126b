"""The core hours that one session may submit: reserved before a submission, given back when nothing was submitted."""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from hpc_agent.errors import PreconditionFailed
from hpc_agent.mcp_server.calls import typed_request
from hpc_agent.mcp_server.verbs import submits
from hpc_agent.ops.run.invoke import catalogue
from hpc_agent.world import World


@dataclass(frozen=True)
class Charge:
    """Core hours of a submission; ``key`` is its run: the same run is charged once."""

    key: str
    hours: float


class Budget:
    """The core hours that are reserved, and the limit; None is no limit."""

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._held: dict[str, tuple[float, int]] = {}  # key -> hours, and the calls under way that hold them
        self._kept: set[str] = set()  # keys of which something was submitted, or may have been

    @property
    def reserved(self) -> float:
        with self._lock:
            return math.fsum(hours for hours, _ in self._held.values())

    def covers(self, key: str) -> bool:
        """Return True for a run whose core hours are reserved already."""
        with self._lock:
            return key in self._held

    def reserve(self, charges: list[Charge]) -> None:
        """Reserve all charges or none, in one step. Raises PreconditionFailed when they would pass the limit."""
        with self._lock:
            new = math.fsum(charge.hours for charge in charges if charge.key not in self._held)
            used = math.fsum(hours for hours, _ in self._held.values())
            if self.limit is not None and new and used + new > self.limit:
                left = max(0.0, self.limit - used)
                raise PreconditionFailed(
                    f"this needs {new:.2f} core hours, and {left:.2f} of the session's {self.limit:g} are left",
                    remediation="Submit fewer tasks, or ask a person to start the server with a larger --budget-core-hours: "
                    f"'hpc-agent mcp --allow-submit --budget-core-hours {math.ceil(used + new)}'.",
                    details={"needed": round(new, 4), "left": round(left, 4), "limit": self.limit},
                )
            for charge in charges:
                hours, calls = self._held.get(charge.key, (charge.hours, 0))
                self._held[charge.key] = hours, calls + 1

    def settle(self, charges: list[Charge], submitted: bool) -> None:
        """End a reservation: keep it if anything was submitted or may have been, else give the hours back."""
        with self._lock:
            for charge in charges:
                hours, calls = self._held[charge.key]
                if submitted:
                    self._kept.add(charge.key)
                if calls > 1 or charge.key in self._kept:
                    self._held[charge.key] = hours, calls - 1
                else:
                    del self._held[charge.key]

    @contextmanager
    def guard(self, verb: str, arguments: dict[str, Any], world: World) -> Iterator[Callable[[dict[str, Any]], None]]:
        """Reserve the core hours of a call. Yield a function that is told the envelope of the call.

        Raises PreconditionFailed for a call that would pass the limit, or whose core hours cannot be known.
        """
        if self.limit is None or not submits(catalogue()[verb]):
            yield _not_told
            return
        charges = _charges(self, verb, arguments, world)
        self.reserve(charges)
        submitted = True  # until the answer says something else: a job may be queued

        def told(envelope: dict[str, Any]) -> None:
            nonlocal submitted
            submitted = _may_be_queued(envelope)

        try:
            yield told
        finally:
            self.settle(charges, submitted)


def _not_told(envelope: dict[str, Any]) -> None:
    """Take the envelope of a call that nothing was reserved for."""


# Errors after which no job of the call is in a queue.
_NOTHING_SENT = frozenset(("scheduler_refused", "storage_full"))


def _may_be_queued(envelope: dict[str, Any]) -> bool:
    if envelope["ok"]:
        return bool(envelope["data"].get("resubmitted") != 0)
    return bool(envelope["category"] != "user" and envelope["error_code"] not in _NOTHING_SENT)


def _charges(budget: Budget, verb: str, arguments: dict[str, Any], world: World) -> list[Charge]:
    price = _PRICES.get(verb)
    request = typed_request(verb, arguments)
    if getattr(request, "dry_run", False):
        return []
    if price is None:
        raise PreconditionFailed(
            f"the core hours of '{verb}' cannot be known beforehand, and this session has a budget",
            remediation="Use submit and resubmit, whose core hours are counted, or ask a person to run: hpc-agent "
            + verb,
        )
    return price(budget, request, world)


def hours_of(plan: dict[str, Any], is_guess: bool) -> float:
    """Return the core hours of a plan: from measured tasks, else the most that the walltime allows.

    ``is_guess``: the time of a task was given with the request, and proves nothing.
    """
    if plan.get("est_core_hours") is not None and not is_guess:
        return float(plan["est_core_hours"])
    asked = plan["resources"]
    elements = math.ceil(plan["total_tasks"] / max(1, plan.get("pack") or 1))
    cores = asked["cpus"] * (plan.get("at_once") or 1)
    return float(elements * asked["walltime_sec"] * cores * (plan.get("segments") or 1)) / 3600


def _of_submission(budget: Budget, request: Any, world: World) -> list[Charge]:
    from hpc_agent.ops.run.run_request import SubmitRequest
    from hpc_agent.ops.submit.submit import submit

    given = {name: getattr(request, name) for name in SubmitRequest.__struct_fields__}
    planned = submit(SubmitRequest(**{**given, "dry_run": True}), world)
    if planned.deduped and not budget.covers(planned.run_id):
        return []
    return [Charge(planned.run_id, hours_of(planned.plan, request.est_task_sec is not None))]


def _of_batch(budget: Budget, request: Any, world: World) -> list[Charge]:
    from hpc_agent.ops.submit.batch import submit_request

    specs = [submit_request(request, given) for given in request.specs]
    charges = (charge for one in specs if not one.dry_run for charge in _of_submission(budget, one, world))
    return list({charge.key: charge for charge in charges}.values())  # the same run in two specs is submitted once


def _of_known_run(budget: Budget, request: Any, world: World) -> list[Charge]:
    """Return the charge of the arrays of a run that wait here: nothing if the run was submitted in this session."""
    from hpc_agent.ops.run.known_run import known_run
    from hpc_agent.ops.run.planned_run import plan_facts
    from hpc_agent.state.runs import read_run_sidecar

    if getattr(request, "auto_resubmit", False):
        raise PreconditionFailed(
            "auto_resubmit submits an unknown number of core hours, and this session has a budget",
            field="auto_resubmit",
            remediation="Leave auto_resubmit out, and submit failed tasks again with: hpc-agent resubmit",
        )
    run = known_run(world, request)
    if budget.covers(run.record.run_id) or not run.record.waiting:
        return []
    plan = plan_facts(read_run_sidecar(run.repo, run.record.run_id))
    return [Charge(run.record.run_id, hours_of(plan, False))]


def _of_resubmission(budget: Budget, request: Any, world: World) -> list[Charge]:  # noqa: ARG001
    from hpc_agent.ops.recover.resubmit import resubmit
    from hpc_agent.ops.run.known_run import known_run
    from hpc_agent.state.runs import read_run_sidecar

    decided = resubmit(msgspec.structs.replace(request, dry_run=True), world)
    run = known_run(world, request)
    before = read_run_sidecar(run.repo, run.record.run_id).resources
    hours = 0.0
    for group in decided.groups:
        asked = {**before, **(group.get("resources") or {})}
        hours += group["count"] * asked["walltime_sec"] * asked["cpus"] / 3600
    return [Charge(f"{decided.run_id}#{secrets.token_hex(4)}", hours)] if hours else []


def _of_table(budget: Budget, request: Any, world: World) -> list[Charge]:  # noqa: ARG001
    if getattr(request, "as_job", False):
        raise PreconditionFailed(
            "the core hours of a reducer's job cannot be known, and this session has a budget",
            field="as_job",
            remediation="Leave as_job out, then run 'hpc-agent aggregate' again.",
        )
    return []


_PRICES: dict[str, Callable[[Budget, Any, World], list[Charge]]] = {
    "submit": _of_submission,
    "submit-and-verify": _of_submission,
    "submit-flow-batch": _of_batch,
    "verify-canary": _of_known_run,
    "monitor-flow": _of_known_run,
    "resubmit": _of_resubmission,
    "aggregate": _of_table,
    "cluster-reduce": _of_table,
}
