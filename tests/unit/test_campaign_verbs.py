"""The verbs of campaigns, called in this process, on journals as the driver writes them."""

from __future__ import annotations

import json
import math
import shlex
import shutil
from pathlib import Path

import msgspec
import pytest

from hpc_agent.campaign.journal import Ask, CampaignJournal, History, Stopped, Submitted, Tell, event_of
from hpc_agent.campaign.manifest import read_manifest
from hpc_agent.campaign.step import Stop, next_step, tell_of
from hpc_agent.campaign.strategies import ask
from hpc_agent.campaign.tagged import history_of, keep_iteration
from hpc_agent.cli.parse import parse_request
from hpc_agent.contract.catalogue import load_catalogue
from hpc_agent.contract.primitive import load_all
from hpc_agent.errors import ClusterUnknown, ExecutorNotFound, JournalCorrupt, PreconditionFailed, SpecInvalid
from hpc_agent.experiment_kit import prior
from hpc_agent.ops.campaign.submission import submit_request
from hpc_agent.ops.flows.campaign_steps import Driver
from hpc_agent.ops.run.campaign_flags import settings_flags
from hpc_agent.state.journal import Journal, RunRecord
from hpc_agent.state.repo_files import RepoLayout, save
from hpc_agent.state.task_samples import RunSamples, Samples, samples_path
from hpc_agent.world import World

SPACE = {"x": {"type": "float", "low": 0, "high": 1}, "kind": {"type": "categorical", "values": ["a", "b"]}}
REQUEST = {
    "campaign_id": "c1", "goal": "the least loss", "space": SPACE, "metrics": [{"name": "loss"}], "batch": 2,
    "submit": {"cluster": "local", "executor": "true"}, "budget": {"max_tasks": 6}, "stop_criteria": {"max_iters": 5},
}  # fmt: skip


@pytest.fixture
def repo(tmp_path):
    folder = tmp_path / "repo"
    folder.mkdir()
    return folder


@pytest.fixture
def call(repo, tmp_path):
    """Call a verb and return its answer as JSON."""
    world = World(cwd=repo, env={"HOME": str(tmp_path)}, now=lambda: 2000.0)

    def call(verb, campaign_id=None, **fields):
        primitive = load_all()[verb]
        fields |= {"campaign_id": campaign_id} if campaign_id else {}
        return json.loads(msgspec.json.encode(primitive.function(msgspec.convert(fields, primitive.request), world)))

    return call


@pytest.fixture
def printed(call):
    """Call the verb of a command as an answer printed it."""
    catalogue = load_catalogue()

    def run(command):
        program, verb, *words = shlex.split(command)
        assert program == "hpc-agent"
        return call(verb, **parse_request(verb, catalogue[verb], words, lambda: b"", Path.cwd()))

    return run


def init(call, **fields):
    return call("campaign-init", **{**REQUEST, **fields})


def journal_of(repo, campaign_id):
    return CampaignJournal(World(cwd=repo, now=lambda: 1000.0), RepoLayout(repo), campaign_id)


def iterate(repo, campaign_id, losses, failed=()):
    """Write an iteration as the driver would, with these losses."""
    journal = journal_of(repo, campaign_id)
    asks = ask(read_manifest(RepoLayout(repo), campaign_id), journal.history(), len(losses))
    trials = [one.trial for one in asks]
    run_id = f"run-{asks[0].iteration}"
    for line in [*asks, Submitted(iteration=asks[0].iteration, run_id=run_id, trials=trials)]:
        journal.append(line)
    for task, (trial, loss) in enumerate(zip(trials, losses, strict=True)):
        facts = {"trial": trial, "run_id": run_id, "task_id": task, "seconds": 90.0, "cpus": 2}
        if task in failed:
            journal.append(Tell(state="failed", why="out_of_memory", **facts))
        else:
            journal.append(Tell(state="complete", values={"loss": loss}, **facts))
    return journal


def test_a_campaign_from_its_manifest_to_its_end(call, repo):
    begun = init(call)
    assert (begun["created"], begun["strategy"]) == (True, "quasi_random")
    assert begun["manifest_path_relative"] == ".hpc/campaigns/c1/manifest.json"
    assert begun["next_command"] == f"hpc-agent campaign-driver --experiment-dir {repo} --campaign-id c1"
    assert init(call)["created"] is False, "the same request changes nothing"
    assert call("campaign-advance", "c1")["decision"] == "continue"
    iterate(repo, "c1", [0.5, 0.4])
    iterate(repo, "c1", [0.3, 0.0], failed=[1])
    status = call("campaign-status", "c1")
    assert status["best"]["values"] == {"loss": 0.3}
    assert status["trials"] == {"complete": 3, "failed": 1}
    assert [row["best"] for row in status["history"]] == [0.4, 0.3]
    assert status["spent"] == {
        "tasks": 4, "jobs": 2, "core_hours": 0.2, "walltime_sec": 360.0, "elapsed_sec": 1000.0, "open_tasks": 0,
    }  # fmt: skip
    assert status["remaining"] == {"max_tasks": 2}
    assert len(json.dumps(status)) < 1500, "an agent pays for every byte"
    assert call("campaign-budget", "c1", max_jobs=2)["exhausted"] is True
    found = call("campaign-converged", "c1", target=0.35)
    assert (found["converged"], found["reason"], found["best_metric"]) == (True, "target", 0.3)
    tight = call("campaign-advance", "c1", max_tasks=4)
    assert tight["decision"] == "stop_over_budget"
    assert tight["notes"][0].endswith("for the driver: hpc-agent campaign-budget --campaign-id c1 --max-tasks 4 --save")
    assert call("campaign-advance", "c1", max_iters=2)["reason"] == "max_iters"
    last = call("campaign-replay", "c1", last_n=1, verify=True)
    assert (last["total_iterations"], last["returned"], last["verified"], last["different"]) == (2, 1, 2, [])
    assert last["iterations"][0]["metrics"] == {"loss": 0.3}
    [row] = call("campaign-list")["campaigns"]
    assert (row["campaign_id"], row["best"], row["iterations"]) == ("c1", {"loss": 0.3}, 2)
    iterate(repo, "c1", [0.9, 0.9])
    stopped = call("campaign-advance", "c1")
    assert (stopped["decision"], stopped["reason"], stopped["next_command"]) == ("stop_over_budget", "budget", "")
    command = f"hpc-agent campaign-budget --experiment-dir {repo} --campaign-id c1 --max-tasks 12 --save"
    assert stopped["raise_command"] == call("campaign-status", "c1")["raise_command"] == command


def test_a_limit_is_raised_and_the_old_one_stays_on_record(call, repo):
    init(call)
    for losses in ([0.5, 0.4], [0.3, 0.2], [0.3, 0.3]):
        journal = iterate(repo, "c1", losses)
    journal.append(Stopped(reason="budget", detail="tasks 6 of max_tasks 6 are used"))
    before = journal.path.read_bytes()
    raised = call("campaign-budget", "c1", max_tasks=8, save=True)
    assert (raised["budget"], raised["exhausted"]) == ({"max_tasks": 8}, False)
    assert raised["next_command"].endswith("campaign-driver --experiment-dir " + f"{repo} --campaign-id c1")
    assert call("campaign-advance", "c1")["decision"] == "continue"
    manifest = read_manifest(RepoLayout(repo), "c1")
    [old] = manifest.earlier_limits
    assert (old.budget.max_tasks, old.until, manifest.budget.max_tasks) == (6, "1970-01-01T00:33:20Z", 8)
    assert journal.path.read_bytes() == before
    assert call("campaign-replay", "c1", verify=True)["different"] == []
    assert call("campaign-budget", "c1", max_tasks=8, save=True)["budget"] == {"max_tasks": 8}
    assert len(read_manifest(RepoLayout(repo), "c1").earlier_limits) == 1, "the same limit again is no change"
    assert init(call)["created"] is False, "the request that began it is still the same"
    with pytest.raises(PreconditionFailed) as caught:
        init(call, budget={"max_tasks": 9}, stop_criteria={"max_iters": 5, "plateau_window": 3})
    assert "campaign-budget --campaign-id c1 --plateau-window 3 --max-tasks 9 --save" in caught.value.remediation
    with pytest.raises(SpecInvalid):
        call("campaign-budget", "c1", save=True)


def test_the_direction_is_told_or_asked_for(call, repo):
    begun = init(call, metrics=[{"name": "accuracy"}], early_stop={"metric": "val_loss"})
    assert begun["directions"] == {"accuracy": "maximize", "val_loss": "minimize"}
    iterate(repo, "c1", [0.5])
    for value in (0.9, 0.7):
        journal = journal_of(repo, "c1")
        [one] = ask(read_manifest(RepoLayout(repo), "c1"), journal.history(), 1)
        journal.append(one)
        journal.append(Tell(trial=one.trial, state="complete", values={"accuracy": value}, run_id="r"))
    assert call("campaign-status", "c1")["best"]["values"] == {"accuracy": 0.9}
    own = {"campaign_id": "own", "stop_criteria": {"metric": "quality"}}
    with pytest.raises(SpecInvalid) as caught:
        call("campaign-init", **own)
    assert caught.value.field == "stop_criteria.direction"
    assert "--direction maximize" in caught.value.remediation
    begun = call("campaign-init", "own", stop_criteria={"metric": "quality", "direction": "max"})
    assert begun["directions"] == {"quality": "maximize"}


def test_where_tables_do_not_tell_the_best_a_command_says_how(call, repo):
    """Of a campaign whose tasks.py asks, whose metric is known from its tables only."""
    rows = [{"params": {"x": x}, "metrics": {"quality": x}, "count": 1} for x in (1.0, 2.0)]
    table = {
        "run_id": "r",
        "submitted_at": "1970-01-01T00:00:05Z",
        "rows": rows,
        "failed": 0,
        "task_seconds": 1,
        "cpus": 1,
    }
    folder = repo / ".hpc/campaigns/own"
    folder.mkdir(parents=True)
    (folder / "prior.json").write_text(json.dumps({"iterations": [table]}))
    status = call("campaign-status", "own")
    assert status["best"] is None
    assert "'hpc-agent campaign-init own --metric quality --direction maximize'" in status["notes"][0]
    with pytest.raises(SpecInvalid) as caught:
        call("campaign-converged", "own", metric="quality", target=2)
    assert caught.value.field == "direction"
    assert call("campaign-converged", "own", metric="quality", direction="max", target=2)["reason"] == "target"
    call("campaign-init", "own", stop_criteria={"metric": "quality", "direction": "max"})
    assert call("campaign-status", "own")["best"]["values"] == {"quality": 2.0}


def test_a_campaign_that_has_asked_nothing_is_begun_anew(call, repo, printed):
    init(call)
    iterate(repo, "c1", [0.5, 0.4])
    init(call, campaign_id="c2", seed_from=["c1"])
    assert call("campaign-status", "c2")["earlier_trials"] == 2
    call("campaign-budget", "c2", max_tasks=7, save=True)
    assert init(call, campaign_id="c2", seed_from=["c1"])["created"] is False, "limits that were raised are none"
    new = init(call, campaign_id="c2", batch=3)
    told = "it takes the place of one that had asked no trial, with other values of batch, seed_from"
    assert (new["created"], new["notes"]) == (True, [told])
    status = call("campaign-status", "c2")
    assert ("earlier_trials" not in status, status["remaining"]) == (True, {"max_tasks": 6})
    bare = call("campaign-init", "c3")
    assert bare["notes"][0].startswith("no budget, and only a tasks.py that asks for the same parameters again ends it")
    assert init(call, campaign_id="c3")["strategy"] == "quasi_random"
    call("campaign-init", "c3", metrics=[{"name": "loss"}])
    assert not journal_of(repo, "c3").path.exists(), "the journal is not that of a campaign whose tasks.py asks"
    with pytest.raises(PreconditionFailed) as caught:
        init(call, batch=3)
    assert caught.value.details["differs"] == ["batch"]
    begun = printed(caught.value.remediation.partition("that knows its trials: ")[2])
    assert (begun["campaign_id"], begun["seed_from"][0]["trials"]) == ("c1-2", 2)
    with pytest.raises(PreconditionFailed) as caught:
        init(call, budget={"max_tasks": 9})
    printed(caught.value.remediation.partition("change its limits: ")[2].partition(", or ")[0])
    assert call("campaign-status", "c1")["remaining"] == {"max_tasks": 7}


RATE = {"space": {"rate": SPACE["x"]}, "submit": {"cluster": "local", "executor": "python3 train.py"}}


def test_a_parameter_that_does_not_arrive_is_told_before_the_first_trial(call, repo, printed):
    """As submit does: refused where the program takes options, noted where it reads variables."""
    (repo / "train.py").write_text(
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr')\np.parse_args()\n"
    )
    with pytest.raises(SpecInvalid, match="'rate' does not reach") as caught:
        init(call, **RATE)
    assert not (repo / ".hpc").exists()
    wrong = caught.value.remediation.partition("run: ")[2]
    assert printed(wrong)["created"], "the whole command, with the settings of this campaign"
    manifest = read_manifest(RepoLayout(repo), "c1")
    assert manifest.submit["executor"] == 'python3 train.py --rate "$RATE"'
    assert (manifest.goal, manifest.batch, manifest.budget.max_tasks) == ("the least loss", 2, 6)

    (repo / "train.py").write_text("import os\nlr = os.environ['LR']\n")
    noted = init(call, campaign_id="c2", **RATE)
    assert "'rate' does not reach train.py" in noted["notes"][0]
    assert noted["notes"][0].endswith("; it reads $LR")
    assert call("campaign-driver", "c2", dry_run=True)["notes"] == noted["notes"]
    assert "notes" not in init(call, campaign_id="c3", **{**RATE, "space": {"lr": SPACE["x"]}})

    (repo / "train.py").write_text("import argparse\nargparse.ArgumentParser().parse_args()\n")
    for dry_run in (True, False):
        with pytest.raises(SpecInvalid, match="'rate' does not reach") as caught:
            call("campaign-driver", "c2", dry_run=dry_run)
        assert "hpc-agent campaign-init --campaign-id c2" in caught.value.remediation
    assert journal_of(repo, "c2").events() == [], "nothing was asked, so the command of the advice works"
    assert "takes the place" in printed(caught.value.remediation.partition("run: ")[2])["notes"][-1]
    iterate(repo, "c2", [0.5, 0.4])
    (repo / "train.py").write_text("import argparse\nargparse.ArgumentParser().parse_args()\n")
    path = repo / ".hpc/campaigns/c2/manifest.json"
    path.write_text(path.read_text().replace(' --rate \\"$RATE\\"', ""))
    with pytest.raises(SpecInvalid) as caught:
        call("campaign-driver", "c2", dry_run=True)
    assert caught.value.remediation.startswith('Write "executor": "python3 train.py --rate \\"$RATE\\"" into')


@pytest.mark.parametrize(
    ("submit", "error"),
    [
        ({"cluster": "nowhere", "executor": "true"}, ClusterUnknown),
        ({"cluster": "local", "executor": "python3 nothing.py"}, ExecutorNotFound),
        ({"cluster": "local", "executor": "true", "x": 1}, SpecInvalid),
        ({"cluster": "local", "executor": "true", "resources": {"walltime_sec": 10**9}}, SpecInvalid),
    ],
)
def test_what_submit_would_refuse_begins_no_campaign(call, repo, submit, error):
    with pytest.raises(error):
        init(call, submit=submit)
    assert not (repo / ".hpc").exists()


def test_fields_of_submit_may_stand_as_the_command_line_has_them(call, repo):
    init(call, submit={"cluster": "local", "executor": "true", "mem_mb": 70, "resources": {"cpus": 2}})
    request = submit_request(RepoLayout(repo), read_manifest(RepoLayout(repo), "c1"), [{"x": 0.5}], 0)
    assert (request.resources.mem_mb, request.resources.cpus) == (70, 2)


def test_the_flags_of_a_campaign_give_its_settings(call, repo):
    init(
        call,
        submit={**REQUEST["submit"], "fixed_params": {"flag": False, "none": None}},
        abort_if=[{"failed_share": 0.5}],
    )
    text = shlex.join(settings_flags(read_manifest(RepoLayout(repo), "c1")))
    assert '"fixed_params": {"flag": false, "none": null}' in text
    assert '[{"failed_share": 0.5, "after_tasks": 1}]' in text


def test_a_campaign_that_nothing_ends_is_told(call):
    assert "notes" not in init(call)
    begun = init(call, campaign_id="endless", budget={}, stop_criteria={"target": 0.0})
    assert begun["notes"][0].startswith("no budget, and only its target ends it: 'hpc-agent campaign-budget endless")
    assert "notes" not in init(call, campaign_id="fine", budget={}, stop_criteria={}, strategy="grid")


def test_a_replay_finds_a_point_that_was_changed(call, repo):
    init(call)
    journal = iterate(repo, "c1", [0.5, 0.4])
    text = journal.path.read_text()
    x = json.loads(text.splitlines()[1])["params"]["x"]
    journal.path.write_text(text.replace(str(x), "0.123"))
    found = call("campaign-replay", "c1", verify=True)
    assert [one["trial"] for one in found["different"]] == [1]
    assert found["different"][0]["again"]["params"]["x"] == x


def test_trials_of_earlier_campaigns_come_with_their_origin(call, repo, tmp_path):
    init(call)
    iterate(repo, "c1", [0.5, 0.4])
    iterate(repo, "c1", [0.3, 0.0], failed=[1])
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(repo / ".hpc", elsewhere / ".hpc")
    half = {**SPACE, "x": {"type": "float", "low": 0, "high": 0.5}}
    new = {"campaign_id": "c2", "space": half}
    begun = init(call, **new, seed_from=["c1", f"{elsewhere}:c1"], start=[{"x": 0.1, "kind": "a"}])
    mine, theirs = begun["seed_from"]
    assert theirs["trials"] == 0, "a copy has the same trials, and a trial counts once"
    assert (mine["experiment_dir"], theirs["experiment_dir"]) == (str(repo), str(elsewhere))
    assert mine["trials"] + mine["left_out"] == 4
    assert 0 < mine["trials"] < 4, "points outside of the new space are counted, and left out"
    assert mine["journal_sha"] == theirs["journal_sha"]
    events = journal_of(repo, "c2").events()
    assert events[0]["origin"].startswith("seed:c1/")
    assert events[1]["run_id"].startswith("run-")
    status = call("campaign-status", "c2")
    assert (status["earlier_trials"], status["best"], status["spent"]["tasks"]) == (mine["trials"], None, 0)
    assert (status["trials"], call("campaign-advance", "c2")["status"]) == ({}, {"iterations": 0})
    assert status["notes"][0].startswith("no trial is usable yet; the best one before was: c1/")
    iterate(repo, "c2", [0.1])
    status = call("campaign-status", "c2")
    assert (status["trials"], status["best"]["values"], status["history"][0]["best"]) == (
        {"complete": 1},
        {"loss": 0.1},
        0.1,
    )
    assert "notes" not in status, "only where one of before is better"
    first = next(trial for trial in journal_of(repo, "c2").history().own)
    assert (first.origin, first.params) == ("start", {"x": 0.1, "kind": "a"})
    with pytest.raises(PreconditionFailed) as caught:
        init(call, **new, seed_from=["c1"])
    assert caught.value.details["differs"] == ["start", "seed_from"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"submit": {"executor": "true"}}, "submit.cluster"),
        ({"metrics": []}, "metrics"),
        ({"strategy": "own"}, "space"),
        ({"strategy_params": {"points": 3}}, "strategy.params"),
        ({"seed_from": ["nothing"]}, "campaign_id"),
        ({"start": [{"x": 3, "kind": "a"}]}, "start[0]"),
        ({"stop_criteria": {"target": math.nan}}, "stop_criteria.target"),
        ({"budget": {"max_core_hours": math.inf}}, "budget.max_core_hours"),
        ({"constraints": [{"metric": "mb", "at_most": math.inf}]}, "constraints[0].at_most"),
        ({"space": {**SPACE, "X": SPACE["x"]}}, "space.X"),
        ({"space": {"HPC_TRIAL": SPACE["x"]}}, "space.HPC_TRIAL"),
        ({"submit": {**REQUEST["submit"], "fixed_params": {"x": 3}}}, "submit.fixed_params"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_leaves_nothing(call, repo, fields, field):
    with pytest.raises(SpecInvalid) as caught:
        init(call, **fields)
    assert caught.value.field == field
    assert not (repo / ".hpc").exists()


def test_a_campaign_whose_tasks_py_asks_has_no_metric_before_its_first_table(call):
    assert call("campaign-init", "first")["strategy"] == "own"
    assert "notes" not in call("campaign-status", "first")
    assert call("campaign-advance", "first")["decision"] == "continue"
    assert call("campaign-list")["campaigns"][0]["campaign_id"] == "first"


def test_a_campaign_is_known_before_its_first_metric_and_without_its_manifest(call, repo, tmp_path):
    runs = Journal(World(cwd=repo, env={"HOME": str(tmp_path)}), RepoLayout(repo))
    runs.append("run-0", "submitting", campaign_id="zoo", cluster="local", total_tasks=2)
    runs.append("run-1", "submitting", campaign_id="c1", cluster="local", total_tasks=2)
    init(call)
    path = iterate(repo, "c1", [0.5, 0.4]).path.with_name("manifest.json")
    path.unlink()
    listed = call("campaign-list")
    assert [row["campaign_id"] for row in listed["campaigns"]] == ["zoo"]
    assert "'c1' has no manifest" in listed["partial_errors"][0]["detail"]
    for verb in ("campaign-status", "campaign-advance", "campaign-health"):
        call(verb, "zoo")
        with pytest.raises(SpecInvalid, match="has no manifest"):
            call(verb, "c1")


def test_a_limit_that_json_cannot_hold_leaves_the_manifest(call, repo):
    init(call)
    path = repo / ".hpc/campaigns/c1/manifest.json"
    before = path.read_bytes()
    with pytest.raises(SpecInvalid) as caught:
        call("campaign-budget", "c1", max_core_hours=math.inf, save=True)
    assert (caught.value.field, path.read_bytes()) == ("budget.max_core_hours", before)


def test_a_copied_folder_is_no_campaign(call, repo):
    init(call)
    folder = repo / ".hpc/campaigns"
    shutil.copytree(folder / "c1", folder / "c2")
    before = (folder / "c1/manifest.json").read_bytes()
    for verb, fields in (("campaign-budget", {"max_tasks": 8, "save": True}), ("campaign-driver", {})):
        with pytest.raises(JournalCorrupt, match="its campaign_id is 'c1'"):
            call(verb, "c2", **fields)
    assert (folder / "c1/manifest.json").read_bytes() == before
    assert [row["campaign_id"] for row in call("campaign-list")["campaigns"]] == ["c1"]


def test_an_unknown_campaign(call):
    with pytest.raises(SpecInvalid) as caught:
        call("campaign-status", "nothing")
    assert "campaign-list" in caught.value.remediation


def test_a_trial_that_was_asked_twice_is_found(call, repo):
    init(call)
    journal = iterate(repo, "c1", [0.5, 0.4])
    words = {"campaign_id": "c1", "expected_cmd_sha": "0123456789abcdef"}
    assert call("validate-stochastic-marker", **words)["overall"] == "pass"
    again = journal.history().trials[0]
    journal.append(Ask(trial=2, iteration=1, params=again.params, origin="tpe"))
    found = call("validate-stochastic-marker", **words)
    assert (found["overall"], found["findings"][0]["evidence"]) == ("warn", {"trials": [0, 2]})


def test_prior_of_a_campaign_of_the_driver(call, repo):
    assert prior(repo, "c1") == []
    init(call)
    iterate(repo, "c1", [0.5, 0.25])
    iterate(repo, "c1", [0.3, 0.0], failed=[1])
    journal = journal_of(repo, "c1")
    asked = ask(read_manifest(RepoLayout(repo), "c1"), journal.history(), 1)[0]
    journal.append(asked)
    journal.path.write_text(journal.path.read_text() + '{"event": "te')  # a torn line of an append that runs now
    first, second = prior(str(repo), "c1")
    assert (first["run_id"], first["metrics"], first["failed"]) == ("run-0", {"loss": 0.375}, 0)
    assert [row["metrics"]["loss"] for row in first["rows"]] == [0.5, 0.25]
    assert (second["metrics"], second["failed"], len(second["rows"])) == ({"loss": 0.3}, 1, 1)


def test_an_aggregated_run_of_the_driver_is_told_once(call, repo):
    """Its journal has the results: a prior.json would change the snapshot, and hide iterations."""
    init(call)
    iterate(repo, "c1", [0.5, 0.25])
    wave = {"tasks": 2, "missing": "", "failed": "", "table": {}, "usage": {"task_seconds": 1.0}}
    keep_iteration(RepoLayout(repo), RunRecord(run_id="run-0", campaign_id="c1", total_tasks=2), [wave])
    assert not (repo / ".hpc/campaigns/c1/prior.json").exists()
    assert len(prior(repo, "c1")) == 1


def test_runs_of_a_tasks_py_as_iterations():
    """A table of another machine counts, a failed run without results has failed trials, one without a table is open."""
    rows = [{"params": {"x": 1}, "metrics": {"loss": 2.0}, "count": 1}]
    table = {"run_id": "elsewhere", "submitted_at": "1970-01-01T00:00:05Z", "rows": rows, "failed": 2}
    runs = [
        RunRecord(run_id="lost", started_at=9.0, total_tasks=2, status="failed", last_status={"failed": 2}),
        RunRecord(run_id="ended", started_at=12.0, total_tasks=3, status="complete"),
        RunRecord(run_id="running", started_at=15.0, total_tasks=1, status="in_flight"),
    ]
    history, notes = history_of(runs, [table])
    states = {number: [trial.state for trial in trials] for number, trials in history.iterations.items()}
    assert states == {
        0: ["complete", "failed", "failed"], 1: ["failed"] * 2, 2: ["submitted"] * 3, 3: ["submitted"],
    }  # fmt: skip
    assert list(history.open_runs) == ["ended", "running"]
    assert notes == ["ended has ended and is not counted yet: hpc-agent aggregate --run-id ended"]


def test_the_advice_of_health_names_a_run_of_this_campaign(call, repo, tmp_path):
    init(call)
    iterate(repo, "c1", [0.5, 0.4], failed=[1])
    runs = Journal(World(cwd=repo, env={"HOME": str(tmp_path)}), RepoLayout(repo))
    runs.append("run-0", "submitting", campaign_id="c1", cluster="local", total_tasks=2)
    runs.append("newer-of-another", "submitting", campaign_id="c2", cluster="local", total_tasks=1)
    found = call("campaign-health", "c1")
    assert (found["trials"], found["failure_breakdown"]) == ({"complete": 1, "failed": 1}, {"out_of_memory": 1})
    assert found["suggested_prompt"].endswith("out_of_memory; see hpc-agent failures --run-id run-0")


def test_a_campaign_without_a_usable_trial_says_why(call, repo, tmp_path, printed):
    world = World(cwd=repo, env={"HOME": str(tmp_path)})
    runs = Journal(world, RepoLayout(repo))
    for name, why in (("failed", "the metric 'loss' is nan"), ("outside", "")):
        init(call, campaign_id=name, constraints=[{"metric": "mb", "at_most": 1}], budget={"max_tasks": 2})
        runs.append("run-0", "submitting", campaign_id=name, cluster="local", total_tasks=2)
        journal = journal_of(repo, name)
        for one in ask(read_manifest(RepoLayout(repo), name), History(), 2):
            journal.append(one)
            end = {"state": "failed", "why": why} if why else {"state": "complete", "values": {"loss": 1.0}}
            journal.append(Tell(trial=one.trial, run_id="run-0", task_id=one.trial, constraints={"mb": 2.0}, **end))
        told = "2 of 2 trials failed, most of all: " + why if why else "2 of 2 trials are outside of the constraints"
        for verb in ("campaign-status", "campaign-advance"):
            found = call(verb, name)
            assert found["detail"] == f"tasks 2 of max_tasks 2 are used; {told}"
            assert found["next_command"] == f"hpc-agent campaign-health --experiment-dir {repo} --campaign-id {name}"
            assert "campaign-budget" in found["raise_command"]
        prompt = call("campaign-health", name)["suggested_prompt"]
        if not why:
            assert prompt == told
            continue
        see, _, run = prompt.partition("; correct the cause, then run: ")
        assert see.endswith("see hpc-agent logs --task-id 1 --run-id run-0")
        raise_limit, again = run.split(" && ")
        assert (raise_limit, again.split()[-1]) == (found["raise_command"], "--retry-failed")
        journal.append(Stopped(reason="budget", detail=""))
        assert printed(raise_limit)["next_command"] == again, "the failed trials first"
        assert call("campaign-status", name)["next_command"] == again
        driver = Driver(world, RepoLayout(repo), read_manifest(RepoLayout(repo), name))
        assert [one.origin for one in driver.failed_again()] == ["again:0", "again:1"]


@pytest.mark.parametrize(
    ("wrote", "why"),
    [
        (["loss_val", "mb"], "is missing; the task wrote loss_val, mb. Did you mean 'loss_val'?"),
        (["mb"], "is missing; the task wrote mb"),
        ([], "is missing; the task wrote no number"),
    ],
)
def test_a_metric_that_no_task_writes_stops_the_campaign(call, repo, tmp_path, wrote, why):
    """It would cost the whole budget; the answers name what the tasks wrote in its place."""
    init(call)
    runs = Journal(World(cwd=repo, env={"HOME": str(tmp_path)}), RepoLayout(repo))
    runs.append("run-0", "submitting", campaign_id="c1", cluster="local", total_tasks=2)
    journal = journal_of(repo, "c1")
    manifest, history = read_manifest(RepoLayout(repo), "c1"), History()
    for one in ask(manifest, history, 2):
        journal.append(one)
    journal.append(Submitted(iteration=0, run_id="run-0", trials=[0, 1]))
    for number in (0, 1):
        assert call("campaign-advance", "c1")["decision"] == "wait_in_flight"
        trial = journal.history().trials[number]
        journal.append(tell_of(manifest, trial, "complete", {}, wrote=wrote))
    found = call("campaign-status", "c1")
    assert (found["decision"], found["reason"]) == ("stop_aborted", "abort")
    assert found["detail"] == (
        f"the metric 'loss' is missing in every complete task (2); 2 of 2 trials failed, most of all: the metric 'loss' {why}"
    )
    see = "aggregate" if wrote else "logs --task-id 1"
    prompt = call("campaign-health", "c1")["suggested_prompt"]
    assert f"see hpc-agent {see} --run-id run-0; correct the cause, then run: hpc-agent campaign-driver" in prompt
    driver = next_step(manifest, journal.history(), 0.0)
    assert isinstance(driver, Stop)
    again = Ask(trial=2, iteration=1, params={"x": 0.5, "kind": "a"}, origin="again:0")
    for line in (again, Submitted(iteration=1, run_id="run-1", trials=[2])):
        journal.append(line)
    journal.append(tell_of(manifest, journal.history().trials[2], "complete", {"loss": 1.0}))
    assert call("campaign-advance", "c1")["decision"] == "continue", "one that was mended is enough"


def test_failed_trials_are_tried_once_within_the_budget(call, repo, tmp_path):
    """Cron calls the driver for ever: a retry that failed is no failed trial to try."""
    world = World(cwd=repo, env={"HOME": str(tmp_path)})

    def again():
        return Driver(world, RepoLayout(repo), read_manifest(RepoLayout(repo), "c1")).failed_again()

    init(call, budget={"max_tasks": 2})
    journal = iterate(repo, "c1", [0.0, 0.0], failed=[0, 1])
    assert again() == []
    for tasks, origins in ((3, ["again:0"]), (9, ["again:0", "again:1"])):
        call("campaign-budget", "c1", max_tasks=tasks, save=True)
        assert [one.origin for one in again()] == origins
    for one in again():
        journal.append(one)
        journal.append(Tell(trial=one.trial, state="failed"))
    assert again() == []


def test_a_journal_that_is_older_than_its_run_is_left_as_it_is(call, repo):
    init(call)
    journal = iterate(repo, "c1", [0.5, 0.4])
    before = journal.path.read_bytes()
    with pytest.raises(JournalCorrupt, match="trial 2 was never asked"):
        journal.add(journal.history(), Submitted(iteration=1, run_id="run-1", trials=[1, 2]))
    assert journal.path.read_bytes() == before


def test_a_stop_is_told_with_the_limits_of_now(call, repo):
    init(call)
    iterate(repo, "c1", [0.5, 0.4]).append(Stopped(reason="budget", detail="tasks 2 of max_tasks 2 are used"))
    call("campaign-budget", "c1", max_tasks=1, save=True)
    assert call("campaign-status", "c1")["detail"] == "tasks 2 of max_tasks 1 are used"


def test_a_failed_iteration_of_a_tasks_py_costs_its_time(call, repo, tmp_path):
    runs = Journal(World(cwd=repo, env={"HOME": str(tmp_path)}), RepoLayout(repo))
    runs.append("run-0", "submitting", campaign_id="zoo", cluster="local", total_tasks=3)
    runs.append("run-0", "status", lifecycle_state="failed", counts={"failed": 3})
    rows = [{"task": task, "seconds_at_least": 90.0, "class": "code_error"} for task in (0, 1)]
    asked = {"cpus": 2}
    save(
        samples_path(RepoLayout(repo), "local"),
        Samples(cluster="local", runs=[RunSamples(run_id="run-0", at="", asked=asked, rows=rows)]),
    )
    spent = call("campaign-status", "zoo")["spent"]
    assert (spent["tasks"], spent["walltime_sec"], spent["core_hours"], spent["open_tasks"]) == (3, 180.0, 0.1, 1)


def test_the_line_of_a_journal_is_the_one_that_was_documented():
    """Others read these files; a field that changes its name breaks them."""
    line = event_of(Ask(trial=3, iteration=1, params={"x": 0.5}, origin="tpe", library="optuna 5.0.0"), 12.0)
    assert line == {
        "event": "ask", "trial": 3, "iteration": 1, "params": {"x": 0.5}, "origin": "tpe", "library": "optuna 5.0.0", "at": 12.0,
    }  # fmt: skip
    tell = event_of(
        Tell(trial=3, state="complete", values={"loss": 1.0}, run_id="r", task_id=0, seconds=2.0, cpus=4), 13.0
    )
    assert tell == {
        "event": "tell", "trial": 3, "state": "complete", "values": {"loss": 1.0}, "run_id": "r", "task_id": 0,
        "seconds": 2.0, "cpus": 4, "at": 13.0,
    }  # fmt: skip
