"""Seconds of a driver's tick in a campaign of 1,000 trials in 200 runs, on this machine: a look alone, and one that submits.

    python benchmarks/tick.py [STRATEGY] [TRIALS]

Exit code 1 when a tick takes more than 1.5 s of processor time. The wall time is that of a quiet machine only there.
"""

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests")]

import testbed  # noqa: E402
from campaign import make_campaign  # noqa: E402

LIMIT_SEC, ARRAY = 1.5, 5


def told_before(count: int, strategy: str) -> list[dict[str, Any]]:
    """Return the lines of ``count`` trials that ended, in runs of five."""
    rng, lines = random.Random(1), []
    for first in range(0, count, ARRAY):
        trials, run_id = list(range(first, first + ARRAY)), f"study-{first // ARRAY}-0123abcd"
        facts = {"iteration": first // ARRAY, "origin": strategy}
        points = [{"x": rng.uniform(-3, 3), "y": rng.uniform(-3, 3)} for _ in trials]
        lines += [
            {"event": "ask", "trial": trial, "params": point, **facts}
            for trial, point in zip(trials, points, strict=True)
        ]
        lines.append({"event": "submitted", "iteration": first // ARRAY, "run_id": run_id, "trials": trials})
        ended = {"event": "tell", "state": "complete", "seconds": 60.0, "run_id": run_id}
        lines += [{**ended, "trial": t, "task_id": t % ARRAY, "values": {"loss": rng.random()}} for t in trials]
    return [{**line, "at": time.time()} for line in lines]


def remember(repo: Path, journals: Path, count: int) -> None:
    """Copy the journal and the sidecar of the first run for each run of the lines."""
    (run,) = journals.glob("*/runs/*.jsonl")
    for number in range(count // ARRAY):
        run_id = f"study-{number}-0123abcd"
        shutil.copyfile(run, run.with_name(f"{run_id}.jsonl"))
        text = (repo / f".hpc/runs/{run.stem}.json").read_text()
        (repo / f".hpc/runs/{run_id}.json").write_text(text.replace(run.stem, run_id))


def tick(repo: Path, env: dict[str, str]) -> tuple[dict[str, Any], float, float]:
    """Return the answer, and the seconds by the clock and of the processor, the node side's included."""
    used, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    words = [sys.executable, "-m", "hpc_agent", "campaign-driver", "--campaign-id", "study"]
    done = subprocess.run(words, cwd=repo, env=env, stdout=subprocess.PIPE, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = time.monotonic() - begun, after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    answer = json.loads(done.stdout)
    if not answer["ok"]:
        sys.exit(answer["message"])
    return answer["data"], *took


def main() -> int:
    strategy, count = (*sys.argv[1:], *("random", "1000")[len(sys.argv) - 1 :])
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        site = testbed.make_site("local", Path(folder))
        config = Path(folder) / "clusters.yaml"
        config.write_text(site.clusters_yaml())
        env = {**os.environ, "HOME": folder, "HPC_CLUSTERS_CONFIG": str(config), "HPC_PROGRESS": "none"}
        executor = 'sleep 2; echo "{\\"loss\\": $X}" > "$HPC_RESULT_DIR/metrics.json"'
        repo = make_campaign(Path(folder) / "repo", Path(folder), executor, mode="async", width=16, ahead=8,
                             strategy={"name": strategy}, submit={"env": {}})  # fmt: skip
        tick(repo, env)
        remember(repo, Path(folder) / ".claude/hpc", int(count))
        journal = repo / ".hpc/campaigns/study/journal.jsonl"
        later = [json.loads(line) for line in journal.read_text().splitlines()]
        for line in later:
            line["iteration"] += int(count) // ARRAY
            if line["event"] == "ask":
                line["trial"] += int(count)
            else:
                line["trials"] = [trial + int(count) for trial in line["trials"]]
        lines = [*told_before(int(count), strategy), *later]
        journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
        for _ in range(8):
            answer, wall, processor = tick(repo, env)
            worst = max(worst, processor)
            told, asked = answer.get("told", 0), answer.get("asked", 0)
            did = f"{told:2d} told, {asked:2d} asked, {len(answer.get('submitted', ()))} submitted"
            print(f"{sum(answer['trials'].values())} trials, {did}: {processor:.2f} s of processor, {wall:.2f} s")
            time.sleep(0.7)
        site.clean_up()
    return 0 if worst <= LIMIT_SEC else 1


if __name__ == "__main__":
    sys.exit(main())
