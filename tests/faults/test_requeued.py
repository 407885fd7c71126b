"""An element that the scheduler starts again: what its killed attempt left is not taken for its own."""

import os
import subprocess
from pathlib import Path

import pytest
from dispatched_element import Element, until

from hpc_agent.node.look.logs import SchedulerLogs, log_tail, newest_log
from hpc_agent.node.shared.files import make_folder, tail
from hpc_agent.node.shared.ledger import Array
from hpc_agent.node.shared.run_folder import RunFolder
from hpc_agent.node.shared.task_records import Records

FIRST = """
if [ "$HPC_ATTEMPT" = 1 ]; then
    echo '{"y": 1}' >"$HPC_RESULT_DIR/metrics.json"; touch "$HPC_CHECKPOINT_DIR/saved" "$HPC_RESULT_DIR/part"
    head -c 34000000 /dev/zero | tr '\\0' 'a'; echo; echo MemoryError of the first; touch %s; exec sleep 60
fi
test -e "$HPC_CHECKPOINT_DIR/saved" && test -e "$HPC_RESULT_DIR/part" || exit 9
"""


@pytest.fixture
def killed(tmp_path):
    """Return a function that runs the first attempt of one task and kills its dispatcher and executor in the middle."""

    def kill(second: str, **document: object) -> Element:
        begun = tmp_path / "begun"
        element = Element(tmp_path / "hpc-agent" / "repo").submit(FIRST % begun + second, 1, **document)
        process = element.start()
        until(begun.exists)
        element.kill(process)
        assert not Path(element.folder.record(0)).exists()
        return element

    return kill


def shown(element: Element) -> str:
    log = newest_log(Records(element.folder, [Array("a0", "0")]), 0)
    return log_tail(log, 50, 1 << 16) if log else ""


def test_metrics_of_the_attempt_before_are_told_and_not_taken(killed):
    element = killed("echo second")
    assert element.run() == 0, element.said
    record = element.record(0)
    assert (record["state"], record["attempt"], record["metrics"]) == ("complete", 2, {})
    assert "of an earlier attempt" in record["metrics_problem"]
    assert shown(element) == "second"


def test_declared_metrics_must_be_written_by_the_last_attempt(killed):
    element = killed("echo second", results={"metrics_file": "metrics.json"})
    assert element.run() == 1
    record = element.record(0)
    assert (record["state"], record["cause"], record["log_tail"]) == ("failed", "no_output", "second")
    assert "of an earlier attempt" in record["message"]


def test_metrics_that_are_written_again_are_taken(killed):
    """The same text once more, in place: only the times of the file differ."""
    element = killed('cat "$HPC_RESULT_DIR/metrics.json" >t; cat t >"$HPC_RESULT_DIR/metrics.json"')
    assert element.run() == 0, element.said
    assert (element.record(0)["metrics"], element.record(0).get("metrics_problem")) == ({"y": 1}, None)


def test_an_attempt_that_never_started_its_executor_shows_no_log_of_the_one_before(killed):
    element = killed("")
    assert "MemoryError" in shown(element)
    element.write(element.work / ".hpc" / "tasks.py", "def resolve(task): raise KeyError('second')\n")
    assert element.run() == 1
    assert element.record(0)["message"] == "tasks.py: KeyError: 'second'"
    assert shown(element) == ""
    assert tail(element.folder.log(0, 1), 10, 1000) == ""


@pytest.mark.parametrize("variable", ["SLURM_RESTART_COUNT=1", "RESTARTED=1", "HPC_LOCAL_ATTEMPT=2"])
def test_scheduler_output_is_that_of_the_last_start(tmp_path, variable):
    """Schedulers go on in the same file when they start an element again."""
    folder = RunFolder(str(tmp_path))
    make_folder(folder.scheduler_logs)
    template = Path(__file__).parents[2] / "src/hpc_agent/models/mapreduce/templates/runtime/preamble.sh"
    output = Path(folder.scheduler_logs) / "7_0.out"
    first = {"PATH": os.environ["PATH"], "SLURM_RESTART_COUNT": "0", "RESTARTED": "0", "HPC_LOCAL_ATTEMPT": "1"}
    again = dict([variable.split("=")])
    shown = []
    for env, said in ((first, "oom-kill"), (again, ""), (again, "second")):
        with output.open("a") as handle:
            script = f". {template}; test -z '{said}' || echo {said}"
            subprocess.run(["/bin/bash", "-c", script], env={**first, **env}, stdout=handle, stderr=handle, check=True)
        shown.append(SchedulerLogs(folder).output([Array("a0", "0", job_id="7", elements=1)], 0, 20))
    assert shown == ["oom-kill", "", "second"]
