"""What a task asks for is what it gets: CPUs, GPUs, modules, conda, environment."""

from __future__ import annotations

import pytest
from experiment import make_repo, submit, watch

pytestmark = pytest.mark.usefixtures("clusters_file")


def log_of(run_cli, repo, task: int = 0) -> dict:
    return run_cli("logs", "--task-id", str(task), cwd=repo).data["logs"][0]


def test_cpus_and_variables(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    executor = 'echo "$OMP_NUM_THREADS $MINE $HPC_CAMPAIGN_ID $HPC_TASK_ID/$HPC_TASK_COUNT ${CONDA_PREFIX:-none}"'
    env = {"CONDA_PREFIX": "/leaks/from/the/client", "PYTHONPATH": "/leaks/too"} if site.scheduler != "local" else {}
    submit(
        run_cli,
        repo,
        executor,
        "--cpus",
        "2",
        "--env",
        '{"MINE": "a,b c"}',
        "--campaign-id",
        "c1",
        env={**env, "PYTHONPATH": ""},
    )
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    assert log_of(run_cli, repo)["content"] == "2 a,b c c1 0/1 none"


@pytest.mark.parametrize(
    ("site", "flags"),
    [("slurm-ssh", ["--partition", "gpu"]), ("sge-ssh", [])],
    indirect=["site"],
)
def test_gpus(site, flags, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    sent = submit(run_cli, repo, 'echo "cublas $CUBLAS_WORKSPACE_CONFIG"', "--gpus", "1", *flags)
    assert sent["plan"]["resources"]["gpus"] == 1
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    log = log_of(run_cli, repo)
    assert log["content"] == "cublas :4096:8"
    assert "hpc-agent: GPUs" in log["scheduler_output"]
    if site.scheduler == "slurm":
        assert "GPUs 0" in log["scheduler_output"] or "GPUs 1" in log["scheduler_output"]


@pytest.mark.parametrize("site", ["slurm-ssh", "sge-ssh", "local"], indirect=True)
@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"modules": ["nosuch/1.0"]}, "module"),
        ({"conda_source": "/nosuch/conda.sh", "conda_envs": ["exp"]}, "/nosuch/conda.sh"),
    ],
)
def test_an_environment_that_cannot_be_had(site, run_cli, tmp_path, clusters_file, entry, said):
    clusters_file.write_text(site.clusters_yaml(**entry))
    repo = make_repo(tmp_path / "repo", [{"x": 1}, {"x": 2}])
    submit(run_cli, repo, "echo ran")
    seen = watch(run_cli, repo)
    assert seen["failures_by_cause"] == {"environment": 2}
    assert said in seen["samples"][0]["message"]
    log = log_of(run_cli, repo)
    assert (log["missing"], log["cause"]) == (True, "environment")
    assert said in log["scheduler_output"]


@pytest.mark.parametrize("site", ["slurm-ssh", "sge-ssh", "local"], indirect=True)
def test_modules_and_conda_are_activated_in_that_order(site, run_cli, tmp_path, clusters_file):
    """A site's own files, in small: a module command and a conda that say what they did."""
    folder = site.scratch / "site"
    (folder / "init").mkdir(parents=True)
    (folder / "init" / "bash").write_text(
        'module() { [ "$1 $2" = "load gcc/12" ] && export LOADEDMODULES=gcc/12 DID=module; }\nexport -f module\n'
    )
    (folder / "conda.sh").write_text('conda() { [ "$1" = activate ] && export DID="$DID conda:$2"; }\n')
    python = folder / "python3"
    python.write_text(f'#!/bin/sh\nexec {site.cluster["python"]} "$@"\n')
    python.chmod(0o755)
    # Grid Engine starts login shells, where the module command of the system is there already.
    (folder / "init.sh").write_text(f"unset -f module; MODULESHOME={folder}; export MODULESHOME\n")
    entry = {"modules": ["gcc/12"], "conda_source": str(folder / "conda.sh"), "conda_envs": ["exp", "other"]}
    clusters_file.write_text(site.clusters_yaml(shell_init=str(folder / "init.sh"), **entry))
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    submit(run_cli, repo, 'echo "$DID"', "--conda-env", "other")
    seen = watch(run_cli, repo)
    assert seen["lifecycle_state"] == "complete", log_of(run_cli, repo)
    assert log_of(run_cli, repo)["content"] == "module conda:other"


@pytest.mark.parametrize("site", ["slurm-ssh", "sge-ssh", "local"], indirect=True)
def test_a_job_has_the_users_locale(site, run_cli, tmp_path, clusters_file):
    """The locale of our queries (C) would make umlauts bytes without a meaning for R; LC_TIME is the login's alone."""
    init = site.scratch / "init.sh"
    init.write_text('[ -n "$HPC_RUN_DIR" ] || export LANG=C.UTF-8 LC_TIME=POSIX\n')
    clusters_file.write_text(site.clusters_yaml(shell_init=str(init)))
    repo = make_repo(tmp_path / "repo", [{"name": "müller"}])
    submit(
        run_cli,
        repo,
        """Rscript -e 'cat(toupper(Sys.getenv("NAME")), Sys.getenv(c("LC_ALL", "LC_TIME")), sep = "|")'""",
    )
    assert watch(run_cli, repo)["lifecycle_state"] == "complete", log_of(run_cli, repo)
    assert log_of(run_cli, repo)["content"] == "MÜLLER||POSIX"
