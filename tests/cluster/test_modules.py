"""Modules of the real Environment Modules and the real Lmod, by every name that a site gives them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import testbed
from experiment import make_repo, submit, watch

from hpc_agent.infra.backends import RUNTIME_TEMPLATES

MODULES = Path(__file__).parents[1] / "data" / "modules"
INITS = {
    "environment-modules": testbed.BED / "environment-modules/usr/share/modules/init/bash",
    "lmod": Path("/usr/share/lmod/lmod/init/bash"),
}
# Environment Modules before version 4 told of a missing module on stderr alone: its function ended with 0.
OLD = 'eval "real_$(declare -f module)"\nmodule() { real_module "$@"; return 0; }\n'
OTHER_NAMES = ["gcc/12", "gcc", "compiler/gnu", "python/3.11", "anaconda3/latest"]


@pytest.fixture(params=list(INITS))
def module_system(request):
    """The file that starts a module system, the real one."""
    if not INITS[request.param].is_file():
        message = f"{request.param} is not installed: sudo testbed/tools-up"
        (pytest.fail if os.environ.get("HPC_REQUIRE_SCHEDULERS") == "1" else pytest.skip)(message)
    return INITS[request.param]


def load_modules(init: Path, names: str, extra: str = "") -> str:
    """Return what the job templates' preamble says when it loads ``names``: what is loaded, or the reason why not."""
    preamble = RUNTIME_TEMPLATES / "preamble.sh"
    script = f'. {init}\nmodule use {MODULES}\n{extra}. {preamble}\necho "loaded $LOADEDMODULES"\n'
    env = {"PATH": os.environ["PATH"], "HPC_MODULES": names, "HPC_PYTHON": "echo", "HPC_RUN_DIR": "/run", "HOME": "/"}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("names", "loaded"),
    [("gcc/12", "gcc/12.2.0"), ("gcc", "gcc/12.2.0"), ("compiler/gnu", "gcc/12.2.0"), ("python/3.11", "python/3.11.5"),
     ("anaconda3/latest", "anaconda3/2023.09"), ("gcc/12.2.0 compiler/gnu gcc", "gcc/12.2.0")],
)  # fmt: skip
@pytest.mark.parametrize("extra", ["", OLD], ids=["now", "before 4"])
def test_what_loaded_under_another_name_is_loaded(module_system, names, loaded, extra):
    assert load_modules(module_system, names, extra) == "loaded " + loaded


@pytest.mark.parametrize("names", ["nosuch", "gcc nosuch/1", "gcc/12 gcc/1", "python/2"])
@pytest.mark.parametrize("extra", ["", OLD], ids=["now", "before 4"])
def test_a_module_that_does_not_exist_is_refused(module_system, names, extra):
    said = load_modules(module_system, names, extra)
    assert f"--environment-failed module load {names.split()[-1]} " in said


@pytest.mark.parametrize("site", ["slurm-ssh", "local"], indirect=True)
def test_a_job_has_the_modules_of_a_real_module_system(site, run_cli, tmp_path, clusters_file, module_system):
    shutil.copytree(MODULES, site.scratch / "modulefiles")
    init = site.scratch / "init.sh"
    init.write_text(f"export MODULESHOME={module_system.parents[1]} MODULEPATH={site.scratch}/modulefiles\n")
    clusters_file.write_text(site.clusters_yaml(shell_init=str(init), modules=OTHER_NAMES))
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    submit(run_cli, repo, 'echo "$GCC_V $PY_V $AN"')
    seen = watch(run_cli, repo)
    log = run_cli("logs", "--task-id", "0", cwd=repo).data["logs"][0]
    assert seen["lifecycle_state"] == "complete", log
    assert log["content"] == "12.2.0 3.11.5 2023.09"
    reducer = 'echo "[\\"$GCC_V\\", \\"$PY_V\\"]"'
    here = run_cli("cluster-reduce", "--aggregate-cmd", reducer, cwd=repo).data
    assert here["reduced"] == ["12.2.0", "3.11.5"], "a reducer on the login node has the modules of the tasks"
    shutil.rmtree(site.scratch / "modulefiles" / "gcc")
    red = run_cli("cluster-reduce", "--aggregate-cmd", reducer, "--force", cwd=repo).envelope
    assert (red["error_code"], red["details"]["cause"]) == ("combiner_failed", "environment")
    assert "module load gcc" in red["message"]
