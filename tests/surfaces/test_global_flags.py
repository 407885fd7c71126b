"""``--json``, ``--yes`` and ``--field``: flags of every verb, anywhere after it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from hpc_agent.cli.field import as_text, check_path, value_at
from hpc_agent.cli.globals import GLOBAL_FLAGS, Globals, take_globals
from hpc_agent.contract.catalogue import load_catalogue
from hpc_agent.errors import SpecInvalid

CATALOGUE = load_catalogue()
ANSWER = {
    "ok": True,
    "idempotent": False,
    "partial_errors": [],
    "data": {
        "run_id": "r-1é",
        "rows": [[1, 0.5], [2, 0.25]],
        "spec": {"cluster": "local", "optimizer.lr": 0.1},
        "nothing": None,
    },
}


def test_no_verb_has_a_flag_of_these_names():
    taken = {each.flag for each in GLOBAL_FLAGS} - {"--full"}  # which some verbs heed themselves
    assert [(verb, flag.flag) for verb, entry in CATALOGUE.items() for flag in entry.flags if flag.flag in taken] == []


@pytest.mark.parametrize(
    ("words", "taken", "others"),
    [
        ("status --run-id r", Globals(), "status --run-id r"),
        ("status --json --run-id r", Globals(json=True), "status --run-id r"),
        ("--json status --run-id r --yes", Globals(json=True, yes=True), "status --run-id r"),
        ("status --field data.run_id --run-id r", Globals(field="data.run_id"), "status --run-id r"),
        ("status --field=rows[0] --yes", Globals(yes=True, field="rows[0]"), "status"),
        ("recall -- --json", Globals(), "recall -- --json"),
        ("--full status r", Globals(full=True), "status --full r"),
        ("--full", Globals(full=True), ""),
    ],
)
def test_they_may_stand_anywhere(words, taken, others):
    assert take_globals(words.split()) == (taken, others.split())


@pytest.mark.parametrize("words", ["status --field", "status --field --json", "status --field="])
def test_a_field_needs_its_name(words):
    with pytest.raises(SpecInvalid, match="--field needs"):
        take_globals(words.split())


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("data.run_id", "r-1é"),
        ("run_id", "r-1é"),
        ("ok", "true"),
        ("partial_errors", "[]"),
        ("rows", "[[1,0.5],[2,0.25]]"),
        ("rows.1.1", "0.25"),
        ("rows[-1][0]", "2"),
        ("data.spec.optimizer.lr", "0.1"),
        ("spec", '{"cluster":"local","optimizer.lr":0.1}'),
        ("nothing", "null"),
    ],
)
def test_one_value(path, text):
    assert as_text(value_at(ANSWER, path, "status")).decode() == text


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("data.run_di", "Did you mean 'run_id'?"),
        ("spec.clutser", "Did you mean 'cluster'?"),
        ("cluster", "Did you mean 'spec.cluster'?"),
        ("spec.zzz", "It has cluster, optimizer.lr."),
        ("rows.7", "'rows', a list of 2"),
        ("run_id.x", "no 'x' in 'run_id'"),
        ("data.rows.0.x", "no 'x' in 'data.rows.0'"),
    ],
)
def test_an_unknown_path_names_the_nearest(path, said):
    with pytest.raises(SpecInvalid) as caught:
        value_at(ANSWER, path, "status")
    assert said in f"{caught.value.message} {caught.value.remediation}"
    assert "the command itself succeeded" in caught.value.message


@pytest.mark.parametrize("path", ["run_di", "data.run_di", "data.ok", "."])
def test_a_path_that_no_answer_has_is_refused_before_the_call(path):
    with pytest.raises(SpecInvalid) as caught:
        check_path(path, "submit", ["run_id", "job_ids"])
    assert "hpc-agent describe submit" in caught.value.remediation
    for known in ("run_id", "data", "data.run_id.0", "ok", "partial_errors", "data.partial_errors"):
        check_path(known, "submit", ["run_id", "job_ids"])


def test_on_the_command_line(run_cli, tmp_path, world_home):
    def call(*words):
        command = [sys.executable, "-m", "hpc_agent", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env=world_home.env
        )
        return done.returncode, done.stdout

    assert call("describe", "status", "--field", "data.name") == (0, "status\n")
    assert call("describe", "--field=name", "submit-flow") == (0, "submit\n")
    assert call("--field", "total_matching", "list-in-flight") == (0, "0\n")
    code, text = call("describe", "status", "--field", "nmae")
    answer = json.loads(text)
    assert (code, answer["error_code"], answer["field"]) == (1, "spec_invalid", "--field")
    assert "Did you mean 'name'?" in answer["remediation"]
    code, text = call("status", "--field", "run_id", "--run-id", "none")
    assert (code, json.loads(text)["error_code"]) == (1, "run_not_found")
    code, text = call("submit", "--jsn")
    assert "Did you mean --json?" in json.loads(text)["remediation"]
    assert json.loads(call("list-in-flight", "--json", "--yes")[1])["ok"]


@pytest.mark.parametrize("verb", ["status", "clusters-list", "submit"])
def test_a_verbs_help_shows_them(verb):
    done = subprocess.run(
        [sys.executable, "-m", "hpc_agent", verb, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert all(each.flag in done.stdout for each in GLOBAL_FLAGS)


@pytest.mark.parametrize("words", ["clusters-list --yes=1", "clusters-list --full=no", "status --json=0"])
def test_a_switch_takes_no_value(words, run_cli, tmp_path):
    refused = run_cli(*words.split(), cwd=tmp_path).envelope
    flag = words.split()[1].partition("=")[0]
    assert (refused["field"], refused["message"]) == (flag, f"{flag} takes no value")
