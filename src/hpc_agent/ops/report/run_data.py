"""Make the document of a run's report: the cluster's survey, the sidecar and the journal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hpc_agent import __version__
from hpc_agent.contract.envelope import did_you_mean
from hpc_agent.errors import JournalCorrupt, RunNotFound, SchemaIncompat, SpecInvalid
from hpc_agent.node.shared.metric_names import best_end
from hpc_agent.ops.run.known_run import KnownRun
from hpc_agent.ops.run.run_status import next_step
from hpc_agent.state.runs import Sidecar, read_run_sidecar
from hpc_agent.view.report.data import Gap, ReportData, Section
from hpc_agent.view.report.numbers import duration, mebibytes, moment
from hpc_agent.view.report.sections import flattened
from hpc_agent.view.terminal.words import counted

SURVEY_TIMEOUT_SEC = 1800.0
NOT_RECORDED = "not recorded"
# What a run's environment.json tells, where there is one.
ENVIRONMENT = ("interpreter", "packages", "modules loaded", "CPU and GPU model")
JOBS_SHOWN = 6
OF_SURVEY = ("main", "replicates", "rows", "binned", "spread", "time_line", "usage", "groups")


def ask_survey(run: KnownRun, metric: str | None, replicates: list[str] | None) -> dict[str, Any]:
    """Ask the cluster once. This version's runtime answers, so that runs of earlier versions have the same page.

    Raises SpecInvalid for a metric that the run does not have, and the errors of the connection.
    """
    found = run.ask_this_version("survey", SURVEY_TIMEOUT_SEC, metric=metric, replicates=replicates)
    if metric is not None and found["main"] != metric:
        known = ", ".join(found["rows"]["metrics"][:20])
        message = f"no task of {run.record.run_id} has a metric '{metric}'"
        hint = did_you_mean(metric, found["rows"]["metrics"])
        remedy = (
            f"{hint}Name one of these: {known}." if known else f"See 'hpc-agent status --run-id {run.record.run_id}'."
        )
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
        group["remedy"] = run.remedy(group["remedy"], group["sample"]["task"])
    left_out, waves = [], found["waves"]
    if found["more_groups"]:
        left_out.append(f"{found['more_groups']} kinds of failures beyond the first {len(found['groups'])}")
    if waves["total"] > len(waves["shown"]):
        left_out.append(f"waves beyond the first {len(waves['shown'])} of {waves['total']}")
    if rows := found["uncharted"]:
        left_out.append(f"the charts of parameters leave out {counted(rows, 'row')} with tasks that ended early")
    if running := state["counts"]["running"]:
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
        direction=best_end(direction, found["main"]),
        waves=waves["shown"],
        **{name: found[name] for name in OF_SURVEY},
        provenance=_provenance(run, sidecar, found),
        left_out=left_out,
        table_command=f"hpc-agent aggregate --run-id {run_id}",
    )


def _about(run: KnownRun, sidecar: Sidecar | None, state: dict[str, Any]) -> str:
    record, lifecycle = run.record, state["lifecycle_state"]
    facts = [f"run {record.run_id} on {record.cluster}" + (f" ({sidecar.scheduler})" if sidecar else "")]
    facts += ["submitted " + moment(record.submitted_at)] if record.submitted_at else []
    facts.append({"in_flight": "under way", "failed": "ended, with failed tasks"}.get(lifecycle, lifecycle))
    return ", ".join(facts)


def _gaps(run_id: str, found: dict[str, Any]) -> list[Gap]:
    """Return what the results lack, each with the next command."""
    state, counts = found["state"], found["state"]["counts"]
    onward = next_step(run_id, state["lifecycle_state"], {**counts, "failed": 0}, bool(state.get("held_for_canary")))
    ask = {
        name: f"hpc-agent {name} --run-id {run_id}" for name in ("failures", "verify-submitted", "aggregate", "status")
    }
    commands = {"failed": ask["failures"], "unknown": ask["verify-submitted"]}
    gaps = [
        Gap(what=f"{counted(counts[name], 'task')} {name}", tasks=ranges, command=commands.get(name, onward))
        for name, ranges in found["missing"].items()
    ]
    if without := found["without_metrics_count"]:
        what = f"{counted(without, 'complete task')} gave no metric"
        gaps.append(Gap(what=what, tasks=found["without_metrics"], command=ask["aggregate"]))
    for metric, bad in found["not_finite"].items():
        said = f"{bad:,} {f'value of {metric} is' if bad == 1 else f'values of {metric} are'}"
        gaps.append(Gap(what=f"{said} NaN or infinite: no figure counts them"))
    if kinds := found["problem_count"]:
        said = f"{kinds} kinds of values were not taken as metrics, first: {found['problem']}"
        gaps.append(Gap(what=said, command=ask["aggregate"]))
    if state["stale"]:
        said = f"the scheduler could not be asked, so states may be old: {state['stale']['error']}"
        gaps.append(Gap(what=said, command=ask["status"]))
    return gaps


def _provenance(run: KnownRun, sidecar: Sidecar | None, found: dict[str, Any]) -> list[Section]:
    record = run.record
    hosts = [f"{host} ({tasks})" for host, tasks in found["hosts"].items()]
    facts = [("Run", record.run_id), ("Campaign", record.campaign_id), ("Cluster", record.cluster),
             ("Folder", record.remote_path), ("Jobs", _some(record.job_ids[:JOBS_SHOWN], len(record.job_ids))),
             ("Nodes (tasks)", _some(hosts, found["host_count"])), ("Executor", record.executor),
             ("Command", run.journal.submit_command(record.run_id))]  # fmt: skip
    sections = [Section.of_known("Run", facts)]
    if sidecar is None:
        sections.append(Section(title="Code", facts=[("sidecar", "not on this machine, or of another version")]))
    else:
        code = [("Snapshot", sidecar.snapshot), ("Tree", sidecar.tree_sha), ("tasks.py", sidecar.tasks_py_sha),
                ("Parameters", sidecar.cmd_sha), ("hpc-agent", sidecar.hpc_agent_version),
                ("Git commit", _git(sidecar.git)), ("Declared inputs", _inputs(sidecar.inputs))]  # fmt: skip
        units: dict[str, tuple[str, Callable[[Any], str]]] = {
            "walltime_sec": ("walltime", duration), "mem_mb": ("memory", mebibytes)
        }  # fmt: skip
        asked = []
        for name, value in sidecar.resources.items():
            title, say = units.get(name, (name, str))
            asked.append((title, say(value) if value else ""))
        asked += [("modules", ", ".join(sidecar.modules)), ("conda environment", sidecar.conda_env or ""),
                  ("variables (names only)", ", ".join(sorted(sidecar.env)))]  # fmt: skip
        sections.append(Section(title="Code", facts=[(name, value or NOT_RECORDED) for name, value in code]))
        sections.append(Section.of_known("Asked for", asked))
    sections.append(Section(title="Environment on the node", facts=_environment(found["environment"])))
    return sections


def _some(shown: list[str], total: int) -> str:
    more = total - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _git(found: dict[str, Any]) -> str:
    """Return the commit and the state of the tree; the reason where there is none."""
    if not found.get("commit"):
        return str(found.get("unknown", ""))
    changed = counted(found.get("changed_count", 0), "changed file")
    return f"{found['commit']}, {f'with {changed}' if found.get('dirty') else 'nothing changed'}"


def _inputs(found: list[dict[str, Any]]) -> str:
    facts = (f"{one['path']} (sha256 {str(one.get('sha256'))[:16]}, {one.get('bytes')} bytes)" for one in found)
    return ", ".join(facts) or "none"


def _environment(document: Any) -> list[tuple[str, str]]:
    """Return the facts of environment.json; what is not known there is told."""
    if not isinstance(document, dict):
        told = [] if document is None else [("record", str(document))]
        return told + [(name, NOT_RECORDED) for name in ENVIRONMENT]
    known = {name.replace("_", " "): value for name, value in document.items() if name != "format"}
    if isinstance(known.get("at"), (int, float)):
        known["at"] = moment(known["at"])
    return [(name, NOT_RECORDED if text == "null" else text) for name, text in flattened(known)]
