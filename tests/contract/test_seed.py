"""The README of hpc-agent 0.9.0, promise by promise: commands, files, imports, keys, codes that its readers rely on.

What a promise does in full is tested where it is built; here stands that each of them is kept at all. The README itself is
not in this repository, so each promise is written down in the order in which it makes them.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml
from experiment import make_repo, write

import hpc_agent
from hpc_agent.cli.help import help_for
from hpc_agent.cli.parse import batch_in, find_verb, parse_request
from hpc_agent.contract.catalogue import load_catalogue
from hpc_agent.contract.envelope import convert
from hpc_agent.contract.primitive import load_all
from hpc_agent.errors import BY_CODE, EXIT_CODES
from hpc_agent.infra.backends import get_backend
from hpc_agent.infra.clusters import cluster_keys, load_clusters_config
from hpc_agent.infra.constraints import parse_constraints
from hpc_agent.infra.remote import runtime_files
from hpc_agent.state.preflight import FRESH_SEC

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # which pytest brings there

ROOT = Path(__file__).resolve().parents[2]
SRC = Path(hpc_agent.__file__).parent
CATALOGUE = load_catalogue()
REGISTRY = load_all()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SLASH = SRC / "slash_commands"
COMMANDS = ("submit-hpc", "monitor-hpc", "aggregate-hpc", "campaign-hpc")
SKILLS = (
    "hpc-submit", "hpc-status", "hpc-aggregate", "hpc-campaign",
    "hpc-classify-axis", "hpc-wrap-entry-point", "hpc-build-executor",
)  # fmt: skip
# A program with one option, as its executors are.
PROGRAM = """import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--{}", type=float)
if __name__ == "__main__":
    parser.parse_args()
"""
REGISTERED = """from hpc_agent.experiment_kit import register_run

@register_run
def {}(alpha: float = 1.0):
    return {{"y": alpha}}
"""


def text_of(*parts: str) -> str:
    return ROOT.joinpath(*parts).read_text(encoding="utf-8")


# ---------------------------------------------------------------- the package


def test_the_package():
    project = PROJECT["project"]
    assert (project["name"], hpc_agent.__version__, project["requires-python"]) == ("hpc-agent", "0.9.0", ">=3.10")
    assert project["license"] in ({"text": "MIT"}, "MIT")
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    assert {"dev", "tui"} <= set(project["optional-dependencies"])
    assert any(name.startswith("rich>=13") for name in project["optional-dependencies"]["tui"])
    assert project["scripts"]["hpc-agent"] == "hpc_agent.cli:main"
    assert {"Environment :: Console", "Operating System :: POSIX", "Development Status :: 4 - Beta"} <= set(
        project["classifiers"]
    )
    assert (SRC / "py.typed").is_file()


FILES = """
docs/reference/agent-surface.md docs/integrations/CONTRACT.md docs/reference/cli-spec.md docs/internals/experiment-contract.md
docs/reference/boundary-contract.md tests/test_boundary_contract.py docs/workflows/memory-across-campaigns.md
docs/workflows/campaign.md docs/generated/operations.md docs/primitives/README.md .pre-commit-config.yaml
src/hpc_agent/models/mapreduce/templates/scaffolds/tasks_example.py src/hpc_agent/config/clusters.yaml
src/hpc_agent/models/mapreduce/templates/runtime/sge/cpu_array.sh
src/hpc_agent/models/mapreduce/templates/runtime/sge/gpu_array.sh
src/hpc_agent/models/mapreduce/templates/runtime/slurm/cpu_array.slurm
src/hpc_agent/models/mapreduce/templates/runtime/slurm/gpu_array.slurm
src/hpc_agent/ops src/hpc_agent/schemas/envelope.json
""".split()


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_it_names(name):
    assert (ROOT / name).exists()


# ---------------------------------------------------------------- commands as it spells them

LINES = """
hpc-agent setup
hpc-agent setup --dry-run
hpc-agent setup --cluster hoffman2
hpc-agent interview --spec spec.json --campaign-dir d
hpc-agent recall --root ~/experiments --task-kind kind
hpc-agent submit --spec spec.json
hpc-agent status --run-id id
hpc-agent aggregate --run-id id --wave 1
hpc-agent reconcile --run-id id
hpc-agent capabilities
hpc-agent describe submit
hpc-agent compute-run-id --spec spec.json
hpc-agent find-prior-run --spec spec.json
hpc-agent write-run-sidecar --spec spec.json
hpc-agent load-context
hpc-agent submit-flow --spec spec.json
hpc-agent submit-flow-batch --spec spec.json
hpc-agent monitor-flow --spec spec.json
hpc-agent aggregate-flow --run-id id
hpc-agent build-submit-spec --spec spec.json
hpc-agent build-tasks-py --spec spec.json
hpc-agent discover-executors
hpc-agent discover-reducers
hpc-agent decide-monitor-arm --spec spec.json
hpc-agent monitor-summary --run-id id
hpc-agent summarize-submit-plan --spec spec.json
hpc-agent verify-canary
hpc-agent verify-aggregation-complete --run-id id
hpc-agent suggest-setup-action
hpc-agent find-prior-run --cmd-sha 0123456789abcdef
hpc-agent prune-orphan-sidecars
hpc-agent run --workflow submit
hpc-agent clusters list
hpc-agent clusters describe hoffman2
hpc-agent campaign init c1
hpc-agent campaign status c1
hpc-agent build submit-spec --spec spec.json
hpc-agent validate campaign --spec spec.json
""".strip().splitlines()


@pytest.mark.parametrize("line", LINES)
def test_a_command_line_is_read(line, tmp_path):
    (tmp_path / "spec.json").write_text("{}", encoding="utf-8")
    verb, rest = find_verb(shlex.split(line)[1:], CATALOGUE)
    document = parse_request(verb, CATALOGUE[verb], rest, lambda: b"", tmp_path)
    if "--spec" not in line:
        convert(document, REGISTRY[verb].request, verb)


# The words for the verbs of 0.9.0 that it names, and those that its readers know beside them.
VERBS = """
setup install-commands preflight check-preflight clusters-list clusters-describe recommend-partition discover discover-executors
discover-runs discover-reducers build-executor build-template build-tasks-py export-package interview suggest-setup-action
compute-run-id axes-init classify-axis-easy classify-axis validate-campaign validate-executor-signatures validate-input-dataset
validate-walltime-against-history validate-self-qos-limit validate-stochastic-marker dry-run-local plan-throughput
summarize-submit-plan build-submit-spec write-run-sidecar find-prior-run prune-orphan-sidecars submit submit-spec submit-flow
submit-flow-batch verify-canary submit-and-verify verify-submitted update-run-constraints status poll-run-status monitor-flow
reconcile list-in-flight logs monitor-summary decide-monitor-arm mark-run-terminal failures resubmit resubmit-failed aggregate
combine-wave aggregate-flow cluster-reduce verify-aggregation-complete campaign-init campaign-status campaign-list
campaign-converged campaign-budget campaign-advance campaign-replay campaign-health recall capabilities describe load-context run
""".split()


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_has_help_a_page_schemas_and_a_row(name):
    verb, _ = find_verb([name], CATALOGUE)
    assert f"usage: hpc-agent {verb}" in (help_for([name, "--help"], CATALOGUE) or "")
    page = text_of("docs", "primitives", f"{name}.md")
    entry = CATALOGUE[verb]
    if name != verb:  # an alias: its page leads to the verb's
        assert f"({verb}.md)" in page
        page = text_of("docs", "primitives", f"{verb}.md")
    front = yaml.safe_load(page.split("---\n")[1])
    assert (front["name"], front["idempotent"], front["errors"]) == (verb, entry.idempotent, entry.errors)
    assert front["schemas"] == [entry.input_schema, entry.output_schema]
    assert f"| `{verb}` |" in text_of("docs", "generated", "operations.md")
    assert f"({verb}.md)" in text_of("docs", "primitives", "README.md")
    for schema in front["schemas"]:
        assert json.loads((SRC / "schemas" / schema).read_text(encoding="utf-8"))["$schema"]


def test_there_are_as_many_primitives_as_it_says():
    assert len(CATALOGUE) >= 50


def test_a_submit_with_specs_is_a_batch():
    assert batch_in("submit", {"specs": [{"run_name": "a"}]})[0] == "submit-flow-batch"


# ---------------------------------------------------------------- envelope, codes


def test_the_envelope_and_its_exit_codes(run_cli):
    answer = run_cli("capabilities")
    assert (answer.code, answer.envelope["ok"]) == (0, True)
    assert {"ok", "idempotent", "data"} <= set(answer.envelope)
    refused = run_cli("status", "--run-id", "no-such-run")
    assert (refused.code, refused.envelope["ok"]) == (1, False)
    assert {"ok", "error_code", "retry_safe", "remediation"} <= set(refused.envelope)
    assert EXIT_CODES == {"user": 1, "cluster": 2, "network": 2, "internal": 3}


@pytest.mark.parametrize(
    ("code", "exit_code", "retry_safe"),
    [
        ("spec_invalid", 1, False), ("executor_not_found", 1, False), ("cluster_unknown", 1, False),
        ("config_invalid", 1, False), ("precondition_failed", 1, False), ("ssh_unreachable", 2, True),
        ("scheduler_throttled", 2, True), ("remote_command_failed", 2, False), ("combiner_failed", 2, True),
        ("cluster_timeout", 2, True), ("outputs_missing", 2, True), ("journal_corrupt", 3, False),
        ("schema_incompat", 3, False), ("internal", 3, False), ("needs_resolution", 1, False),
    ],
)  # fmt: skip
def test_an_error_code_of_it(code, exit_code, retry_safe):
    error = BY_CODE[code]
    assert (EXIT_CODES[error.category], error.retry_safe) == (exit_code, retry_safe)
    assert f"| `{code}` | {exit_code} | {'yes' if retry_safe else 'no'} |" in text_of("docs/integrations/CONTRACT.md")


def test_the_contract_for_integrators_has_its_five_parts():
    page = text_of("docs/integrations/CONTRACT.md")
    assert "`SSH_AUTH_SOCK`" in page  # the environment of the process
    assert "| error_code | exit | `retry_safe` |" in page
    steps = [page.find(f"hpc-agent {verb} ") for verb in ("find-prior-run", "submit", "monitor-summary")]
    steps.append(page.find("hpc-agent verify-aggregation-complete "))
    assert steps == sorted(steps)
    assert -1 not in steps
    assert ".hpc/tasks.py" in page
    assert "### What an executor may import" in page


# ---------------------------------------------------------------- Claude Code


@pytest.mark.parametrize("name", COMMANDS)
def test_a_slash_command_ships_inside_the_package(name):
    page = (SLASH / "commands" / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith("---\n")
    assert "hpc-agent " in page


@pytest.mark.parametrize("name", SKILLS)
def test_a_skill_ships_inside_the_package(name):
    assert (SLASH / "skills" / name / "SKILL.md").is_file()


def test_what_the_slash_commands_carry():
    submit = (SLASH / "commands/submit-hpc.md").read_text(encoding="utf-8")
    assert "needs_resolution" in submit  # the escalation playbook
    assert re.search(r"6b\..*24 hours.*hpc-agent check-preflight", submit, re.DOTALL)
    assert "hpc-agent setup --cluster" in submit
    for skill in ("hpc-classify-axis", "hpc-wrap-entry-point", "hpc-build-executor"):
        assert skill in submit, f"the playbook leads to the skill {skill}"
    campaign = (SLASH / "commands/campaign-hpc.md").read_text(encoding="utf-8")
    assert "validate-campaign" in campaign  # the guide to its findings
    assert "/submit-hpc" in campaign
    monitor = (SLASH / "commands/monitor-hpc.md").read_text(encoding="utf-8")
    assert "resubmit" in monitor
    assert "decide-monitor-arm" in monitor  # schedules the next look by itself


def test_setup_copies_them_once(run_cli, world_home):
    claude = world_home.path / ".claude"
    run_cli("setup", "--dry-run").data  # noqa: B018
    assert not (claude / "commands").exists()
    run_cli("setup").data  # noqa: B018
    assert {path.stem for path in (claude / "commands").glob("*.md")} >= set(COMMANDS)
    assert {path.parent.name for path in (claude / "skills").glob("*/SKILL.md")} >= set(SKILLS)
    before = {path: path.read_bytes() for path in claude.rglob("*") if path.is_file()}
    again = run_cli("setup")
    assert (again.code, again.envelope["data"]["assets"].get("wrote", [])) == (0, [])
    assert {path: path.read_bytes() for path in claude.rglob("*") if path.is_file()} == before


def test_a_red_preflight_says_what_to_do(run_cli, world_home):
    """The packaged hoffman2 has placeholders: red, with a detail for each check, what to do, and no marker of 24 hours."""
    answer = run_cli("setup", "--cluster", "hoffman2")
    assert (answer.code, answer.envelope["ok"]) == (1, False)
    [red] = answer.envelope["details"]["red"]
    assert "<your_user>" in red["detail"]
    assert "site-packages" not in red["detail"] and "/config/" not in red["detail"], "a file that is nobody's to edit"
    assert "logging in" not in answer.stderr
    assert red["remedy"]
    assert red["paste"]
    assert not list(world_home.path.rglob("preflight/hoffman2.json"))
    assert FRESH_SEC == 24 * 3600
    waiting = run_cli("check-preflight", "local")
    assert waiting.code == 1
    assert "hpc-agent setup --cluster local" in waiting.envelope["remediation"]


def test_the_worker_has_credentials_of_its_own(run_cli, world_home):
    for name in list(world_home.env):
        if name.startswith(("ANTHROPIC_", "AWS_", "CLAUDE", "GOOGLE_", "AZURE_")):
            del world_home.env[name]
    answer = run_cli("run", "--workflow", "status")
    assert (answer.code, answer.envelope["error_code"]) == (1, "worker_auth_unavailable")
    assert "worker authentication unavailable" in answer.envelope["message"].lower()
    assert "export ANTHROPIC_API_KEY=" in answer.envelope["remediation"]
    flag = next(flag for flag in CATALOGUE["run"].flags if flag.flag == "--workflow")
    assert set(flag.choices or []) == {"submit", "status", "aggregate", "campaign"}
    assert "prompt" in json.dumps(run_cli("run", "--workflow", "status", "--inline").data)


def test_an_interview_allows_the_command_line_and_denies_to_cancel(run_cli, tmp_path):
    repo = tmp_path / "repo"
    write(repo / "train.py", PROGRAM.format("lr"))
    intent = {
        "goal": "find a rate", "task_count": 2, "produced_by": {"kind": "human", "operator": "ada"}, "executors": ["train.py"],
        "task_generator": {"kind": "numeric_logspace", "params": {"param": "lr", "low": 0.1, "high": 1.0, "n": 2}},
    }  # fmt: skip
    (tmp_path / "intent.json").write_text(json.dumps(intent), encoding="utf-8")
    answer = run_cli("interview", "--spec", str(tmp_path / "intent.json"), "--campaign-dir", ".", cwd=repo)
    assert answer.code == 0, answer.envelope
    stored = json.loads((repo / "interview.json").read_text(encoding="utf-8"))
    assert {"goal", "task_count", "task_generator", "produced_by"} <= set(stored)
    assert (repo / ".hpc/tasks.py").is_file()
    permissions = json.loads((repo / ".claude/settings.json").read_text(encoding="utf-8"))["permissions"]
    assert "Bash(hpc-agent:*)" in permissions["allow"]
    assert any("scancel" in rule for rule in permissions["deny"])
    assert any("qdel" in rule for rule in permissions["deny"])
    found = run_cli("recall", "--root", str(tmp_path)).data
    assert found["total_matching"] == 1


# ---------------------------------------------------------------- memory


def test_recall_needs_a_root_and_takes_the_configured_ones(run_cli, world_home, tmp_path):
    refused = run_cli("recall", "--task-kind", "sweep", cwd=tmp_path)
    assert (refused.code, refused.envelope.get("error_code")) == (1, "spec_invalid")
    (tmp_path / "experiments").mkdir()
    write(world_home.path / ".hpc-agent/config.json", json.dumps({"experiment_roots": [str(tmp_path / "experiments")]}))
    assert run_cli("recall", "--task-kind", "sweep", cwd=tmp_path).data["total_matching"] == 0
    flags = {flag.flag for flag in CATALOGUE["recall"].flags}
    assert {"--root", "--task-kind", "--include-runtime", "--include-generator-stats"} <= flags


def test_an_interview_takes_what_it_says():
    schema = json.loads((SRC / "schemas/interview.input.json").read_text(encoding="utf-8"))
    fields = set(schema["$defs"]["InterviewRequest"]["properties"])
    wanted = {
        "goal",
        "task_count",
        "budget",
        "abort_if",
        "task_generator",
        "cluster_target",
        "transcript",
        "produced_by",
    }
    assert wanted <= fields
    page = text_of("docs/workflows/memory-across-campaigns.md")
    for kind in ("enumerated", "cartesian_product", "items_x_seeds", "numeric_logspace", "numeric_linspace"):
        assert f"`{kind}`" in page
        assert f'"{kind}"' in (SRC / "schemas/interview.input.json").read_text(encoding="utf-8")
    assert "experiment_roots" in page


# ---------------------------------------------------------------- experiments


def test_executors_are_found_where_it_puts_them(run_cli, tmp_path):
    script = PROGRAM.format("horizon")
    for folder in ("executors", "src"):
        repo = tmp_path / folder / "repo"
        write(repo / folder / "ml_ridge.py", script)
        write(repo / "lib/loading.py", "def load():\n    return 1\n")
        found = run_cli("discover-executors", cwd=repo).data["executors"]
        assert [one["name"] for one in found] == ["ml_ridge"]


def test_registered_functions_are_found_in_all_three_places(run_cli, tmp_path):
    repo = tmp_path / "repo"
    write(repo / "train.py", REGISTERED.format("in_script"))
    write(repo / "package/__init__.py", "")
    write(repo / "package/models.py", REGISTERED.format("in_package"))
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    cell["source"] = REGISTERED.format("in_notebook")
    write(repo / "work.ipynb", json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    found = run_cli("discover-runs", cwd=repo).data["runs"]
    assert {one["name"] for one in found} == {"in_script", "in_package", "in_notebook"}


def test_the_grid_is_one_module_with_flags_and_a_dispatcher(run_cli, tmp_path):
    repo = tmp_path / "repo"
    write(repo / "executors/a.py", PROGRAM.format("x"))
    run_cli("build-tasks-py", "--axes", '{"x": [1, 2]}', cwd=repo).data  # noqa: B018
    tree = ast.parse((repo / ".hpc/tasks.py").read_text(encoding="utf-8"))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assigned = [node.targets[0] if isinstance(node, ast.Assign) else node.target
                for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]  # fmt: skip
    names = {target.id for target in assigned if isinstance(target, ast.Name)}
    assert {"total", "resolve"} <= functions
    assert "FLAGS" in names
    assert (repo / ".hpc/cli.py").is_file()


def test_the_example_shows_three_patterns():
    found = list(hpc_agent._PACKAGE_ROOT.rglob("tasks_example.py"))
    assert [path.relative_to(SRC).as_posix() for path in found] == [
        "models/mapreduce/templates/scaffolds/tasks_example.py"
    ]
    text = found[0].read_text(encoding="utf-8")
    for function in ("total", "resolve", "cartesian_product", "row_chunks", "date_windows"):
        assert f"def {function}(" in text


def test_the_dispatcher_is_deployed_and_needs_nothing():
    files = runtime_files(get_backend("slurm"))
    assert "_hpc_dispatch.py" in files
    imported = {
        (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else node.names[0].name.split(".")[0]
        for node in ast.walk(ast.parse(files["_hpc_dispatch.py"]))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported <= {"os", "sys", "_hpc_runtime"}


@pytest.fixture
def mine(tmp_path, world_home):
    """clusters.yaml with the cluster ``mine`` on this machine; given keys are added, and it is written anew."""
    path = tmp_path / "clusters.yaml"
    world_home.env["HPC_CLUSTERS_CONFIG"] = str(path)

    def configure(**keys):
        entry = {"scheduler": "local", "scratch": str(tmp_path / "scratch"), "min_poll_sec": 1, **keys}
        path.write_text(yaml.safe_dump({"mine": entry}), encoding="utf-8")

    configure()
    return configure


def test_a_sidecar_records_what_it_says(run_cli, tmp_path, mine):
    repo = make_repo(tmp_path / "repo", [{"x": 1}, {"x": 2}])
    identity = run_cli("compute-run-id", "--cluster", "mine", "--executor", "true", cwd=repo).data
    sha, run_id = identity["cmd_sha"], identity["run_id"]
    words = ["--run-id", run_id, "--cluster", "mine", "--executor", "true", "--cmd-sha", sha, "--task-count", "2"]
    written = run_cli("write-run-sidecar", *words, cwd=repo).data
    assert Path(written["path"]).resolve() == (repo / f".hpc/runs/{run_id}.json").resolve()
    sidecar = json.loads((repo / f".hpc/runs/{run_id}.json").read_text(encoding="utf-8"))
    assert {"executor", "result_dir_template", "cmd_sha", "wave_map"} <= set(sidecar)
    found = run_cli("find-prior-run", "--cmd-sha", sha, cwd=repo).data
    assert (found["found"], found["prior_run_id"]) == (True, run_id)


def test_a_run_is_journalled_and_an_unreachable_cluster_fails_fast(run_cli, tmp_path, world_home, mine):
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    sent = run_cli("submit", "--cluster", "mine", "--executor", "true", "--spec", "-", cwd=repo, stdin="{}").data
    where = run_cli("load-context", cwd=repo).data
    assert (world_home.path / ".claude/hpc" / where["repo_hash"] / "runs" / f"{sent['run_id']}.jsonl").is_file()
    assert run_cli("monitor-flow", "--wall-clock-budget-seconds", "60", cwd=repo).data["lifecycle_state"] == "complete"
    (tmp_path / "ssh_config").write_text("Host *\n  Port 9\n", encoding="utf-8")
    mine(host="127.0.0.1", user="ada", scheduler="slurm", ssh_config=str(tmp_path / "ssh_config"))
    for verb in ("status", "aggregate", "reconcile"):
        answer = run_cli(verb, "--run-id", sent["run_id"], cwd=repo, env={"HPC_NO_BREAKER": "1"})
        assert (answer.code, answer.envelope["error_code"]) == (2, "ssh_unreachable")
        assert answer.envelope["retry_safe"] is True


# ---------------------------------------------------------------- clusters


def test_the_packaged_clusters_and_their_keys():
    clusters = load_clusters_config(env={})
    assert clusters["hoffman2"]["scheduler"] == "sge"
    assert clusters["discovery"]["scheduler"] == "slurm"
    assert clusters["hoffman2"]["host"] == "hoffman2.idre.ucla.edu"
    keys = {key.key for key in cluster_keys()}
    assert {"host", "user", "scheduler", "scratch", "modules", "conda_source", "conda_envs", "gpu_types"} <= keys
    limits = parse_constraints({"max_array_size": 500, "max_walltime": "24:00:00", "max_concurrent_jobs": 3})
    assert (limits.max_array_size, limits.max_walltime_sec, limits.max_concurrent_jobs) == (500, 86400, 3)


def test_its_clusters_yaml_is_read(run_cli, tmp_path):
    mine = """
hoffman2:
  host: hoffman2.idre.ucla.edu
  user: ada
  scheduler: sge
  scratch: /u/scratch/a/ada
  modules: [python/3.11.9]
  conda_source: /u/local/apps/anaconda3/2024.06/etc/profile.d/conda.sh
  conda_envs: [research]
  gpu_types: [a100, h200, a6000]
"""
    path = tmp_path / "mine.yaml"
    path.write_text(mine, encoding="utf-8")
    answer = run_cli("clusters", "describe", "hoffman2", env={"HPC_CLUSTERS_CONFIG": str(path)}).data
    config = answer["config"]
    assert (config["user"], config["conda_envs"], config["gpu_types"]) == (
        "ada",
        ["research"],
        ["a100", "h200", "a6000"],
    )


def test_waves_are_ordered_by_dependencies_of_the_scheduler():
    for scheduler, option in (("slurm", "--dependency"), ("sge", "-hold_jid")):
        text = (SRC / f"node/schedulers/{scheduler}/adapter.py").read_text(encoding="utf-8")
        assert f'"{option}' in text or f"'{option}" in text


def test_limits_make_arrays_and_waves(run_cli, mine):
    mine(constraints={"max_array_size": 4, "max_concurrent_jobs": 2, "est_spin_up": "1s"})
    words = ["--cluster", "mine", "--total-tasks", "20", "--est-task-sec", "60", "--pack", "1"]
    plan = run_cli("plan-throughput", *words).data
    assert (plan["n_arrays"], plan["n_waves"]) == (5, 3)
    assert plan["est_total_wall_sec"] > 0


# ---------------------------------------------------------------- Python

IMPORTS = {
    "hpc_agent": "RUNS_SUBDIR RepoLayout TASKS_FILENAME load_tasks_module _PACKAGE_ROOT get_template_path load_clusters_config",
    "hpc_agent.infra.constraints": "ClusterConstraints parse_constraints",
    "hpc_agent.infra.throughput": "WorkloadSpec build_wave_map compute_submission_plan",
    "hpc_agent.infra.backends": "get_backend",
    "hpc_agent.infra.remote": "deploy_runtime",
    "hpc_agent.state.run_sha": "compute_cmd_sha",
    "hpc_agent.state.runs": "find_run_by_cmd_sha find_existing_runs write_run_sidecar read_run_sidecar",
    "hpc_agent.experiment_kit": "register_run",
}


@pytest.mark.parametrize(("module", "names"), IMPORTS.items())
def test_an_import_of_its_library_surface(module, names):
    found = importlib.import_module(module)
    for name in names.split():
        assert getattr(found, name) is not None
    assert module != "hpc_agent" or set(names.split()) <= set(hpc_agent.__all__)


def test_a_template_is_found_by_scheduler_and_name():
    for scheduler, ending in (("sge", "sh"), ("slurm", "slurm")):
        for name in ("cpu_array", "gpu_array"):
            wanted = SRC / f"models/mapreduce/templates/runtime/{scheduler}/{name}.{ending}"
            assert hpc_agent.get_template_path(scheduler, name) == wanted
        backend = get_backend(scheduler)
        assert [backend.template(gpus).stem for gpus in (0, 1)] == ["cpu_array", "gpu_array"]


# ---------------------------------------------------------------- development


def test_the_hook_before_a_commit_makes_generated_files_anew():
    hooks = {
        hook["id"]: hook
        for repo in yaml.safe_load(text_of(".pre-commit-config.yaml"))["repos"]
        for hook in repo["hooks"]
    }
    assert "hpc_agent.contract.generate" in hooks["generate"]["entry"]
    assert any("ruff" in name for name in hooks)
    added = hooks["generate"]["entry"]
    for derived in ("src/hpc_agent/api", "src/hpc_agent/schemas", "docs/primitives", "docs/generated"):
        assert derived in added, f"the hook does not add {derived}"
