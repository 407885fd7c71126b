"""From a repo to a submit spec on the command line: what is written, what is refused, and that nothing is half done."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest
from experiment import write

SCRIPT = """
import argparse
open({marker!r}, "w").close()  # whoever imports this leaves a trace
parser = argparse.ArgumentParser()
parser.add_argument("--horizon", type=int, required=True)
parser.add_argument("--model", choices=["a", "b"], default="a")
parser.add_argument("--data-path", default="data.csv")
parser.add_argument("--output-file", required=True)
if __name__ == "__main__":
    import json
    options = parser.parse_args()
    if options.horizon > 90:
        raise ValueError("too far")
    json.dump({{"score": options.horizon}}, open(options.output_file, "w"))
"""


@pytest.fixture
def repo(tmp_path):
    folder = tmp_path / "repo"
    write(folder / "executors/ridge.py", SCRIPT.format(marker=str(tmp_path / "imported")))
    write(folder / "data.csv", "x,y\n1,2\n3,\n")
    return folder


@pytest.fixture
def call(run_cli, repo):
    return lambda *words, **options: run_cli(*words, cwd=repo, **options)


def snapshot(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_wishes_write_the_same_bytes_and_import_nothing(call, repo, tmp_path):
    words = ("build-tasks-py", "--executors", "ridge", "--axes", '{"horizon": [1, 5], "model": ["a", "b"]}')
    made = call(*words).data
    assert (made["total_tasks"], made["metrics_file"]) == (4, "metrics.json")
    assert set(made["files"].values()) == {"written"}
    first = snapshot(repo)
    assert set(call(*words).data["files"].values()) == {"kept"}
    assert snapshot(repo) == first
    call("build-tasks-py", "--executors", "ridge", "--axes", '{"horizon": [7]}')  # nobody has edited it
    assert b"7" in (repo / ".hpc/tasks.py").read_bytes()
    call("discover-executors")
    call("discover-runs")
    call("resolve-submit-inputs", "--cluster", "local")
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"axes": {"horizn": [1]}}, "axes"),
        ({"axes": {"model": ["a"]}}, "axes"),  # horizon is required
        ({"axes": {"horizon": [1], "model": ["c"]}}, "axes"),
        ({"axes": {"horizon": ["soon"]}}, "axes"),
        ({"axes": {"horizon": [1, 2]}, "task_count": 3}, "task_count"),
        ({"axes": {"horizon": []}}, "axes.horizon"),
        ({"axes": {"horizon": [1], "$(touch x)": [1]}}, "axes"),
        ({"axes": {"horizon": [1], "model": ["a\0"]}}, "axes"),
        ({"executors": ["boost"], "axes": {"horizon": [1]}}, "executors"),
        ({"executors": ["../../etc/passwd"], "axes": {"horizon": [1]}}, "executors"),
        ({"task_generator": {"kind": "magic", "params": {}}}, "task_generator.kind"),
        ({"axes": {"horizon": [1]}, "task_generator": {"kind": "enumerated", "params": {"items": []}}}, "task_generator.params"),
        ({"axes": {"horizon": [1]}, "fixed_params": {"horizon": 2}}, "fixed_params"),
        ({"axes": {"horizon": [1]}, "data_axis": {"kind": "bounded_halo", "chunks": 2, "series_length": 9, "halo": "import os"}},
         "data_axis"),
    ],
)  # fmt: skip
def test_nothing_is_written_for_a_wrong_wish(call, repo, spec, field):
    before = snapshot(repo)
    for verb, more in (("build-tasks-py", {}), ("interview", {"goal": "g", "task_count": spec.get("task_count", 1)})):
        refused = call(verb, "--spec", "-", stdin=json.dumps({**more, **spec}))
        assert refused.code == 1, refused.envelope
        assert refused.envelope["error_code"] in ("spec_invalid", "executor_not_found")
        assert refused.envelope["field"] == field
        assert refused.envelope["remediation"]
        assert snapshot(repo) == before


def test_what_somebody_edited_is_never_overwritten(call, repo):
    words = ("build-tasks-py", "--executors", "ridge", "--axes", '{"horizon": [1]}')
    call(*words)
    for name in ("tasks.py", "cli.py"):
        path = repo / ".hpc" / name
        made = path.read_text()
        path.write_text(made + "\n# mine\n")
        before = snapshot(repo)
        refused = call("build-tasks-py", "--executors", "ridge", "--axes", '{"horizon": [2]}')
        assert (refused.code, refused.envelope["field"]) == (1, "force")
        assert str(path) in refused.envelope["message"]
        assert snapshot(repo) == before
        assert call(*words, "--force").data["files"][f".hpc/{name}"] == "written"
        assert path.read_text() == made


def test_an_interview_leaves_its_intent_and_rules_for_claude(call, repo):
    intent = {"goal": "How far?", "task_count": 2, "executors": ["ridge"], "axes": {"horizon": [1, 5]},
              "cluster_target": {"cluster": "local"}, "produced_by": {"kind": "agent", "session_sha": "abc"}}  # fmt: skip
    call("interview", "--spec", "-", "--no-allow-cli", stdin=json.dumps(intent))
    assert not (repo / ".claude").exists()
    made = call("interview", "--spec", "-", stdin=json.dumps(intent)).data
    assert made["artifacts"][".claude/settings.json"] == "written"
    kept = json.loads((repo / "interview.json").read_text())
    assert {name: kept[name] for name in ("goal", "task_count", "axes")} == {
        n: intent[n] for n in ("goal", "task_count", "axes")
    }
    assert kept["_materialized"]["cmd_sha"] == made["cmd_sha"]
    assert made["cmd_sha"] == call("compute-run-id", "--executor", made["executor"]).data["cmd_sha"]
    again = call("interview", "--spec", "-", stdin=json.dumps(intent)).data
    assert set(again["artifacts"].values()) == {"kept"}
    write(repo / ".claude/settings.json", '{"permissions": {"allow": ["Bash(ls:*)"]}, "model": "x"}')
    call("interview", "--spec", "-", stdin=json.dumps(intent))
    settings = json.loads((repo / ".claude/settings.json").read_text())
    assert settings["permissions"]["allow"] == ["Bash(ls:*)", "Bash(hpc-agent:*)"]
    assert settings["model"] == "x"
    write(repo / ".claude/settings.json", '{"permissions": [')
    told = call("interview", "--spec", "-", stdin=json.dumps(intent)).data
    assert any("was left as it is" in note for note in told["notes"])
    refused = call("interview", "--spec", "-", "--allow-cli", stdin=json.dumps(intent))
    assert (refused.code, refused.envelope["field"]) == (1, "allow_cli")
    assert (repo / ".claude/settings.json").read_text() == '{"permissions": ['
    assert call("resolve-submit-inputs").data["spec"]["cluster"] == "local"


def test_a_shell_command_is_wrapped_and_its_values_stay_values(call, repo, tmp_path):
    trap = tmp_path / "trap"
    point = {
        "kind": "shell_command",
        "run_name": "say",
        "argv": ["echo", "{text}", "-{n}"],
        "signature": {"text": "str", "n": "int"},
    }
    intent = {"goal": "g", "task_count": 1, "entry_point": point, "axes": {"text": [f"$(touch {trap})"], "n": [1]}}
    call("interview", "--spec", "-", stdin=json.dumps(intent))
    found = call("dry-run-local", "--executor", "python3 .hpc/cli.py").data
    assert [row["code"] for row in found["findings"]] == ["no_metrics"]
    assert not trap.exists()
    other = {**intent, "entry_point": {**point, "argv": ["printf", "{text}{n}"]}}
    call("interview", "--spec", "-", stdin=json.dumps(other))  # nobody has edited the wrapper
    wrapper = repo / ".hpc/wrappers/say.py"
    assert "printf" in wrapper.read_text()
    wrapper.write_text(wrapper.read_text() + "\n# mine\n")
    refused = call("interview", "--spec", "-", stdin=json.dumps(intent))
    assert (refused.code, refused.envelope["field"]) == (1, "force")
    assert wrapper.read_text().endswith("# mine\n")
    for wrong in (
        {**point, "argv": ["echo", "{other}"]},
        {**point, "run_name": "../x"},
        {**point, "signature": {"text": "str"}},
    ):
        refused = call("interview", "--spec", "-", stdin=json.dumps({**intent, "entry_point": wrong}))
        assert (refused.code, refused.envelope["error_code"]) == (1, "spec_invalid")


def test_any_function_of_a_module_can_be_an_entry(call, repo):
    write(repo / "lib/__init__.py", "")
    write(repo / "lib/fits.py", "def fit(depth: int, rate: float = 0.1):\n    return {'s': depth * rate}\n")
    intent = {
        "goal": "g",
        "task_count": 2,
        "axes": {"depth": [1, 2]},
        "entry_point": {"kind": "python_module", "module": "lib.fits", "function": "fit"},
    }
    made = call("interview", "--spec", "-", stdin=json.dumps(intent)).data
    assert made["executors"] == {"fit": "lib/fits.py:fit"}
    found = call("dry-run-local", "--executor", made["executor"]).data["findings"]
    assert [row["evidence"]["metrics"] for row in found] == [{"s": 0.1}, {"s": 0.2}]
    wrong = {**intent, "axes": {"deep": [1, 2]}}
    assert call("interview", "--spec", "-", stdin=json.dumps(wrong)).envelope["field"] == "axes"


def test_what_cannot_be_told_is_a_short_list(call, repo):
    refused = call("resolve-submit-inputs")
    assert (refused.code, refused.envelope["error_code"]) == (1, "needs_resolution")
    ambiguity = refused.envelope["details"]["ambiguities"][0]
    assert (ambiguity["field"], ambiguity["candidates"], ambiguity["safe_default"]) == ("tasks", ["ridge"], None)
    assert "build-tasks-py" in refused.envelope["remediation"]
    call("build-tasks-py", "--axes", '{"horizon": [1]}')
    data = call("resolve-submit-inputs", "--cluster", "local", "--walltime-sec", "60").data
    assert data["spec"]["resources"]["walltime_sec"] == 60
    assert data["plan"]["origin"]["walltime_sec"] == "request"
    assert {row["field"]: row["origin"] for row in data["resolved"]}["cluster"] == "request"
    # The spec is what submit takes, and what build-submit-spec says of it; the same work by hand has the same run id.
    executor = data["spec"]["executor"]
    by_hand = call(
        "submit", "--cluster", "local", "--executor", executor, "--metrics-file", "metrics.json", "--dry-run"
    )
    assert by_hand.data["run_id"] == data["run_id"]
    assert call("build-submit-spec", "--spec", "-", stdin=json.dumps(data["spec"])).data["run_id"] == data["run_id"]
    assert call("submit", "--spec", "-", "--dry-run", stdin=json.dumps(data["spec"])).data["run_id"] == data["run_id"]


def test_what_to_do_first(call, repo, tmp_path, run_cli):
    assert call("suggest-setup-action").data["action"] == "interview"
    call("build-tasks-py", "--axes", '{"horizon": [1]}')
    assert call("suggest-setup-action").data["action"] == "reuse"
    (tmp_path / "empty").mkdir()
    assert run_cli("suggest-setup-action", cwd=tmp_path / "empty").data["action"] == "fresh"


def test_submit_refuses_what_a_cheap_check_finds(call, repo):
    call("build-tasks-py", "--axes", '{"horizon": [1], "data_path": ["data.csv"]}')
    words = ("submit", "--cluster", "local", "--executor", "python3 .hpc/cli.py", "--dry-run")
    assert call(*words).code == 0
    script = repo / "executors/ridge.py"
    script.write_text(script.read_text().replace("--horizon", "--steps").replace("options.horizon", "options.steps"))
    refused = call(*words)
    assert (refused.code, refused.envelope["error_code"]) == (1, "spec_invalid")
    finding = refused.envelope["details"]["findings"][0]
    assert (finding["validator"], finding["code"]) == ("validate-executor-signatures", "unknown_parameter")
    assert call(*words, "--skip-validation").code == 0
    script.write_text(script.read_text().replace("--steps", "--horizon").replace("options.steps", "options.horizon"))
    (repo / ".hpcignore").write_text("data.csv\n")
    refused = call(*words)
    assert "not pushed with the code" in refused.envelope["message"], refused.envelope


def test_a_dry_run_runs_what_would_be_pushed(call, repo):
    call("build-tasks-py", "--axes", '{"horizon": [1, 2, 99]}')
    refused = call("dry-run-local", "--executor", "python3 .hpc/cli.py")
    assert (refused.code, refused.envelope["error_code"]) == (1, "spec_invalid")
    rows = {row["evidence"]["task"]: row for row in refused.envelope["details"]["findings"]}
    assert {task: row["severity"] for task, row in rows.items()} == {0: "info", 1: "info", 2: "error"}
    assert "too far" in rows[2]["evidence"]["log_tail"]
    assert call("dry-run-local", "--executor", "python3 .hpc/cli.py", "--task-ids", "1").data["overall"] == "pass"
    assert call("dry-run-local", "--executor", "python3 .hpc/cli.py", "--task-ids", "7").envelope["field"] == "task_ids"
    slow = call("dry-run-local", "--executor", "sleep 60", "--timeout-sec", "1", "--task-ids", "0").data
    assert [row["code"] for row in slow["findings"]] == ["not_ended"]
    text = """echo '{"acc": "0.5"}' >"$HPC_RESULT_DIR/metrics.json" """
    (told,) = call("dry-run-local", "--executor", text, "--task-ids", "0").data["findings"]
    assert (told["code"], "metric acc (0.5) left out" in told["message"]) == ("metrics_left_out", True)


def test_a_table_is_checked_for_rows_and_values(call, repo):
    assert (
        call("validate-input-dataset", "--dataset-path", "data.csv", "--row-indices", "0,1").data["overall"] == "pass"
    )
    refused = call(
        "validate-input-dataset", "--dataset-path", "data.csv", "--row-indices", "0,1", "--required-non-null-cols", "y"
    )
    assert refused.envelope["details"]["findings"][0]["evidence"] == {"rows": [1], "column": "y"}
    assert (
        "no row 9"
        in call("validate-input-dataset", "--dataset-path", "data.csv", "--row-indices", "9").envelope["message"]
    )
    assert call("validate-input-dataset", "--dataset-path", "nothing.csv").code == 1


def test_history_and_repetition(call, repo):
    call("build-tasks-py", "--axes", '{"horizon": [1, 2, 3]}')
    spec = call("resolve-submit-inputs", "--cluster", "local", "--campaign-id", "c1").data["spec"]
    sent = call("submit", "--spec", "-", stdin=json.dumps(spec)).data
    assert call("monitor-flow").data["lifecycle_state"] == "complete"
    short = call("validate-walltime-against-history", "--cluster", "local", "--requested-walltime-sec", "1")
    assert short.code == 0 or short.envelope["details"]["findings"][0]["code"] == "walltime_too_short"
    plan = call("submit", "--spec", "-", "--dry-run", "--rerun", stdin=json.dumps(spec)).data["plan"]
    assert plan["origin"]["walltime_sec"].startswith("measured: ")
    again = call("validate-stochastic-marker", "--campaign-id", "c1", "--expected-cmd-sha", sent["cmd_sha"]).data
    assert (again["overall"], again["findings"][0]["evidence"]["runs"]) == ("warn", [sent["run_id"]])
    other = call("validate-stochastic-marker", "--campaign-id", "c2", "--expected-cmd-sha", sent["cmd_sha"]).data
    assert other["overall"] == "pass"
    whole = call("validate-campaign", "--spec", "-", "--smoke", stdin=json.dumps(spec)).data
    assert whole["overall"] == "pass"
    assert "dry-run-local" in whole["validators_run"]


@pytest.mark.parametrize("full", [False, True])
def test_every_verb_has_a_scaffold_that_it_accepts(run_cli, full):
    code = (
        "import json, sys\n"
        "from hpc_agent.contract.primitive import load_all\n"
        "from hpc_agent.ops.author.starters import ScaffoldSpecRequest, scaffold_spec\n"
        f"made = [scaffold_spec(ScaffoldSpecRequest(verb=n, full={full}), None) for n in load_all()]\n"
        "print(json.dumps([row.verb for row in made if row.spec is None]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr[-1500:]
    assert run_cli("scaffold-spec", "submit").data["required"] == ["cluster", "executor"]
    assert run_cli("scaffold-spec", "no-such-verb").code == 1


RIGHT = "from hpc_agent.experiment_kit import register_run"


@pytest.mark.parametrize(
    ("head", "decorator", "problem"),
    [
        (RIGHT, "register_run", None),
        ("from hpc_agent import register_run", "register_run", None),
        ("from hpc_agent.experiment_kit import *", "register_run(name='f')", None),
        ("import hpc_agent.experiment_kit as kit", "kit.register_run", None),
        ("try:\n    from hpc_agent import register_run\nexcept ImportError:\n    def register_run(f): return f\n",
         "register_run", None),
        ("from hpc_agent.decorators import register_run", "register_run", "there is no hpc_agent.decorators.register_run"),
        ("import hpc_agent.kit as kit", "kit.register_run", "there is no hpc_agent.kit.register_run"),
        ("from hpc_agent.run import *", "register_run", "there is no hpc_agent.run.register_run"),
        ("", "register_run", "register_run is not imported"),
    ],
)  # fmt: skip
def test_the_import_of_a_registered_function_is_checked_where_it_is_found(call, repo, head, decorator, problem):
    write(repo / "study.py", f"{head}\n@{decorator}\ndef f(x: int): return {{'y': x}}\n")
    found = call("discover-runs").data
    made = call("build-tasks-py", "--executors", "study.py:f", "--axes", '{"x": [1]}')
    if problem is None:
        assert ([run["problem"] for run in found["runs"]], found["notes"], made.code) == ([None], [], 0)
        return
    line = head.count("\n") + 3
    told = f"study.py, line {line}: {problem}; write '{RIGHT}'"
    assert (found["runs"][0]["problem"], found["notes"]) == (told, [told])
    assert (made.code, made.envelope["message"]) == (1, told)
    # A file that goes wrong after its tasks were written is refused by submit.
    write(repo / "study.py", f"{RIGHT}\n@register_run\ndef f(x: int): return {{'y': x}}\n")
    call("build-tasks-py", "--executors", "study.py:f", "--axes", '{"x": [1]}')
    write(repo / "study.py", f"{head}\n@{decorator}\ndef f(x: int): return {{'y': x}}\n")
    refused = call("submit", "--cluster", "local", "--executor", "python3 .hpc/cli.py", "--dry-run")
    assert (refused.code, refused.envelope["message"]) == (1, told)
    assert RIGHT in json.dumps(call("describe", "discover-runs").data)


def test_reducers_and_runs_are_found_wherever_they_are(call, repo):
    write(repo / "reducers/summarize.py", '"""Sums up."""\ndef aggregate(rows):\n    return rows\n')
    write(repo / "notes.ipynb", json.dumps({"cells": [{"cell_type": "code", "metadata": {}, "source": [
        "%load_ext x\n", "import hpc_agent.experiment_kit as kit\n", "@kit.register_run(name='fit', gpu=True)\n",
        "def f(a: 'int', b: list[float] = (1.0,), *, c=None): ...\n"]}]}))  # fmt: skip
    write(repo / "broken.py", "from hpc_agent.experiment_kit import register_run\ndef (:\n")
    write(repo / "venv2/pyvenv.cfg", "")
    write(
        repo / "venv2/lib/x.py", "from hpc_agent.experiment_kit import register_run\n@register_run\ndef hidden(): ...\n"
    )
    write(repo / "gone/x.py", "from hpc_agent.experiment_kit import register_run\n@register_run\ndef ignored(): ...\n")
    write(repo / ".gitignore", "gone/\n")
    runs = call("discover-runs").data
    assert [(run["name"], run["path"], run["cell"], run["gpu"]) for run in runs["runs"]] == [
        ("fit", "notes.ipynb", 0, True)
    ]
    assert [(f["name"], f["type"], f["required"], f["nargs"]) for f in runs["runs"][0]["flags"]] == [
        ("a", "int", True, None), ("b", "float", False, "+"), ("c", "str", False, None)
    ]  # fmt: skip
    assert [note.split(":")[:2] for note in runs["notes"]] == [["broken.py", "2"]]
    assert call("discover-reducers").data["reducers"][0]["name"] == "summarize"
    write(repo / "total.py", "import os\nopen(os.environ['HPC_AGGREGATED_OUTPUT'], 'w').write('{}')\n")
    best = call("discover-reducers").data["reducers"][0]
    assert (best["name"], best["matches"]) == ("total", ["uses HPC_AGGREGATED_OUTPUT"]), "no name says as much"


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_printed_commands_lead_from_a_repo_to_its_table(site, run_cli, repo, clusters_file):
    """Run what each answer prints, from another folder, and nothing else: the verbs name the repo and every value."""
    seen, command = [], "hpc-agent suggest-setup-action --experiment-dir repo"
    for _ in range(12):
        words = shlex.split(command)
        answer = run_cli(*words[1:], cwd=repo.parent).envelope
        assert answer["ok"], (command, answer)
        seen.append(words[1])
        if words[1] == "aggregate":
            break
        command = answer["data"].get("next_step") or answer["data"]["next_command"]
        # the cluster of the tests has a name of its own, which only the user can know
        command = command.replace("resolve-submit-inputs", "resolve-submit-inputs --cluster testbed")
    assert seen == [
        "suggest-setup-action", "build-tasks-py", "resolve-submit-inputs", "submit", "monitor-flow", "aggregate",
    ]  # fmt: skip
    assert answer["data"]["complete"]
    assert answer["data"]["columns"][-1] == "score"


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_a_verb_takes_the_whole_answer_of_another(site, call, repo, clusters_file):
    call("build-tasks-py", "--axes", '{"horizon": [1, 5]}', "--executors", "ridge")
    spec = call("resolve-submit-inputs", "--cluster", "testbed")
    sent = call("submit", "--spec", "-", "--run-name", "piped", stdin=json.dumps(spec.envelope))
    assert sent.data["run_id"].startswith("piped-")
    assert call("monitor-flow", "--spec", "-", stdin=json.dumps(sent.envelope)).data["lifecycle_state"] == "complete"
    assert call("logs", "--spec", "-", "--task-id", "1", stdin=json.dumps(sent.envelope)).data["logs"][0]["task"] == 1

    failed = call("resolve-submit-inputs", "--cluster", "nosuch")
    after = call("submit", "--spec", "-", stdin=json.dumps(failed.envelope))
    assert (after.code, after.envelope["field"]) == (1, "spec")
    assert failed.envelope["message"] in after.envelope["message"]
    assert after.envelope["remediation"] == failed.envelope["remediation"]
    assert after.envelope["details"]["error_code"] == "cluster_unknown"


def test_a_grid_that_a_run_used_is_not_replaced_without_a_word(call, repo, clusters_file):
    grid = ("build-tasks-py", "--executors", "ridge", "--axes")
    assert not any("replaces" in note for note in call(*grid, '{"horizon": [1, 5]}').data["notes"])
    run = call("submit", "--cluster", "local", "--executor", "python3 .hpc/cli.py").data["run_id"]
    assert not any("replaces" in note for note in call(*grid, '{"horizon": [1, 5]}').data["notes"])
    notes = call(*grid, '{"horizon": {"range": [9]}}').data["notes"]
    assert f"this replaces the 2 tasks of the run {run}, which keeps a frozen copy" in notes


def test_several_executors_compose_with_any_generator(call, repo):
    write(repo / "executors/boost.py", SCRIPT.format(marker="/dev/null"))
    sampled = {"kind": "items_x_seeds", "params": {"items": [{"horizon": 1}, {"horizon": 5}], "seeds": [0, 1]}}
    spec = {"executors": ["ridge", "boost"], "axes": {"model": ["a", "b"]}, "task_generator": sampled, "force": True}
    answer = call("build-tasks-py", "--spec", "-", stdin=json.dumps(spec))
    assert "no parameter 'seed'" in answer.envelope["message"]
    sampled["params"].pop("seeds")
    sampled["kind"] = "enumerated"
    made = call("build-tasks-py", "--spec", "-", stdin=json.dumps(spec)).data
    assert made["total_tasks"] == 8
    assert made["preview"]["last"] == {"horizon": 5, "executor": "boost", "model": "b"}
    assert set(call("scaffold-spec", "build-tasks-py").data["generators"]) == {
        "enumerated", "cartesian_product", "items_x_seeds", "numeric_logspace", "numeric_linspace", "from_manifest",
        "latin_hypercube", "sobol",
    }  # fmt: skip


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_the_remedy_of_a_bug_is_the_command_that_submits_the_corrected_code(site, call, repo, clusters_file):
    call("build-tasks-py", "--executors", "ridge", "--axes", '{"horizon": [1, 91]}')
    sent = call(
        "submit", "--cluster", "testbed", "--executor", "python3 .hpc/cli.py", "--run-name", "bug", "--mem-mb", "200"
    )
    assert call("monitor-flow").data["lifecycle_state"] == "failed"
    remedy = call("failures", "--full").data["clusters"][0]["remedy"]
    command = "hpc-agent submit --cluster testbed --executor 'python3 .hpc/cli.py' --run-name bug --mem-mb 200"
    assert remedy.endswith(command)
    script = repo / "executors/ridge.py"
    script.write_text(script.read_text().replace("> 90", "> 900"))
    again = call(*shlex.split(command)[1:]).data
    assert (again["submitted"], again["run_id"] != sent.data["run_id"]) == (True, True)
    assert call("monitor-flow").data["lifecycle_state"] == "complete"
