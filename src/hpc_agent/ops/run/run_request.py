"""Define the requests that describe a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from hpc_agent.campaign.manifest import EarlyStop
from hpc_agent.contract.primitive import Request
from hpc_agent.infra.transport import quote
from hpc_agent.ops.run.command_line import command_line
from hpc_agent.ops.run.fields import ExperimentDir, Positive, PositiveFloat, doc
from hpc_agent.ops.run.resources import Resources
from hpc_agent.state.repo_files import local_path, save

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}\Z")]
MetricsFile = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*\.(json|csv)\Z")]
Isolate = Literal["warm", "fork", "exec"]
SiteWord = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.,:@&|*()!/+-]+\Z")]


class Results(Request):
    """The file with a task's metrics. Default: ``metrics.json`` in ``$HPC_RESULT_DIR``, if the file exists."""

    metrics_file: Annotated[
        MetricsFile | None, doc("a JSON object or CSV table in $HPC_RESULT_DIR that each task must write")
    ] = None
    weight: Annotated[str | None, doc("name of the metric that weights the task, such as n_samples")] = None
    expected_columns: Annotated[
        list[str], doc("metrics that each task must write: verify-aggregation-complete looks for them")
    ] = []
    aggregate_cmd: Annotated[
        str | None, doc("shell command of your own reducer, for aggregate; see cluster-reduce")
    ] = None
    reducer: Annotated[str | None, doc("your own reducer, a script of the repo, for aggregate; see cluster-reduce")] = (
        None
    )


class RunRequest(Request):
    """The fields that, with tasks.py and the code, identify a run."""

    cluster: Annotated[str, doc("name in clusters.yaml; see clusters-list")]
    executor: Annotated[
        str, doc('shell command of a task; parameters are variables: train.py --lr "$LR"', min_length=1)
    ]
    experiment_dir: ExperimentDir = "."
    tasks: Annotated[
        list[dict[str, Any]] | None, doc("parameters of each task, in place of those of .hpc/tasks.py")
    ] = None
    run_name: Annotated[Name | None, doc("first part of the run id; the repo's name by default")] = None
    result_dir_template: Annotated[str, doc("result folder of a task; fields: task_id, run_id, parameters")] = (
        "results/{task_id}"
    )
    results: Results = field(default_factory=Results)
    outputs: Annotated[list[str], doc("folders of the repo that tasks write to; each run has its own")] = field(
        default_factory=lambda: ["results", "logs"]
    )
    shared_paths: Annotated[
        list[str], doc("big folders to link and not freeze; NAME=/path/on/cluster where one is there already")
    ] = []
    inputs: Annotated[
        list[str],
        doc(
            "data to hash: files, folders, patterns in the repo or a shared path, or /on/the/cluster; changed data: a new run"
        ),
    ] = []
    env: Annotated[dict[str, str], doc("variables for every task (no secrets: they are recorded)")] = {}
    modules: Annotated[list[str] | None, doc("environment modules; the cluster's by default")] = None
    conda_env: Annotated[str | None, doc("conda environment; the cluster's first by default")] = None
    campaign_id: Annotated[Name | None, doc("tag of a series of runs")] = None
    early_stop: Annotated[
        EarlyStop | None, doc('tasks end themselves: {"metric": "loss", "reduction": 3}; see should_stop() of the kit')
    ] = None
    rerun: Annotated[bool, doc("run again although the same run exists")] = False
    resolve_timeout_sec: Annotated[float, doc("limit for reading tasks.py", gt=0, le=3600)] = 60.0


class SubmitRequest(RunRequest):
    """A run, and its placement on the cluster."""

    resources: Resources = field(default_factory=Resources)
    partition: Annotated[SiteWord | None, doc("partition (SLURM) or queue (Grid Engine)")] = None
    account: Annotated[SiteWord | None, doc("account (SLURM) or project (Grid Engine)")] = None
    qos: Annotated[SiteWord | None, doc("quality of service (SLURM)")] = None
    constraint: Annotated[SiteWord | None, doc("node features")] = None
    exclude_nodes: Annotated[list[SiteWord], doc("nodes not to use")] = []
    extra_flags: Annotated[
        list[str], doc("further options of sbatch or qsub: --extra-flags=--reservation=x,--nice=5")
    ] = []
    pack: Annotated[Positive | None, doc("tasks that one array element runs, in turn or some at once")] = None
    at_once: Annotated[
        Positive, doc("tasks that one element runs at the same time: it asks so many times for the resources of a task")
    ] = 1
    isolate: Annotated[
        Isolate,
        doc("packed functions: warm, tasks share a worker; fork, each has one of its own; exec, an interpreter"),
    ] = "warm"
    est_task_sec: Annotated[PositiveFloat | None, doc("expected seconds of a task, for packing and estimates")] = None
    max_running: Annotated[Positive | None, doc("limit of elements that run at once")] = None
    canary: Annotated[bool, doc("task 0 runs first, alone; the rest when verify-canary finds it in order")] = False
    skip_validation: Annotated[bool, doc("submit in spite of errors of the checks; see validate-campaign")] = False
    dry_run: Annotated[bool, doc("plan only: nothing is pushed or submitted")] = False


class Trials(msgspec.Struct, frozen=True):
    """What a campaign adds to a run. The same parameters in another iteration, or as another trial, are another run."""

    iteration: int
    numbers: list[int]  # the trial of each task
    early_stop: dict[str, Any] | None
    command: str  # goes on with the campaign


def submit_command(request: SubmitRequest, cwd: Path) -> str:
    """Return the command that goes on with the submission of a request, as a shell runs it in the folder ``cwd``."""
    return command_line("submit", _again(request, cwd))


def saved_command(request: SubmitRequest, cwd: Path, path: Path) -> str:
    """Write a request into a file, and return the command that submits it: its tasks may be too many for a command line."""
    here = str(local_path(cwd, request.experiment_dir, "experiment_dir"))
    save(path, msgspec.structs.replace(_again(request, cwd), experiment_dir=here))
    return quote(["hpc-agent", "submit", "--spec", str(path)])


def _again(request: SubmitRequest, cwd: Path) -> SubmitRequest:
    here = {name: getattr(request, name) for name in SubmitRequest.__struct_fields__}
    if request.experiment_dir != ".":
        here["experiment_dir"] = str(local_path(cwd, request.experiment_dir, "experiment_dir"))
    return SubmitRequest(**{**here, "rerun": False})  # with rerun it could begin another run
