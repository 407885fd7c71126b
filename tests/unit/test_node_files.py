"""The node side's files: snapshots, records, the lock, the fence."""

import errno
import hashlib
import os
import signal
import threading
import time

import pytest

from hpc_agent.node.job import element, execute, outputs
from hpc_agent.node.job.oom_kills import oom_kills
from hpc_agent.node.look import records
from hpc_agent.node.shared import task_states
from hpc_agent.node.shared.errors import NodeError
from hpc_agent.node.shared.files import make_folder, tail, write_json
from hpc_agent.node.shared.processes import born
from hpc_agent.node.shared.run_folder import RunDocument, RunFolder, check_root
from hpc_agent.node.shared.snapshot_tree import is_as_frozen, tree_sha
from hpc_agent.node.shared.task_record import TaskRecord
from hpc_agent.node.submission import run_submission
from hpc_agent.node.submission.submitter import RunLock


def push(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    manifest = []
    for name, content in files.items():
        (folder / name).write_text(content)
        manifest.append(["f", name, hashlib.sha256(content.encode()).hexdigest(), name.endswith("sh"), len(content)])
    return manifest


@pytest.fixture
def runtime(tmp_path):
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / "_hpc_dispatch.py").write_text("pass")
    return str(tmp_path / "runtime")


def test_an_unchanged_file_is_a_hard_link_and_read_only(tmp_path, runtime):
    first = push(tmp_path / "in1", same="1", changed="1", run_sh="x")
    run_submission.install(str(tmp_path), "aaa", first, None, str(tmp_path / "in1"), runtime)
    second = [first[0], *push(tmp_path / "in2", changed="2"), first[2], ["l", "link", "same"]]
    run_submission.install(str(tmp_path), "bbb", second, "aaa", str(tmp_path / "in2"), runtime)
    old, new = tmp_path / "snapshots" / "aaa", tmp_path / "snapshots" / "bbb"
    assert (old / "same").stat().st_ino == (new / "same").stat().st_ino
    assert ((old / "changed").read_text(), (new / "changed").read_text()) == ("1", "2")
    assert (new / "link").read_text() == "1"
    assert (new / "same").stat().st_mode & 0o777 == 0o444
    assert (new / "run_sh").stat().st_mode & 0o777 == 0o555
    assert (new / ".hpc" / "_hpc_dispatch.py").exists()
    run = {"snapshot": "bbb", "tree_sha": tree_sha(sorted([e[:4] for e in second], key=lambda e: e[1]))}
    assert is_as_frozen(str(tmp_path), run) is True
    (new / "same").chmod(0o644)
    (new / "same").write_text("9")
    assert is_as_frozen(str(tmp_path), run) is False
    assert is_as_frozen(str(tmp_path), {"snapshot": "bbb"}) is None, "an imported run has no hash of its files"
    with pytest.raises(NodeError, match="same was changed on the cluster"):
        run_submission.install(str(tmp_path), "ccc", second, "bbb", str(tmp_path / "in3"), runtime)
    assert not (tmp_path / "in2").exists()


def test_a_file_that_was_shared_once_is_copied_and_one_that_changed_there_is_not(tmp_path, runtime):
    shared = tmp_path / "shared"
    manifest = push(shared, same="1", run_sh="x")
    run_submission.install(str(tmp_path), "aaa", manifest, None, str(tmp_path / "in"), runtime)
    snapshot = tmp_path / "snapshots" / "aaa"
    assert (snapshot / "same").read_text() == "1"
    assert (snapshot / "same").stat().st_ino != (shared / "same").stat().st_ino, (
        "a later push may change the shared file"
    )
    assert (snapshot / "run_sh").stat().st_mode & 0o777 == 0o555
    (shared / "same").write_text("2")
    with pytest.raises(NodeError, match="same did not arrive"):
        run_submission.install(str(tmp_path), "bbb", manifest, None, str(tmp_path / "in"), runtime)


def test_shared_files_that_are_there_need_no_room(tmp_path):
    root = tmp_path / "hpc-agent" / "repo"
    push(root / "shared", old="12345", grown="1")
    question = {"root": str(root), "run_id": "r", "snapshot": "s", "bases": [], "incoming": "i"}
    shared = {"old": 5, "grown": 700, "data/new": 30}
    assert run_submission.prepare({**question, "shared": shared})["shared_bytes"] == 730
    assert run_submission.prepare(question)["shared_bytes"] == 0


def test_of_a_file_that_grew_on_its_way_the_snapshot_has_what_was_hashed(tmp_path, runtime):
    manifest = push(tmp_path / "in", log="1\n", code="1")
    (tmp_path / "in" / "log").write_text("1\n2\n")
    (tmp_path / "in" / "log").chmod(0o444)
    grown = run_submission.install(str(tmp_path), "aaa", manifest, None, str(tmp_path / "in"), runtime)
    assert (grown, (tmp_path / "snapshots" / "aaa" / "log").read_text()) == (["log"], "1\n")


def test_a_file_that_changed_on_its_way_is_refused_and_nothing_is_left(tmp_path, runtime):
    manifest = push(tmp_path / "in", code="1")
    (tmp_path / "in" / "code").write_text("2")
    with pytest.raises(NodeError, match="code changed while") as caught:
        run_submission.install(str(tmp_path), "aaa", manifest, None, str(tmp_path / "in"), runtime)
    assert caught.value.code == "precondition_failed"
    assert os.listdir(tmp_path / "snapshots") == []


def test_a_run_has_copies_of_the_users_files_and_links_to_the_runtime(tmp_path):
    """Each run of a campaign would have a copy of 250 files otherwise."""
    snapshot, folder = tmp_path / "snapshot", RunFolder(str(tmp_path / "run"))
    for name in ("train.py", ".hpc/tasks.py", ".hpc/_hpc_runtime/entry.py", ".hpc/_hpc_kit/hpc_agent/__init__.py"):
        make_folder(str((snapshot / name).parent))
        (snapshot / name).write_text(name)
    document = RunDocument("r", 1, outputs=["logs"])
    run_submission._make_work_folder(folder, document, str(snapshot))
    linked = {
        str(path.relative_to(snapshot)): path.samefile(tmp_path / "run" / "work" / path.relative_to(snapshot))
        for path in snapshot.rglob("*.py")
    }
    assert {name: "_hpc_" in name for name in linked} == linked


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a//b", ""])
def test_a_manifest_cannot_leave_its_folder(tmp_path, runtime, path):
    with pytest.raises(NodeError, match="not a path inside"):
        run_submission.install(str(tmp_path), "aaa", [["f", path, "0", False, 0]], None, str(tmp_path), runtime)


@pytest.mark.parametrize("root", ["/", "~", "/scratch", "/scratch/hpc-agent", "relative/hpc-agent/x"])
def test_dangerous_roots_are_refused(root):
    with pytest.raises(NodeError, match="refusing"):
        check_root(root)


def write_record(folder, task, **facts):
    path = folder.record(task)
    make_folder(os.path.dirname(path))
    write_json(path, {"task": task, "generation": 1, "seconds": 1.0, **facts})


def test_a_scan_reads_only_shards_that_changed(tmp_path, monkeypatch):
    folder = RunFolder(str(tmp_path))
    for task in (0, 1, 999, 1000, 2500):
        write_record(folder, task, state="complete" if task != 1 else "failed", cause="code_error")
    past = time.time() - 60
    for shard in ("00000", "00001", "00002"):
        os.utime(folder.records(shard), (past, past))
    cache: dict = {}
    seen = records.scan(folder, 3000, cache)
    assert [task for task in range(3000) if seen.state[task] == task_states.COMPLETE] == [0, 999, 1000, 2500]
    assert list(seen.failed) == [1]
    seen.keep(cache)

    read = []
    real = records._content
    monkeypatch.setattr(records, "_content", lambda path: read.append(os.path.basename(path)) or real(path))
    assert records.scan(folder, 3000, cache).state == seen.state
    assert read == []
    write_record(folder, 1, state="complete")
    again = records.scan(folder, 3000, cache)
    assert again.state[1] == task_states.COMPLETE
    assert read == ["1.json"], "complete records are final"


def test_a_torn_record_is_no_record(tmp_path):
    folder = RunFolder(str(tmp_path))
    write_record(folder, 0, state="complete")
    with open(folder.record(0), "r+b") as handle:
        handle.truncate(20)
    assert records.scan(folder, 1, {}).state[0] == task_states.UNKNOWN


def test_the_lock_excludes_names_its_holder_and_outlives_no_one(tmp_path):
    path = str(tmp_path / "lock")
    with RunLock(path, "me@here", wait=1), pytest.raises(NodeError, match="me@here"), RunLock(path, "you", wait=0.2):
        pass
    with RunLock(path, "you", wait=0.2):
        pass
    os.mkdir(path)
    past = time.time() - 500
    os.utime(path, (past, past))
    with RunLock(path, "next", wait=2, lease=100) as lock:
        lock.check()
    assert os.listdir(tmp_path) == []


def test_of_many_at_once_only_one_holds_the_lock(tmp_path):
    inside, most = [], []

    def hold():
        with RunLock(str(tmp_path / "lock"), "x", wait=20):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    threads = [threading.Thread(target=hold) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == [1] * 8


def test_a_long_log_keeps_its_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "HEAD_BYTES", 1000)
    monkeypatch.setattr(outputs, "TAIL_BYTES", 500)
    path = str(tmp_path / "log")
    log = outputs.Log(path)
    log.write(b"".join(b"%06d\n" % n for n in range(5000)))
    log.close()
    assert sum(os.path.getsize(tmp_path / name) for name in os.listdir(tmp_path)) <= 2000
    assert tail(path, 3, 400).splitlines() == ["004997", "004998", "004999"]
    assert open(path).readline() == "000000\n"


@pytest.mark.parametrize("kind", [outputs.Log, outputs.CombinedLog])
def test_a_disk_that_is_full_at_a_new_part_of_a_log_closes_no_file_of_others(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(outputs, "HEAD_BYTES", 100)
    monkeypatch.setattr(outputs, "TAIL_BYTES", 50)
    log = kind(str(tmp_path / "log"))
    log.write(b"a" * 110)
    real = os.open

    def full(path, *arguments):
        if str(path).endswith(".tail"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        log.write(b"b" * 100)
    other = os.open(str(tmp_path / "other"), os.O_CREAT | os.O_WRONLY)  # it gets the number that was closed last
    log.end()
    log.close()
    more = os.open(str(tmp_path / "more"), os.O_CREAT | os.O_WRONLY)
    log.close()
    for descriptor in (other, more):
        os.write(descriptor, b"there")
        os.close(descriptor)


def run(command, tmp_path, **env):
    begun = TaskRecord(0, "failed")
    log = outputs.Log(str(tmp_path / "log"))
    return execute.run(begun, command, {**os.environ, **env}, str(tmp_path), log, grace=1)


def terminated_when_ready(command, tmp_path, **env):
    """Run a command that makes the file ``ready`` once its handlers stand, and send SIGTERM then."""
    (tmp_path / "ready").unlink(missing_ok=True)

    def send():
        while not (tmp_path / "ready").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=send)
    sender.start()
    outcome = run(command, tmp_path, **env)
    sender.join()
    return outcome


def test_what_an_executor_leaves(tmp_path):
    assert run("exit 0", tmp_path).state == "complete"
    assert (run("exit 7", tmp_path).exit_code, run("kill -9 $$", tmp_path).signal) == (7, 9)
    busy = run("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done", tmp_path)
    assert busy.cpu_seconds > 0
    assert busy.max_rss_mb > 1


@pytest.mark.timeout(60)
def test_a_background_child_that_keeps_the_pipe_does_not_hold_the_task(tmp_path):
    assert run("sleep 300 & echo done", tmp_path).state == "complete"
    assert tail(str(tmp_path / "log"), 1, 100) == "done"


@pytest.mark.timeout(60)
def test_what_still_runs_in_the_group_ends_with_the_executor(tmp_path):
    outcome = run('(while :; do echo x; sleep 0.05; done) & echo $! >"$PIDS"; (sleep 300 >/dev/null 2>&1) &', tmp_path,
                  PIDS=str(tmp_path / "pids"))  # fmt: skip
    assert outcome.state == "complete"
    deadline = time.monotonic() + 10
    while born(int((tmp_path / "pids").read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert born(int((tmp_path / "pids").read_text())) is None


def test_a_filter_of_the_output_may_finish(tmp_path):
    run("exec > >(while read -r line; do sleep 0.05; echo $line; done); echo one; echo two", tmp_path)
    assert tail(str(tmp_path / "log"), 5, 100) == "one\ntwo"


@pytest.mark.timeout(60)
def test_the_grace_is_for_the_whole_group(tmp_path):
    """bash ends at SIGTERM at once; the program that it started saves a checkpoint, or has to be killed."""
    save = "trap 'sleep 0.5; echo saved; exit' TERM; touch ready; while :; do sleep 0.05; done"
    for program, said in ((save, "saved"), ("trap '' TERM; touch ready; while :; do echo x; sleep 0.05; done", "x")):
        outcome = terminated_when_ready('bash -c "$PROGRAM"; true', tmp_path, PROGRAM=program)
        assert outcome.cause == "terminated"
        assert tail(str(tmp_path / "log"), 1, 100) == said


def test_sigterm_gives_the_executor_its_grace(tmp_path):
    program = "trap 'echo saved; exit 0' TERM; touch ready; while :; do sleep 0.05; done"
    outcome = terminated_when_ready(program, tmp_path)
    assert (outcome.state, outcome.cause) == ("failed", "terminated")
    assert "saved" in tail(str(tmp_path / "log"), 5, 400)


@pytest.mark.timeout(60)
def test_output_without_pause_neither_holds_the_task_nor_keeps_it_from_being_killed(tmp_path):
    assert run("yes & exit 0", tmp_path).state == "complete"
    outcome = terminated_when_ready("trap '' TERM; touch ready; while :; do echo x; done", tmp_path)
    assert (outcome.cause, outcome.signal) == ("terminated", 9)


class Fence:
    """What ``claim`` needs of an element, and the claim of task 3."""

    def __init__(self, root, owner, generation=1):
        self.path = RunFolder(str(root)).claim(3, generation)
        self.owner, self.host = owner, "host"

    def claims(self):
        return element.claim(self.path, self)


def test_of_two_arrays_one_claims_a_task_and_may_come_back(tmp_path):
    assert Fence(tmp_path, "7:a0:3").claims()
    assert not Fence(tmp_path, "8:a0:3").claims(), "a twin"
    assert Fence(tmp_path, "7:a0:3").claims(), "the same element, requeued"
    assert Fence(tmp_path, "8:r1:0", generation=2).claims(), "a later generation"
    assert len(os.listdir(tmp_path / "claims" / "00000")) == 2


def test_of_many_at_once_one_claims_a_task(tmp_path):
    won = []
    threads = [
        threading.Thread(target=lambda n=n: won.append(n) if Fence(tmp_path, f"{n}:a0:0").claims() else None)
        for n in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(won) == 1


@pytest.mark.parametrize(
    ("path", "files", "seen"),
    [
        ("4:memory:/slurm_n1/uid_42/job_42/step_batch/task_0\n0::/x", {  # version 1: each group has its own kills
            "memory/slurm_n1/uid_42/job_42/step_batch/task_0/memory.oom_control": "under_oom 0\noom_kill 2\n",
            "memory/slurm_n1/uid_42/job_42/step_0/memory.oom_control": "oom_kill 1\n",
            "memory/slurm_n1/uid_42/job_7/memory.oom_control": "oom_kill 99\n"}, 3),
        ("0::/system.slice/slurmstepd.scope/job_42/step_batch/user/task_0", {  # version 2: counts include groups below
            "system.slice/slurmstepd.scope/job_42/memory.events": "oom 4\noom_kill 3\noom_group_kill 0\n",
            "system.slice/slurmstepd.scope/job_42/step_batch/memory.events": "oom_kill 3\n"}, 3),
        ("1:memory,cpu:/sge/42.7\n", {"memory/sge/42.7/memory.oom_control": "oom_kill 0\n"}, 0),
        ("0::/user.slice/user-42000.slice", {"user.slice/user-42000.slice/memory.events": "oom_kill 5\n"}, None),
        ("0::/job_421/step", {"job_421/memory.events": "oom_kill 5\n"}, None),
        ("4:memory:/job_42", {"memory/job_42/memory.oom_control": "under_oom 0\n"}, None),  # kernels before 4.13
        ("0::/", {"memory.events": "oom_kill 5\n"}, None),  # a container hides the path
        ("4:memory:/job_42", {}, None),
    ],
)  # fmt: skip
def test_only_kills_in_the_jobs_own_control_group_are_counted(tmp_path, path, files, seen):
    for name, text in {**files, "cgroup": path}.items():
        make_folder(os.path.dirname(tmp_path / name))
        (tmp_path / name).write_text(text)
    place = (str(tmp_path / "cgroup"), str(tmp_path))
    assert oom_kills({"SLURM_JOB_ID": "42"}, *place) == seen
    assert oom_kills({"JOB_ID": "42"}, *place) == seen
    assert oom_kills({}, *place) is None
    assert oom_kills({"SLURM_JOB_ID": "42", "HPC_LOCAL_JOB_ID": "1"}, *place) is None
