"""Early stopping: the laws of the rule, the rungs as files, what the kit tells a loop, and what the record keeps of it."""

import json
import math
import os
import random
import signal
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_agent.experiment_kit import early_stop
from hpc_agent.node.job import execute
from hpc_agent.node.job.metrics import Metrics, read, with_last_report
from hpc_agent.node.shared import task_environment
from hpc_agent.node.shared.files import from_document
from hpc_agent.node.shared.run_folder import RunDocument
from hpc_agent.node.shared.rungs import LAST_REPORT, Rule, Rungs

VALUES = st.lists(st.floats() | st.sampled_from([0.0, 1.0, math.nan]), min_size=1, max_size=30)
DIRECTIONS = st.sampled_from(["minimize", "maximize"])
RULES = st.builds(Rule, st.just("m"), DIRECTIONS, st.integers(1, 9), st.integers(2, 5), st.none())


@given(RULES, VALUES)
def test_the_best_so_far_is_never_stopped_and_the_worst_is_where_enough_are_there(rule, values):
    losses = [rule.loss(value) for value in values]
    for place, (own, loss) in enumerate(zip(values, losses, strict=True)):
        others = values[:place] + values[place + 1 :]
        if loss == min(losses):
            assert rule.goes_on(own, others)
        elif loss == max(losses) and len(values) >= rule.reduction and losses.count(loss) == 1:
            assert not rule.goes_on(own, others)


@given(RULES, VALUES, st.randoms())
def test_the_decision_depends_on_the_set_alone(rule, values, rng):
    own, *others = values
    shuffled = others[:]
    rng.shuffle(shuffled)
    assert rule.goes_on(own, shuffled) == rule.goes_on(own, others)


@given(RULES, VALUES, st.floats())
def test_a_better_value_goes_on_where_a_worse_one_does(rule, others, own):
    better = [value for value in others if rule.loss(value) <= rule.loss(own)]
    if rule.goes_on(own, others):
        assert all(rule.goes_on(value, others) for value in better)


@given(RULES, st.lists(st.integers(0, 10**6), unique=True, min_size=1, max_size=40))
def test_of_a_full_rung_the_best_part_goes_on(rule, values):
    kept = [value for value in values if rule.goes_on(value, [other for other in values if other != value])]
    assert len(kept) == (len(values) // rule.reduction if len(values) >= rule.reduction else len(values))
    assert kept == [value for value in values if value in sorted(values, key=rule.loss)[: len(kept)]]


@given(RULES, st.integers(0, 10**5))
def test_rungs_are_the_powers_below_the_last_step(rule, step):
    rung = rule.rung_of(step)
    if rung is None:
        assert step < rule.min_step
    else:
        power = round(math.log(rung / rule.min_step, rule.reduction))
        assert rung == rule.min_step * rule.reduction**power
        assert rung <= step < rung * rule.reduction
    limited = rule._replace(max_step=50).rung_of(step)
    assert limited is None or limited < 50


@given(RULES, VALUES)
def test_in_any_order_of_arrival_one_is_stopped_by_enough_better_ones_before_it(rule, values):
    there = []
    for value in values:
        better = sum(rule.loss(other) < rule.loss(value) for other in there)
        assert rule.goes_on(value, there) == (not better >= (len(there) + 1) // rule.reduction > 0)
        there.append(value)


def simulated(folder, seed, slots=4, trials=27, last=81):
    """Run trials with random learning curves over real rung files, ``slots`` at once; (cost of all = 1, regret)."""
    rng, rule = random.Random(seed), Rule("loss", max_step=last)
    curves = [(rng.random(), rng.uniform(0.2, 1.0), rng.uniform(0.5, 1.0)) for _ in range(trials)]
    waiting, running, steps, ended = list(range(trials)), {}, 0, {}
    while waiting or running:
        while waiting and len(running) < slots:
            running[waiting.pop(0)] = 0
        for trial in rng.sample(sorted(running), len(running)):
            steps, running[trial] = steps + 1, running[trial] + 1
            base, height, power = curves[trial]
            loss = base + height * running[trial] ** -power
            rung = rule.rung_of(running[trial])
            stop = rung == running[trial] and not rule.goes_on(loss, Rungs(folder, trial, 1).enter(rung, rung, loss))
            if stop or running[trial] == last:
                ended[trial] = loss if not stop else math.inf
                del running[trial]
    best = min(base + height * last**-power for base, height, power in curves)
    return steps / (trials * last), min(ended.values()) - best


def test_over_many_seeds_the_best_is_found_for_a_fifth_of_the_steps(tmp_path):
    found = [simulated(str(tmp_path / str(seed)), seed) for seed in range(40)]
    assert sum(cost for cost, _ in found) / len(found) < 0.2
    regrets = sorted(regret for _, regret in found)
    assert regrets[20] == 0.0  # the very best one
    assert sum(regrets) / len(regrets) < 0.03


def test_an_attempt_replaces_its_value_and_never_counts_twice(tmp_path):
    folder = str(tmp_path)
    first, other = Rungs(folder, 4, 1), Rungs(folder, 5, 1)
    assert first.enter(9, 9, 0.5) == []
    assert first.enter(9, 10, 0.1) is None  # one value a rung
    assert other.enter(9, 9, -1e-05) == [0.5]
    assert Rungs(folder, 4, 2).enter(9, 9, math.nan) == [-1e-05]
    assert first.enter(9, 9, 3.0) is None  # an attempt that was given up and still runs
    names = os.listdir(tmp_path / "rungs" / "9" / "00000")
    assert sorted(names) == ["4_2_9_nan", "5_1_9_-1e-05"]
    assert Rungs(folder, 4, 3).enter(9, 20, 0.2) is None  # goes on from a checkpoint behind its value
    assert Rungs(folder, 1004, 1).enter(9, 9, 0.3) == []  # of another thousand


def test_what_is_left_beside_the_values_counts_for_nothing(tmp_path):
    shard = tmp_path / "rungs" / "1" / "00000"
    shard.mkdir(parents=True)
    for name in ("7_1_1_0.25", "7_2_1_0.75", ".nfs0000001", "8_1_1", "8_1_1_x", "a_1_1_2.0", "9_1_1_inf"):
        (shard / name).touch()
    assert Counter(Rungs(str(tmp_path), 1, 1).enter(1, 1, 0.1)) == Counter([0.75, math.inf])


LOOP = """
import sys
from hpc_agent.experiment_kit import report, reports, should_stop
for step in range(1, 10):
    report(step, float(sys.argv[1]))
    if should_stop():
        break
print(len(reports()))
"""


def task_env(tmp_path, task, attempt=1, rule=None, **fields):
    run = RunDocument(run_id="r", task_count=5, early_stop=rule, **fields)
    result = tmp_path / "hpc-agent" / "repo" / "runs" / "r" / f"result{task}"
    result.mkdir(parents=True, exist_ok=True)
    inherited = {**os.environ, "HPC_ATTEMPT": str(attempt)}
    return task_environment.build(run, str(result.parent), task, {}, str(result), inherited)


def ran(env, *words):
    return subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, timeout=60, check=False)


def record(env, declared=None):
    folder = env["HPC_RESULT_DIR"]
    return with_last_report(read(folder, declared), folder, declared, None, int(env["HPC_ATTEMPT"]))


def test_a_loop_ends_itself_and_its_record_says_so(tmp_path):
    rule = {"metric": "acc", "direction": "maximize", "min_step": 2, "reduction": 2}
    steps, found = [], []
    for task, value in enumerate(["0.9", "0.5", "0.95", "nan"]):
        env = task_env(tmp_path, task, rule=rule)
        done = ran(env, "-c", LOOP, value)
        assert done.returncode == 0, done.stderr
        assert (f"acc {value} at step 2" in done.stderr) == (done.stdout == "2\n")
        steps.append(int(done.stdout))
        found.append(record(env, "metrics.csv" if task == 1 else None).values)
    assert steps == [9, 2, 9, 2]
    stopped = {"stopped_at": 2}
    assert found == [{"acc": 0.9}, {"acc": 0.5, **stopped}, {"acc": 0.95}, {"acc": "nan", **stopped}]


def test_the_trials_of_a_campaign_share_its_rungs(tmp_path):
    env = task_env(tmp_path, 1, rule={"metric": "m"}, campaign_id="c", trials=[7, 9])
    assert ran(env, "-c", LOOP, "1").stdout == "9\n"
    assert os.listdir(tmp_path / "hpc-agent/repo/campaigns/c/rungs/9/00000") == ["9_1_9_1.0"]


@pytest.mark.parametrize("words", [{}, {"HPC_EARLY_STOP": '{"metric": "m"}'}])
def test_outside_of_a_task_nothing_stops_and_nothing_is_written(tmp_path, words):
    plain = {name: text for name, text in os.environ.items() if not name.startswith("HPC_")}
    done = subprocess.run([sys.executable, "-c", LOOP, "nan"], env={**plain, **words}, cwd=tmp_path,
                          capture_output=True, text=True, timeout=60, check=True)  # fmt: skip
    assert (done.stdout, done.stderr, os.listdir(tmp_path)) == ("9\n", "", [])


def test_the_command_says_stop_by_its_exit_code_until_the_attempt_ends(tmp_path):
    rule = {"metric": "loss", "reduction": 2}
    command = ("-m", "hpc_agent.experiment_kit", "report", "--step")
    assert ran(task_env(tmp_path, 0, rule=rule), *command, "1", "--value", "-1e-05").returncode == 0
    env = task_env(tmp_path, 1, rule=rule)
    assert [ran(env, *command, step, "--value", value).returncode for step, value in (("1", "NA"), ("2", "-7"))] == [
        10,
        10,
    ]
    assert record(env).values == {"loss": -7.0, "stopped_at": 2}
    assert ran(task_env(tmp_path, 1, 2, rule=rule), *command, "1", "--value", "-7").returncode == 0
    assert record(task_env(tmp_path, 1, 2)).values == {"loss": -7.0}
    assert ran(env, *command, "-1", "--value", "0").returncode == 2


def test_a_task_that_trains_on_was_not_stopped(tmp_path):
    loop = LOOP.replace("        break", "        pass")
    rule = {"metric": "loss", "reduction": 2}
    for task, value in enumerate(["1", "2"]):
        env = task_env(tmp_path, task, rule=rule)
        assert ran(env, "-c", loop + "report(10, 0.0)", value).stdout == "9\n"
    assert record(env).values == {"loss": 0.0}


@pytest.mark.parametrize("names", early_stop._RANKS)
def test_the_ranks_of_a_task_get_the_answer_of_rank_0(tmp_path, names):
    """Whoever comes first; one value enters the rung. RANK alone is a parameter."""
    rule = {"metric": "loss", "reduction": 2}
    assert ran({**task_env(tmp_path, 0, rule=rule), "RANK": "8"}, "-c", LOOP, "1").stdout == "9\n"
    env = task_env(tmp_path, 1, rule=rule)
    of_rank = [{**env, names[0]: str(rank), names[1]: "3"} for rank in (1, 2, 0)]
    begun = [subprocess.Popen([sys.executable, "-c", LOOP, value], env=one, stdout=subprocess.PIPE, text=True)
             for one, value in zip(of_rank, ("0", "0.5", "2"), strict=True)]  # fmt: skip
    assert [process.communicate(timeout=60)[0] for process in begun] == ["1\n"] * 3
    assert record(env).values == {"loss": 2.0, "stopped_at": 1}
    assert sorted(os.listdir(tmp_path / "hpc-agent/repo/runs/r/rungs/1/00000")) == ["0_1_1_1.0", "1_1_1_2.0"]
    assert os.listdir(env["HPC_RESULT_DIR"]) == ["early_stop.json"]


def test_a_rank_goes_on_where_rank_0_is_silent(tmp_path):
    env = {**task_env(tmp_path, 1, rule={"metric": "loss"}), "RANK": "1", "WORLD_SIZE": "2"}
    short = "from hpc_agent.experiment_kit import early_stop; early_stop.ANSWER_SEC = 0.1" + LOOP
    done = ran(env, "-c", short, "1")
    assert (done.stdout, "rank 1 goes on" in done.stderr) == ("9\n", True)


def test_a_rung_that_cannot_be_written_stops_nobody(tmp_path):
    env = task_env(tmp_path, 0, rule={"metric": "loss"})
    (tmp_path / "hpc-agent/repo/runs/r/rungs").write_text("")
    done = ran(env, "-c", LOOP, "1")
    assert (done.returncode, done.stdout) == (0, "9\n")
    assert "cannot be reached, and the task goes on" in done.stderr


@pytest.mark.parametrize(("step", "error"), [(-1, ValueError), (1.5, ValueError), (None, TypeError)])
def test_a_step_is_a_whole_number(step, error, monkeypatch):
    monkeypatch.setattr(early_stop, "_state", early_stop._State())
    with pytest.raises(error):
        early_stop.report(step, 1.0)


def test_metrics_of_the_task_itself_come_first(tmp_path):
    last = {"attempt": 2, "metric": "loss", "step": 3, "value": 0.5, "stop": True, "stopped_at": 3}
    (tmp_path / LAST_REPORT).write_text(json.dumps(last))
    folder, own = str(tmp_path), Metrics({"loss": 0.25, "n": 1})
    assert with_last_report(own, folder, None, None, 2).values == {"loss": 0.25, "n": 1, "stopped_at": 3}
    assert with_last_report(own, folder, None, None, 3) == own  # the report is of an earlier attempt
    missing = Metrics(problem="wrote no m.csv")
    assert with_last_report(missing, folder, "m.csv", None, 2) == Metrics({"loss": 0.5, "stopped_at": 3})
    (tmp_path / "m.csv").write_text("torn")
    assert with_last_report(missing, folder, "m.csv", None, 2).problem == missing.problem
    (tmp_path / LAST_REPORT).write_text("{")
    assert LAST_REPORT in with_last_report(own, folder, None, None, 2).problem


def test_a_rule_of_a_later_version_is_read():
    assert from_document(Rule, {"metric": "m", "grace": 3, "max_step": None}) == Rule("m")


def test_a_report_alone_is_no_result_of_a_task_that_a_signal_ended(tmp_path):
    (tmp_path / LAST_REPORT).write_text("{}")
    assert execute._gave_up(0, [signal.SIGUSR1], str(tmp_path))
    (tmp_path / "metrics.json").write_text("{}")
    assert not execute._gave_up(0, [signal.SIGUSR1], str(tmp_path))
