"""Slots that a campaign keeps busy: batches of 16 beside asynchronous refill, with log-normal task times of sigma 1.

    python benchmarks/refill.py                       simulated: the real next steps on a simulated clock, 1,000 trials
    python benchmarks/refill.py SITE [TRIALS [MODE]]  measured: SITE is local or slurm-ssh; 16 slots, 160 trials

Told are the share of busy slots until the last trial was asked, and that of the whole campaign with its end, where no trial
is left to fill a slot. Exit code 1 when asynchronous refill keeps less than 90 % busy.
"""

import heapq
import json
import math
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests")]

import testbed  # noqa: E402
from campaign import SPACE, make_campaign  # noqa: E402

from hpc_agent.campaign.journal import History, Submitted, apply  # noqa: E402
from hpc_agent.campaign.manifest import Budget, Manifest, Metric, Parameter, Strategy  # noqa: E402
from hpc_agent.campaign.step import AskNow, Submit, next_step, tell_of  # noqa: E402

SLOTS, GOAL = 16, 0.9
MODES = {"batch": {"mode": "batch", "batch": SLOTS}, "async": {"mode": "async", "width": SLOTS, "ahead": SLOTS // 2}}
# Of the mean task time: a look once in so much, and the scheduler's start of an array after so much.
LOOK, START = 0.05, 0.02


def times(count: int) -> list[float]:
    """Return log-normal times of sigma 1 and mean 1."""
    rng = random.Random(1)
    return [math.exp(rng.gauss(-0.5, 1)) for _ in range(count)]


def busy(spans: list[tuple[float, float]], until: float) -> float:
    """Return the share of slots that tasks (start, end) kept busy until a time."""
    begun = min(start for start, _ in spans)
    return sum(max(0.0, min(end, until) - start) for start, end in spans) / (SLOTS * (until - begun))


def simulated(mode: str, count: int) -> tuple[float, float, int]:
    """Return both shares and the number of arrays."""
    space = {name: Parameter(**facts) for name, facts in SPACE.items()}
    manifest = Manifest(campaign_id="c", space=space, metrics=[Metric(name="loss")], strategy=Strategy(name="random"),
                        budget=Budget(max_tasks=count), **MODES[mode])  # fmt: skip
    history, lasts, now, last_ask = History(), times(count), 0.0, 0.0
    slots = [0.0] * SLOTS  # when each is free again
    spans: dict[int, tuple[float, float]] = {}
    while True:
        for trial in history.open_trials:
            if trial.number in spans and spans[trial.number][1] <= now:
                apply(history, tell_of(manifest, trial, "complete", {"loss": 0.0}, seconds=1.0), now)
        while isinstance(step := next_step(manifest, history, now), AskNow | Submit):
            if isinstance(step, AskNow):
                last_ask = now
                for line in step.asks:
                    apply(history, line, now)
                continue
            apply(history, Submitted(iteration=step.iteration, run_id=f"r{step.iteration}", trials=step.trials), now)
            for number in step.trials:
                start = max(heapq.heappop(slots), now + START)
                spans[number] = (start, start + lasts[number])
                heapq.heappush(slots, spans[number][1])
        if not history.open_trials:
            break
        now += LOOK
    found = list(spans.values())
    return busy(found, last_ask), busy(found, max(end for _, end in found)), history.jobs


def measured(site: testbed.Site, mode: str, count: int, folder: Path) -> tuple[float, float, int]:
    """Run a campaign of sleeping tasks with its driver in a loop, and read the tasks' own records."""
    config = folder / "clusters.yaml"
    config.write_text(site.clusters_yaml(local_cores=SLOTS) if site.scheduler == "local" else site.clusters_yaml())
    env = {**os.environ, "HOME": str(folder), "HPC_CLUSTERS_CONFIG": str(config), "HPC_PROGRESS": "none"}
    mean = 12.0 if site.scheduler == "local" else 20.0
    executor = 'sleep "$(sed -n "$((HPC_TRIAL + 1))p" times)"; echo "{\\"loss\\": $X}" > "$HPC_RESULT_DIR/metrics.json"'
    cpus = 16 if site.scheduler == "slurm" else 1  # of 256: 16 slots as well
    submit = {"env": {}, "resources": {"mem_mb": 40, "cpus": cpus}}
    repo = make_campaign(folder / mode, folder, executor, **MODES[mode], budget={"max_tasks": count}, submit=submit)
    (repo / "times").write_text("".join(f"{mean * one:.2f}\n" for one in times(count)))
    words = [sys.executable, "-m", "hpc_agent", "campaign-driver", "--campaign-id", "study", "--loop"]
    done = subprocess.run(words, cwd=repo, env=env, stdout=subprocess.PIPE, check=False)
    answer = json.loads(done.stdout)
    if not answer["ok"] or answer["data"]["reason"] != "budget":
        sys.exit(f"the campaign has not ended well: {answer}")
    lines = [json.loads(line) for line in (repo / ".hpc/campaigns/study/journal.jsonl").read_text().splitlines()]
    runs = {line["run_id"] for line in lines if line["event"] == "submitted"}
    paths = [path for path in site.scratch.rglob("tasks/*/*.json") if path.parents[2].name in runs]
    records = [json.loads(path.read_text()) for path in paths]
    spans = [(record["started_at"], record["ended_at"]) for record in records]
    last_ask = max(line["at"] for line in lines if line["event"] == "ask")
    return busy(spans, last_ask), busy(spans, max(end for _, end in spans)), len(runs)


def main() -> int:
    name, given, only = (*sys.argv[1:], *("simulated", "", "")[len(sys.argv) - 1 :])
    count = int(given or (1000 if name == "simulated" else 160))
    shares = {}
    with tempfile.TemporaryDirectory() as folder:
        site = None if name == "simulated" else testbed.make_site(name, Path(folder))
        for mode in [only] if only else MODES:
            until, whole, jobs = measured(site, mode, count, Path(folder)) if site else simulated(mode, count)
            shares[mode] = until
            print(
                f"{name:10s} {mode:6s} {count} trials in {jobs:3d} arrays: {until:5.1%} busy, {whole:5.1%} with the end"
            )
        if site:
            site.clean_up()
    return 0 if shares.get("async", 1.0) >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
