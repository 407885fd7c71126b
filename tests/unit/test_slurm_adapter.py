"""The SLURM adapter on output recorded from a real SLURM (tests/data/slurm/README.md)."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_agent.node.schedulers import base
from hpc_agent.node.schedulers.slurm import adapter as slurm
from hpc_agent.node.shared import waiting_reasons
from hpc_agent.node.shared.errors import NodeError
from hpc_agent.node.shared.ranges import decode_ranges, encode_ranges

DATA = Path(__file__).parents[1] / "data" / "slurm"
RECORDED_FROM = 1795446000.0
SUBMITTED = 1795446158.0


def recorded(name):
    """(exit code, stdout, stderr) of a recorded command."""
    head, _, rest = (DATA / f"{name}.txt").read_text().partition("--- stdout\n")
    out, _, err = rest.partition("--- stderr\n")
    return int(head.splitlines()[1].split()[-1]), out, err


@pytest.fixture
def answers(monkeypatch):
    """Replaces run_command: tool -> answers, taken in turn (the last one stays). Calls are kept as (argv, env)."""

    class Answers(dict):
        calls = []

    planned = Answers()
    planned.calls = []

    def run_command(argv, timeout, stdin=None, env=None, cwd=None, inherit=()):
        planned.calls.append((argv, env))
        queue = planned[argv[0]]
        answer = queue.pop(0) if len(queue) > 1 else queue[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    for module in (base, slurm):
        monkeypatch.setattr(module, "run_command", run_command)
    return planned


def job(**changes):
    document = {
        "name": "hpc-r1-a0", "count": 10, "script": "/scratch/run/job.sh", "environment": {"A": "1,2 3"},
        "log_folder": "/scratch/run/logs", "working_directory": "/scratch/run/work",
    }  # fmt: skip
    return base.Job(**{**document, **changes})


def flags(**changes):
    return slurm.Slurm().submit_command(job(**changes))


# ---------------------------------------------------------------------------------------------------- submission


def test_submit_command_of_a_plain_array():
    assert flags() == [
        "sbatch", "--parsable", "--array=0-9", "--job-name=hpc-r1-a0", "--comment=hpc-r1-a0",
        "--output=/scratch/run/logs/%A_%a.out", "--open-mode=append", "--export=ALL", "--chdir=/scratch/run/work",
        "--nodes=1", "--ntasks=1", "/scratch/run/job.sh",
    ]  # fmt: skip


def test_submit_command_with_everything():
    argv = flags(
        max_running=4,
        after=["7", "8"],
        resources={
            "walltime_sec": 90061, "mem_mb": 1500.2, "cpus": 4, "gpus": 2, "gpu_type": "a100", "nodes": 2, "exclusive": True
        },
        placement={
            "partition": "gpu", "account": "lab", "qos": "long", "constraint": "a&b", "exclude_nodes": ["n1", "n2"],
            "extra_flags": ["--nice=5", "--licenses=x:1"],
        },
    )  # fmt: skip
    assert argv[2] == "--array=0-9%4"
    assert argv[9:] == [
        "--nodes=2", "--ntasks=2", "--time=25:02:00", "--mem=1501M", "--cpus-per-task=4", "--gres=gpu:a100:2", "--exclusive",
        "--partition=gpu", "--account=lab", "--qos=long", "--constraint=a&b", "--exclude=n1,n2",
        "--dependency=afterany:7:8", "--nice=5", "--licenses=x:1", "/scratch/run/job.sh",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "flag"),
    [(1, "00:01:00"), (60, "00:01:00"), (60.5, "00:02:00"), (3600, "01:00:00"), (720000, "200:00:00")],
)
def test_walltime_is_rounded_up_to_minutes(seconds, flag):
    assert f"--time={flag}" in flags(resources={"walltime_sec": seconds})


def test_percent_in_the_log_folder_is_literal():
    assert "--output=/s/50%%/%A_%a.out" in flags(log_folder="/s/50%")


def test_requeueing_is_left_to_the_cluster():
    assert not [word for word in flags() if "requeue" in word]


def test_values_travel_in_the_environment_and_user_settings_do_not(answers, monkeypatch):
    monkeypatch.setenv("SBATCH_PARTITION", "elsewhere")
    monkeypatch.setenv("SLURM_CONF", "/etc/other.conf")
    answers["sbatch"] = [recorded("submit-array")]
    assert slurm.Slurm().submit(job()) == "5"
    argv, env = answers.calls[0]
    assert env["A"] == "1,2 3"
    assert not [word for word in argv if "1,2 3" in word]
    assert "SBATCH_PARTITION" not in env
    assert env["SLURM_CONF"] == "/etc/other.conf"


@pytest.mark.parametrize("locale", [{}, {"LANG": "de_DE.UTF-8"}, {"LC_ALL": "fr_FR.ISO-8859-1", "LC_TIME": "C"}])
def test_a_job_has_the_locale_of_the_user_and_a_query_has_none(answers, monkeypatch, locale):
    for name in [name for name in os.environ if name.startswith(("LANG", "LC_"))]:
        monkeypatch.delenv(name)
    for name, value in locale.items():
        monkeypatch.setenv(name, value)
    answers["sbatch"] = [recorded("submit-array")]
    answers["squeue"] = [(0, "", "")]
    slurm.Slurm().submit(job())
    slurm.Slurm().submitted_elements()
    submitted, asked = (env for _, env in answers.calls)
    assert {name: value for name, value in submitted.items() if name.startswith(("LANG", "LC_"))} == locale
    assert asked["LC_ALL"] == "C"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("5_[0-9:3,12%4]", 5),
        ("5_3", 1),
        ("5", 1),
        ("5+0\n5+1\n", 2),
        ("67108865_[1-3]", 3),
        ("CLUSTER: far\n7_[1,3]", 2),
        ("", 0),
    ],
)
def test_every_form_of_a_job_id_counts(answers, text, count):
    answers["squeue"] = [(0, text + "\n", "")]
    assert slurm.Slurm().submitted_elements() == count


def test_a_cut_list_is_counted_element_by_element(answers):
    answers["squeue"] = [(0, "5_[0-9,12,...]\n", ""), (0, "5_0\n5_1\n", "")]
    assert slurm.Slurm().submitted_elements() == 2
    assert "--array" in answers.calls[1][0]


def test_a_submission_that_hangs_may_have_been_accepted(answers):
    answers["sbatch"] = [NodeError("cluster_timeout", "sbatch did not answer within 60 s")]
    with pytest.raises(NodeError) as caught:
        slurm.Slurm().submit(job())
    assert caught.value.code == "submission_unknown"


def test_a_missing_sbatch_is_not_an_unknown_outcome(answers):
    answers["sbatch"] = [NodeError("remote_command_failed", "cannot run sbatch")]
    with pytest.raises(NodeError) as caught:
        slurm.Slurm().submit(job())
    assert caught.value.code == "remote_command_failed"


@pytest.mark.parametrize(
    ("out", "job_id"),
    [
        ("123\n", "123"),
        ("123;cluster2\n", "123"),
        ("Submitted batch job 123\n", "123"),
        ("Submitted batch job 123 on cluster c2\n", "123"),
        ("*** Welcome ***\nyou have 3 jobs\n\n123\nremember 2026\n", "123"),
        (recorded("submit-plain")[1], "6"),
    ],
)
def test_job_id_is_found_among_banners(out, job_id):
    assert slurm.Slurm().parse_submit(0, out, "warning: something") == job_id


@pytest.mark.parametrize(
    ("code", "out", "err"),
    [
        (0, "", ""),
        (0, "queued, thank you\n", ""),
        (0, "123\n124\n", ""),
        (1, "123\n", "sbatch: error: plugin failed afterwards"),
        (-9, "", ""),
        (1, "", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"),
        (1, "", "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received"),
        (1, "", "something that nobody knows"),
    ],
)
def test_an_outcome_that_is_not_certain_is_unknown(code, out, err):
    with pytest.raises(NodeError) as caught:
        slurm.Slurm().parse_submit(code, out, err)
    assert caught.value.code == "submission_unknown"
    assert caught.value.message


REFUSED = {
    "refused-partition": "sinfo -s", "refused-group": "sinfo -s", "refused-array-size": "MaxArraySize",
    "refused-qos-limit": "as many jobs", "refused-account-limit": "as many jobs", "refused-memory": "Ask for less",
    "refused-gpus": "Ask for less", "refused-gputype": "Ask for less", "refused-node-config-array": "Ask for less",
    "refused-gres": "%G", "refused-account": "sacctmgr", "refused-qos": "sacctmgr", "refused-constraint": "constraint",
    "refused-exclude": "excluded nodes", "refused-option": "extra_flags", "refused-time": "sbatch rejects",
    "refused-mem-per-node": "mem_per_cpu: true", "refused-mem-twice": "extra_flags", "refused-in-controller": "names",
    "refused-script": "names", "refused-notscript": "names", "refused-dependency": "names", "refused-reservation": "names",
}  # fmt: skip


def test_every_recorded_refusal_is_tested():
    assert {path.stem for path in DATA.glob("refused-*.txt")} == set(REFUSED)


@pytest.mark.parametrize(("name", "advice"), REFUSED.items())
def test_refusals_carry_the_schedulers_sentence_and_what_to_do(name, advice):
    code, out, err = recorded(name)
    with pytest.raises(NodeError) as caught:
        slurm.Slurm().parse_submit(code, out, err)
    error = caught.value
    assert error.code == "scheduler_refused"
    assert advice in error.remediation
    assert "hpc-agent submit" in error.remediation
    assert error.message.startswith("sbatch: ")
    assert "error:" not in error.message
    assert error.details["retry_later"] is ("limit" in name)


def test_refusal_message_is_one_sentence():
    with pytest.raises(NodeError) as caught:
        slurm.Slurm().parse_submit(*recorded("refused-partition"))
    assert str(caught.value) == "sbatch: invalid partition specified: nope; Invalid partition name specified"


@pytest.mark.parametrize("name", ["down-sbatch", "nomunge-sbatch"])
def test_a_controller_that_is_down_can_be_tried_again(name):
    with pytest.raises(NodeError) as caught:
        slurm.Slurm().parse_submit(*recorded(name))
    assert caught.value.code == "cluster_timeout"
    assert caught.value.details["retry_later"] is True


def test_rate_limit_is_throttling():
    with pytest.raises(NodeError) as caught:
        slurm.Slurm().parse_submit(
            1, "", "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying"
        )
    assert caught.value.code == "scheduler_throttled"


@pytest.mark.parametrize(
    ("code", "err", "ended_by_itself"),
    [
        (*recorded("filter-unknown-words")[::2], True),
        (1, "*** No project given. See https://example.org/wiki ***\n", True),
        (2, "提交被拒绝\n", True),
        (128, "wrapper: no", True),
        (1, "", False),
        (137, "Killed", False),
        (143, "Terminated", False),
        (-9, "half a sent", False),
    ],
)
def test_a_tool_that_ended_by_itself_may_have_refused_in_unknown_words(code, err, ended_by_itself):
    """The look-up by name decides. A tool that was killed, or says nothing, has not refused."""
    with pytest.raises(NodeError) as caught:
        slurm.Slurm().parse_submit(code, "", err)
    assert caught.value.code == "submission_unknown"
    assert caught.value.details["ended_by_itself"] is ended_by_itself


@pytest.mark.parametrize(
    "err",
    [
        "sbatch: error: cli_filter: please request --mem-per-cpu instead of --mem",
        "sbatch: error: Memory per node (--mem) is disabled",
        "sbatch: error: lua: You must specify memory per core.",
    ],
)
def test_a_site_that_wants_memory_per_cpu_is_told_apart(err):
    with pytest.raises(NodeError) as caught:
        slurm.Slurm().parse_submit(1, "", err)
    assert (caught.value.code, "mem_per_cpu: true" in caught.value.remediation) == ("scheduler_refused", True)


@pytest.mark.parametrize(
    ("resources", "flag"),
    [({"mem_mb": 1000, "cpus": 4}, "250M"), ({"mem_mb": 1000, "cpus": 3}, "334M"), ({"mem_mb": 10.5}, "11M")],
)
def test_memory_per_cpu_is_never_less_than_that_of_the_element(resources, flag):
    argv = flags(resources=resources, site={"mem_per_cpu": True})
    assert [word for word in argv if word.startswith("--mem")] == [f"--mem-per-cpu={flag}"]


# --------------------------------------------------------------------------------------------------------- queue


def test_queue_reads_every_recorded_state(answers):
    answers["squeue"] = [recorded("squeue-states")]
    rows = slurm.Slurm().queue([str(number) for number in range(169, 183)])
    seen = {(r.job, r.elements): (r.state, r.reason, r.host) for r in rows}
    assert seen == {
        ("182", "0-1,4-7"): ("pending", "BeginTime", ""),
        ("170", "0"): ("pending", "Resources", ""),
        # One row for all pending elements, of which element 7 alone is held.
        ("171", "2-9"): ("pending", "JobArrayTaskLimit,JobHeldUser", ""),
        ("173", "0-3"): ("pending", "Dependency", ""),
        ("177", "1"): ("held", "job requeued in held state", ""),
        ("172", "0-4"): ("held", "JobHeldUser", ""),
        ("169", "0"): ("running", "", "node4"),
        ("171", "0"): ("running", "", "node1"),
        ("171", "1"): ("running", "", "node1"),
        ("176", "0"): ("running", "", "node1"),
        ("177", "0"): ("running", "", "node1"),
        ("180", "0"): ("running", "", "node1"),
        ("176", "1"): ("suspended", "", "node1"),
        ("178", "0-2"): ("pending", "PartitionDown", ""),
        ("179", encode_ranges(range(0, 2997, 7))): ("pending", "PartitionTimeLimit", ""),
    }
    assert {r.state for r in rows} <= set(base.QUEUE_STATES)
    assert {r.raw for r in rows} == {"PENDING", "RUNNING", "SUSPENDED"}


def test_reason_may_hold_commas_and_bars():
    text = recorded("squeue-mixed")[1] + "7_1|PENDING||a|b\n"
    reasons = {r.job: r.reason for r in slurm.parse_queue(text, {"58", "7"})}
    assert reasons["58"].startswith("Nodes required for job are DOWN, DRAINED or reserved")
    assert reasons["7"] == "a|b"


def test_a_row_that_is_held_in_part_is_pending():
    (row,) = slurm.parse_queue("5_[1-3]|PENDING||JobHeldUser,JobArrayTaskLimit\n", {"5"})
    assert row.state == "pending"


def test_a_job_that_is_gone_is_an_empty_answer_and_no_failure(answers):
    answers["squeue"] = [recorded("squeue-purged-user")]
    assert slurm.Slurm().queue(["999999"]) == []
    argv, _ = answers.calls[0]
    assert not [word for word in argv if word.startswith(("-j", "--jobs"))]
    assert (recorded("squeue-purged")[0], recorded("squeue-purged-twice")[0]) == (1, 0)


@pytest.mark.parametrize("name", ["down-squeue", "nomunge-squeue"])
def test_a_failed_query_is_no_answer(answers, name):
    answers["squeue"] = [recorded(name)]
    with pytest.raises(NodeError) as caught:
        slurm.Slurm().queue(["5"])
    assert caught.value.code == "cluster_timeout"


def test_an_unreachable_controller_is_noticed_whatever_the_exit_code(answers):
    answers["squeue"] = [(0, "", recorded("down-squeue")[2])]
    with pytest.raises(NodeError):
        slurm.Slurm().queue(["5"])


def test_queries_ask_for_whole_lists_and_ignore_the_users_settings(answers, monkeypatch):
    monkeypatch.setenv("SQUEUE_FORMAT", "%j")
    monkeypatch.setenv("SLURM_BITSTR_LEN", "16")
    answers["squeue"] = [(0, "", "")]
    slurm.Slurm().queue(["5"])
    _, env = answers.calls[0]
    assert env["SLURM_BITSTR_LEN"] == "0"
    assert "SQUEUE_FORMAT" not in env


def test_a_list_cut_short_is_asked_for_element_by_element(answers):
    answers["squeue"] = [recorded("squeue-cut"), (0, "189_12|PENDING||JobHeldUser\n189_17|PENDING||JobHeldUser\n", "")]
    rows = slurm.Slurm().queue(["189"])
    assert [r.elements for r in rows] == ["12", "17"]
    assert "--array" in answers.calls[1][0]


def test_a_list_that_stays_cut_short_is_a_failed_query(answers):
    answers["squeue"] = [recorded("squeue-cut")]
    with pytest.raises(NodeError) as caught:
        slurm.Slurm().queue(["189"])
    assert caught.value.code == "remote_command_failed"


def test_long_list_is_whole_with_the_environment_that_we_set():
    (row,) = slurm.parse_queue(recorded("squeue-whole")[1], {"189"})
    assert len(decode_ranges(row.elements)) == 400


@pytest.mark.parametrize(
    ("raw", "state"),
    [
        ("CONFIGURING", "running"), ("COMPLETING", "completing"), ("STAGE_OUT", "completing"), ("RESIZING", "running"),
        ("SIGNALING", "running"), ("STOPPED", "suspended"), ("SUSPENDED", "suspended"), ("REQUEUED", "pending"),
        ("REQUEUE_HOLD", "held"), ("SPECIAL_EXIT", "held"), ("RESV_DEL_HOLD", "held"), ("NEW_IN_30", "pending"),
    ],
)  # fmt: skip
def test_states_that_are_hard_to_record(raw, state):
    (row,) = slurm.parse_queue(f"5_1|{raw}|n1|None\n", {"5"})
    assert (row.state, row.raw) == (state, raw)


@pytest.mark.parametrize("raw", sorted(slurm._CAUSES))
def test_final_states_that_linger_are_no_rows(raw):
    assert slurm.parse_queue(f"5_1|{raw}|n1|None\n", {"5"}) == []


# ---------------------------------------------------------------------------------------------------- accounting


def accounting(name, jobs, answers, since=RECORDED_FROM):
    answers["sacct"] = [recorded(name)]
    return {(r.job, r.element): r for r in slurm.Slurm().accounting(jobs, since)}


def test_accounting_says_how_everything_ended(answers):
    rows = accounting("sacct-ends", ["30", "31", "42"], answers)
    causes = {key: (r.state, r.cause, r.exit_code, r.signal) for key, r in rows.items()}
    assert causes["42", 0] == ("complete", None, 0, None)
    assert causes["42", 1] == ("failed", "exit", 7, None)
    assert causes["42", 2] == ("failed", "signal", None, 9)
    assert causes["42", 3] == ("failed", "exit", 127, None)
    assert causes["43", 1] == ("failed", "out_of_memory", None, None)
    assert causes["44", 0] == ("failed", "timeout", None, None)
    assert causes["45", 1] == ("failed", "cancelled", None, None)
    assert causes["46", 3] == ("failed", "never_started", None, None)
    assert causes["47", 2] == ("failed", "preempted", None, None)
    assert causes["79", 0] == ("failed", "environment", None, None)
    assert causes["169", 0] == ("failed", "node_failure", None, None)
    assert {element for job_id, element in causes if job_id == "31"} == set(range(10))
    assert all(causes["30", element][1] == "never_started" for element in range(10))
    assert not [key for key in causes if key[0] == "173"]
    assert ("46", 2) not in causes


def test_accounting_row_is_complete(answers):
    row = accounting("sacct-ends", ["44"], answers)["44", 0]
    assert {**row._asdict(), "state": row.state} == {
        "job": "44", "element": 0, "state": "failed", "cause": "timeout", "raw": "TIMEOUT 0:0", "exit_code": None,
        "signal": None, "host": "node1", "seconds": 87.0, "max_rss_mb": None,
    }  # fmt: skip
    assert accounting("sacct-ends", ["31"], answers)["31", 0].host == ""


def test_records_of_an_earlier_job_with_the_same_id_do_not_count(answers):
    assert ("42", 0) in accounting("sacct-ends", ["42"], answers, since=SUBMITTED + base.CLOCK_SKEW)
    assert ("42", 0) not in accounting("sacct-ends", ["42"], answers, since=SUBMITTED + base.CLOCK_SKEW + 1)


def test_the_newest_attempt_wins_in_any_order():
    old, new = "5_0|NODE_FAIL|0:0|1000|9|n1", "5_0|COMPLETED|0:0|2000|9|n2"
    for text in (f"{old}\n{new}\n", f"{new}\n{old}\n"):
        (row,) = slurm.parse_accounting(text, 900.0)
        assert row.state == "complete"


def test_local_times_are_understood_where_the_format_variable_is_not_heeded(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        text = recorded("sacct-ends-local-time")[1]
        assert len(slurm.parse_accounting(text, SUBMITTED)) == 4
        assert slurm.parse_accounting(text, SUBMITTED + 400) == []
    finally:
        monkeypatch.undo()
        time.tzset()


def test_cancelled_array_with_a_scattered_list():
    assert len(slurm.parse_accounting(recorded("sacct-whole")[1], RECORDED_FROM)) == 400
    assert slurm.parse_accounting(recorded("sacct-cut")[1], RECORDED_FROM) == []


@pytest.mark.parametrize(
    ("line", "cause", "signal"),
    [
        ("5_0|DEADLINE|0:0|1000|9|n1", "timeout", None),
        ("5_0|DEADLINE|0:0|1000|0|None assigned", "never_started", None),
        ("5_0|BOOT_FAIL|0:0|1000|0|n1", "node_failure", None),
        ("5_0|REVOKED|0:0|1000|3|n1", "cancelled", None),
        ("5_0|FAILED|0:15|1000|3|n1", "signal", 15),
        ("5_0|NODE_FAIL||1000|3|n1", "node_failure", None),
    ],
)
def test_ends_that_are_hard_to_record(line, cause, signal):
    (row,) = slurm.parse_accounting(line, 1000.0)
    assert (row.cause, row.signal, row.exit_code) == (cause, signal, None)


def test_unfinished_and_foreign_lines_are_no_ends():
    text = """motd: 3 jobs
5_0|RUNNING|0:0|1000|9|n1
5_[1-3]|PENDING|0:0|1000|0|None assigned
5_4|REQUEUED|0:0|1000|0|
5_5|SUSPENDED|0:0|1000|9|n1
5_6.batch|COMPLETED|0:0|1000|9|n1
5_7|COMPLETED|0:0
"""
    assert slurm.parse_accounting(text, 1000.0) == []


def test_an_unknown_job_is_an_empty_answer(answers):
    assert accounting("sacct-unknown", ["999999"], answers) == {}


def test_nothing_is_asked_about_no_jobs(answers):
    assert slurm.Slurm().accounting([], 0.0) == []
    assert answers.calls == []


@pytest.mark.parametrize(
    ("name", "code"), [("nodb-sacct", "cluster_timeout"), ("noacct-sacct", "remote_command_failed")]
)
def test_accounting_that_is_down_is_no_empty_answer(answers, name, code):
    answers["sacct"] = [recorded(name)]
    with pytest.raises(NodeError) as caught:
        slurm.Slurm().accounting(["5"], 0.0)
    assert caught.value.code == code


def test_a_clock_that_runs_ahead_asks_for_no_future_start(answers):
    answers["sacct"] = [(0, "", "")]
    slurm.Slurm().accounting(["5"], time.time() + 86400)
    (start,) = [word.partition("=")[2] for word in answers.calls[0][0] if word.startswith("--starttime=")]
    assert time.mktime(time.strptime(start, "%Y-%m-%dT%H:%M:%S")) < time.time()


# ------------------------------------------------------------------------------------------------------- look-up


def test_find_in_queue_and_accounting(answers):
    answers["squeue"] = [recorded("squeue-named")]
    answers["sacct"] = [recorded("sacct-named")]
    assert slurm.Slurm().find("hpc-throttled", RECORDED_FROM) == ["171"]
    assert slurm.Slurm().find("hpc-exits", RECORDED_FROM) == ["42"]
    assert slurm.Slurm().find("hpc-begin", RECORDED_FROM) == ["32", "33"]
    assert slurm.Slurm().find("hpc-exit", RECORDED_FROM) == []


def test_find_sees_what_was_cancelled_while_held(answers):
    answers["squeue"] = [(0, "", "")]
    answers["sacct"] = [recorded("sacct-named")]
    assert slurm.Slurm().find("hpc-held", RECORDED_FROM) == ["31"]
    argv = answers.calls[1][0]
    assert [word for word in argv if word.startswith("--state=")]
    assert [word for word in argv if word.startswith("--endtime=")]


def test_find_takes_a_refused_submissions_record_for_no_job(answers):
    answers["squeue"] = [(0, "", "")]
    answers["sacct"] = [recorded("sacct-named")]
    assert "hpc-refused" in recorded("sacct-named")[1]
    assert slurm.Slurm().find("hpc-refused", RECORDED_FROM) == []


def test_find_is_newest_last_and_after_since():
    text = "9|RUNNING|n|3000|x\n10|RUNNING|n|2000|x\n8|RUNNING|n|2000|x\n7|RUNNING|n|1000|x\n"
    found = slurm.parse_named(text, "x", 2000.0)
    assert sorted(found, key=lambda job_id: (found[job_id], int(job_id))) == ["8", "10", "9"]


def test_find_trusts_the_queue_alone_where_a_site_keeps_no_accounting(answers):
    answers["squeue"], answers["sacct"] = [(0, "", "")], [recorded("noacct-sacct")]
    assert slurm.Slurm().find("hpc-r1-a0", SUBMITTED) == []


def test_find_does_without_accounting_only_when_the_queue_has_it(answers):
    answers["squeue"] = [recorded("squeue-named")]
    answers["sacct"] = [recorded("nodb-sacct")]
    assert slurm.Slurm().find("hpc-throttled", RECORDED_FROM) == ["171"]
    with pytest.raises(NodeError):
        slurm.Slurm().find("hpc-nowhere", RECORDED_FROM)


# ---------------------------------------------------------------------------------------------- index lists, speed

indices = st.sets(st.integers(min_value=0, max_value=100_000), min_size=1, max_size=60)


@given(indices, st.integers(min_value=0, max_value=3))
def test_ranges_are_read_back(elements, first):
    shifted = encode_ranges(element + first for element in elements)
    assert base.parse_indices(shifted, first=first) == sorted(elements)


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(1, 50))
def test_steps_are_read(start, length, step):
    text = f"{start}-{start + length}:{step}"
    assert base.parse_indices(text) == list(range(start, start + length + 1, step))


@given(indices, st.one_of(st.none(), st.integers(1, 99)))
def test_pending_rows_with_and_without_throttle(elements, throttle):
    tail = "" if throttle is None else f"%{throttle}"
    line = f"77_[{encode_ranges(elements)}{tail}]|PENDING||Priority"
    (row,) = slurm.parse_queue(line, {"77"})
    assert decode_ranges(row.elements) == sorted(elements)


@given(indices, st.data())
def test_a_cut_row_is_never_taken_for_a_whole_one(elements, data):
    whole = f"77_[{encode_ranges(elements)}]"
    cut = whole[: data.draw(st.integers(min_value=4, max_value=len(whole) - 1))]
    with pytest.raises(ValueError, match="not a"):
        slurm.parse_queue(f"{cut}|PENDING||Priority", {"77"})
    with pytest.raises(ValueError, match="not a"):
        slurm.parse_queue(f"{cut}...]|PENDING||Priority", {"77"})


def test_an_absurd_range_is_refused_before_it_fills_the_memory():
    with pytest.raises(ValueError, match="not an index range"):
        base.parse_indices("0-99999999999")


@given(st.text(alphabet="0123456789-,:%[]_.+ ", max_size=8))
def test_junk_is_an_error_and_no_crash(text):
    try:
        elements = base.parse_indices(text)
    except ValueError:
        return
    assert all(isinstance(element, int) and element >= 0 for element in elements)


@given(st.text(max_size=60), st.text(max_size=60))
def test_whatever_sbatch_prints_is_an_id_or_a_known_error(out, err):
    try:
        outcome = slurm.Slurm().parse_submit(0, out, err)
    except NodeError as error:
        outcome = error.code
    assert outcome == "submission_unknown" or outcome.isdigit()


def test_ten_thousand_rows_are_read():
    queue = "".join(f"77_{i}|RUNNING|node{i % 99}|None\n" for i in range(10_000))
    ended = "".join(f"77_{i}|COMPLETED|0:0|1795446158|87|node{i % 99}\n" for i in range(10_000))
    assert len(slurm.parse_queue(queue, {"77"})) == len(slurm.parse_accounting(ended, RECORDED_FROM)) == 10_000


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("ReqNodeNotAvail, UnavailableNodes:n[1-3],n7", "a node that it needs is down, drained or reserved"),
        ("ReqNodeNotAvail(Unavailable:n1,n2)", "a node that it needs is down, drained or reserved"),
        ("(Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions)",
         "the nodes that it could use are down, drained or reserved"),
        ("AssocGrpSubmitJobsLimit", "the account is at its limit (AssocGrpSubmitJobsLimit)"),
    ],
)  # fmt: skip
def test_reasons_with_commas_and_brackets(reason, said):
    assert waiting_reasons.sentence("pending", reason) == (said, True)
