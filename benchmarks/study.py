"""A closed campaign on real data: 200 trials of a gradient-boosting classifier, its driver killed three times.

    python benchmarks/study.py [SITE [TRIALS]]   SITE is local, slurm-ssh or sge-ssh

TPE in batches of 20 over five parameters; a trial is the log loss of three-fold cross-validation on scikit-learn's
breast-cancer data. The driver is killed (SIGKILL) while iterations 2, 4 and 6 run, and called again. Exit code 1 when a
trial is lost or ran twice, a replay of the journal asks another point, or the best is not better than the defaults.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests")]

import testbed  # noqa: E402

BATCH, KILLED_IN, LIMIT_SEC = 20, (2, 4, 6), 3000
TRAIN = """import json, os, sys
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.model_selection import cross_val_score

chosen = {
    "learning_rate": float(os.environ.get("RATE", 0.1)), "n_estimators": int(os.environ.get("TREES", 100)),
    "max_depth": int(os.environ.get("DEPTH", 3)), "subsample": float(os.environ.get("SUBSAMPLE", 1.0)),
    "max_features": os.environ.get("FEATURES", "all"),
}
if chosen["max_features"] == "all":
    chosen["max_features"] = None
model = GradientBoostingClassifier(random_state=0, **chosen)
scores = cross_val_score(model, *load_breast_cancer(return_X_y=True), cv=3, scoring="neg_log_loss")
folder = os.environ.get("HPC_RESULT_DIR")
out = open(folder + "/metrics.json", "w") if folder else sys.stdout
json.dump({"log_loss": -scores.mean()}, out)
"""
MANIFEST = {
    "campaign_id": "gbc",
    "goal": "the least log loss of boosted trees on breast-cancer",
    "space": {
        "rate": {"type": "float", "low": 0.01, "high": 0.5, "log": True},
        "trees": {"type": "int", "low": 10, "high": 120},
        "depth": {"type": "int", "low": 1, "high": 5},
        "subsample": {"type": "float", "low": 0.4, "high": 1.0},
        "features": {"type": "categorical", "values": ["all", "sqrt", "log2"]},
    },
    "metrics": [{"name": "log_loss", "direction": "minimize"}],
    "strategy": "tpe",
    "batch": BATCH,
}


def journal(repo: Path) -> list[dict]:
    path = repo / ".hpc/campaigns/gbc/journal.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    events = []
    for line in lines:
        with contextlib.suppress(ValueError):  # a line that is being written
            events.append(json.loads(line))
    return events


def driven(repo: Path, env: dict[str, str]) -> int:
    """Drive the campaign to its end, killing its driver three times; how often it was killed."""
    words = [sys.executable, "-m", "hpc_agent", "campaign-driver", "--campaign-id", "gbc", "--loop"]
    pending, end = list(KILLED_IN), time.monotonic() + LIMIT_SEC
    while True:
        with subprocess.Popen(words, cwd=repo, env=env, stdout=subprocess.PIPE, text=True) as driver:
            while pending and driver.poll() is None and time.monotonic() < end:
                if sum(line["event"] == "submitted" for line in journal(repo)) >= pending[0]:
                    driver.kill()
                    pending.pop(0)
                    break
                time.sleep(0.2)
            out, _ = driver.communicate(timeout=max(1.0, end - time.monotonic()))
        if driver.returncode == -9:
            continue
        answer = json.loads(out)
        if not answer["ok"] or answer["data"]["reason"] != "budget":
            sys.exit(f"the campaign has not ended well: {answer}")
        return len(KILLED_IN) - len(pending)


def cli(repo: Path, env: dict[str, str], *words: str) -> dict:
    done = subprocess.run([sys.executable, "-m", "hpc_agent", *words], cwd=repo, env=env, check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)  # fmt: skip
    answer = json.loads(done.stdout)
    if not answer["ok"]:
        sys.exit(f"{words[0]}: {answer['message']}")
    return answer["data"]


def main() -> int:
    name, trials = (*sys.argv[1:], *("local", "200")[len(sys.argv) - 1 :])
    with tempfile.TemporaryDirectory() as folder:
        site, repo = testbed.make_site(name, Path(folder)), Path(folder) / "study"
        config = Path(folder) / "clusters.yaml"
        config.write_text(site.clusters_yaml())
        env = {**os.environ, "HOME": folder, "HPC_CLUSTERS_CONFIG": str(config), "HPC_PROGRESS": "none"}
        repo.mkdir()
        (repo / "train.py").write_text(TRAIN)
        submit = {"cluster": "testbed", "executor": f"{site.science_python} train.py", "pack": 5,
                  "resources": {"mem_mb": 600, "walltime_sec": 900}}  # fmt: skip
        spec = {**MANIFEST, "budget": {"max_tasks": int(trials)}, "submit": submit}
        (repo / "campaign.json").write_text(json.dumps(spec))
        begun = time.monotonic()
        try:
            cli(repo, env, "campaign-init", "--spec", "campaign.json")
            kills = driven(repo, env)
            replay = cli(repo, env, "campaign-replay", "gbc", "--verify", "--last-n", "1")
            status = cli(repo, env, "campaign-status", "gbc")
        finally:
            site.clean_up()
        took = time.monotonic() - begun
        defaults = json.loads(subprocess.run([site.science_python, "train.py"], cwd=repo, stdout=subprocess.PIPE,
                                             check=True, text=True).stdout)["log_loss"]  # fmt: skip
        asks, tells = (
            Counter(one["trial"] for one in journal(repo) if one["event"] == kind) for kind in ("ask", "tell")
        )
    best, again = status["best"], f"{replay['verified']} asked again, {len(replay['different'])} differ"
    loss = best["values"]["log_loss"]
    print(
        f"{name:10s} {len(tells)} trials, driver killed {kills} times, {took:.0f} s; replay of the last batch: {again}"
    )
    print(f"{name:10s} best log loss {loss:.4f} (defaults {defaults:.4f}): trial {best['trial']}, {best['params']}")
    whole = set(asks) == set(tells) == set(range(int(trials))) and {*asks.values(), *tells.values()} == {1}
    return 0 if whole and not replay["different"] and loss < defaults else 1


if __name__ == "__main__":
    sys.exit(main())
