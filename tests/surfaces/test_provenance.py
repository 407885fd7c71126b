"""Where results come from, with the real command line: records of a run, its repeat, its story, its crate."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from experiment import make_repo, submit, watch, write

pytestmark = [
    pytest.mark.usefixtures("clusters_file"),
    pytest.mark.parametrize("site", ["local"], indirect=True),
]
EXECUTOR = "python3 work.py"
WORK = """
import json, os
x = float(os.environ["X"])
scale = float(open("data/scale.txt").read())
here = os.environ["HPC_RESULT_DIR"]
json.dump({"y": x * scale, "z": float("nan")}, open(here + "/metrics.json", "w"))
"""


@pytest.fixture
def repo(tmp_path):
    return make_repo(tmp_path / "repo", [{"x": x} for x in range(4)], **{"work.py": WORK, "data__scale.txt": "2"})


def wait_for_end(run_cli, repo):
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"


def sidecar(repo: Path, run_id: str) -> dict:
    return json.loads((repo / ".hpc" / "runs" / f"{run_id}.json").read_text())


def test_what_a_run_records(site, run_cli, repo):
    sent = submit(run_cli, repo, EXECUTOR, "--inputs", "data/*.txt", "--env", '{"SETTING": "value-of-setting"}')
    wait_for_end(run_cli, repo)
    kept = sidecar(repo, sent["run_id"])
    assert kept["git"] == {"unknown": "the folder is in no git repository"}
    assert [(one["path"], one["files"], one["bytes"]) for one in kept["inputs"]] == [("data/*.txt", 1, 1)]
    text = Path(sent["remote_path"], "environment.json").read_text()
    found = json.loads(text)
    assert found["problems"] == []
    assert found["python"]["seen"] == "in the command"
    assert found["python"]["package_count"] == len(found["packages"]) > 0
    assert (found["node"], found["gpus"]) == (os.uname().nodename, [])
    assert "value-of-setting" not in text
    assert not Path(sent["remote_path"], "environment.json.claim").exists()


def test_changed_data_is_a_new_run_and_the_answer_says_so(site, run_cli, repo):
    shared = ("--shared-paths", "data", "--inputs", "data")
    first = submit(run_cli, repo, EXECUTOR, *shared)
    assert submit(run_cli, repo, EXECUTOR, *shared)["run_id"] == first["run_id"]
    wait_for_end(run_cli, repo)
    write(repo / "data" / "scale.txt", "3")
    second = submit(run_cli, repo, EXECUTOR, *shared)
    assert second["run_id"] != first["run_id"]
    assert any(
        "the inputs differ (data changed (data/scale.txt)): this is a new run" in note for note in second["notes"]
    )
    undeclared = submit(run_cli, repo, EXECUTOR, "--shared-paths", "data")
    write(repo / "data" / "scale.txt", "4")
    assert submit(run_cli, repo, EXECUTOR, "--shared-paths", "data")["run_id"] == undeclared["run_id"]
    refused = run_cli("submit", "--cluster", "testbed", "--executor", EXECUTOR, "--inputs", "no/such*", cwd=repo)
    assert (refused.code, refused.envelope["error_code"]) == (1, "spec_invalid")
    assert "no/such* names no file" in refused.envelope["message"]


def test_an_environment_that_cannot_be_read_fails_no_task(site, run_cli, repo):
    executor = "/no/such/python3 work.py || python3 work.py"
    sent = submit(run_cli, repo, executor)
    wait_for_end(run_cli, repo)
    found = json.loads(Path(sent["remote_path"], "environment.json").read_text())
    assert (found["python"], found["packages"]) == (None, None)
    assert "/no/such/python3" in found["problems"][0]


def test_a_repeat_after_the_repo_has_moved_on(site, run_cli, repo):
    first = submit(run_cli, repo, EXECUTOR)
    wait_for_end(run_cli, repo)
    write(repo / "work.py", "raise SystemExit(1)")
    write(repo / ".hpc" / "tasks.py", "raise SystemExit(1)")
    again = run_cli("reproduce-run", "--run-id", first["run_id"], cwd=repo).data
    assert (again["run_id"], again["reproduces"]) == (first["run_id"] + "-r1", first["run_id"])
    early = run_cli("verify-reproduction", "--run-id", again["run_id"], cwd=repo)
    if not early.envelope["ok"]:  # it may have ended by now
        assert early.envelope["error_code"] == "precondition_failed"
    wait_for_end(run_cli, repo)
    seen = run_cli("verify-reproduction", "--run-id", again["run_id"], cwd=repo).data
    assert (seen["reproduced"], seen["rows_compared"], seen["rows_equal"]) == (True, 4, 4)
    third = run_cli("reproduce-run", "--run-id", again["run_id"], cwd=repo).data
    assert third["run_id"] == first["run_id"] + "-r2"
    wait_for_end(run_cli, repo)


def test_a_killed_repeat_goes_on_and_submits_nothing_twice(site, run_cli, repo):
    first = submit(run_cli, repo, EXECUTOR)
    wait_for_end(run_cli, repo)
    jobs = []
    # The journal is cut back to the intent, as after a kill before the answer.
    again = run_cli("reproduce-run", "--run-id", first["run_id"], cwd=repo).data
    [journal] = Path(os.environ.get("HPC_JOURNAL_DIR") or repo.parent / "home").rglob(f"{again['run_id']}.jsonl")
    journal.write_text(journal.read_text().splitlines(keepends=True)[0])
    for _ in range(2):
        once_more = run_cli("reproduce-run", "--run-id", first["run_id"], cwd=repo).data
        assert once_more["run_id"] == again["run_id"]
        jobs.append(once_more["job_ids"])
    assert jobs == [again["job_ids"]] * 2
    wait_for_end(run_cli, repo)
    assert len(list(Path(first["remote_path"]).parent.iterdir())) == 2


def test_another_version_of_the_code_is_named_by_its_files(site, run_cli, repo):
    first = submit(run_cli, repo, EXECUTOR)
    wait_for_end(run_cli, repo)
    write(repo / "work.py", (repo / "work.py").read_text() + "# more\n")
    (repo / "work.py").chmod(0o755)
    write(repo / "new.py", "")
    second = submit(run_cli, repo, EXECUTOR)
    wait_for_end(run_cli, repo)
    seen = run_cli("verify-reproduction", "--run-id", second["run_id"], "--of", first["run_id"], cwd=repo).data
    told = {one["what"]: (one["before"], one["now"]) for one in seen["differences"]}
    assert list(told)[:3] == ["new.py", "work.py", "tree_sha"]
    assert told["new.py"][0] is None
    assert told["work.py"][1].endswith(", executable")


def test_a_changed_snapshot_is_told_and_not_run_again(site, run_cli, repo):
    first = submit(run_cli, repo, EXECUTOR)
    wait_for_end(run_cli, repo)
    again = run_cli("reproduce-run", "--run-id", first["run_id"], cwd=repo).data
    wait_for_end(run_cli, repo)
    snapshot = Path(first["remote_path"]).parent.parent / "snapshots" / again["snapshot"] / "work.py"
    snapshot.chmod(0o644)
    snapshot.write_text(snapshot.read_text() + "\n")
    snapshot.chmod(0o444)
    seen = run_cli("verify-reproduction", "--run-id", again["run_id"], cwd=repo).data
    words = {"before": "changed on the cluster", "now": "changed on the cluster"}
    assert {"in": "code", "what": "files of the snapshot", **words} in seen["differences"]
    refused = run_cli("reproduce-run", "--run-id", first["run_id"], cwd=repo).envelope
    assert (refused["error_code"], "were changed since" in refused["message"]) == ("precondition_failed", True)


def test_other_data_is_refused_then_named(site, run_cli, repo):
    shared = ("--shared-paths", "data", "--inputs", "data")
    first = submit(run_cli, repo, EXECUTOR, *shared)
    wait_for_end(run_cli, repo)
    write(repo / "data" / "scale.txt", "2.5")
    refused = run_cli("reproduce-run", "--run-id", first["run_id"], cwd=repo)
    assert (refused.code, refused.envelope["error_code"]) == (1, "precondition_failed")
    assert "data changed (data/scale.txt)" in refused.envelope["message"]
    assert not (repo / ".hpc" / "runs" / f"{first['run_id']}-r1.json").exists()
    again = run_cli("reproduce-run", "--run-id", first["run_id"], "--changed-inputs-ok", cwd=repo).data
    assert any("data changed" in told for told in again["not_repeated"])
    wait_for_end(run_cli, repo)
    red = run_cli("verify-reproduction", "--run-id", again["run_id"], cwd=repo)
    assert (red.code, red.envelope["error_code"]) == (1, "reproduction_differs")
    details = red.envelope["details"]
    assert (details["rows_compared"], details["rows_equal"], details["rows_different"]) == (4, 1, 3)
    first_result = next(one for one in details["differences"] if one["in"] == "results")
    assert (first_result["what"], first_result["before"], first_result["now"]) == ("y of task 1", 2.0, 2.5)
    assert details["differences"][0]["what"] == "data changed (data/scale.txt)"
    assert "first difference in inputs" in red.envelope["message"]
    assert run_cli("verify-reproduction", "--run-id", again["run_id"], "--rtol", "0.25", cwd=repo).data["reproduced"]


def test_the_story_of_a_run(site, run_cli, repo):
    sent = submit(run_cli, repo, EXECUTOR)
    wait_for_end(run_cli, repo)
    run_cli("aggregate", cwd=repo)
    told = run_cli("run-story", cwd=repo).data
    lines = told["text"].splitlines()
    times = [line[:19] for line in lines if re.match(r"\d{4}-\d\d-\d\d ", line)]
    assert times == sorted(times)
    assert len(times) == told["event_count"]
    words = ("submission of 4 tasks begins", "arrays a0 of wave 0 submitted, 4 elements", "the first task starts",
             "the last attempt ends: 4 complete", "seen complete: 4 complete", "table of 1 wave written")  # fmt: skip
    for word in words:
        assert any(word in line for line in lines), (word, told["text"])
    assert len(told["text"]) < 2000
    assert "events" not in told
    assert len(run_cli("run-story", "--full", cwd=repo).data["events"]) == told["event_count"]

    subprocess.run(["rm", "-rf", sent["remote_path"]], check=True)
    alone = run_cli("run-story", cwd=repo)
    assert alone.envelope["partial_errors"][0]["code"] == "run_not_found"
    assert "submission of 4 tasks begins" in alone.data["text"]


def test_the_crate_has_every_file_that_it_names(site, run_cli, repo, tmp_path):
    submit(run_cli, repo, EXECUTOR, "--inputs", "data")
    early = run_cli("export-crate", cwd=repo)
    assert early.envelope["error_code"] == "precondition_failed"
    wait_for_end(run_cli, repo)
    aggregated = run_cli("aggregate", cwd=repo).data
    table = Path(aggregated["table_csv"]).with_name("table.json")
    whole = table.read_text()
    table.write_text(json.dumps({**json.loads(whole), "included_tasks": 3}))  # as if made before the last task ended
    partial = run_cli("export-crate", cwd=repo).data
    told = "the table has 3 of 4 tasks, and 4 are complete by now"
    assert partial["notes"][0].startswith(told)
    assert told in Path(partial["crate"], "ro-crate-metadata.json").read_text()
    table.write_text(whole)
    answer = run_cli("export-crate", cwd=repo).data  # replaces its own crate
    assert not any("the table has" in note for note in answer["notes"])
    folder = Path(answer["crate"])
    graph = json.loads((folder / "ro-crate-metadata.json").read_text())["@graph"]
    files = {one["@id"] for one in graph if one["@type"] == "File"}
    assert files | {"ro-crate-metadata.json"} == {path.name for path in folder.iterdir()}
    assert {"table.csv", "tasks.py", "run.json", "environment.json", "story.txt"} <= files
    ids = [one["@id"] for one in graph]
    assert len(ids) == len(set(ids))
    [action] = [one for one in graph if one["@type"] == "CreateAction"]
    assert action["actionStatus"] == "http://schema.org/CompletedActionStatus"
    packed = run_cli("export-crate", "--output", str(tmp_path / "c.zip"), cwd=repo).data["crate"]
    assert set(zipfile.ZipFile(packed).namelist()) == {path.name for path in folder.iterdir()}
    write(tmp_path / "mine" / "notes.txt", "x")
    refused = run_cli("export-crate", "--output", str(tmp_path / "mine"), cwd=repo)
    assert refused.envelope["error_code"] == "precondition_failed"
    assert (tmp_path / "mine" / "notes.txt").exists()


# The validator and the JSON-LD context of RO-Crate 1.1, which rocrate carries: the check needs no other network.
VALIDATOR = ("roc-validator==0.13.0", "rocrate==0.13.0")
RUNNER = """
import importlib.util, io, json, pathlib, sys
from email.message import Message
from urllib.response import addinfourl
import rdflib._networking, requests
place = pathlib.Path(importlib.util.find_spec("rocrate").origin).parent / "data" / "ro-crate.jsonld"
context = place.read_bytes()
assert json.loads(context)["@id"] == "https://w3id.org/ro/crate/1.1/context"
def known(url):
    assert str(url).startswith("https://w3id.org/ro/crate/1.1/context"), url
def get(self, url, **options):
    known(url)
    answer = requests.Response()
    answer.status_code, answer._content, answer.url = 200, context, url
    answer.headers["Content-Type"] = "application/ld+json"
    return answer
def urlopen(request, *more, **options):
    known(request.full_url)
    headers = Message()
    headers["Content-Type"] = "application/ld+json"
    return addinfourl(io.BytesIO(context), headers, request.full_url, 200)
requests.Session.get, rdflib._networking.urlopen = get, urlopen
from rocrate_validator import services
from rocrate_validator.models import ValidationSettings
issues = []
for profile in ("ro-crate-1.1", "process-run-crate-0.5"):
    settings = ValidationSettings(
        rocrate_uri=sys.argv[1], profile_identifier=profile, requirement_severity="REQUIRED", no_cache=True
    )
    result = services.validate(settings)
    assert result.executed_checks, profile
    issues += [[profile, issue.check.identifier, issue.message] for issue in result.get_issues()]
print(json.dumps(issues))
"""


@pytest.mark.slow(reason="installs roc-validator into an environment of its own")
def test_the_validator_finds_nothing_that_is_required(site, run_cli, repo, tmp_path):
    submit(run_cli, repo, EXECUTOR, "--inputs", "data")
    wait_for_end(run_cli, repo)
    run_cli("aggregate", cwd=repo)
    folder = Path(run_cli("export-crate", "--author", "Ada Lovelace", cwd=repo).data["crate"])
    venv = tmp_path / "validator"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True, timeout=120)
    installed = subprocess.run(
        [venv / "bin" / "pip", "install", "-q", *VALIDATOR], capture_output=True, text=True, timeout=400, check=False
    )
    if installed.returncode:
        pytest.skip(f"the package index does not answer: {installed.stderr[-300:]}")

    def issues() -> list:
        words = [venv / "bin" / "python", "-c", RUNNER, folder]
        done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])

    assert issues() == []
    # The check can fail: a crate without its table is found.
    (folder / "table.csv").unlink()
    assert issues() != []
