"""An element that runs several tasks at the same time: a process a slot, and what happens when one of them dies."""

import os
import signal
import time
from pathlib import Path

import pytest
from dispatched_element import Element, until, words

from hpc_agent.node.job.slots import part_of
from hpc_agent.node.shared.processes import born
from hpc_agent.node.shared.task_records import Records

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def element(tmp_path):
    made = Element(tmp_path / "hpc-agent" / "repo")
    made.array["at_once"] = 2
    return made


def test_two_tasks_meet_and_each_is_run_once(element, tmp_path):
    """Tasks 0 and 1 wait for each other."""
    meet = f"""
touch {tmp_path}/here-$X; echo "$X" >>{tmp_path}/begun; echo "says $X"
if [ $X -lt 2 ]; then until [ -e {tmp_path}/here-0 ] && [ -e {tmp_path}/here-1 ]; do sleep 0.05; done; fi
echo "{{\\"slot\\": $HPC_SLOT}}" >"$HPC_RESULT_DIR/metrics.json"
"""
    assert element.submit(meet, 7).run() == 0, element.said
    assert sorted(words(tmp_path / "begun")) == [str(x) for x in range(7)]
    records = [element.record(task) for task in range(7)]
    assert {record["metrics"]["slot"] for record in records} == {0, 1}
    assert [element.log(task) for task in range(7)] == [f"says {x}\n" for x in range(7)]
    assert [sorted(os.listdir(Path(element.folder.path) / r["result_dir"])) for r in records] == [["metrics.json"]] * 7
    left = sorted(os.listdir(Path(element.folder.elements("a0")) / "00000"))
    assert left == ["0.1.log", "0.claim", "0.log", "0.rec"]


def test_a_slot_process_that_is_killed_fails_its_task_only(element, tmp_path):
    command = f"""
echo "$X" >>{tmp_path}/begun; echo part >"$HPC_RESULT_DIR/part"; echo "says $X"
if [ $X = 2 ]; then echo $$ >{tmp_path}/mine; sleep 0.7; kill -9 $PPID; sleep 300; fi
"""
    assert element.submit(command, 6).run() == 1, element.said
    assert sorted(words(tmp_path / "begun")) == [str(x) for x in range(6)]
    records = [element.record(task) for task in range(6)]
    assert [record["state"] for record in records] == ["complete"] * 2 + ["failed"] + ["complete"] * 3
    failed = records[2]
    assert (failed["cause"], failed["signal"], failed["exit_code"]) == ("signal", 9, None)
    assert (failed["kwargs"], failed["attempt"], failed["log_tail"]) == ({"x": 2}, 1, "says 2")
    assert (Path(element.folder.path) / failed["result_dir"] / "part").exists()
    assert element.log(2) == "says 2\n"
    assert born(int((tmp_path / "mine").read_text())) is None
    assert "task 2: the process of the dispatcher that ran the task was killed by signal 9" in element.said


KILLS = """
class OomKills(object):
    def __init__(self, environ):
        pass
    def new(self):
        return 1
"""


@pytest.mark.parametrize(("at_once", "said"), [(2, [1, None, None]), (1, [1, 1, 1])])
def test_a_kill_for_memory_is_that_of_a_task_that_was_killed(element, at_once, said):
    """The kernel counts those of the whole job: a task beside it, which ended well, had none."""
    element.array["at_once"] = at_once
    element.submit("[ $X != 0 ] || kill -9 $$; [ $X != 1 ]", 3)
    element.write(element.work / ".hpc" / "_hpc_runtime" / "job" / "oom_kills.py", KILLS)
    assert element.run() == 1, element.said
    assert [element.record(task).get("oom_kills") for task in range(3)] == said


def test_a_slot_process_that_dies_again_and_again_does_not_hold_the_element(element):
    element.submit("kill -9 $PPID; sleep 300", 5)
    assert element.run() == 1
    assert [element.record(task)["signal"] for task in range(5)] == [9] * 5


@pytest.mark.parametrize(("number", "said"), [(signal.SIGUSR1, "USR1"), (signal.SIGTERM, "TERM")])
def test_a_signal_reaches_every_slot_once(element, tmp_path, number, said):
    element.submit(
        f"trap 'echo USR1 >>{tmp_path}/got; exit 0' USR1; trap 'echo TERM >>{tmp_path}/got; exit 0' TERM; "
        f'echo $X >>{tmp_path}/begun; touch "$HPC_RESULT_DIR/a"; i=0; while [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done',
        2,
    )
    process = element.start()
    until(lambda: len(words(tmp_path / "begun")) == 2)
    time.sleep(0.3)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert words(tmp_path / "got") == [said] * 2
    states = {element.record(task)["state"] for task in range(2)}
    assert states == {"complete" if number == signal.SIGUSR1 else "failed"}


def test_a_killed_element_takes_its_slots_along_and_is_started_again(element, tmp_path):
    command = f"""
echo "$X.$HPC_ATTEMPT $$" >>{tmp_path}/begun; echo "part $HPC_ATTEMPT" >>"$HPC_RESULT_DIR/part"
if [ $HPC_ATTEMPT = 1 ] && [ $X -lt 2 ]; then sleep 300; fi
"""
    process = element.submit(command, 4).start()
    until(lambda: len(words(tmp_path / "begun")) == 4)
    process.kill()
    process.communicate(timeout=30)
    executors = [int(word) for word in words(tmp_path / "begun")[1::2]]
    until(lambda: not any(map(born, executors)))
    assert all(Records(element.folder).load(task) is None for task in range(4))
    assert element.run() == 0, element.said
    assert sorted(words(tmp_path / "begun")[::2]) == ["0.1", "0.2", "1.1", "1.2", "2.1", "3.1"]
    for task, parts in enumerate([2, 2, 1, 1]):
        record = element.record(task)
        text = (Path(element.folder.path) / record["result_dir"] / "part").read_text()
        assert (record["attempt"], text.count("part")) == (parts, parts)


@pytest.mark.parametrize(
    ("devices", "slots", "parts"),
    [
        (["0", "1"], 2, [["0"], ["1"]]),
        (["0", "1", "2", "3"], 2, [["0", "1"], ["2", "3"]]),
        (["GPU-a"], 2, [["GPU-a"], ["GPU-a"]]),
        (["0", "1", "2"], 2, [["0"], ["1"]]),
    ],
)
def test_each_slot_has_its_part_of_the_devices(devices, slots, parts):
    assert [part_of(devices, number, slots) for number in range(slots)] == parts


def test_tasks_see_the_devices_of_their_slot(element, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    element.submit(f'echo "$HPC_SLOT $CUDA_VISIBLE_DEVICES" >>{tmp_path}/seen; sleep 0.5', 4)
    assert element.run() == 0, element.said
    seen = (tmp_path / "seen").read_text().splitlines()
    assert set(seen) == {"0 4", "1 5"}
