"""The report of a synthetic run of 100,000 tasks: time on the cluster, size of the page, elements, time to open in Chromium.

    python benchmarks/report_page.py [TASKS] [FOLDER]

A run of one task on the local scheduler is made larger by writing records; then `hpc-agent report` is what a user types.
Budgets: 500 KB, 5,000 elements, a second to open at phone and desktop width, no violation that axe-core finds.
"""

import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hpc_agent.node.shared.ledger import read_array, write_array
from hpc_agent.node.shared.ranges import encode_ranges
from hpc_agent.node.shared.run_folder import RunFolder
from hpc_agent.node.shared.task_record import COMPLETE, FAILED, TaskRecord

TASKS = 100_000
WAVES, PACK = 20, 1000
WRITER = Path(__file__).resolve().parent / "node" / "write_records.py"
KILOBYTES, ELEMENTS, SECONDS = 500, 5_000, 1.0
BOOSTERS = ("gbtree", "dart", "gblinear", "forest")
CLUSTERS = "here: {scheduler: local, scratch: %s, default_mem_mb: 4096, min_poll_sec: 1}\n"


def record_of(task: int, start: float, rng: random.Random) -> TaskRecord:
    """A task of a random search: accuracy falls off a ridge in learning rate, with noise; 3 % fail."""
    rate, depth, share = 10 ** rng.uniform(-5, 0), rng.randint(2, 16), rng.random()
    booster, width = rng.choice(BOOSTERS), 2 ** rng.randint(4, 11)
    kwargs = {
        "learning_rate": rate,
        "depth": depth,
        "subsample": share,
        "booster": booster,
        "width": width,
        "l2": 10 ** rng.uniform(-6, 2),
    }
    seconds = 40 * depth * rng.lognormvariate(0, 0.6)
    began = start + (task // (TASKS // WAVES)) * 3000 + rng.uniform(0, 2500)
    accuracy = 0.98 - 0.03 * (math.log10(rate) + 1.5) ** 2 - 0.001 * (depth - 8) ** 2 - 0.05 * (share - 0.7) ** 2
    accuracy = max(0.1, accuracy - 0.01 * BOOSTERS.index(booster) + rng.gauss(0, 0.01))
    facts = {"task": task, "job": "1", "element": task, "array": "a0", "host": f"node{task % 60:03d}", "kwargs": kwargs,
             "started_at": began, "ended_at": began + seconds, "seconds": seconds,
             "cpu_seconds": seconds * rng.uniform(0.3, 0.95), "max_rss_mb": 300 + 40 * depth + rng.expovariate(0.01)}  # fmt: skip
    if rng.random() < 0.03:
        message = rng.choice(["exit code 1", "killed by signal 9"])
        return TaskRecord(
            state=FAILED,
            cause="exit",
            exit_code=1,
            message=message,
            log_tail="ValueError: <script>no</script>",
            **facts,
        )
    metrics = {
        "val_accuracy": accuracy,
        "log_loss": -2 * math.log(accuracy) + rng.gauss(0, 0.01),
        "model_mb": width * depth / 50,
    }
    return TaskRecord(state=COMPLETE, metrics=metrics, **facts)


def enlarge(folder: RunFolder, tasks: int) -> None:
    """Write the records of so many tasks into the folder of a run of one task, and its arrays as waves."""
    rng, start = random.Random(7), 1_790_000_000.0
    document = json.loads(Path(folder.document).read_text())
    Path(folder.document).write_text(json.dumps({**document, "task_count": tasks}))
    first = read_array(folder, "a0")
    each = tasks // WAVES
    for wave in range(WAVES):
        members = range(wave * each, (wave + 1) * each if wave < WAVES - 1 else tasks)
        ids, elements = encode_ranges(members), -(-len(members) // PACK)
        asked = {**first.resources, "walltime_sec": 14400, "mem_mb": 4096, "cpus": 4}
        write_array(folder, first._replace(array=f"a{wave}", tasks=ids, wave=wave, elements=elements, pack=PACK, resources=asked,
                                           order=wave, submitted_at=start + wave * 3000 - 60))  # fmt: skip
    Path(folder.status_cache).unlink(missing_ok=True)
    own = ("job", "element", "array")  # the writer knows them
    rows = (record_of(task, start, rng).to_json() for task in range(tasks))
    lines = "".join(json.dumps({key: row[key] for key in row if key not in own}) + "\n" for row in rows)
    subprocess.run([sys.executable, str(WRITER), folder.path], input=lines, text=True, check=True)


def make_run(base: Path, tasks: int) -> tuple[Path, dict[str, str]]:
    repo = base / "repo"
    (repo / ".hpc").mkdir(parents=True)
    (repo / ".hpc/tasks.py").write_text(
        "def total():\n    return 1\n\ndef resolve(task_id):\n    return {'depth': 3}\n"
    )
    (base / "clusters.yaml").write_text(CLUSTERS % (base / "scratch"))
    env = {**os.environ, "HOME": str(base), "HPC_CLUSTERS_CONFIG": str(base / "clusters.yaml"), "HPC_PROGRESS": "none"}
    submitted = hpc_agent(
        repo, env, "submit", "--cluster", "here", "--executor", "true $DEPTH", "--run-name", "synthetic"
    )
    hpc_agent(repo, env, "monitor-flow", "--wall-clock-budget-sec", "60")
    [folder] = (base / "scratch").glob(f"hpc-agent/*/runs/{submitted['run_id']}")
    enlarge(RunFolder(str(folder)), tasks)
    return repo, env


def hpc_agent(repo: Path, env: dict[str, str], *arguments: str) -> dict:
    command = [sys.executable, "-m", "hpc_agent", *arguments]
    done = subprocess.run(command, cwd=repo, env=env, capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout)
    if not answer["ok"]:
        raise SystemExit(f"{arguments[0]}: {answer['message']}\n{done.stderr[-2000:]}")
    return answer["data"]


def opened(page: Path, width: int) -> tuple[float, int, int]:
    """Seconds until the page has loaded and was painted, its elements, and the violations that axe-core finds."""
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tools:
        browser = tools.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"]
        )
        tab = browser.new_page(viewport={"width": width, "height": 844})
        began = time.perf_counter()
        tab.goto(page.as_uri())
        tab.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
        seconds = time.perf_counter() - began
        elements = tab.evaluate("document.querySelectorAll('*').length")
        violations = len(Axe().run(tab).response["violations"])
        browser.close()
    return seconds, elements, violations


def main() -> int:
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else TASKS
    base = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(tempfile.mkdtemp(prefix="report-"))
    repo, env = make_run(base, tasks)
    failed = []
    for which in ("first", "again"):
        began = time.perf_counter()
        answer = hpc_agent(repo, env, "report")
        print(f"report of {tasks:,} tasks, {which}: {time.perf_counter() - began:.1f} s")
    page = Path(answer["report"])
    checks = [("size", page.stat().st_size / 1000, KILOBYTES, "KB")]
    for width in (390, 1280):
        seconds, elements, violations = opened(page, width)
        checks += [
            (f"open at {width} px", seconds, SECONDS, "s"),
            ("elements", elements, ELEMENTS, ""),
            ("axe", violations, 0, "violations"),
        ]
    for name, value, budget, unit in checks:
        print(f"{name}: {value:.4g} {unit} (budget {budget:,})")
        failed += [name] if value > budget else []
    print(f"page: {page}\nanswer: {answer['headline']}\nleft out: {answer['left_out']}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
