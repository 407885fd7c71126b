"""Make the document of a run's report: the cluster's survey, the sidecar and the journal."""

from __future__ import annotations

from typing import Any

from hpc_agent import __version__
from hpc_agent.errors import JournalCorrupt, RunNotFound, SchemaIncompat, SpecInvalid
from hpc_agent.node.shared.metric_names import best_end
from hpc_agent.node.shared.ranges import count
from hpc_agent.ops.run.known_run import KnownRun
from hpc_agent.ops.run.run_status import next_step
from hpc_agent.state.runs import Sidecar, read_run_sidecar
from hpc_agent.view.report.data import Gap, ReportData, Section
from hpc_agent.view.report.numbers import count as count_of
from hpc_agent.view.report.numbers import duration, mebibytes, moment
from hpc_agent.view.report.sections import flattened

SURVEY_TIMEOUT_SEC = 1800.0
NOT_RECORDED = "not recorded"
# What a run's environment.json tells, where there is one.
ENVIRONMENT = ("interpreter", "packages", "modules loaded", "CPU and GPU model")
JOBS_SHOWN = 6


def ask_survey(run: KnownRun, metric: str | None, replicates: list[str] | None) -> dict[str, Any]:
    """Ask the cluster once. This version's runtime answers, so that runs of earlier versions have the same page.

    Raises SpecInvalid for a metric that the run does not have, and the errors of the connection.
    """
    found = run.ask_this_version("survey", SURVEY_TIMEOUT_SEC, metric=metric, replicates=replicates)
    if metric is not None and found["main"] != metric:
        known = ", ".join(found["rows"]["metrics"][:20])
        message = f"no task of {run.record.run_id} has a metric '{metric}'"
        remedy = f"Name one of these: {known}." if known else f"See 'hpc-agent status --run-id {run.record.run_id}'."
        raise SpecInvalid(message, field="metric", remediation=remedy)
    return found


def run_data(run: KnownRun, found: dict[str, Any], now: float, direction: str) -> ReportData:
    """Return the document of a run's page."""
    run_id, state = run.record.run_id, found["state"]
    try:
        sidecar: Sidecar | None = read_run_sidecar(run.repo, run_id)
    except (RunNotFound, JournalCorrupt, SchemaIncompat):
        sidecar = None
    for group in found["groups"]:
        group["remedy"] = run.remedy(group["remedy"])
    left_out = []
    if found["more_groups"]:
        left_out.append(f"{found['more_groups']} kinds of failures beyond the first {len(found['groups'])}")
    if found["waves"]["total"] > len(found["waves"]["shown"]):
        left_out.append(f"waves beyond the first {len(found['waves']['shown'])} of {found['waves']['total']}")
    if rows := found["uncharted"]:
        left_out.append(f"the charts of parameters leave out {count_of(rows, 'row')} with tasks that ended early")
    running = state["counts"]["running"]
    if running:
        tasks = "the running task" if running == 1 else f"the {running:,} running tasks"
        left_out.append(f"{tasks} in the charts of time and usage: there is no record yet")
    return ReportData(
        kind="run",
        title=(sidecar.run_name if sidecar else "") or run_id,
        about=_about(run, sidecar, state),
        made_at=now,
        version=__version__,
        noun="task",
        total=state["total"],
        counts=state["counts"],
        stopped_early=state["stopped_early"],
        gaps=_gaps(run_id, found),
        main=found["main"],
        direction=best_end(direction, found["main"]),
        replicates=found["replicates"],
        rows=found["rows"],
        binned=found["binned"],
        spread=found["spread"],
        time_line=found["time_line"],
        waves=found["waves"]["shown"],
        usage=found["usage"],
        groups=found["groups"],
        provenance=_provenance(run, sidecar, found),
        left_out=left_out,
        table_command=f"hpc-agent aggregate --run-id {run_id}",
    )


def _about(run: KnownRun, sidecar: Sidecar | None, state: dict[str, Any]) -> str:
    facts = [f"run {run.record.run_id} on {run.record.cluster}"]
    if sidecar:
        facts[0] += f" ({sidecar.scheduler})"
    if run.record.submitted_at:
        facts.append("submitted " + moment(run.record.submitted_at))
    facts.append(
        {"in_flight": "under way", "failed": "ended, with failed tasks"}.get(
            state["lifecycle_state"], state["lifecycle_state"]
        )
    )
    return ", ".join(facts)


def _gaps(run_id: str, found: dict[str, Any]) -> list[Gap]:
    """Return what the results lack, each with the next command."""
    state, counts, gaps = found["state"], found["state"]["counts"], []
    commands = {
        "failed": f"hpc-agent failures --run-id {run_id}",
        "unknown": f"hpc-agent verify-submitted --run-id {run_id}",
    }
    onward = next_step(run_id, state["lifecycle_state"], {**counts, "failed": 0}, bool(state.get("held_for_canary")))
    for name, ranges in found["missing"].items():
        number = counts[name]
        tasks = "1 task" if number == 1 else f"{number:,} tasks"
        gaps.append(Gap(what=f"{tasks} {name}", tasks=ranges, command=commands.get(name, onward)))
    if empty := found["without_metrics"]:
        whole = empty if len(empty) < 400 else "many"
        number = count(empty) if whole == empty else 0
        what = f"{number:,} complete tasks gave no metric" if number != 1 else "1 complete task gave no metric"
        gaps.append(Gap(what=what if number else "many complete tasks gave no metric", tasks=whole if number else "",
                        command=f"hpc-agent aggregate --run-id {run_id}"))  # fmt: skip
    for metric, bad in found["not_finite"].items():
        said = "value of {} is" if bad == 1 else "values of {} are"
        gaps.append(Gap(what=f"{bad:,} {said.format(metric)} NaN or infinite: no figure counts them"))
    if found["problem_count"]:
        first = found["problems"][0]
        gaps.append(Gap(what=f"{found['problem_count']} kinds of values were not taken as metrics, first: {first['message']}",
                        command=f"hpc-agent aggregate --run-id {run_id}"))  # fmt: skip
    if state["stale"]:
        gaps.append(Gap(what=f"the scheduler could not be asked, so states may be old: {state['stale']['error']}",
                        command=f"hpc-agent status --run-id {run_id}"))  # fmt: skip
    return gaps


def _provenance(run: KnownRun, sidecar: Sidecar | None, found: dict[str, Any]) -> list[Section]:
    record = run.record
    jobs = ", ".join(record.job_ids[:JOBS_SHOWN])
    jobs += f" and {len(record.job_ids) - JOBS_SHOWN} more" if len(record.job_ids) > JOBS_SHOWN else ""
    hosts = ", ".join(f"{host} ({tasks})" for host, tasks in found["hosts"].items())
    hosts += (
        f" and {found['host_count'] - len(found['hosts'])} more" if found["host_count"] > len(found["hosts"]) else ""
    )
    command = run.journal.submit_command(record.run_id)
    facts = [("Run", record.run_id), ("Campaign", record.campaign_id), ("Cluster", record.cluster),
             ("Folder", record.remote_path), ("Jobs", jobs), ("Nodes (tasks)", hosts), ("Executor", record.executor),
             ("Command", command)]  # fmt: skip
    sections = [Section(title="Run", facts=[(name, value) for name, value in facts if value])]
    if sidecar is None:
        sections.append(Section(title="Code", facts=[("sidecar", "not on this machine, or of another version")]))
    else:
        code = [("Snapshot", sidecar.snapshot), ("Tree", sidecar.tree_sha), ("tasks.py", sidecar.tasks_py_sha),
                ("Parameters", sidecar.cmd_sha), ("hpc-agent", sidecar.hpc_agent_version),
                ("Git commit", _git(sidecar.git)),
                ("Declared inputs", _inputs(sidecar.inputs))]  # fmt: skip
        units = {"walltime_sec": ("walltime", duration), "mem_mb": ("memory", mebibytes)}
        asked = [(units[name][0], units[name][1](value)) if name in units else (name, str(value))
                 for name, value in sidecar.resources.items() if value]  # fmt: skip
        asked += [("modules", ", ".join(sidecar.modules)), ("conda environment", sidecar.conda_env or ""),
                  ("variables (names only)", ", ".join(sorted(sidecar.env)))]  # fmt: skip
        sections.append(Section(title="Code", facts=[(name, value or NOT_RECORDED) for name, value in code]))
        sections.append(Section(title="Asked for", facts=[(name, value) for name, value in asked if value]))
    sections.append(Section(title="Environment on the node", facts=_environment(found["environment"])))
    return sections


def _git(found: dict[str, Any]) -> str:
    """Return the commit and the state of the tree; the reason where there is none."""
    if not found.get("commit"):
        return str(found.get("unknown", ""))
    changed = count_of(found.get("changed_count", 0), "changed file")
    return f"{found['commit']}, {f'with {changed}' if found.get('dirty') else 'nothing changed'}"


def _inputs(found: list[dict[str, Any]]) -> str:
    facts = (f"{one['path']} (sha256 {str(one.get('sha256'))[:16]}, {one.get('bytes')} bytes)" for one in found)
    return ", ".join(facts) or "none"


def _environment(document: Any) -> list[tuple[str, str]]:
    """Return the facts of environment.json; what is not known there is told."""
    if not isinstance(document, dict):
        told = "" if document is None else str(document)
        return [*([("record", told)] if told else []), *((name, NOT_RECORDED) for name in ENVIRONMENT)]
    known = {"at": moment(document["at"])} if isinstance(document.get("at"), (int, float)) else {}
    facts = flattened(
        {name.replace("_", " "): value for name, value in {**document, **known}.items() if name != "format"}
    )
    return [(name, NOT_RECORDED if text == "null" else text) for name, text in facts]
