"""The Grid Engine adapter on output recorded from a real Grid Engine (tests/data/sge/README.md)."""

import os
import pwd
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_agent.node.look.recorded import FailureFacts
from hpc_agent.node.schedulers import base
from hpc_agent.node.schedulers.sge import adapter as sge
from hpc_agent.node.schedulers.sge import qacct
from hpc_agent.node.shared.errors import NodeError
from hpc_agent.node.shared.ranges import decode_ranges
from hpc_agent.node.why.classify import classify
from hpc_agent.node.why.failure_case import Limits

DATA = Path(__file__).parents[1] / "data" / "sge"
RECORDED_FROM = 1795446000.0


def recorded(name):
    """(exit code, stdout, stderr) of a recorded command."""
    head, _, rest = (DATA / f"{name}.txt").read_text().partition("--- stdout\n")
    out, _, err = rest.partition("--- stderr\n")
    return int(head.splitlines()[1].split()[-1]), out, err


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    """The recordings show local times of a machine on UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    base.epoch.cache_clear()
    yield
    monkeypatch.undo()
    time.tzset()
    base.epoch.cache_clear()


@pytest.fixture
def answers(monkeypatch):
    """Replaces run_command: "qstat -j", "qacct -j 24" or "qsub" -> answer; the longest beginning that fits is taken."""

    class Answers(dict):
        calls = []

    planned = Answers()
    planned.calls = []

    def run_command(argv, timeout, stdin=None, env=None, cwd=None, inherit=()):
        planned.calls.append((argv, env))
        words = " ".join(argv)
        answer = planned[max((key for key in planned if words.startswith(key)), key=len)]
        if isinstance(answer, Exception):
            raise answer
        return answer

    for module in (base, sge):
        monkeypatch.setattr(module, "run_command", run_command)
    return planned


def job(**changes):
    document = {
        "name": "hpc-r1-a0", "count": 10, "script": "/scratch/run/job.sh", "environment": {"B": "1,2 3", "A": "x"},
        "log_folder": "/scratch/run/logs", "working_directory": "/scratch/run/work",
    }  # fmt: skip
    return base.Job(**{**document, **changes})


@pytest.fixture(autouse=True)
def locale(monkeypatch):
    """No variable of a locale, as in a login without one."""
    for name in [name for name in os.environ if name.startswith(("LANG", "LC_"))]:
        monkeypatch.delenv(name)


def flags(**changes):
    return sge.GridEngine().submit_command(job(**changes))


def option(argv, name):
    return [argv[i + 1] for i, word in enumerate(argv[:-1]) if word == name]


# ---------------------------------------------------------------------------------------------------- submission


def test_submit_command_of_a_plain_array():
    assert flags() == [
        "qsub", "-terse", "-t", "1-10", "-N", "hpc-r1-a0", "-o", ":/scratch/run/logs", "-j", "y", "-S", "/bin/bash",
        "-wd", "/scratch/run/work", "-v", "A,B,LC_ALL=", "/scratch/run/job.sh",
    ]  # fmt: skip


def test_submit_command_with_everything():
    argv = flags(
        environment={},
        max_running=4,
        after=["7", "8"],
        resources={"walltime_sec": 90060.5, "mem_mb": 1000, "cpus": 3, "gpus": 2, "gpu_type": "A100", "exclusive": True},
        placement={
            "partition": "all.q", "account": "lab", "qos": "highp", "constraint": "arch=lx-amd64",
            "exclude_nodes": ["n1", "n2"], "extra_flags": ["-p", "-5"],
        },
        site={"parallel_environment": "smp", "sge_memory_resource": "h_vmem", "sge_gpu_request": "gpu,{type},cuda={count}"},
    )  # fmt: skip
    assert argv[14:] == [
        "-tc", "4", "-v", "LC_ALL=", "-l", "h_rt=90061", "-l", "h_vmem=334M", "-pe", "smp", "3",
        "-l", "gpu,A100,cuda=2", "-l", "exclusive=true",
        "-q", "all.q", "-P", "lab", "-l", "highp", "-l", "arch=lx-amd64", "-l", "h=!(n1|n2)",
        "-hold_jid", "7,8", "-p", "-5", "/scratch/run/job.sh",
    ]  # fmt: skip


def test_a_job_has_the_locale_of_the_user_and_not_the_daemons(answers, monkeypatch):
    for name, value in (("LANG", "de_DE.UTF-8"), ("LC_TIME", "C.UTF-8"), ("LC_ALL", "fr_FR.UTF-8")):
        monkeypatch.setenv(name, value)
    answers["qsub"] = recorded("submit-array")
    sge.GridEngine().submit(job(environment={}))
    argv, env = answers.calls[0]
    assert option(argv, "-v") == ["LANG,LC_ALL,LC_TIME"]
    assert (env["LANG"], env["LC_ALL"], env["LC_TIME"]) == ("de_DE.UTF-8", "fr_FR.UTF-8", "C.UTF-8")


@pytest.mark.parametrize(
    ("mem_mb", "cpus", "request_"), [(1000, 1, "1000M"), (1000, 3, "334M"), (10.2, 1, "11M"), (1, 8, "1M")]
)
def test_memory_is_asked_for_per_slot_and_rounded_up(mem_mb, cpus, request_):
    argv = flags(resources={"mem_mb": mem_mb, "cpus": cpus})
    assert option(argv, "-l") == [f"h_data={request_}"]
    assert option(argv, "-pe") == ([] if cpus == 1 else ["shared"])


@pytest.mark.parametrize(
    ("template", "kind", "request_"),
    [
        (None, None, "cuda=2"),
        (None, "A100", "cuda=2,A100"),
        ("gpu={count}", "V100", "gpu=2,V100"),
        ("gpu,{type},cuda={count}", "A100", "gpu,A100,cuda=2"),
        ("gpu,{type},cuda={count}", None, "gpu,cuda=2"),
    ],
)
def test_gpu_request(template, kind, request_):
    argv = flags(resources={"gpus": 2, "gpu_type": kind}, site={"sge_gpu_request": template})
    assert option(argv, "-l") == [request_]


def test_values_travel_in_the_environment(answers):
    answers["qsub"] = recorded("submit-array")
    assert sge.GridEngine().submit(job()) == "2"
    argv, env = answers.calls[0]
    assert env["B"] == "1,2 3"
    assert not [word for word in argv if "1,2 3" in word]


def test_a_submission_that_hangs_may_have_been_accepted(answers):
    answers["qsub"] = NodeError("cluster_timeout", "qsub did not answer within 60 s")
    with pytest.raises(NodeError) as caught:
        sge.GridEngine().submit(job())
    assert caught.value.code == "submission_unknown"


SUBMITTED = [
    ("submit-array", "2"), ("submit-plain", "3"), ("submit-wordy", "4"), ("submit-held", "5"), ("submit-one", "6"),
    ("submit-dep", "7"), ("submit-warning", "85"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "job_id"), SUBMITTED)
def test_recorded_job_ids(name, job_id):
    assert sge.GridEngine().parse_submit(*recorded(name)) == job_id


def test_job_id_is_found_among_banners():
    out = "*** Welcome to the cluster ***\nqueue load 12.5\n12.1-10:1\nHave 1 nice day\n"
    assert sge.GridEngine().parse_submit(0, out, "") == "12"


@pytest.mark.parametrize(
    ("code", "out", "err"),
    [
        (0, "", ""),
        (0, "thank you\n", ""),
        (0, "12.1-10:1\n13.1-10:1\n", ""),
        (1, "12.1-10:1\n", "error: something later"),
        (-9, "", ""),
        (1, "", "error: failed receiving gdi request response for mid=1 (got no message).\nUnable to run job: x"),
        (1, "", "something that nobody knows"),
    ],
)
def test_an_outcome_that_is_not_certain_is_unknown(code, out, err):
    with pytest.raises(NodeError) as caught:
        sge.GridEngine().parse_submit(code, out, err)
    assert caught.value.code == "submission_unknown"
    assert caught.value.message


REFUSED = {
    "refused-partition": "qconf -sql", "refused-qhost": "qconf -sql", "refused-pe": "parallel_environment",
    "refused-resource": "qconf -sc", "refused-shell": "qconf -sc", "refused-mem": "qconf -sc", "refused-tasks": "max_array_size",
    "refused-project": "qconf -sprjl", "refused-option": "extra_flags", "refused-gpu": "Ask for less",
    "refused-name": "names", "refused-ar": "names", "refused-two-ranges": "names",
    "refused-user-limit": "wait until", "refused-cluster-limit": "wait until",
}  # fmt: skip


def test_every_recorded_refusal_is_tested():
    assert {path.stem for path in DATA.glob("refused-*.txt")} == set(REFUSED)


@pytest.mark.parametrize(("name", "advice"), REFUSED.items())
def test_refusals_carry_the_schedulers_sentence_and_what_to_do(name, advice):
    with pytest.raises(NodeError) as caught:
        sge.GridEngine().parse_submit(*recorded(name))
    error = caught.value
    assert error.code == "scheduler_refused"
    assert advice in error.remediation
    assert "hpc-agent submit" in error.remediation
    assert error.details["retry_later"] is name.endswith("-limit")
    assert "Exiting" not in error.message


def test_refusal_message_is_one_sentence():
    with pytest.raises(NodeError) as caught:
        sge.GridEngine().parse_submit(*recorded("refused-resource"))
    assert caught.value.message == 'qsub: unknown resource "nosuch"'


def test_a_qmaster_that_is_down_can_be_tried_again():
    with pytest.raises(NodeError) as caught:
        sge.GridEngine().parse_submit(*recorded("down-qsub"))
    assert caught.value.code == "cluster_timeout"


# --------------------------------------------------------------------------------------------------------- queue


def queue(answers, name, jobs, details="qstat-j-unknown"):
    answers["qstat -u"] = recorded(name)
    answers["qstat -j"] = recorded(details)
    rows = sge.GridEngine().queue(jobs)
    return {(r.job, r.elements): (r.state, r.reason, r.raw, r.host) for r in rows}


def test_queue_reads_every_recorded_state(answers):
    rows = queue(answers, "qstat-mixed", ["4", "5", "7", "24", "28", "33"], "qstat-j-eqw")
    assert rows == {
        ("4", "4"): ("running", "", "r", "vm"),
        ("4", "5"): ("running", "", "r", "vm"),
        ("33", "0"): ("running", "", "r", "vm"),
        ("33", "1"): ("running", "", "r", "vm"),
        ("33", "2"): ("running", "", "r", "vm"),
        ("28", "0-1"): ("error", "can't chdir to /nosuch: No such file or directory", "Eqw", ""),
        ("24", "3"): ("error", "exit_status of job start = 100", "Eqw", ""),
        ("24", "4"): ("pending", 'cannot run on host "vm" until clean up of a previous run has finished', "Rq", ""),
        ("4", "6-9"): ("pending", "", "qw", ""),
        ("5", "0-1,3-5,8-9"): ("held", "", "hqw", ""),
        ("7", "0-3"): ("held", "", "hqw", ""),
        ("33", "3-5"): ("pending", "not all array tasks may be started due to 'max_aj_instances'", "qw", ""),
    }


def test_suspended_and_deleted_elements(answers):
    rows = queue(answers, "qstat-suspended", ["83", "84"])
    assert {key: row[0] for key, row in rows.items()} == {
        ("83", "0"): "running",
        ("83", "1"): "suspended",
        ("83", "2"): "completing",
        ("84", "0-2"): "held",
    }


def test_a_job_that_is_no_array_has_element_0(answers):
    assert queue(answers, "qstat-xml", ["3"]) == {("3", "0"): ("running", "", "r", "vm")}


def test_why_a_job_waits(answers):
    rows = queue(answers, "qstat-xml", ["7"], "qstat-j-pending")
    assert rows["7", "0-3"] == ("pending", "waits for job 5", "hqw", "")
    (waiting,) = sge.explain([base.QueueRow("38", "0-1", "pending")], sge.parse_details(recorded("qstat-j-pending")[1]))
    assert "cannot run in queue" in waiting.reason


def test_error_reasons_belong_to_their_element():
    text = (
        "job_number: 9\nerror reason    1:   11/23/2026 15:09:31 [1002:16350]: error: one\nerror reason    12:  two\n"
    )
    rows = [base.QueueRow("9", elements, "error") for elements in ("0", "11", "5")]
    assert [row.reason for row in sge.explain(rows, sge.parse_details(text))] == ["one", "two", ""]


def test_one_query_is_enough_while_everything_runs(answers):
    queue(answers, "qstat-xml", ["2", "3"])
    assert len(answers.calls) == 1


def test_reasons_are_dispensable(answers):
    answers["qstat -u"] = recorded("qstat-xml")
    answers["qstat -j"] = NodeError("cluster_timeout", "qstat did not answer within 15 s")
    (row,) = sge.GridEngine().queue(["5"])
    assert (row.state, row.reason) == ("held", "")


def test_queue_asks_for_the_user_not_for_the_jobs(answers):
    answers["qstat -u"] = recorded("qstat-empty")
    assert sge.GridEngine().queue(["5"]) == []
    assert answers.calls[0][0] == ["qstat", "-u", pwd.getpwuid(os.getuid()).pw_name, "-xml"]


@pytest.mark.parametrize(
    ("name", "code"), [("down-qstat", "cluster_timeout"), ("nocell-qstat", "remote_command_failed")]
)
def test_a_failed_query_is_no_answer(answers, name, code):
    answers["qstat"] = recorded(name)
    with pytest.raises(NodeError) as caught:
        sge.GridEngine().queue(["5"])
    assert caught.value.code == code


@pytest.mark.parametrize("cut", [0, 1, 40, 400, 4000])
def test_a_document_cut_short_is_no_answer(answers, cut):
    answers["qstat"] = (0, recorded("qstat-xml")[1][:cut], "")
    with pytest.raises(NodeError) as caught:
        sge.GridEngine().queue(["2"])
    assert caught.value.code == "remote_command_failed"


def test_banners_around_the_document(answers):
    answers["qstat"] = (0, f"motd <3\n{recorded('qstat-xml')[1]}bye\n", "")
    assert len(sge.GridEngine().queue(["2"])) == 10


@pytest.mark.parametrize(
    ("raw", "state"),
    [
        ("qw", "pending"), ("Rq", "pending"), ("hqw", "held"), ("hRwq", "held"), ("r", "running"), ("t", "running"),
        ("hr", "running"), ("Rr", "running"), ("Rt", "running"), ("s", "suspended"), ("ts", "suspended"), ("S", "suspended"),
        ("tS", "suspended"), ("T", "suspended"), ("Rts", "suspended"), ("RtT", "suspended"), ("Eqw", "error"),
        ("Ehqw", "error"), ("EhRqw", "error"), ("dr", "completing"), ("dt", "completing"), ("dRr", "completing"),
        ("dS", "completing"),
    ],
)  # fmt: skip
def test_states_of_the_manual_page(raw, state):
    assert sge._state(raw) == state


# ---------------------------------------------------------------------------------------------------- accounting


def ends(name, job_id, since=RECORDED_FROM):
    return {r.element: r for r in qacct.parse(recorded(name)[1], job_id, since)}


def test_exit_codes_signals_and_rescheduling():
    rows = ends("qacct-exits", "24")
    told = {element: (r.state, r.cause, r.exit_code, r.signal) for element, r in rows.items()}
    assert told == {
        0: ("complete", None, 0, None),
        1: ("failed", "exit", 7, None),
        2: ("failed", "cancelled", 137, 9),
        3: ("failed", "environment", 100, None),
        # Element 4 exits with 99 and goes back to the queue, again and again.
        5: ("failed", "exit", 127, None),
        6: ("failed", "signal", 143, 15),
    }


def test_a_limit_on_time_and_one_on_memory():
    assert {r.cause for r in ends("qacct-rt", "27").values()} == {"timeout"}
    (row,) = ends("qacct-vmem", "41").values()
    assert row.cause == "out_of_memory"
    assert row.max_rss_mb == pytest.approx(519.055)


@pytest.mark.parametrize(
    ("category", "wall", "maxvmem", "cause"),
    [
        ("NONE", "5s", "1.000GB", "timeout"),
        ("-l h_rt=3600", "3601s", "1.000GB", "timeout"),
        ("-u me -l h_data=1G,h_rt=3600 -pe shared 4", "20s", "0.000B", "out_of_memory"),
        ("-l h_vmem=1G", "20s", "1.100GB", "out_of_memory"),
        ("-l h_vmem=1G", "20s", "0.900GB", "timeout"),
        ("-l h_cpu=10,h_rt=3600", "20s", "0.900GB", "timeout"),
    ],
)
def test_which_limit_was_enforced(category, wall, maxvmem, cause):
    assert qacct._limit({"category": category, "ru_wallclock": wall, "maxvmem": maxvmem}) == cause


@pytest.mark.parametrize(("name", "job_id"), [("qacct-nodir", "28"), ("qacct-nolog", "29"), ("qacct-noshell", "30")])
def test_what_could_not_start_is_the_environment(name, job_id):
    rows = ends(name, job_id)
    assert sorted(rows) == [0, 1]
    assert {(r.state, r.cause, r.exit_code) for r in rows.values()} == {("failed", "environment", None)}


def test_memory_limits_that_are_rlimits_leave_no_trace():
    assert {(r.cause, r.exit_code) for r in ends("qacct-memd", "25").values()} == {("exit", 1)}


def test_deleted_elements():
    rows = ends("qacct-kill", "33")
    assert (rows[0].cause, rows[0].exit_code) == ("cancelled", 137)
    assert rows[1].state == "complete"
    assert 4 not in rows


def test_a_restarted_element_counts_once_with_its_last_attempt():
    rows = ends("qacct-rerun", "45")
    assert {element: (r.cause, r.seconds) for element, r in rows.items()} == {
        0: ("cancelled", 14.0),
        1: ("cancelled", 14.0),
        2: ("cancelled", 44.0),
    }


def test_an_element_that_went_back_to_the_queue_has_not_ended():
    text = recorded("qacct-exits")[1].replace("failed       25  : rescheduling", "failed       0    ", 1)
    assert text != recorded("qacct-exits")[1]
    assert 4 not in {r.element for r in qacct.parse(text, "24", RECORDED_FROM)}


def test_a_job_that_is_no_array_ends_as_element_0():
    (row,) = qacct.parse(recorded("qacct-plain")[1], "3", RECORDED_FROM)
    assert {**row._asdict(), "state": row.state} == {
        "job": "3", "element": 0, "state": "complete", "cause": None, "raw": "failed 0, exit_status 0", "exit_code": 0,
        "signal": None, "host": "vm", "seconds": 30.0, "max_rss_mb": 4.379,
    }  # fmt: skip


def test_resident_memory_is_in_kilobytes_whatever_the_suffix():
    assert ends("qacct-big", "42")[0].max_rss_mb == pytest.approx(257.93)
    plain = recorded("qacct-big")[1].replace("257.930KB", "264120")
    assert qacct.parse(plain, "42", RECORDED_FROM)[0].max_rss_mb == pytest.approx(257.93, abs=0.01)


@pytest.mark.parametrize(
    ("ru_maxrss", "maxvmem", "mb"),
    [("258.0M", "519.2M", 258.0), ("270532608", "519.219MB", 258.0), ("1.234G", "1.5G", 1263.6), ("264192", "N/A", 258.0),
     ("N/A", "1.234G", 1263.6), ("N/A", "N/A", None), ("0.000B", "0.000B", None)],
)  # fmt: skip
def test_sizes_of_other_versions(ru_maxrss, maxvmem, mb):
    """Bytes, and suffixes that are meant: a resident size a thousand times the virtual one is in a smaller unit."""
    text = recorded("qacct-big")[1].replace("257.930KB", ru_maxrss).replace("519.219MB", maxvmem)
    found = qacct.parse(text, "42", RECORDED_FROM)[0].max_rss_mb
    assert found == (mb if mb is None else pytest.approx(mb, abs=0.1))


@pytest.mark.parametrize(("slots", "cause"), [("4", "timeout"), ("2", "out_of_memory"), ("", "out_of_memory")])
def test_a_limit_on_memory_is_for_a_slot(slots, cause):
    block = {"category": f"-l h_vmem=1G -pe smp {slots}", "ru_wallclock": "20s", "maxvmem": "2.100GB", "slots": slots}
    assert qacct._limit(block) == cause


def test_records_of_an_earlier_job_with_the_same_id_do_not_count():
    submitted = base.epoch("Mon Nov 23 15:09:31 2026", 0.0)
    assert submitted == 1795446571.0
    assert ends("qacct-kill", "33", since=submitted + base.CLOCK_SKEW)
    assert not ends("qacct-kill", "33", since=submitted + base.CLOCK_SKEW + 1)


def test_times_of_other_versions():
    assert base.epoch("11/23/2026 15:09:31.123", 0.0) == base.epoch("2026-11-23T15:09:31", 0.0) == 1795446571.0
    assert base.epoch("-/-", 5.0) == 5.0


@pytest.mark.parametrize("failed", [12, 13, 14, 15, 16])
def test_a_failed_clean_up_is_no_success(failed):
    assert qacct._cause({}, failed, 0) == ("environment", None)
    assert qacct._cause({}, failed, 3) == ("exit", None)


@pytest.mark.parametrize(
    ("failed", "cause"),
    [(1, "environment"), (8, "node_failure"), (10, "node_failure"), (18, "node_failure"), (19, "node_failure")],
)
def test_codes_of_the_manual_page(failed, cause):
    assert qacct._cause({}, failed, 0) == (cause, None)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("taskid       2 ", "taskid       x "),
        ("taskid       2 ", "taskid       0 "),
        ("failed       0    \nexit_status  7 ", "exit_status  7 "),
        ("exit_status  7 ", "exit_status    "),
        ("jobnumber    24                  \ntaskid       2 ", "jobnumber    \ntaskid       2 "),
    ],
)
def test_a_damaged_record_is_left_out_and_spoils_no_other(old, new):
    text = recorded("qacct-exits")[1]
    assert old in text
    rows = qacct.parse(text.replace(old, new, 1), "24", RECORDED_FROM)
    assert {r.element for r in rows} == {0, 2, 3, 5, 6}


@given(st.integers(min_value=0, max_value=9000))
def test_any_cut_through_the_output_leaves_whole_records(cut):
    text = recorded("qacct-exits")[1]
    whole = ends("qacct-exits", "24")
    for row in qacct.parse(text[:cut], "24", 0.0):
        assert row.cause == whole[row.element].cause


def test_an_unknown_job_is_an_empty_answer(answers):
    answers["qacct -j 999999"] = recorded("qacct-unknown")
    answers["qacct -j 27"] = recorded("qacct-rt")
    rows = sge.GridEngine().accounting(["999999", "27"], RECORDED_FROM)
    assert [(r.job, r.element) for r in rows] == [("27", 0), ("27", 1)]


def test_accounting_that_is_down_is_no_empty_answer(answers):
    answers["qacct"] = recorded("nocell-qacct")
    with pytest.raises(NodeError) as caught:
        sge.GridEngine().accounting(["5"], 0.0)
    assert caught.value.code == "remote_command_failed"


def test_accounting_of_many_jobs_stays_within_the_time_of_one_command(answers, monkeypatch):
    answers["qacct"] = recorded("qacct-unknown")
    clock = iter(range(0, 1000, 25))
    monkeypatch.setattr(sge.time, "monotonic", lambda: float(next(clock)))
    with pytest.raises(NodeError) as caught:
        sge.GridEngine().accounting([str(n) for n in range(9)], 0.0)
    assert caught.value.code == "cluster_timeout"
    assert len(answers.calls) == 2


# ------------------------------------------------------------------------------------------------------- look-up


def test_find_in_queue_and_accounting(answers):
    answers["qstat -u"] = recorded("qstat-named")
    answers["qacct -o"] = recorded("qacct-name-unknown")
    assert sge.GridEngine().find("hpc-suspended", RECORDED_FROM) == ["83", "84"]
    assert sge.GridEngine().find("hpc-suspend", RECORDED_FROM) == []
    assert sge.GridEngine().find("hpc-suspended", RECORDED_FROM + 86400) == []
    answers["qacct -o"] = recorded("qacct-name")
    assert sge.GridEngine().find("hpc-tc", RECORDED_FROM) == ["4"]
    assert sge.GridEngine().find("hpc-tc", RECORDED_FROM + 86400) == []


def test_find_reads_names_that_qstat_prints_cut_short():
    text = recorded("qstat-xml")[1]
    assert list(sge.parse_named(text, "hpc-dep-with-a-rather-long-name_0123456789abcdef", RECORDED_FROM)) == ["7"]
    assert not sge.parse_named(text, "hpc-dep-wi", RECORDED_FROM)


def test_find_is_newest_last(answers):
    answers["qstat -u"] = recorded("qstat-named")
    ended = recorded("qacct-name")[1].replace("hpc-tc ", "hpc-suspended ")
    answers["qacct -o"] = (0, ended, "")
    assert sge.GridEngine().find("hpc-suspended", RECORDED_FROM) == ["4", "83", "84"]


@pytest.mark.parametrize(
    "said", ["/opt/sge/default/common/accounting: No such file or directory\n", "no jobs running since startup\n"]
)
def test_find_trusts_the_queue_alone_where_there_is_no_accounting_file(answers, said):
    answers["qstat"], answers["qacct"] = recorded("qstat-empty"), (1, "", said)
    assert sge.GridEngine().find("hpc-r1-a0", 1.0) == []


def test_find_does_without_accounting_only_when_the_queue_has_it(answers):
    answers["qstat -u"] = recorded("qstat-named")
    answers["qacct -o"] = recorded("nocell-qacct")
    assert sge.GridEngine().find("hpc-suspended", RECORDED_FROM) == ["83", "84"]
    with pytest.raises(NodeError):
        sge.GridEngine().find("hpc-nowhere", RECORDED_FROM)


def test_find_fails_when_the_queue_cannot_be_asked(answers):
    answers["qstat"] = recorded("down-qstat")
    with pytest.raises(NodeError):
        sge.GridEngine().find("hpc-tc", RECORDED_FROM)


# ---------------------------------------------------------------------------------------------- index lists, speed


def xml(tasks, state="qw"):
    return (
        "<?xml version='1.0'?><job_info><queue_info/><job_info><job_list><JB_job_number>77</JB_job_number>"
        f"<JB_name>x</JB_name><state>{state}</state><queue_name></queue_name><tasks>{tasks}</tasks>"
        "</job_list></job_info></job_info>"
    )


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 40), st.integers(1, 7)), min_size=1, max_size=20))
def test_lists_of_ranges_with_steps_are_read(parts):
    text, expected = [], set()
    for first, length, step in parts:
        text.append(str(first) if length == 0 else f"{first}-{first + length}:{step}")
        expected.update(range(first - 1, first + length, step))
    (row,) = sge.parse_queue(xml(",".join(text)), {"77"})
    assert decode_ranges(row.elements) == sorted(expected)


@given(st.text(alphabet="0123456789-,:. ", min_size=1, max_size=7))
def test_a_list_that_makes_no_sense_is_a_failed_query(text):
    try:
        (row,) = sge.parse_queue(xml(text), {"77"})
    except NodeError as error:
        outcome = error.code
    else:
        outcome = str(min(decode_ranges(row.elements), default=0) >= 0)
    assert outcome in ("remote_command_failed", "True")


@given(st.text(max_size=60), st.text(max_size=60))
def test_whatever_qsub_prints_is_an_id_or_a_known_error(out, err):
    try:
        outcome = sge.GridEngine().parse_submit(0, out, err)
    except NodeError as error:
        outcome = error.code
    assert outcome == "submission_unknown" or outcome.isdigit()


def test_ten_thousand_rows_are_read():
    one = "<job_list state='running'><JB_job_number>77</JB_job_number><JB_name>x</JB_name><JB_owner>me</JB_owner>"
    two = "<state>r</state><queue_name>all.q@vm</queue_name><slots>1</slots>"
    rows = "".join(f"{one}{two}<tasks>{i}</tasks></job_list>" for i in range(1, 10_001))
    text = f"<?xml version='1.0'?><job_info><queue_info>{rows}</queue_info></job_info>"
    assert len(sge.parse_queue(text, {"77"})) == 10_000


def test_ten_thousand_records_are_read():
    block = recorded("qacct-plain")[1]
    text = "".join(block.replace("undefined", f"{i}", 1) for i in range(1, 10_001))
    assert len(qacct.parse(text, "3", RECORDED_FROM)) == 10_000


def end_of_the_killed(**fields):
    """The end of recorded element 2 (killed by SIGKILL), with fields of another record."""
    text = recorded("qacct-exits")[1]
    start = text.index("taskid       3 ")  # counted from 1
    before, block, rest = text[:start], *text[start:].split("\n====", 1)
    for name, value in fields.items():
        block, changed = re.subn(rf"(?m)^{name} .*$", f"{name} {value}", block)
        block += "" if changed else f"\n{name} {value}"
    row = next(r for r in qacct.parse(before + block + "\n====" + rest, "24", RECORDED_FROM) if r.element == 2)
    facts = {"cause": row.cause, "message": row.raw, "exit_code": row.exit_code, "signal": row.signal}
    known = FailureFacts.from_json({**facts, "seconds": row.seconds, "max_rss_mb": row.max_rss_mb, "host": row.host})
    found = classify(known, Limits(mem_mb=4096, walltime_sec=3600, scheduler="sge"), "step 1\nstep 2")
    return found.name, found.confidence


@pytest.mark.parametrize(
    ("fields", "end"),
    [
        ({"failed": "44 : execd enforced h_rt limit"}, ("walltime", "certain")),
        ({"failed": "44 : execd enforced s_rt limit"}, ("walltime", "certain")),
        ({"failed": "43 : execd enforced h_vmem limit"}, ("out_of_memory", "certain")),
        ({}, ("cancelled", "certain")),
        ({"category": "-l h_rt=3600,h_vmem=1G", "maxvmem": "3.990G", "slots": "4"}, ("cancelled", "certain")),
        ({"category": "-l h_rt=3600,h_vmem=1G", "maxvmem": "4.002G", "slots": "4"}, ("out_of_memory", "likely")),
        ({"category": "-l h_rt=3600,h_vmem=1G", "ru_wallclock": "3601s"}, ("walltime", "likely")),
        ({"category": "-l h_rt=1:00:00", "ru_wallclock": "3601s"}, ("walltime", "likely")),
        ({"category": "-l h_rt=3600", "ru_wallclock": "3601s", "deleted_by": "alice"}, ("cancelled", "certain")),
        ({"deleted_by": "NONE"}, ("signal", "guess")),
    ],
)
def test_who_killed_a_job(fields, end):
    assert end_of_the_killed(**fields) == end
