"""A misspelt name is answered with the nearest one that there is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hpc_agent.state.journal import Journal
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.world import World

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "horizon_sweep"
RUN = "horizon_sweep-1a2b3c4d"


@pytest.fixture
def repo(tmp_path, world_home):
    """The example with one run in the journal, and a campaign."""
    repo = tmp_path / "horizon_sweep"
    shutil.copytree(EXAMPLE, repo, ignore=shutil.ignore_patterns("results", "runs", "__pycache__"))
    Journal(World(cwd=repo, env=world_home.env), RepoLayout(repo)).append(
        RUN, "submitting", cluster="local", executor="true", total_tasks=1
    )
    folder = repo / ".hpc" / "campaigns" / "horizons"
    folder.mkdir(parents=True)
    manifest = {"campaign_id": "horizons", "metrics": [{"name": "mae"}], "strategy": {"name": "own"}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return repo


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("stats", "'hpc-agent status'"),
        ("submit --clutser local", "--cluster"),
        ("status --run-id horizon_swep-1a2b3c4d", f"'{RUN}'"),
        ("status --run-id latst", "'latest'"),
        ("mark-run-terminal --run-id horizon_sweep-1a2b3c44", f"'{RUN}'"),
        ("compare --run-ids horizon_sweep-1a2b3c4,x", f"'{RUN}'"),
        ("campaign-status horizns", "'horizons'"),
        ("report --campaign horizns", "'horizons'"),
        ("report --campaign horizons --metric maee", "'mae'"),
        ("campaign-init x --strategy randm", "random"),
        ("plan-throughput --cluster loca --total-tasks 5", "'local'"),
        ("clusters describe loca", "'local'"),
        ("scaffold-spec submitt", "'submit'"),
        ("describe submitt", "'submit'"),
        ("dry-run-local --executor executors/ml_rige.py", "'executors/ml_ridge.py'"),
        ("build-tasks-py --executors ml_rige --axes {} --force", "'ml_ridge'"),
    ],
)
def test_the_nearest_name_is_told(run_cli, repo, words, hint):
    outcome = run_cli(*words.split(), cwd=repo)
    assert outcome.code == 1
    told = outcome.envelope["message"] + outcome.envelope["remediation"]
    assert f"id you mean {hint}?" in told


def test_the_module_of_an_entry_point(run_cli, repo):
    point = json.dumps({"kind": "python_module", "module": "executors.ml_rige", "function": "main"})
    outcome = run_cli("interview", "--goal", "g", "--task-count", "6", "--entry-point", point, "--force", cwd=repo)
    assert "Did you mean 'executors.ml_ridge'?" in outcome.envelope["remediation"]


def test_run_ids_need_no_flag(run_cli, tmp_path):
    """As agents type it: the run behind the verb, and two runs with a comma or without."""
    (tmp_path / ".hpc").mkdir()
    assert "gone-1a2b3c4d" in run_cli("status", "gone-1a2b3c4d", cwd=tmp_path).envelope["message"]
    for words in (["gone-1,gone-2"], ["gone-1", "gone-2"], ["--run-ids", "gone-1,gone-2"]):
        assert run_cli("compare", *words, cwd=tmp_path).envelope["error_code"] == "run_not_found"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("SUBMIT", "Did you mean 'submit'? "),
        ("a; rm -rf /", "'hpc-agent find a rm rf' looks for it."),
        ("-", "Run 'hpc-agent capabilities' for all of them."),
    ],
)
def test_an_unknown_verb_is_described_by_a_command_that_runs(name, told, run_cli, tmp_path):
    assert told in run_cli("describe", "--", name, cwd=tmp_path).envelope["remediation"]


def test_a_word_of_another_script_is_not_read_as_its_ascii_rest(run_cli, tmp_path):
    assert run_cli("find", "ünïcode", cwd=tmp_path).data == {
        "next_step": "hpc-agent capabilities",
        "unknown_words": ["ünïcode"],
        "verbs": [],
    }
