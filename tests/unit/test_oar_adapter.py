"""The plug-in for OAR on output recorded from a real OAR (tests/data/oar/README.md)."""

import importlib.util
import os
import pwd
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests/data/oar"
PLUGIN = ROOT / "plugins/hpc-agent-oar"
ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture(scope="module")
def oar():
    """The adapter, loaded as on a cluster: from its file, beside the runtime under its name there."""
    sys.path.insert(0, str(ROOT / "plugins/typing"))
    spec = importlib.util.spec_from_file_location("_hpc_backend", PLUGIN / "hpc_agent_oar/adapter.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(ROOT / "plugins/typing"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "_hpc_runtime"]:
        del sys.modules[name]


def recorded(name):
    """(exit code, stdout, stderr) of a recorded command."""
    head, _, rest = (DATA / f"{name}.txt").read_text().partition("--- stdout\n")
    out, _, err = rest.partition("--- stderr\n")
    return int(head.splitlines()[1].split()[-1]), out, err


@pytest.fixture
def answers(monkeypatch, oar):
    """Replaces run_command: each call takes the next of the answers. The calls are kept."""

    class Answers(list):
        calls = []

    planned = Answers()
    planned.calls = []

    def run_command(argv, timeout, env=None, cwd=None, inherit=()):
        planned.calls.append(argv)
        return planned.pop(0)

    for module in (oar.base, oar):
        monkeypatch.setattr(module, "run_command", run_command)
    return planned


@pytest.fixture(autouse=True)
def no_locale(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("LANG", "LC_")) or name == "HPC_OAR_RESOURCES"]:
        monkeypatch.delenv(name)


def job(oar, **changes):
    document = {
        "name": "hpc-r1-a0", "count": 10, "script": "/scratch/run/job.sh", "environment": {"B": "1,2 3", "A": "it's"},
        "log_folder": "/scratch/run/logs", "working_directory": "/scratch/run/work",
    }  # fmt: skip
    return oar.base.Job(**{**document, **changes})


def scheduler(oar):
    return oar.scheduler({})


# ---------------------------------------------------------------------------------------------------- submission


def test_submit_command_of_a_plain_array(oar):
    *argv, command = scheduler(oar).submit_command(job(oar))
    assert argv == [
        "oarsub", "-n", "hpc-r1-a0", "-l", "nodes=1/core=1", "-d", "/scratch/run/work", "-O", "/dev/null", "-E", "/dev/null",
        "--array", "10",
    ]  # fmt: skip
    words = shlex.split(command)
    assert words[:7] == [
        "exec",
        "/usr/bin/env",
        "A=it's",
        "B=1,2 3",
        "HPC_OAR_LOGS=/scratch/run/logs",
        "/bin/bash",
        "-c",
    ]
    assert words[8:] == ["/scratch/run/job.sh"]


def test_submit_command_with_everything(oar):
    argv = scheduler(oar).submit_command(
        job(
            oar,
            count=1,
            resources={"walltime_sec": 90060.5, "mem_mb": 1000, "cpus": 3, "nodes": 2},
            placement={
                "partition": "default", "account": "lab", "qos": "besteffort", "constraint": "cluster:a&(mem:64|!gpu:0)",
                "exclude_nodes": ["n1", "n2"], "extra_flags": ["--checkpoint", "60"],
            },
        )
    )  # fmt: skip
    assert argv[4] == "nodes=2/core=3,walltime=25:01:01"
    assert argv[11:-1] == [
        "-q", "default", "--project", "lab", "-t", "besteffort",
        "-p", "(cluster = 'a' AND (mem = '64' OR NOT gpu = '0')) AND network_address NOT IN ('n1', 'n2')", "--checkpoint", "60",
    ]  # fmt: skip


def test_resources_of_other_sites(oar, monkeypatch):
    assert scheduler(oar).submit_command(job(oar, resources={"exclusive": True, "cpus": 8}))[4] == "nodes=1"
    monkeypatch.setenv("HPC_OAR_RESOURCES", "host={nodes}/thread={cpus}")
    assert scheduler(oar).submit_command(job(oar, resources={"cpus": 8}))[4] == "host=1/thread=8"


def test_the_locale_goes_with_the_job(oar, monkeypatch):
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    assert "LANG=de_DE.UTF-8" in shlex.split(scheduler(oar).submit_command(job(oar))[-1])


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_command_of_an_element(oar, tmp_path, shell):
    """As OAR runs it: by the login shell. The output's file is that of the element; a second attempt says so."""
    script = tmp_path / "it's a job.sh"
    script.write_text('echo "$A|$B|$JOB_ID|${RESTARTED:-0}"; echo wrong >&2; exit 3\n')
    env = {"PATH": os.environ["PATH"], "OAR_ARRAY_ID": "12", "OAR_ARRAY_INDEX": "3"}
    command = scheduler(oar).submit_command(job(oar, script=str(script), log_folder=str(tmp_path)))[-1]
    for _ in range(2):
        assert subprocess.run([shell, "-c", command], env=env, check=False).returncode == 3
    assert (tmp_path / "12_2.out").read_text() == "it's|1,2 3|12|0\nwrong\nit's|1,2 3|12|1\nwrong\n"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_running": 4}, "cannot limit the elements"),
        ({"count": 100000}, "no index above 99999"),
        ({"placement": {"extra_flags": ["-t", "besteffort", "--nam=x"]}}, "sets itself what extra_flags has: --nam$"),
        ({"placement": {"extra_flags": ["-nother"]}}, "sets itself .* -nother"),
        ({"working_directory": "/scratch/it's/run"}, "apostrophe"),
    ],
)
def test_what_oar_would_leave_out_is_refused(oar, changes, words):
    with pytest.raises(oar.NodeError, match=words) as raised:
        scheduler(oar).submit(job(oar, **changes))
    assert raised.value.code == "scheduler_refused"
    assert "hpc-agent submit" in raised.value.remediation


@pytest.mark.parametrize(("name", "array"), [("submit-array", "165"), ("submit-one", "168")])
def test_parse_submit(oar, name, array):
    assert scheduler(oar).parse_submit(*recorded(name)) == array


@pytest.mark.parametrize(
    ("name", "code", "remedy"),
    [
        ("refused-resources", "scheduler_refused", "oarnodes"),
        ("refused-queue", "scheduler_refused", "queue"),
        ("refused-property", "scheduler_refused", "constraint"),
        ("refused-resource", "scheduler_refused", "constraint"),
        ("refused-type", "scheduler_refused", "QOS"),
        ("refused-option", "scheduler_refused", "extra_flags"),
        ("refused-name", "scheduler_refused", "setting"),
        ("no-database", "cluster_timeout", "oarstat"),
        ("submit-no-server", "submission_unknown", None),  # the job did run
    ],
)
def test_refusals(oar, name, code, remedy):
    with pytest.raises(oar.NodeError) as raised:
        scheduler(oar).parse_submit(*recorded(name))
    assert raised.value.code == code
    assert remedy is None or remedy in raised.value.remediation


def table(*rows):
    return 0, "".join(f"{a:<9} {b:<9} {c:<5} {state} oaruser     0:00:00 R=1\n" for a, b, c, state in rows), ""


@pytest.mark.parametrize(
    ("count", "after", "answer", "expected"),
    [
        (10, ["7"], [table((7, 7, 1, "R"), (8, 7, 2, "T"), (9, 7, 3, "W"), (99, 98, 2, "R"))], ["7", "9"]),
        (10, ["7"], [table((7, 7, 1, "T"), (8, 7, 2, "E"), (99, 98, 2, "R"))], []),
        (1, ["7"], [table((7, 7, 1, "R"))], ["7"]),
        # with a single -a an array would not wait
        (10, ["7"], [table((7, 7, 1, "R")), table((7, 7, 1, "R"), (5, 5, 1, "T"))], ["7", "5"]),
    ],
)
def test_dependencies_are_those_of_the_elements(oar, answers, count, after, answer, expected):
    answers.extend(answer)
    argv = scheduler(oar).submit_command(job(oar, count=count, after=after))
    assert [argv[i + 1] for i, word in enumerate(argv) if word == "-a"] == expected
    assert "array_id IN ('7')" in answers.calls[0][-1]


def test_an_array_never_starts_before_the_one_element_that_it_waits_for(oar, answers):
    answers.extend([table((7, 7, 1, "R")), table((7, 7, 1, "R"))])
    with pytest.raises(oar.NodeError, match="job 7"):
        scheduler(oar).submit_command(job(oar, after=["7"]))


# ---------------------------------------------------------------------------------------------------- queries


def test_queue(oar, answers):
    answers.append(recorded("queue"))
    rows = scheduler(oar).queue(["165", "168", "169", "170"])
    assert [(row.job, row.elements, row.state, row.reason) for row in rows] == [
        ("165", "0-2", "running", ""),
        ("168", "0", "running", ""),
        ("169", "0", "held", "Resources"),
        ("170", "0", "pending", "Resources"),
    ]
    assert answers.calls[0][:5] == ["oarstat", "--array", "--format", "2", "--sql"]
    assert f"job_user = '{ME}' AND array_id IN ('165', '168', '169', '170')" in answers.calls[0][5]


def test_submitted_elements_are_those_that_have_not_ended(oar, answers):
    answers.append(table((1, 1, 1, "W"), (2, 1, 2, "H"), (3, 1, 3, "R"), (4, 4, 1, "T"), (5, 5, 1, "E")))
    assert scheduler(oar).submitted_elements() == 3


def test_accounting(oar, answers):
    answers.extend([recorded("ended"), recorded("failed")])
    ids = ["12", "14", "15", "16", "17", "18", "19", "22", "24", "157", "159", "162", "165", "171"]
    rows = {(row.job, row.element): row for row in scheduler(oar).accounting(ids, 0.0)}
    ended_well = [("12", 0), ("24", 0), ("24", 1), ("24", 2), ("165", 0)]
    assert {key: (row.cause, row.exit_code, row.signal) for key, row in rows.items() if key not in ended_well} == {
        ("12", 1): ("exit", 1, None),
        ("14", 0): ("signal", None, 9),
        ("15", 0): ("timeout", None, None),
        ("16", 0): ("cancelled", None, None),
        ("17", 0): ("never_started", None, None),
        ("18", 0): ("environment", None, None),
        ("19", 0): ("environment", None, None),
        ("22", 0): ("node_failure", None, None),
        ("22", 1): ("node_failure", None, None),
        ("157", 0): ("preempted", None, None),
        ("159", 0): ("node_failure", None, None),
        ("162", 0): ("exit", 1, None),
        ("162", 1): ("exit", 1, None),
        ("165", 1): ("exit", 1, None),
        ("165", 2): ("exit", 2, None),
        ("171", 0): ("never_started", None, None),
    }
    for key in ended_well:
        assert (rows[key].cause, rows[key].exit_code, rows[key].state) == (None, 0, "complete")
    assert (rows["165", 0].seconds, rows["165", 1].seconds, rows["165", 1].host) == (25.0, 25.0, "n1")
    assert "WALLTIME" in rows["15", 0].raw


def test_the_newest_attempt_of_an_element_counts(oar, answers):
    """Both queries leave out what has a later attempt; where the newest of all jobs is such a one, the greater id counts."""
    _, text, _ = recorded("failed")
    documents = oar._parsed(text)
    assert [row["Job_Id"] for row in documents] == sorted(row["Job_Id"] for row in documents)
    again = [row for row in documents if (row["array_id"], row["array_index"]) == (162, 2)]
    assert [row["resubmit_job_id"] for row in again] == [0, 163]
    answers.extend([recorded("ended"), recorded("failed")])
    assert len([row for row in scheduler(oar).accounting(["162"], 0.0) if row.element == 1]) == 1
    assert all("NOT EXISTS (SELECT 1 FROM jobs n" in call[-1] for call in answers.calls)


def test_find(oar, answers):
    answers.append(recorded("named"))
    assert scheduler(oar).find("rec-a", 1000.0) == ["165"]
    assert "job_name = 'rec-a' AND array_index = 1 AND submission_time >= 700" in answers.calls[0][-1]
    answers.append(recorded("named"))
    assert scheduler(oar).find("another", 1000.0) == []


@pytest.mark.parametrize("name", ["bad-sql", "no-database"])
@pytest.mark.parametrize(
    "ask",
    [
        lambda known: known.queue(["1"]),
        lambda known: known.accounting(["1"], 0.0),
        lambda known: known.find("x", 0.0),
        lambda known: known.submitted_elements(),
    ],
)
def test_a_question_that_failed_is_no_empty_answer(oar, answers, name, ask):
    answers.append(recorded(name))
    with pytest.raises(oar.NodeError) as raised:
        ask(scheduler(oar))
    assert raised.value.code == "cluster_timeout"


def test_a_cut_document_is_an_error(oar, answers):
    code, out, err = recorded("named")
    answers.append((code, out[:-20], err))
    with pytest.raises(oar.NodeError, match="no JSON"):
        scheduler(oar).find("rec-a", 0.0)


def test_no_job_is_asked_for(oar, answers):
    assert scheduler(oar).queue([]) == scheduler(oar).accounting([], 0.0) == []
    assert answers.calls == []


# ---------------------------------------------------------------------------------------------------- nodes


def test_nodes(oar, answers):
    answers.append(recorded("nodes"))
    assert scheduler(oar).usable_nodes() == ["n1", "n2"]
    answers.append(recorded("no-database-nodes"))
    with pytest.raises(oar.NodeError):
        scheduler(oar).usable_nodes()


def test_the_partition_is_made_of_the_cores(oar):
    _, text, _ = recorded("nodes")
    partitions, limits = scheduler(oar).partitions_and_limits(lambda *argv: text)
    assert [tuple(partition)[:8] for partition in partitions] == [("default", "up", True, None, 2, 3, 1, 2)]
    assert limits == []
    assert scheduler(oar).partitions_and_limits(lambda *argv: "") == ([], [])


def test_a_constraint_of_a_waiting_job_cannot_be_changed(oar):
    assert scheduler(oar).constraint_separator is None


def test_the_package_is_small():
    files = [*PLUGIN.glob("*/*.py"), *PLUGIN.glob("*/templates/*")]
    assert sum(len(path.read_text().splitlines()) for path in files) <= 300
