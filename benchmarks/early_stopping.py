"""A sweep whose tasks end themselves beside the whole sweep: the best accuracy of each, and the core-seconds of each.

    python benchmarks/early_stopping.py [SITE [SEEDS]]   SITE is local, slurm-ssh or sge-ssh; three seeds

32 networks (learning rate, penalty, width: points of a Sobol sequence) on scikit-learn's digits, 81 epochs, four tasks an
array element; each seed is a sweep of its own, with its own points and its own split of the data. Between the submission and
the last record no client runs: this script only counts files. Exit code 1 when early stopping takes more than half of the
core-seconds, or its best accuracy is more than 1 % below that of the whole sweep.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests")]

import testbed  # noqa: E402

TASKS = 32
RANGES = {
    "rate": {"low": 1e-4, "high": 0.1, "log": True},
    "penalty": {"low": 1e-5, "high": 0.1, "log": True},
    "width": {"low": 32, "high": 128, "log": True, "integer": True},
}
RULE = {"metric": "accuracy", "direction": "maximize", "min_step": 3, "reduction": 3, "max_step": 81}
SHARE, GAP, LIMIT_SEC = 0.5, 0.01, 3600
TRAIN = """import warnings

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from hpc_agent.experiment_kit import register_run, report, should_stop


@register_run
def train(rate: float, penalty: float, width: int, seed: int) -> dict:
    features, labels = load_digits(return_X_y=True)
    parts = train_test_split(features / 16, labels, test_size=0.3, random_state=seed, stratify=labels)
    network = MLPClassifier((width, width), alpha=penalty, learning_rate_init=rate, batch_size=32, random_state=seed)
    for epoch in range(1, 82):
        network.partial_fit(parts[0], parts[2], classes=range(10))
        accuracy = network.score(parts[1], parts[3])
        report(epoch, accuracy)
        if should_stop():
            break
    return {"accuracy": accuracy, "epochs": epoch}
"""


def cli(repo: Path, env: dict[str, str], *words: str, spec: dict | None = None) -> dict:
    done = subprocess.run([sys.executable, "-m", "hpc_agent", *words], cwd=repo, env=env, check=False,
                          input=json.dumps(spec) if spec else "", stdout=subprocess.PIPE, text=True)  # fmt: skip
    answer = json.loads(done.stdout)
    if not answer["ok"]:
        sys.exit(f"{words[0]}: {answer['message']}")
    return answer["data"]


def submitted(site: testbed.Site, folder: Path, env: dict[str, str], seed: int) -> dict[str, str]:
    """Submit the sweep of a seed twice; the run ids of whole and early."""
    repo = folder / f"digits-{seed}"
    repo.mkdir()
    (repo / "train.py").write_text(TRAIN)
    points = {"kind": "sobol", "params": {"ranges": RANGES, "n": TASKS, "seed": seed}}
    grid = {"task_generator": points, "fixed_params": {"seed": seed}, "python": site.science_python}
    cli(repo, env, "build-tasks-py", "--spec", "-", spec=grid)
    spec = cli(repo, env, "resolve-submit-inputs", "--cluster", "testbed")["spec"]
    spec |= {"pack": 4, "max_running": 2, "resources": {"mem_mb": 800, "walltime_sec": 3000}}
    rules = {"whole": None, "early": RULE}
    return {
        name: cli(repo, env, "submit", "--spec", "-", spec={**spec, "early_stop": rule})["run_id"]
        for name, rule in rules.items()
    }


def ended(site: testbed.Site, runs: list[str]) -> dict[str, list[dict]]:
    """Wait until every task of the runs has a record, without hpc-agent; the records of each run."""
    end = time.monotonic() + LIMIT_SEC
    while True:
        paths = {run: list(site.scratch.glob(f"hpc-agent/*/runs/{run}/tasks/*/*.json")) for run in runs}
        if all(len(found) == TASKS for found in paths.values()):
            return {run: [json.loads(path.read_text()) for path in found] for run, found in paths.items()}
        if time.monotonic() > end:
            sys.exit(f"not ended after {LIMIT_SEC} s: { ({run: len(found) for run, found in paths.items()}) }")
        time.sleep(1)


def main() -> int:
    name, seeds = (*sys.argv[1:], *("local", "3")[len(sys.argv) - 1 :])
    used, gaps = {"whole": 0.0, "early": 0.0}, []
    with tempfile.TemporaryDirectory() as folder:
        site = testbed.make_site(name, Path(folder))
        config = Path(folder) / "clusters.yaml"
        config.write_text(site.clusters_yaml(local_cores=4) if site.scheduler == "local" else site.clusters_yaml())
        env = {**os.environ, "HOME": folder, "HPC_CLUSTERS_CONFIG": str(config), "HPC_PROGRESS": "none"}
        try:
            runs = {seed: submitted(site, Path(folder), env, seed) for seed in range(int(seeds))}
            records = ended(site, [run for pair in runs.values() for run in pair.values()])
        finally:
            site.clean_up()
    for seed, pair in runs.items():
        best, line = {}, f"{name:10s} seed {seed}:"
        for mode, run in pair.items():
            rows = records[run]
            if any(row["state"] != "complete" for row in rows):
                sys.exit(f"{run}: {sum(row['state'] != 'complete' for row in rows)} tasks have failed")
            whole = [row["metrics"]["accuracy"] for row in rows if "stopped_at" not in row["metrics"]]
            best[mode], cores = max(whole), sum(row["seconds"] for row in rows)
            used[mode] += cores
            epochs, cpu = sum(row["metrics"]["epochs"] for row in rows), sum(row["cpu_seconds"] for row in rows)
            line += f"  {mode} {best[mode]:.4f}, {cores:5.1f} core-s ({cpu:5.1f} of CPU time), {epochs} epochs,"
            line += f" {TASKS - len(whole)} stopped;"
        gaps.append(1 - best["early"] / best["whole"])
        print(line.rstrip(";"))
    share = used["early"] / used["whole"]
    print(f"{name:10s} {share:.0%} of the core-seconds, best accuracy {max(gaps):+.2%} below at worst")
    return 0 if share <= SHARE and max(gaps) <= GAP else 1


if __name__ == "__main__":
    sys.exit(main())
