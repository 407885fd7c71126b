"""axes-init, classify-axis and classify-axis-easy through the command line."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import yaml

SHA = "0123abcd" * 8
WINDOW = ("--run-name", "train", "--run-signature-sha", SHA, "--classified-by", "classify-axis-easy")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    return folder


def axes_of(repo: Path) -> bytes:
    return (repo / ".hpc" / "axes.yaml").read_bytes()


def test_axes_are_written_once_and_only_replaced_on_request(run_cli, repo):
    words = ("axes-init", "--axes", "model:3,seed:10", "--homogeneous-axes", "seed")
    made = run_cli(*words, cwd=repo)
    assert made.data == {
        "axes": [{"name": "model", "size": 3}, {"name": "seed", "size": 10}],
        "homogeneous_axes": ["seed"],
        "axes_path": str(repo / ".hpc" / "axes.yaml"),
        "wrote": True,
        "reason": "new",
        "deduped": False,
    }
    before = axes_of(repo)
    again = run_cli(*words, cwd=repo)
    assert (again.data["wrote"], again.data["reason"], again.envelope["idempotent"]) == (False, "unchanged", True)
    assert axes_of(repo) == before
    refused = run_cli("axes-init", "--axes", "model:4", cwd=repo)
    assert (refused.code, refused.envelope["error_code"]) == (1, "precondition_failed")
    assert "--force" in refused.envelope["remediation"]
    assert axes_of(repo) == before
    assert run_cli("axes-init", "--axes", "model:4", "--force", cwd=repo).data["reason"] == "replaced"
    document = yaml.safe_load(axes_of(repo))
    assert document["axes_schema_version"] == 2
    assert (document["axes"], document["homogeneous_axes"]) == ([{"name": "model", "size": 4}], [])
    assert [path.name for path in (repo / ".hpc").iterdir() if path.is_file()] == ["axes.yaml"]


@pytest.mark.parametrize(("given", "kept"), [("window - 1", "window - 1"), ("19", 19), ('"lag"', "lag")])
def test_a_halo_is_a_number_or_an_expression(run_cli, repo, given, kept):
    entry = run_cli("classify-axis", *WINDOW, "--kind", "bounded_halo", "--halo", given, cwd=repo).data["entry"]
    assert entry["data_axis"] == {"kind": "bounded_halo", "halo": kept}


def test_a_file_with_the_same_content_in_other_words_is_left_as_it_is(run_cli, repo):
    (repo / ".hpc").mkdir()
    text = "# mine\naxes_schema_version: 2\naxes: [{size: 3, name: model}]\n"
    (repo / ".hpc" / "axes.yaml").write_text(text)
    assert not run_cli("axes-init", "--axes", "model:3", cwd=repo).data["wrote"]
    assert axes_of(repo) == text.encode()


def test_a_run_is_upserted_and_the_rest_is_kept(run_cli, repo):
    run_cli("axes-init", "--axes", "model:3", cwd=repo)
    window = run_cli(
        "classify-axis", *WINDOW, "--kind", "bounded_halo", "--halo", '{"expr": "window - 1"}', cwd=repo
    ).data
    axis = {"kind": "bounded_halo", "halo": {"expr": "window - 1"}}
    entry = {"run_signature_sha": SHA, "data_axis": axis, "classified_by": "classify-axis-easy"}
    assert (window["entry"], window["deduped"]) == (entry, False)
    spec = {
        "run_name": "score", "run_signature_sha": SHA[:12], "classified_by": "a person",
        "data_axis": {"kind": "associative", "monoid": "moments", "ahead": {"expr": 2}},
    }  # fmt: skip
    run_cli("classify-axis", "--spec", "-", stdin=json.dumps(spec), cwd=repo)
    before = axes_of(repo)
    again = run_cli("classify-axis", "--spec", "-", stdin=json.dumps(spec), cwd=repo)
    assert (again.data["deduped"], again.envelope["idempotent"]) == (True, True)
    assert axes_of(repo) == before
    document = yaml.safe_load(before)
    assert list(document["executors"]) == ["score", "train"]
    assert document["executors"]["train"] == entry
    assert document["axes"] == [{"name": "model", "size": 3}]
    run_cli("classify-axis", *WINDOW, "--kind", "sequential", cwd=repo)
    document = yaml.safe_load(axes_of(repo))
    assert document["executors"]["train"]["data_axis"] == {"kind": "sequential"}
    assert document["executors"]["score"]["data_axis"]["monoid"] == "moments"
    assert not run_cli("axes-init", "--axes", "model:3", cwd=repo).data["wrote"]


def test_the_axes_are_added_to_a_file_that_has_runs_only(run_cli, repo):
    run_cli("classify-axis", *WINDOW, "--kind", "independent", cwd=repo)
    assert run_cli("axes-init", "--axes", "model:3", cwd=repo).data["reason"] == "new"
    assert list(yaml.safe_load(axes_of(repo))["executors"]) == ["train"]


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (("axes-init", "--axes", "model"), "axes"),
        (("axes-init", "--axes", "model:x"), "axes"),
        (("axes-init", "--axes", "model:0"), "axes[0].size"),
        (("axes-init", "--axes", "a-b:1"), "axes[0].name"),
        (("axes-init", "--axes", "a:1,a:2"), "axes[1].name"),
        (("axes-init", "--axes", "a:1", "--homogeneous-axes", "b"), "homogeneous_axes[0]"),
        (("axes-init",), "axes"),
        (("classify-axis", *WINDOW, "--kind", "bounded_halo"), "data_axis"),
        (("classify-axis", *WINDOW, "--kind", "associative"), "data_axis"),
        (("classify-axis", *WINDOW, "--kind", "independent", "--monoid", "sum"), "data_axis"),
        (("classify-axis", *WINDOW, "--kind", "bounded_halo", "--halo", '{"expr": "f(x)"}'), "data_axis"),
        (("classify-axis", *WINDOW, "--kind", "bounded_halo", "--halo", '{"rows": 3}'), "data_axis.halo.rows"),
        (("classify-axis-easy", "--source-path", "none.py", "--run-name", "train"), "source_path"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(run_cli, repo, words, field):
    refused = run_cli(*words, cwd=repo)
    assert (refused.code, refused.envelope["error_code"]) == (1, "spec_invalid")
    assert refused.envelope["field"] == field
    assert "hpc-agent" in refused.envelope["remediation"]
    assert not (repo / ".hpc" / "axes.yaml").exists()


BAD_AXIS = f"""axes_schema_version: 2
executors: {{t: {{run_signature_sha: {SHA}, classified_by: me, data_axis: {{kind: no}}}}}}
"""


@pytest.mark.parametrize(
    ("text", "code", "key"),
    [
        ("axes: [", "spec_invalid", "axes.yaml"),
        ("axes: []\naxes: []\n", "spec_invalid", "axes.yaml"),
        ("axes: []\n", "spec_invalid", "axes_schema_version"),
        ("axes_schema_version: two\n", "spec_invalid", "axes_schema_version"),
        ("axes_schema_version: 2\naxis: []\n", "spec_invalid", "axes_schema_version"),
        ("axes_schema_version: 2\naxes: [{name: a, size: many}]\n", "spec_invalid", "axes[0].size"),
        ("axes_schema_version: 2\naxes: [{name: a, size: 0}]\n", "spec_invalid", "axes[0].size"),
        ("axes_schema_version: 2\nhomogeneous_axes: [a]\n", "spec_invalid", "homogeneous_axes[0]"),
        (
            BAD_AXIS,
            "spec_invalid",
            "executors.t.data_axis",
        ),
        ("axes_schema_version: 3\n", "schema_incompat", None),
    ],
)
def test_a_broken_file_is_named_with_its_key_and_left_alone(run_cli, repo, text, code, key):
    (repo / ".hpc").mkdir()
    (repo / ".hpc" / "axes.yaml").write_text(text)
    for words in (("axes-init", "--axes", "a:1"), ("classify-axis", *WINDOW, "--kind", "independent")):
        refused = run_cli(*words, cwd=repo)
        assert (refused.envelope["error_code"], refused.envelope.get("field")) == (code, key), refused.envelope
        assert str(repo / ".hpc" / "axes.yaml") in refused.envelope["message"]
        assert axes_of(repo) == text.encode()
    forced = run_cli("axes-init", "--axes", "a:1", "--force", cwd=repo)
    assert forced.envelope["ok"] == (code == "spec_invalid"), "what a newer version wrote is not replaced"


def test_classify_axis_easy_reads_scripts_and_notebooks(run_cli, repo):
    source = "def train(prices, window):\n    return prices.rolling(window).max()\n"
    (repo / "train.py").write_text(source)
    cell = {"cell_type": "code", "metadata": {}, "source": source}
    (repo / "train.ipynb").write_text(json.dumps({"cells": [cell]}))
    for name in ("train.py", "train.ipynb"):
        found = run_cli("classify-axis-easy", "--source-path", name, "--run-name", "train", cwd=repo).data
        assert (found["kind"], found["halo_expr"], found["ahead_expr"]) == ("bounded_halo", "window - 1", None)
        assert found["evidence"][0]["text"] == "return prices.rolling(window).max()"
        spec = {
            "run_name": "train", "run_signature_sha": SHA, "data_axis": found["data_axis"],
            "classified_by": "classify-axis-easy",
        }  # fmt: skip
        assert run_cli("classify-axis", "--spec", "-", stdin=json.dumps(spec), cwd=repo).data["entry"]
    missing = run_cli("classify-axis-easy", "--source-path", "train.py", "--run-name", "other", cwd=repo).data
    assert (missing["kind"], missing["tried"]) == ("function_not_found", ["function train"])


MEANS = """import pandas as pd
from hpc_agent.experiment_kit import register_run
from hpc_agent.experiment_kit.series import load_series, trim_emission


@register_run
def means(window: int):
    return trim_emission(load_series('p.csv', pd.read_csv).rolling(window).max())
"""


def record(run_cli, repo, axis, sha=None):
    sha = sha or run_cli("discover-runs", cwd=repo).data["runs"][0]["run_signature_sha"]
    spec = {"run_name": "means", "run_signature_sha": sha, "data_axis": axis, "classified_by": "check-axis"}
    assert run_cli("classify-axis", "--spec", "-", stdin=json.dumps(spec), cwd=repo).data["entry"]


def build(run_cli, repo, **axis):
    spec = {"axes": {"window": [20]}, "data_axis": {"chunks": 4, "series_length": 100, **axis}}
    return run_cli("build-tasks-py", "--spec", "-", stdin=json.dumps(spec), cwd=repo)


def halos(repo):
    tasks = runpy.run_path(str(repo / ".hpc" / "tasks.py"))
    return [tasks["resolve"](i)["halo"] for i in range(tasks["total"]())]


def test_what_was_classified_splits_the_tasks(run_cli, repo):
    (repo / "means.py").write_text(MEANS)
    found = run_cli("classify-axis-easy", "--source-path", "means.py", "--run-name", "means", cwd=repo).data
    assert build(run_cli, repo, **found["data_axis"]).data
    assert halos(repo) == [19, 19, 19, 19]


def test_build_tasks_py_takes_the_recorded_axis(run_cli, repo):
    (repo / "means.py").write_text(MEANS)
    missing = build(run_cli, repo).envelope
    assert (missing["error_code"], missing["field"]) == ("spec_invalid", "data_axis.kind")
    assert "check-axis" in missing["remediation"]
    record(run_cli, repo, {"kind": "bounded_halo", "halo": {"expr": "window + 1"}})
    assert build(run_cli, repo).data
    assert halos(repo) == [21, 21, 21, 21]
    record(run_cli, repo, {"kind": "bounded_halo", "halo": 3}, SHA)
    assert "has changed since" in build(run_cli, repo).envelope["message"]
    record(run_cli, repo, {"kind": "cartesian"})
    assert build(run_cli, repo).envelope["error_code"] == "spec_invalid"


def test_submit_refuses_tasks_with_fewer_rows_than_recorded(run_cli, repo):
    (repo / "means.py").write_text(MEANS)
    assert build(run_cli, repo, kind="bounded_halo", halo="window - 1").data
    words = ("submit", "--cluster", "local", "--executor", "python3 .hpc/cli.py", "--dry-run")
    assert run_cli(*words, cwd=repo).data
    record(run_cli, repo, {"kind": "bounded_halo", "halo": {"expr": "window"}})
    refused = run_cli(*words, cwd=repo).envelope
    assert (refused["error_code"], refused["message"]) == (
        "spec_invalid", "a task has halo 19, and the recorded axis needs 20",
    )  # fmt: skip
    assert run_cli(*words, "--skip-validation", cwd=repo).data
    record(run_cli, repo, {"kind": "sequential"})
    assert "sequential" in run_cli(*words, cwd=repo).envelope["message"]
    record(run_cli, repo, {"kind": "bounded_halo", "halo": {"expr": "window - 1"}})
    run_cli("axes-init", "--axes", "window:2", cwd=repo)
    assert any("2 values of 'window', and the tasks 1" in note for note in run_cli(*words, cwd=repo).data["notes"])
