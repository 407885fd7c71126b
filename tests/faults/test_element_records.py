"""The log of a packed element, whatever happens to the process that writes it: no record is lost, nothing runs twice."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from dispatched_element import Element, until, words

from hpc_agent.node.shared.files import write_json
from hpc_agent.node.shared.task_records import Records

pytestmark = pytest.mark.timeout(180)
TASKS = 3
COMMAND = """
echo $X >>{begun}; echo "says $X"; touch "$HPC_CHECKPOINT_DIR/../../seen" "$HPC_RESULT_DIR/part"; rm $HPC_RESULT_DIR/part
[ $X = 1 ] || echo '{{"y": 1}}' >"$HPC_RESULT_DIR/metrics.json"
"""
# Counts the calls with which the dispatcher changes files, and does something to one of them.
STEPS = """
import os, signal, sys
LEFT, PATH = int(os.environ.get("STEP", "0")), os.environ.get("STEPS_SEEN")
def watched(name, real):
    def call(*args, **kwargs):
        global LEFT
        LEFT -= 1
        if PATH:
            with open(PATH, "a") as handle:
                handle.write(name + "\\n")
        if LEFT == 0:
            {act}
        return real(*args, **kwargs)
    return call
if "_hpc_dispatch.py" in str(sys.orig_argv if hasattr(sys, "orig_argv") else sys.argv):
    for name in ("write", "rename", "link", "mkdir", "rmdir", "fsync", "unlink"):
        setattr(os, name, watched(name, getattr(os, name)))
"""
KILL = "os.kill(os.getpid(), signal.SIGKILL)"
HALF = 'name == "write" and real(args[0], args[1][: len(args[1]) // 2]); ' + KILL


@pytest.fixture
def element(tmp_path):
    return Element(tmp_path / "hpc-agent" / "repo")


def stepped(element: Element, act: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the dispatchers that are started from now on do something at a step."""
    folder = element.root / "steps"
    element.write(folder / "sitecustomize.py", STEPS.replace("{act}", act))
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.mark.parametrize("act", [KILL, HALF], ids=["before-the-step", "within-a-write"])
def test_killed_at_every_step(tmp_path, monkeypatch, act):
    """Each step in a run of its own; the element is started again after it."""
    first = Element(tmp_path / "count")
    stepped(first, "pass", monkeypatch)
    monkeypatch.setenv("STEPS_SEEN", str(tmp_path / "seen"))
    assert first.submit(COMMAND.format(begun=tmp_path / "counted"), TASKS).run() == 0, first.said
    seen = words(tmp_path / "seen")
    assert len(seen) > 15
    steps = [step for step, name in enumerate(seen, 1) if act == KILL or name == "write"]
    monkeypatch.delenv("STEPS_SEEN")
    for step in steps:
        element, begun = Element(tmp_path / f"{step}"), tmp_path / f"begun{step}"
        stepped(element, act, monkeypatch)
        monkeypatch.setenv("STEP", str(step))
        element.submit(COMMAND.format(begun=begun), TASKS)
        code = element.run()
        monkeypatch.setenv("STEP", "0")
        before = [Records(element.folder).load(task) for task in range(TASKS)]
        told = words(begun)
        assert code == -signal.SIGKILL or (step > len(seen) - 5 and all(before)), (step, element.said)
        assert element.run() == 0, (step, element.said)
        check(element, words(begun)[len(told) :], [record is not None for record in before], step)


def check(element: Element, again: list[str], had_record: list[bool], step: int) -> None:
    for task in range(TASKS):
        assert again.count(str(task)) == (not had_record[task]), (step, task, "runs after the kill")
        record = element.record(task)
        assert (record["state"], record.get("history")) == ("complete", []), (step, task)
        assert element.log(task) == f"says {task}\n", (step, task)
        assert record["metrics"] == ({} if task == 1 else {"y": 1}), (step, task)
        names = os.listdir(Path(element.folder.path) / record["result_dir"]) if task != 1 else []
        assert names == ([] if task == 1 else ["metrics.json"]), (step, task)
    place = Path(element.folder.elements("a0")) / "00000"
    left = [name for name in os.listdir(place) if not name.startswith("0.claim.")]  # a claim that was not linked yet
    assert sorted(left) == ["0.claim", "0.log", "0.rec"], step


def test_a_disk_that_is_full_within_a_frame_costs_no_record(element, tmp_path, monkeypatch):
    """From some step on, three writes of the dispatcher bring five bytes each to the disk and fail."""
    act = 'name == "write" and args[0] > 2 and full(real, args)'
    head = """
TIMES = 3
def full(real, args):
    global LEFT, TIMES
    TIMES -= 1
    LEFT = 1 if TIMES else 0
    real(args[0], args[1][:5])
    raise OSError(28, "No space left on device")
"""
    for step in (6, 9, 12):
        made, begun = Element(tmp_path / f"{step}"), tmp_path / f"begun{step}"
        stepped(made, act, monkeypatch)
        path = made.root / "steps" / "sitecustomize.py"
        path.write_text(path.read_text().replace("def watched", head + "def watched"))
        monkeypatch.setenv("STEP", str(step))
        code = made.submit(COMMAND.format(begun=begun), TASKS).run()
        monkeypatch.setenv("STEP", "0")
        if code == 28:  # it was a begin, which is not tried again: the scheduler starts the element anew
            assert made.run() == 0, made.said
        else:
            assert code == 0, made.said
        assert [made.record(task)["state"] for task in range(TASKS)] == ["complete"] * TASKS
        assert sorted(words(begun)) == ["0", "1", "2"]


def test_a_second_job_for_the_same_array_leaves_its_slice(element, tmp_path):
    element.submit(f"echo $X >>{tmp_path}/begun; until [ -e {tmp_path}/gate ]; do sleep 0.05; done", 3)
    first = element.start(job="1")
    until(lambda: words(tmp_path / "begun"))
    assert element.run(job="2") == 0
    assert "another job has claimed" in element.said
    (tmp_path / "gate").touch()
    first.communicate(timeout=60)
    assert (first.returncode, words(tmp_path / "begun")) == (0, ["0", "1", "2"])
    assert {element.record(task)["job"] for task in range(3)} == {"1"}


def test_a_second_start_waits_for_the_end_of_the_first(element, tmp_path):
    """As when a scheduler starts an element again before the old processes are gone."""
    element.submit(f"echo $X >>{tmp_path}/begun; until [ -e {tmp_path}/gate ]; do sleep 0.05; done", 3)
    first = element.start()
    until(lambda: words(tmp_path / "begun"))
    second = element.start()
    time.sleep(1)
    assert words(tmp_path / "begun") == ["0"]
    (tmp_path / "gate").touch()
    for process in (first, second):
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert words(tmp_path / "begun") == ["0", "1", "2"]


def test_a_start_on_another_host_takes_over_from_one_that_still_runs(element, tmp_path):
    """A node that the scheduler has given up goes on: it begins no further task."""
    element.submit(f"echo $X >>{tmp_path}/begun; until [ -e {tmp_path}/gate ]; do sleep 0.05; done", 3)
    first = element.start()
    until(lambda: words(tmp_path / "begun"))
    with open(element.folder.element("a0", 0, "claim"), "a") as handle:
        handle.write("another 1 2 3\n")
    time.sleep(0.5)  # it looks five times a second
    (tmp_path / "gate").touch()
    said = "".join(first.communicate(timeout=60))
    assert "has started this element again elsewhere" in said
    assert (first.returncode, words(tmp_path / "begun")) == (1, ["0"])
    assert element.run() == 0, element.said
    assert words(tmp_path / "begun") == ["0", "0", "1", "2"], "the later start runs the task that it took over"


@pytest.mark.parametrize("theirs", [[], ["theirs"]])
def test_one_that_was_given_up_takes_nothing_of_the_start_that_replaced_it(element, tmp_path, theirs):
    """The other host has taken the folder of the task, and runs the next one in a folder of the same name."""
    wait = f"until [ -e {tmp_path}/gate ]; do sleep 0.05; done"
    element.submit(f"touch $HPC_RESULT_DIR/mine; echo $X >>{tmp_path}/begun; {wait}", 3)
    first = element.start()
    until(lambda: words(tmp_path / "begun"))
    place = Path(element.folder.elements("a0")) / "00000"
    with open(place / "0.claim", "a") as handle:
        handle.write("another 1 2 3\n")
    (place / "0.d0").rename(place / "0.left-0-1")
    (place / "0.d0").mkdir()
    for name in theirs:
        (place / "0.d0" / name).touch()
    time.sleep(0.5)  # it looks five times a second
    (tmp_path / "gate").touch()
    said = "".join(first.communicate(timeout=60))
    assert "has started this element again elsewhere" in said
    assert os.listdir(place / "0.d0") == theirs
    assert Records(element.folder).load(0) is None


def add_array(element: Element, name: str, tasks: str, generation: int, pack: int, elements: int = 1) -> None:
    array = {"array": name, "tasks": tasks, "pack": pack, "elements": elements, "generation": generation, "order": 5}
    write_json(element.folder.job(name), array)


@pytest.mark.parametrize("pack", [1, 2])
def test_the_canary_and_the_array_run_its_task_once(element, tmp_path, pack):
    """The canary runs while the array begins, and is complete when the array begins."""
    element.submit(f"echo $X >>{tmp_path}/begun; until [ -e {tmp_path}/gate$X ]; do sleep 0.05; done", 4)
    add_array(element, "c0", "0" if pack == 1 else "0-1", 1, pack)
    for task in range(pack, 4):
        (tmp_path / f"gate{task}").touch()
    canary = element.start("c0", job="7")
    until(lambda: words(tmp_path / "begun"))
    if pack == 2:  # its second task is not begun: the array may take it
        (tmp_path / "gate1").touch()
    assert element.run("a0", job="8") == 0, element.said
    assert "task 0: skipped: another array element has claimed the task" in element.said
    (tmp_path / "gate0").touch()
    canary.communicate(timeout=60)
    assert element.run("a0", job="8") == 0, element.said
    assert sorted(words(tmp_path / "begun")) == ["0", "1", "2", "3"]
    records = [element.record(task) for task in range(4)]
    assert [r["state"] for r in records] == ["complete"] * 4
    assert (records[0]["job"], records[0]["attempt"], records[3]["job"]) == ("7", 1, "8")


@pytest.mark.parametrize("pack", [1, 4])
def test_a_late_element_of_an_older_generation_begins_nothing_that_a_newer_one_has(element, tmp_path, pack):
    gates = f"[ $X.$HPC_ATTEMPT = 0.1 ] && until [ -e {tmp_path}/old ]; do sleep 0.05; done"
    element.submit(f"echo $X.$HPC_ATTEMPT >>{tmp_path}/begun; {gates}; echo $HPC_ATTEMPT >$RESULT_DIR/by; true", 4)
    old = element.start("a0", job="1")
    until(lambda: words(tmp_path / "begun"))
    add_array(element, "r1-0", "0-3", 2, pack, 4 // pack)
    time.sleep(0.5)  # the old one looks five times a second
    (tmp_path / "old").touch() if pack == 1 else None
    if pack == 1:
        assert [element.run("r1-0", job="2", index=index) for index in (1, 2, 3)] == [0] * 3
        old.communicate(timeout=60)
        # task 0 was begun by the old element before anybody else
        assert sorted(words(tmp_path / "begun")) == ["0.1", "1.1", "2.1", "3.1"]
        return
    assert element.run("r1-0", job="2") == 0, element.said
    (tmp_path / "old").touch()
    said = "".join(old.communicate(timeout=60))
    assert sorted(words(tmp_path / "begun")) == ["0.1", "0.2", "1.1", "2.1", "3.1"], said
    record = element.record(0)
    assert (record["job"], record["attempt"], record["generation"]) == ("2", 2, 2)
    assert (Path(element.folder.path) / record["result_dir"] / "by").read_text() == "2\n"


@pytest.mark.parametrize("pack", [1, 2])
def test_attempts_and_failures_are_counted_over_generations(element, pack):
    element.submit('[ $HPC_ATTEMPT = 3 ] || { echo "try $HPC_ATTEMPT"; exit 4; }', 2)
    assert element.run() == 1
    add_array(element, "r1-0", "0-1", 2, 2)
    assert element.run("r1-0", job="2") == 1
    add_array(element, "r2-0", "0-1", 3, pack, 2 // pack)
    for index in range(2 // pack):
        assert element.run("r2-0", job="3", index=index) == 0
    for task in range(2):
        record = element.record(task)
        assert (record["state"], record["attempt"], record["generation"]) == ("complete", 3, 3)
        assert [(row["generation"], row["exit_code"]) for row in record["history"]] == [(1, 4), (2, 4)]
    assert element.run("a0", job="1") == 0
    assert element.record(0)["generation"] == 3


def test_a_job_without_its_environment_fails_its_whole_slice(element):
    element.submit("true", 40)
    facts = {"HPC_RUN_DIR": element.folder.path, "HPC_ARRAY": "a0", "HPC_ELEMENT": "0", "HPC_JOB_ID": "1"}
    words = ["python3", str(element.work / ".hpc" / "_hpc_dispatch.py"), "task", "--environment-failed", "no module x"]
    done = subprocess.run(words, env={**os.environ, **facts}, capture_output=True, check=False, timeout=60)
    assert done.returncode == 1, done.stderr
    records = [element.record(task) for task in range(40)]
    assert {(r["cause"], r["message"], r["attempt"]) for r in records} == {("environment", "no module x", 1)}
    assert element.run() == 0
    assert element.record(39)["state"] == "complete"


def test_what_a_task_left_whose_outcome_could_not_be_kept_is_not_the_next_one_s(element):
    """Its result folder cannot be made, for a file is in its place."""
    command = """
if [ $X = 0 ]; then mkdir -p ../results; touch ../results/0; echo '{"y": 1}' >"$HPC_RESULT_DIR/metrics.json"; fi
if [ $X = 1 ]; then rmdir "$HPC_CHECKPOINT_DIR"; touch "$HPC_CHECKPOINT_DIR" "$HPC_RESULT_DIR/mine"; fi
ls "$HPC_RESULT_DIR"
"""
    element.submit(command, 3, result_dir_template="results/{task_id}/x")
    assert element.run() == 1
    failed, other, good = (element.record(task) for task in range(3))
    assert (failed["state"], other["state"], good["state"]) == ("failed", "failed", "complete")
    assert (good["metrics"], good.get("result_dir"), element.log(2)) == ({}, None, "")
    assert os.listdir(Path(element.folder.path) / failed["result_dir"]) == ["metrics.json"]
    assert os.listdir(Path(element.folder.path) / other["result_dir"]) == ["mine"]


def test_output_beyond_the_limit_keeps_both_ends_and_the_neighbours(element, tmp_path):
    """The overflow of a killed element is kept with its task, and that of a task behind its head."""
    command = f"""
echo "first of $X.$HPC_ATTEMPT"; [ $X = 1 ] && head -c 60000000 /dev/zero | tr '\\0' 'a'; echo; echo "last of $X"
if [ $X.$HPC_ATTEMPT = 1.1 ]; then touch {tmp_path}/begun; exec sleep 60; fi
"""
    element.submit(command, 3)
    process = element.start()
    until((tmp_path / "begun").exists)
    time.sleep(0.5)
    element.kill(process)
    assert element.run() == 0, element.said
    for task, most in ((0, 100), (1, 50 << 20), (2, 100)):
        text = element.log(task)
        attempt = 2 if task == 1 else 1
        assert text.startswith(f"first of {task}.{attempt}\n"), text[:50]
        assert text.endswith(f"\nlast of {task}\n")
        assert len(text) < most
    assert len(element.log(1)) > 32 << 20
    left = os.listdir(Path(element.folder.elements("a0")) / "00000")
    assert sorted(left) == ["0.claim", "0.log", "0.rec"]
