"""Tasks of one element that call a registered function: copies of one interpreter, each as if started afresh."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from dispatched_element import HEAD, Element

from hpc_agent.node.job.workers import interpreter_of
from hpc_agent.node.shared.processes import born
from hpc_agent.node.shared.task_records import Records


@pytest.fixture
def element(tmp_path):
    return Element(tmp_path)


def test_a_library_is_imported_once_and_the_repo_by_every_task(element):
    body = """
    import os
    print("task", x, helper.SEEN)
    told = int(os.environ["SET_BY_LIBRARY"])
    return {"double": 2 * x, "seen": int(helper.SEEN), "lib": slowlib.VALUE, "set": told}
"""
    element.build(body, count=5, library='os.environ["SET_BY_LIBRARY"] = "3"')
    assert element.run() == 0, element.said
    assert element.imported() == 1
    for task in range(5):
        record = element.record(task)
        assert record["metrics"] == {"double": 2 * task, "seen": task, "lib": 7, "set": 3}
        assert element.log(task) == f"task {task} {task}\n"
        assert record["max_rss_mb"] > 1
        assert record["attempt"] == 1


def test_each_task_ends_in_its_own_way(element):
    body = """
    import os, signal, sys
    if x == 0:
        raise RuntimeError("no luck")
    if x == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if x == 2:
        sys.exit(3)
    if x == 3:
        sys.stdout.write("not flushed by me")
        globals()["LEFT_OPEN"] = open(os.path.join(os.environ["RESULT_DIR"], "left"), "w")
        LEFT_OPEN.write("at the end")
    return {"x": x}
"""
    element.build(body, count=5)
    assert element.run() == 1
    ends = [(r["state"], r["cause"], r["exit_code"], r["signal"]) for r in map(element.record, range(5))]
    assert ends == [
        ("failed", "code_error", 1, None),
        ("failed", "signal", None, 9),
        ("failed", "code_error", 3, None),
        ("complete", None, 0, None),
        ("complete", None, 0, None),
    ]
    assert "RuntimeError: no luck" in element.record(0)["log_tail"]
    assert "train.py" in element.record(0)["log_tail"]
    assert element.log(3) == "not flushed by me"
    assert (Path(element.folder.path) / element.record(3)["result_dir"] / "left").read_text() == "at the end"
    assert element.imported() == 1


def test_random_numbers_are_drawn_anew_unless_they_are_seeded(element):
    pytest.importorskip("numpy")
    head = "import random\nimport numpy as np\nnp.random.seed(5)\nSEEDED = float(np.random.rand())\n" + HEAD
    body = """
    np.random.seed()
    return {"seeded": SEEDED, "numpy": float(np.random.rand()), "python": random.random()}
"""
    element.build(body, head=head)
    assert element.run() == 0, element.said
    metrics = [element.record(task)["metrics"] for task in range(4)]
    assert len({m["seeded"] for m in metrics}) == 1
    assert len({m["numpy"] for m in metrics}) == len({m["python"] for m in metrics}) == 4
    element.write(
        element.work / "train.py", "import numpy as np\n" + HEAD + '    return {"numpy": float(np.random.rand())}\n'
    )
    shutil.rmtree(element.folder.elements("a0"))
    assert element.run() == 0, element.said
    assert len({element.record(task)["metrics"]["numpy"] for task in range(4)}) == 4


@pytest.mark.parametrize(
    "library",
    [
        'CHOICE = os.environ.get("X", "none")',
        "import threading, time\nthreading.Thread(target=time.sleep, args=(2,), daemon=True).start()",
        "import sys\nif 'worker-host' in open('/proc/self/cmdline').read(): os.kill(os.getpid(), 9)",
        "import sys, types\nsys.modules['tensorflow'] = types.ModuleType('tensorflow')",
    ],
    ids=["reads-a-parameter", "has-a-thread", "kills-the-host", "unsafe"],
)
def test_where_a_copy_would_not_be_the_same_each_task_starts_alone(element, library):
    element.build('    return {"x": x, "lib": slowlib.VALUE}\n', library=library, count=3)
    assert element.run() == 0, element.said
    assert [element.record(task)["metrics"]["x"] for task in range(3)] == [0, 1, 2]
    assert element.imported() == 4  # the host's, in vain, and one a task


@pytest.mark.parametrize("more", [{"HPC_NO_FORK": "1"}, {}])
def test_the_switch_of_a_run(element, more):
    element.env.update(more)
    element.build('    return {"x": x}\n', count=3)
    assert element.run() == 0, element.said
    assert element.imported() == (3 if more else 1)


@pytest.mark.parametrize(
    ("command", "python"),
    [
        ("python3 .hpc/cli.py", "python3"),
        ("/opt/a-b/bin/python3.11 .hpc/cli.py", "/opt/a-b/bin/python3.11"),
        ("'/my envs/bin/python' .hpc/cli.py", "'/my envs/bin/python'"),
        ("$PYTHON .hpc/cli.py", ""),
        ("srun python3 .hpc/cli.py", ""),
        ("python3 -O .hpc/cli.py", ""),
        ("python3 .hpc/cli.py x", ""),
        ("true; python3 .hpc/cli.py", ""),
        ("'python3 .hpc/cli.py", ""),
        (".hpc/cli.py", ""),
    ],
)
def test_only_the_plain_command_is_shared(command, python):
    assert interpreter_of(command) == python


@pytest.mark.timeout(90)
@pytest.mark.parametrize("isolate", ["warm", "fork"])
def test_a_task_whose_host_is_lost_goes_on(element, isolate):
    body = """
    import os, signal, time
    if x == 1:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(0.5)
    return {"x": x}
"""
    element.build(body, head=HEAD.replace("import helper", ""), isolate=isolate)
    assert element.run() == 0, element.said
    assert [element.record(task)["metrics"] for task in range(4)] == [{"x": task} for task in range(4)]


@pytest.mark.timeout(90)
def test_a_task_that_is_lost_with_its_host_is_killed(element):
    body = """
    import os, signal
    if x == 1:
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    return {"x": x}
"""
    element.build(body)
    assert element.run() == 1
    assert [element.record(task)["state"] for task in range(4)] == ["complete", "failed", "complete", "complete"]
    assert (element.record(1)["cause"], element.record(1)["signal"]) == ("signal", 9)


@pytest.mark.timeout(90)
@pytest.mark.parametrize("head", [HEAD, HEAD.replace("import helper", "")], ids=["plain", "shared"])
def test_a_worker_that_dies_before_it_says_so_has_begun_no_task(element, head):
    begun = element.root / "begun"
    body = f'    open({str(begun)!r}, "a").write("%d\\n" % x)\n    return {{"x": x}}\n'
    element.build(body, count=2, head=head, isolate="warm")
    for name in ("worker", "worker_host"):
        file = element.work / f".hpc/_hpc_runtime/job/{name}.py"
        lines = file.read_text().split("\n")
        (found,) = [number for number, line in enumerate(lines) if "send(" in line and '"fresh": ' in line]
        kill = lines[found][: len(lines[found]) - len(lines[found].lstrip())] + "os.kill(os.getpid(), signal.SIGKILL)"
        element.write(file, "\n".join([*lines[:found], kill, *lines[found:]]))
    assert element.run() == 0, element.said
    time.sleep(1)  # for a worker that would begin late
    assert begun.read_text().split() == ["0", "1"]


def test_sigterm_reaches_the_task_and_nothing_is_left_behind(element):
    body = """
    import os, signal, sys, time
    def stop(*_):
        print("asked to stop")
        sys.exit(130)
    signal.signal(signal.SIGTERM, stop)
    open(os.path.join(os.environ["HPC_CHECKPOINT_DIR"], "here"), "w").close()
    with open(os.environ["IMPORTS"] + ".pids", "w") as handle:
        handle.write("%d %d" % (os.getpid(), os.getppid()))
    time.sleep(60)
"""
    element.build(body)
    process = element.start()
    pids = Path(str(element.imports) + ".pids")
    end = time.monotonic() + 30
    while not (pids.exists() and pids.read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    mine, host = map(int, pids.read_text().split())
    os.kill(host, signal.SIGTERM)  # schedulers tell everybody
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert "asked to stop" in element.log(0)
    assert element.record(0)["cause"] == "checkpointed"
    assert Records(element.folder).load(1) is None
    for pid in (mine, host):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_background_child_ends_with_its_task(element):
    body = """
    import subprocess
    child = subprocess.Popen(["sleep", "300"])
    return {"child": child.pid}
"""
    element.build(body, count=2)
    assert element.run() == 0, element.said
    children = [element.record(task)["metrics"]["child"] for task in range(2)]
    end = time.monotonic() + 10
    while any(map(born, children)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(born, children))


def test_the_descriptors_of_one_task_are_not_those_of_the_next(element):
    """A process that a task leaves behind must not hold the next task, nor write into its log."""
    body = """
    import subprocess
    if x == 0:
        subprocess.Popen("sleep 1.5; echo late", shell=True)
    return {"open": len(__import__("os").listdir("/proc/self/fd"))}
"""
    element.build(body, count=3)
    assert element.run() == 0, element.said
    assert [element.log(task) for task in (1, 2)] == ["", ""]
    assert len({json.dumps(element.record(task)["metrics"]) for task in range(3)}) == 1
