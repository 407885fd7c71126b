"""An array element as a submission leaves it, for tests that start its dispatcher themselves."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpc_agent.experiment.writing.tasks_file import CLI_SOURCE, sign
from hpc_agent.infra.backends import get_backend
from hpc_agent.infra.remote import runtime_files
from hpc_agent.node.shared.files import make_folder, write_json
from hpc_agent.node.shared.run_folder import LAYOUT, RunFolder
from hpc_agent.node.shared.task_environment import digest
from hpc_agent.node.shared.task_records import Records

# A library outside of the repo that notes each import of it.
LIBRARY = """
import os
print("a library that talks")
with open(os.environ["IMPORTS"], "a") as handle:
    handle.write("%d\\n" % os.getpid())
{more}
VALUE = 7
"""
HEAD = """
import slowlib
import helper
from hpc_agent.experiment_kit import register_run

@register_run
def train(x: int):
"""


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def words(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


class Element:
    """One element of ``count`` tasks with x = 0, 1, ..., as a submission leaves it; the executor is a function."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, RunFolder(str(root / "runs" / "r"))
        self.work = Path(self.folder.work)
        self.imports = root / "imports"
        self.env = {"PYTHONPATH": str(root / "site"), "IMPORTS": str(self.imports)}
        self.array: dict[str, Any] = {}  # further fields of the array

    def build(self, body: str, count: int = 4, head: str = HEAD, library: str = "", **document: Any) -> "Element":
        """The executor calls the function ``train`` with this body."""
        self.write(self.place() / "cli.py", sign(CLI_SOURCE.read_text()))
        self.write(self.root / "site" / "slowlib.py", LIBRARY.format(more=library))
        self.write(self.work / "helper.py", 'import os\nSEEN = os.environ["X"]\n')
        self.write(self.work / "train.py", head + body)
        return self.submit(f"{shlex.quote(sys.executable)} .hpc/cli.py", count, **document)

    def place(self) -> Path:
        """Write the runtime. Return its folder."""
        for name, text in runtime_files(get_backend("local")).items():
            self.write(self.work / ".hpc" / name, text)
        return self.work / ".hpc"

    def submit(self, executor: str, count: int = 1, **document: Any) -> "Element":
        """Write the tasks, the run's document and the ledger."""
        tasks = f"FLAGS = {{'train.py:train': []}}\ndef total(): return {count}\ndef resolve(i): return {{'x': i}}\n"
        self.write(self.place() / "tasks.py", tasks)
        Path(self.folder.digests).write_bytes(b"".join(digest({"x": i}) for i in range(count)))
        written = {
            "run_id": "r", "task_count": count, "cmd_sha": "0", "executor": executor,
            "result_dir_template": "results/{task_id}", "resources": {"cpus": 1}, "env": self.env, "layout": LAYOUT, **document,
        }  # fmt: skip
        write_json(self.folder.document, written)
        make_folder(self.folder.jobs)
        array = {"array": "a0", "tasks": f"0-{count - 1}", "pack": count, "elements": 1, "generation": 1}
        write_json(self.folder.job("a0"), {**array, **self.array})
        return self

    @staticmethod
    def write(path: Path | str, text: str) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)

    def start(self, array: str = "a0", job: str = "1", index: int = 0) -> "subprocess.Popen[str]":
        facts = {"HPC_RUN_DIR": self.folder.path, "HPC_ARRAY": array, "HPC_ELEMENT": str(index), "HPC_JOB_ID": job}
        command = [sys.executable, str(self.work / ".hpc" / "_hpc_dispatch.py"), "task"]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env={**os.environ, **facts}, stdout=pipe, stderr=pipe, text=True)

    @staticmethod
    def kill(process: "subprocess.Popen[str]") -> None:
        """Kill a dispatcher, then the executors that it has started."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
        process.communicate(timeout=30)
        for child in children:
            with contextlib.suppress(ProcessLookupError):  # a worker ends when its dispatcher does
                os.killpg(int(child), signal.SIGKILL)

    def run(self, array: str = "a0", job: str = "1", index: int = 0) -> int:
        with self.start(array, job, index) as process:
            self.said = "".join(process.communicate(timeout=60))
        return process.returncode

    def record(self, task: int) -> dict:
        found = Records(self.folder).load(task)
        assert found is not None, f"task {task} has no record; the element said: {getattr(self, 'said', '')}"
        return found.to_json()

    def log(self, task: int) -> str:
        records = Records(self.folder)
        place = records.log(records.arrays[-1], task)
        assert place is not None
        data = Path(place.path).read_bytes()[place.offset :]
        return data[: place.length].decode()

    def imported(self) -> int:
        return len(self.imports.read_text().split())
