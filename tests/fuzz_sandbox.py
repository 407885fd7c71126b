"""The folder in which odd calls are made: a repo with one run that has ended, a home, clusters that do not answer."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TASKS = "def total():\n    return 3\n\ndef resolve(task_id):\n    return {'x': task_id}\n"
SCRIPT = """import argparse, json, os
parser = argparse.ArgumentParser()
parser.add_argument("--x", type=int, default=0)
parser.add_argument("--output-file", default=os.devnull)
x = parser.parse_args().x
with open(os.environ.get("HPC_RESULT_DIR", ".") + "/metrics.json", "w") as file:
    json.dump({"y": x * 2.0}, file)
"""
SERIES = "def smooth(rows, window=3):\n    return [sum(rows[max(0, i - window):i + 1]) for i in range(len(rows))]\n"
EXECUTOR = 'python3 run.py --x "$X"'
REFUSED = '#!/bin/sh\necho "ssh: connect to host refused port 22: Connection refused" >&2\nexit 255\n'
NO_SCHEDULER = "#!/bin/sh\necho $0 $* >>{log}\necho refused >&2\nexit 1\n"


@dataclass
class Sandbox:
    """A repo with one run that has ended, a home, and clusters: ``open`` has the one of the run, ``closed`` none that answers."""

    root: Path
    run_id: str = "none-00000000"
    env: dict[str, str] = field(default_factory=dict)

    @property
    def repo(self) -> Path:
        return self.root / "a" / "b" / "repo"

    def make(self) -> None:
        for name in ("home", "tmp", "bin", "scratch", "specs"):
            (self.root / name).mkdir()
        self._write_repo()
        (self.root / "empty").mkdir()
        self._stubs()
        self._write_clusters()
        self.env = {
            "PATH": f"{self.root / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(self.root / "home"),
            "TMPDIR": str(self.root / "tmp"),
            "HPC_CLUSTERS_CONFIG": str(self.root / "open.yaml"),
            "HPC_PROGRESS": "none",
            "LC_ALL": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        sent = self._cli("submit", "--cluster", "local", "--executor", EXECUTOR, "--campaign-id", "sweep")
        self.run_id = sent["run_id"]
        watched = self._cli("monitor-flow", "--run-id", self.run_id, "--wall-clock-budget-sec", "120")
        assert watched["lifecycle_state"] == "complete", watched
        for name in ("a", "home"):
            shutil.copytree(self.root / name, self.root / "kept" / name, symlinks=True, copy_function=_copy)

    def _cli(self, *words: str) -> Any:
        command = [sys.executable, "-m", "hpc_agent", *words]
        done = subprocess.run(
            command, cwd=self.repo, env=self.env, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return json.loads(done.stdout)["data"]

    def _write_repo(self) -> None:
        repo = self.repo
        (repo / ".hpc").mkdir(parents=True)
        (repo / ".hpc" / "tasks.py").write_text(TASKS)
        (repo / "run.py").write_text(SCRIPT)
        (repo / "series.py").write_text(SERIES)
        (repo / "file.txt").write_text("text\n")
        (repo / "table.csv").write_text("x,y\n" + "".join(f"{i},{i * 2}\n" for i in range(30)))
        (repo / "deep.json").write_text("[" * 20000)
        (repo / "binary.bin").write_bytes(bytes(range(256)))
        (repo / "folder").mkdir()
        (repo / "folder" / "inner.txt").write_text("")
        (repo / "loop").symlink_to("loop")
        (repo / "gone").symlink_to("nothing-there")
        study = {
            "campaign_id": "study",
            "space": {"x": {"type": "float", "low": -1, "high": 1}},
            "metrics": [{"name": "y"}],
            "strategy": {"name": "random"},
            "submit": {"cluster": "slurm", "executor": EXECUTOR, "resources": {"mem_mb": 100, "walltime_sec": 60}},
        }
        (repo / ".hpc" / "campaigns" / "study").mkdir(parents=True)
        (repo / ".hpc" / "campaigns" / "study" / "manifest.json").write_text(json.dumps(study))

    def _write_clusters(self) -> None:
        local = {"scheduler": "local", "scratch": str(self.root / "scratch"), "min_poll_sec": 1, "local_cores": 2}
        refused = {"host": "refused", "scratch": "/scratch/x"}
        closed = {name: {"scheduler": name, **refused} for name in ("slurm", "sge")}
        odd = {"broken": {"scheduler": "slurmm"}, "bare": {}, "late": {**closed["slurm"], "python": "/none"}}
        unreachable = {**local, **refused, "scheduler": "slurm"}
        for name, clusters in (("open", {"local": local}), ("closed", {"local": unreachable})):
            (self.root / f"{name}.yaml").write_text(json.dumps({**clusters, **closed, **odd}))

    def _stubs(self) -> None:
        """Put an ssh and rsync that refuse, and schedulers that only write down that they were called, first on the PATH."""
        for name in ("ssh", "rsync"):
            _script(self.root / "bin" / name, REFUSED)
        for name in ("sbatch", "qsub", "squeue", "sacct", "qstat", "scontrol", "sinfo", "scancel", "qdel", "claude"):
            _script(self.root / "bin" / name, NO_SCHEDULER.format(log=self.root / "scheduler.log"))
        (self.root / "bin" / "python3").symlink_to(sys.executable)

    def refresh(self) -> None:
        """Put repo and home back to what they were before the first odd call."""
        for name in ("a", "home"):
            shutil.rmtree(self.root / name, ignore_errors=True)
            shutil.copytree(self.root / "kept" / name, self.root / name, symlinks=True, copy_function=_copy)
        os.mkfifo(self.repo / "pipe")
        self._write_clusters()

    def submitted(self) -> list[str]:
        """Return the runs that a call has submitted, and the commands of a scheduler that were called."""
        runs = [path.name for path in (self.root / "scratch").glob("hpc-agent/*/runs/*") if path.name != self.run_id]
        log = self.root / "scheduler.log"
        return runs + (log.read_text().splitlines() if log.exists() else [])

    def damage(self, chance: random.Random) -> str:
        """Spoil one file that hpc-agent keeps: what a full disk, a crash or an editor leaves. Returns its name."""
        places = [self.repo / ".hpc", self.root / "home"]
        files = sorted(
            path for place in places for path in place.rglob("*") if path.is_file() and not path.is_symlink()
        )
        path = chance.choice(files)
        data = path.read_bytes()
        halves = [
            data[: len(data) // 2],
            data + b"{",
            data.replace(b'"', b"", 3),
            data.replace(b":", b": 1e999, 5:", 1),
        ]
        whole = [b"", b"\0" * 50, b"[]\n", b"null\n", b"\xff\xfe", b'{"run_id": 5}\n', b"[" * 20000, b"{}\n"]
        path.write_bytes(chance.choice([*halves, *whole]))
        if chance.random() < 0.1:
            path.unlink()
            path.mkdir()
        return str(path.relative_to(self.root))


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _copy(source: str, target: str, *, follow_symlinks: bool = True) -> str:
    return shutil.copy2(source, target, follow_symlinks=follow_symlinks)
