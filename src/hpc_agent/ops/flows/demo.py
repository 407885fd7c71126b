"""``demo``: write, run and aggregate a small experiment on this machine."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

from hpc_agent.contract.primitive import Effect, Request, Result, primitive
from hpc_agent.errors import OutputsMissing, SpecInvalid
from hpc_agent.infra.backends import TEMPLATES
from hpc_agent.infra.transport import quote
from hpc_agent.ops.aggregate.aggregate import AggregateRequest, make_table
from hpc_agent.ops.aggregate.table import as_text
from hpc_agent.ops.monitor.monitor_flow import MonitorFlowRequest, monitor_flow
from hpc_agent.ops.run.fields import ClusterName, doc
from hpc_agent.ops.run.known_run import known_run
from hpc_agent.ops.run.run_request import SubmitRequest
from hpc_agent.ops.submit.submit import submit
from hpc_agent.state.repo_files import local_path
from hpc_agent.world import World

SCAFFOLD = TEMPLATES / "scaffolds" / "demo"
ARGUMENTS = '--alpha "$ALPHA" --fold "$FOLD" --output-file "$HPC_RESULT_DIR/metrics.json"'


class DemoRequest(Request):
    """The folder and the cluster of the experiment."""

    experiment_dir: Annotated[str, doc("folder for the demo")] = "hpc-agent-demo"
    cluster: ClusterName = "local"
    python: Annotated[str | None, doc("interpreter of the executors; this one on local, python3 elsewhere")] = None


class DemoResult(Result):
    experiment_dir: str
    run_id: str
    columns: list[str]
    rows: Annotated[
        list[list[Any]], doc("a row for each penalty, over its five folds, in the order of columns; the best first")
    ]
    table_csv: str
    next_steps: list[str]


@primitive(
    stage="setup",
    effects=[Effect.FILES, Effect.JOURNAL, Effect.SUBMIT],
    errors=[SpecInvalid, OutputsMissing],
    positional="experiment_dir",
    progress=True,
    brief="a small run, whole",
    example={"experiment_dir": "demo"},
    next_verbs=["report", "submit"],
)
def demo(request: DemoRequest, world: World) -> DemoResult:
    """Make a small ridge-regression experiment, run its 25 tasks, and print the table.

    The experiment is a repo with a plain script, and .hpc/tasks.py with the grid. A second call submits nothing twice.
    """
    folder = local_path(world.cwd, request.experiment_dir, "experiment_dir", is_folder=True)
    _make(folder)
    python = request.python or (sys.executable if request.cluster == "local" else "python3")
    executor = f"{quote([python, 'executors/ridge.py'])} {ARGUMENTS}"
    asked = SubmitRequest(cluster=request.cluster, executor=executor, experiment_dir=str(folder), run_name="demo")
    sent = submit(asked, world)
    watched = monitor_flow(MonitorFlowRequest(run_id=sent.run_id, experiment_dir=str(folder)), world)
    if watched.lifecycle_state != "complete":
        message = f"the demo run {sent.run_id} ended as {watched.lifecycle_state}"
        remedy = f"Run: hpc-agent logs --experiment-dir {quote([str(folder)])} --run-id {sent.run_id} --all-failed"
        details = {"last_status": watched.last_status, "samples": watched.samples}
        raise OutputsMissing(message, details=details, remediation=remedy)
    wanted = AggregateRequest(run_id=sent.run_id, experiment_dir=str(folder), over=["fold"], sort="rmse")
    table, rows = make_table(known_run(world, wanted), wanted, world)
    steps = [
        *_path_first(world),
        f"cd {quote([str(folder)])}",
        f"hpc-agent status --run-id {sent.run_id}",
        f"hpc-agent logs --run-id {sent.run_id} --task-id 0",
        f"hpc-agent submit --cluster {request.cluster} --run-name demo --executor {quote([executor])}   # submits nothing twice",
        "hpc-agent clusters-list   # then your own cluster in ~/.hpc-agent/clusters.yaml",
    ]
    title = f"Ridge regression, mean and spread over five folds, the best first (run {sent.run_id}):"
    shown = "\n  ".join(["Next:", *steps])
    if not world.progress.view_follows:
        world.progress.say(f"\n{title}\n\n{as_text(rows)}\n\nTable: {table.table_csv}\n\n{shown}\n")
    same = {name: getattr(table, name) for name in ("columns", "rows", "table_csv")}
    return DemoResult(experiment_dir=str(folder), run_id=sent.run_id, next_steps=steps, **same)


def _path_first(world: World) -> list[str]:
    """Return the command after which ``hpc-agent`` is found, where the PATH does not have it: a venv that is not active."""
    program = Path(sys.executable).parent / "hpc-agent"
    if shutil.which("hpc-agent", path=world.env.get("PATH", "")) or not program.is_file():
        return []
    return [f'export PATH={quote([str(program.parent)])}:"$PATH"']


def _make(folder: Path) -> None:
    """Write the experiment. Raises SpecInvalid for a folder with other files."""
    if (folder / ".hpc" / "tasks.py").is_file():
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        remedy = "Name another folder: 'hpc-agent demo my-demo'."
        raise SpecInvalid(f"{folder} exists and is not a demo", field="experiment_dir", remediation=remedy)
    shutil.copytree(SCAFFOLD, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
