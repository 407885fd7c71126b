"""The driver of campaigns on real schedulers: killed anywhere, no trial is lost, repeated or chosen anew."""

from __future__ import annotations

import fcntl
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter

import pytest
from campaign import Killed, check_replay, drive, events, expected, killer, make_campaign, told
from experiment import make_repo

from hpc_agent.campaign.journal import CampaignJournal, Submitted
from hpc_agent.world import World

pytestmark = pytest.mark.usefixtures("clusters_file")
TPE = {"strategy": {"name": "tpe", "params": {"startup": 4}}}
BATCH = {"mode": "batch", "batch": 4, "stop_criteria": {"max_iters": 3}, **TPE}
ASYNC = {"mode": "async", "width": 3, "ahead": 2, "budget": {"max_tasks": 12}, **TPE}


def world_of(world_home, repo):
    return World(cwd=repo, env=world_home.env)


def finish(world, seconds=200, **fields):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            answer = drive(world, **fields)
        except Killed:
            continue
        if answer.decision.startswith("stop"):
            return answer
        time.sleep(0.2)
    raise AssertionError(f"the campaign has not ended: {answer}")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_a_batch_campaign_killed_everywhere_equals_one_that_was_not(site, tmp_path, world_home, monkeypatch):
    whole, broken = (make_campaign(tmp_path / name, tmp_path / f"{name}.ran", **BATCH) for name in ("whole", "broken"))
    undisturbed = finish(world_of(world_home, whole))
    with killer(monkeypatch) as points:
        ended = finish(world_of(world_home, broken))
    assert len(points) >= 60, points
    assert told(broken) == told(whole)
    best, other = ({**one.best, "run_id": ""} for one in (ended, undisturbed))  # which has the repo's path in it
    assert (best, ended.reason) == (other, "max_iters")
    assert Counter((tmp_path / "broken.ran").read_text().split()) == Counter(map(str, range(12)))
    assert check_replay(broken) == 12


@pytest.mark.timeout(300)
@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_an_asynchronous_campaign_killed_everywhere_loses_and_repeats_no_trial(site, tmp_path, world_home, monkeypatch):
    repo = make_campaign(tmp_path / "repo", tmp_path / "ran", **ASYNC)
    with killer(monkeypatch) as points:
        ended = finish(world_of(world_home, repo))
    assert len(points) >= 60, points
    assert (ended.reason, ended.trials) == ("budget", {"complete": 12})
    assert Counter((tmp_path / "ran").read_text().split()) == Counter(map(str, range(12)))
    assert Counter(event["trial"] for event in events(repo) if event["event"] == "ask") == Counter(range(12))
    assert check_replay(repo) == 12


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_code_that_was_edited_after_a_kill_does_not_send_the_trials_twice(site, tmp_path, world_home, monkeypatch):
    """Killed between the submission and its line: the run is found by its trials, whatever the code is now."""
    repo = make_campaign(tmp_path / "repo", tmp_path / "ran", **{**ASYNC, "budget": {"max_tasks": 5}})
    world, real = world_of(world_home, repo), CampaignJournal.append

    def killed(journal, line):
        if isinstance(line, Submitted):
            raise Killed
        return real(journal, line)

    with monkeypatch.context() as patch:
        patch.setattr(CampaignJournal, "append", killed)
        with pytest.raises(Killed):
            drive(world)
    (repo / "loss.py").write_text((repo / "loss.py").read_text() + "\n# edited\n")
    answer = drive(world)
    assert (answer.asked, len(answer.submitted)) == (0, 1), answer
    assert finish(world).trials == {"complete": 5}
    assert Counter((tmp_path / "ran").read_text().split()) == Counter(map(str, range(5)))


FAILS = 'test "$HPC_TRIAL" != 1 || test -e "$WITNESS.mended" || exit 3; exec python3 loss.py'


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_failed_trials_are_asked_once_more(site, tmp_path, world_home, run_cli):
    """A campaign that was aborted goes on with the failed trials; the failed ones stay in the journal."""
    stops = {"abort_if": [{"failed_share": 0.2}], "stop_criteria": {"max_iters": 2}}
    repo = make_campaign(tmp_path / "repo", tmp_path / "ran", FAILS, batch=3, **stops)
    aborted = finish(world_of(world_home, repo))
    assert (aborted.decision, aborted.trials) == ("stop_aborted", {"complete": 2, "failed": 1})
    (failed,) = (event for event in events(repo) if event["event"] == "tell" and event["state"] == "failed")
    assert failed["why"] == "code_error: exit code 3", failed
    (tmp_path / "ran.mended").touch()
    command = ("campaign-driver", "study")
    assert run_cli(*command, cwd=repo).data["decision"] == "stop_aborted"
    plan = run_cli(*command, "--retry-failed", "--dry-run", cwd=repo).data
    assert plan["detail"] == "next: ask 1 failed trials again, and submit them"
    again = run_cli(*command, "--retry-failed", cwd=repo).data
    assert (again["asked"], len(again["submitted"]), again["trials"]["open"]) == (1, 1, 1)
    twice = run_cli(*command, "--retry-failed", "--dry-run", cwd=repo).data
    assert twice["detail"] == "next: one look at 1 open runs"
    assert finish(world_of(world_home, repo)).trials["complete"] == 3
    asks = [event for event in events(repo) if event["event"] == "ask"]
    assert (asks[-1]["origin"], asks[-1]["params"]) == ("again:1", asks[1]["params"])


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_a_stopped_campaign_goes_on_by_the_command_of_its_answer(site, tmp_path, world_home, run_cli):
    repo = make_campaign(tmp_path / "repo", tmp_path / "ran", batch=2, budget={"max_tasks": 2})
    ended = finish(world_of(world_home, repo))
    assert (ended.reason, ended.trials) == ("budget", {"complete": 2})
    run_cli(*shlex.split(ended.raise_command)[1:], cwd=tmp_path)
    assert finish(world_of(world_home, repo)).trials == {"complete": 4}
    assert [line["event"] for line in events(repo)].count("stopped") == 2
    assert check_replay(repo) == 4


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_a_campaign_whose_trials_all_failed_goes_on_as_printed(site, tmp_path, world_home, run_cli):
    fails = 'test -e "$WITNESS.mended" || exit 3; python3 loss.py'
    repo = make_campaign(tmp_path / "repo", tmp_path / "ran", fails, batch=2, budget={"max_tasks": 2})
    ended = finish(world_of(world_home, repo))
    assert (ended.reason, ended.trials) == ("budget", {"failed": 2})
    prompt = run_cli(*shlex.split(ended.next_step)[1:], cwd=repo).data["suggested_prompt"]
    (tmp_path / "ran.mended").touch()
    for command in prompt.partition("then run: ")[2].split(" && "):
        done = run_cli(*shlex.split(command)[1:], cwd=tmp_path).data
    assert done["asked"] == 2
    assert finish(world_of(world_home, repo)).trials == {"failed": 2, "complete": 2}


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_a_wrong_name_of_the_metric_costs_one_iteration(site, tmp_path, world_home):
    fields = {"metrics": [{"name": "los", "direction": "min"}], "batch": 2, "budget": {"max_tasks": 8}}
    ended = finish(world_of(world_home, make_campaign(tmp_path / "repo", tmp_path / "ran", **fields)))
    assert (ended.reason, ended.trials) == ("abort", {"failed": 2})
    assert ended.detail.endswith("the metric 'los' is missing; the task wrote loss. Did you mean 'loss'?")


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_failures_that_recovery_mends_are_no_failed_trials(site, tmp_path, world_home):
    """Trial 1 ends once with its checkpoint; trial 2 has an error of its own."""
    stops = 'test "$HPC_TRIAL" != 1 || test "$HPC_ATTEMPT" != 1 || exit 130; '
    stops += 'test "$HPC_TRIAL" != 2 || { echo 2 >> "$WITNESS"; exit 3; }; '
    fields = {"batch": 3, "stop_criteria": {"max_iters": 1}}
    repo = make_campaign(tmp_path / "repo", tmp_path / "ran", stops + "exec python3 loss.py", **fields)
    ended = finish(world_of(world_home, repo), auto_resubmit=True)
    assert ended.trials == {"complete": 2, "failed": 1}
    assert sorted((tmp_path / "ran").read_text().split()) == ["0", "1", "2"]


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_one_driver_at_a_time(site, tmp_path, world_home, run_cli):
    gate = tmp_path / "gate"
    waits = f"until test -e {gate}; do sleep 0.3; done; python3 loss.py"
    repo = make_campaign(tmp_path / "repo", tmp_path / "ran", waits, batch=2)
    first = run_cli("campaign-driver", "study", "--dry-run", cwd=repo).data
    assert (first["decision"], first["detail"], first["trials"]) == ("continue", "next: ask and submit 2 trials", {})
    lock = repo / ".hpc/campaigns/study/driver.lock"
    with lock.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        second = run_cli("campaign-driver", "study", cwd=repo)
        assert (second.code, second.data["decision"]) == (0, "at_work")
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from hpc_agent.cli import drive_campaign; sys.exit(drive_campaign())",
         "--experiment-dir", str(repo), "--campaign-id", "study", "--loop", "--wall-clock-budget-sec", "1"],
        env=world_home.env, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    third = json.loads(done.stdout)["data"]
    assert (third["decision"], third["trials"]["open"]) == ("wait_in_flight", 2)
    gate.touch()


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_the_canary_of_the_first_iteration(site, tmp_path, world_home, run_cli):
    """The trial of a canary is one of the batch. A broken one holds the others; a run that is given up has failed."""
    fields = {"batch": 3, "stop_criteria": {"max_iters": 2}, "submit": {"canary": True}}
    repo = make_campaign(tmp_path / "repo", tmp_path / "ran", **fields)
    assert finish(world_of(world_home, repo)).trials == {"complete": 6}
    assert sorted((tmp_path / "ran").read_text().split()) == list("012345")

    bad = make_campaign(tmp_path / "bad", tmp_path / "none", "exit 3", **fields)
    deadline = time.monotonic() + 60
    while not (seen := run_cli("campaign-driver", "study", cwd=bad)).envelope.get("partial_errors"):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    run_id = seen.data["next_step"].split()[-1]
    assert seen.data["next_step"] == f"hpc-agent verify-canary --run-id {run_id}"
    assert seen.envelope["partial_errors"][0]["code"] == "canary_failed"
    run_cli("mark-run-terminal", "--run-id", run_id, "--status", "failed", cwd=bad)
    given_up = run_cli("campaign-driver", "study", cwd=bad).data
    assert given_up["trials"]["failed"] == 3
    assert len(given_up["submitted"]) == 1


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_arrays_that_a_limit_keeps_back_are_submitted_later(site, tmp_path, world_home, run_cli, clusters_file):
    limits = {"max_array_size": 2, "max_concurrent_jobs": 10, "max_submitted": 2, "est_spin_up": "5s"}
    clusters_file.write_text(site.clusters_yaml(constraints=limits))
    repo = make_campaign(tmp_path / "repo", tmp_path / "ran", batch=5, stop_criteria={"max_iters": 1})
    assert finish(world_of(world_home, repo)).trials == {"complete": 5}
    assert sorted((tmp_path / "ran").read_text().split()) == list("01234")


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_a_run_whose_folder_is_gone(site, tmp_path, world_home, run_cli):
    repo = make_campaign(tmp_path / "repo", tmp_path / "ran", "sleep 1; python3 loss.py", batch=2)
    run_id = drive(world_of(world_home, repo)).submitted[0]
    folder = next(path for path in site.scratch.rglob(run_id) if (path / "run.json").exists())
    (folder / "run.json").unlink()
    seen = run_cli("campaign-driver", "study", cwd=repo)
    assert (seen.data["decision"], seen.envelope["partial_errors"][0]["code"]) == ("wait_in_flight", "run_not_found")
    run_cli("mark-run-terminal", "--run-id", run_id, cwd=repo)
    after = run_cli("campaign-driver", "study", cwd=repo).data
    assert (after["trials"]["failed"], len(after["submitted"])) == (2, 1)


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_a_second_machine_goes_on(site, tmp_path, world_home, run_cli):
    """It has the repo with the campaign's journal, and adopts the run that the first one had begun."""
    repo = make_campaign(tmp_path / "one" / "repo", tmp_path / "ran", batch=2, stop_criteria={"max_iters": 2})
    run_id = drive(world_of(world_home, repo)).submitted[0]
    there = tmp_path / "two" / "repo"
    shutil.copytree(repo, there, ignore=shutil.ignore_patterns("runs"))
    elsewhere = World(cwd=there, env={**world_home.env, "HPC_JOURNAL_DIR": str(tmp_path / "journal")})
    seen = run_cli("campaign-driver", "study", cwd=there, env=elsewhere.env).envelope["partial_errors"]
    adopt = re.search("'hpc-agent (.*?)'", seen[0]["detail"])[1]
    assert run_cli(*shlex.split(adopt), cwd=there, env=elsewhere.env).data["adopted"][0]["run_id"] == run_id
    assert finish(elsewhere).trials == {"complete": 4}
    assert sorted((tmp_path / "ran").read_text().split()) == list("0123")


@pytest.mark.parametrize("site", ["local"], indirect=True)
@pytest.mark.parametrize(
    ("submit", "said"), [({"executor": None}, "executor"), ({"cluster": "nowhere"}, "nowhere"), ({"x": 1}, "`x`")]
)
def test_a_manifest_that_cannot_be_submitted_asks_nothing(site, tmp_path, world_home, run_cli, submit, said):
    repo = make_campaign(tmp_path / "repo", tmp_path / "ran", submit=submit)
    outcome = run_cli("campaign-driver", "study", cwd=repo)
    assert outcome.code == 1
    assert said in outcome.envelope["message"]
    assert events(repo) == []


@pytest.mark.timeout(280)
@pytest.mark.parametrize("site", ["slurm-ssh", "sge-ssh"], indirect=True)
@pytest.mark.parametrize("mode", ["batch", "async"])
def test_a_driver_that_is_killed_three_times(site, mode, tmp_path, world_home):
    witness = site.scratch / "ran"
    site.scratch.chmod(0o777)
    witness.touch()
    witness.chmod(0o666)
    fields = {"batch": {**BATCH, "batch": 3, "stop_criteria": {"max_iters": 3}}, "async": {**ASYNC, "ahead": 3}}[mode]
    repo = make_campaign(tmp_path / "repo", witness, **fields)
    words = [sys.executable, "-m", "hpc_agent", "campaign-driver", "study", "--loop", "--poll-interval-sec", "1"]
    for kill in range(3):
        driver = subprocess.Popen(words, cwd=repo, env=world_home.env, stdout=subprocess.DEVNULL)
        deadline, before = time.monotonic() + 60, len(events(repo))
        while len(events(repo)) < before + 2 + kill and time.monotonic() < deadline:  # amid asks, tells or a submission
            time.sleep(0.05)
        driver.kill()
        driver.wait()
    done = subprocess.run(words, cwd=repo, env=world_home.env, capture_output=True, text=True, check=True, timeout=200)
    answer = json.loads(done.stdout)["data"]
    trials = 9 if mode == "batch" else 12
    assert (answer["decision"].partition("_")[0], answer["trials"]) == ("stop", {"complete": trials}), answer
    assert Counter(witness.read_text().split()) == Counter(map(str, range(trials)))
    assert check_replay(repo) == trials
    if mode == "batch":
        asks = [event for event in events(repo) if event["event"] == "ask"]
        tells = {event["trial"]: event["values"] for event in events(repo) if event["event"] == "tell"}
        assert [{"params": ask["params"], "values": tells[ask["trial"]]} for ask in asks] == expected(repo)


@pytest.mark.parametrize("site", ["slurm-ssh", "sge-ssh"], indirect=True)
def test_a_tick_is_one_look_and_one_submission(site, tmp_path, world_home, run_cli, ssh_counter):
    wrote = """echo '{"loss": 1}' >"$HPC_RESULT_DIR/metrics.json\""""
    repo = make_campaign(tmp_path / "repo", site.scratch / "ran", wrote, batch=2, stop_criteria={"max_iters": 2})
    seen, counts = {}, []
    deadline = time.monotonic() + 90
    while not seen.get("decision", "").startswith("stop"):
        assert time.monotonic() < deadline
        ssh_counter.reset()
        seen = run_cli("campaign-driver", "study", cwd=repo).data
        counts.append((ssh_counter.count("ssh"), ssh_counter.count("rsync"), len(seen.get("submitted", []))))
    assert counts[0] == (1, 0, 1), "the push travels with the submission"
    assert {count for count in counts[1:] if count[2]} == {(2, 0, 1)}
    assert {count for count in counts[1:] if not count[2]} == {(1, 0, 0)}


# Each iteration tries two points beside the best one so far; the fourth one asks for the third one's points again.
PRIOR = """import os
from hpc_agent.experiment_kit import prior

ITERATIONS = prior(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "own")[:2]
BEST = min((row for one in ITERATIONS for row in one["rows"]), key=lambda row: row["metrics"]["y"], default=None)
X = BEST["params"]["x"] if BEST else 8

def total():
    return 2

def resolve(task_id):
    return {"x": X - 1 - task_id, "iteration": len(ITERATIONS)}
"""


@pytest.mark.timeout(200)
@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_a_campaign_whose_tasks_py_asks(site, tmp_path, run_cli):
    repo = make_repo(tmp_path / "repo", PRIOR)
    submit = {"cluster": "testbed", "executor": 'echo "{\\"y\\": $((X * X))}" > "$HPC_RESULT_DIR/metrics.json"'}
    words = ["--strategy", "own", "--metrics", '[{"name": "y", "direction": "min"}]', "--submit", json.dumps(submit)]
    run_cli("campaign-init", "--campaign-id", "own", *words, cwd=repo)
    assert run_cli("campaign-driver", "--campaign-id", "own", "--dry-run", cwd=repo).data["decision"] == "continue"
    ended = run_cli("campaign-driver", "--campaign-id", "own", "--loop", cwd=repo).data
    assert (ended["reason"], len(ended["submitted"]), ended["told"]) == ("exhausted", 3, 6)
    assert ended["best"]["params"]["x"] == 2
