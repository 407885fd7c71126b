"""A stand-in for the program ``claude``: writes down how it was started, and plays a part. Never a real account."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEY = "sk-ant-api03-a-secret-of-the-test"
REPORT = {
    "result": {
        "status": "done",
        "summary": "It was submitted.",
        "run_ids": ["r-1"],
        "next_command": "hpc-agent status",
    },
    "decisions": [{"field": "cluster", "value": "local", "why": "it is the only one"}],
    "anomalies": [],
}
SAID = {
    "type": "result",
    "subtype": "success",
    "is_error": False,
    "num_turns": 4,
    "total_cost_usd": 0.05,
    "session_id": "s",
}
NO_LOGIN = "Not logged in · Please run /login\n"
_SOURCE = """#!{python}
import json, os, signal, subprocess, sys, time
folder = os.path.dirname(os.path.abspath(__file__))
os.environ.pop("LC_CTYPE", None)  # Python sets it on its own where the locale is C
with open(folder + "/part.json") as handle:
    part = json.load(handle)
with open(folder + "/started.json", "w") as handle:
    json.dump({{"argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd(), "stdin": sys.stdin.read(),
               "group": os.getpgrp() == os.getpid(), "pid": os.getpid()}}, handle)
sys.stdout.write(part.get("out", ""))
sys.stderr.write(part.get("err", ""))
sys.stdout.flush()
if part.get("deaf"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if part.get("child"):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    with open(folder + "/child.pid", "w") as handle:
        handle.write(str(child.pid))
open(folder + "/ready", "w").close()
if part.get("hangs"):
    time.sleep(300)
if part.get("signal"):
    os.kill(os.getpid(), part["signal"])
sys.exit(part.get("code", 0))
"""


@dataclass(frozen=True)
class Claude:
    """The stand-in in a folder of its own."""

    folder: Path

    def plays(self, **part: Any) -> None:
        """out, err, code: printed, and the exit code. signal: ends itself so. hangs, deaf (to SIGTERM), child (left behind)."""
        (self.folder / "part.json").write_text(json.dumps(part), encoding="utf-8")

    def reports(self, report: Any = None, **said: Any) -> None:
        self.plays(out=json.dumps({**SAID, "structured_output": REPORT if report is None else report, **said}))

    @property
    def started(self) -> dict[str, Any]:
        return json.loads((self.folder / "started.json").read_text(encoding="utf-8"))

    @property
    def was_started(self) -> bool:
        return (self.folder / "started.json").exists()


def make_claude(folder: Path) -> Claude:
    folder.mkdir(parents=True)
    program = folder / "claude"
    program.write_text(_SOURCE.format(python=sys.executable), encoding="utf-8")
    program.chmod(0o755)
    claude = Claude(folder)
    claude.reports()
    return claude
