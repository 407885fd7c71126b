"""The node side under the oldest Python that this machine has: submit, dispatch, status, logs, combine."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from experiment import WRITE, aggregate, make_repo, submit, watch, write

from hpc_agent.infra.backends import RUNTIME_TEMPLATES


def oldest_python() -> tuple[tuple[int, int], str]:
    """(version, path) of the oldest Python from 3.6 on, on the PATH or where pyenv keeps them."""
    names = [f"python3.{minor}" for minor in range(6, 15)] + ["python3"]
    candidates = [shutil.which(name) for name in names]
    candidates += [
        str(path) for path in Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob("versions/*/bin/python3")
    ]
    named = os.environ.get("HPC_TEST_NODE_PYTHON")
    found = []
    for path in filter(None, [named, *candidates]):
        ask = "import sys; print(*sys.version_info[:2])"
        done = subprocess.run([path, "-c", ask], capture_output=True, text=True, timeout=20, check=False)
        if done.returncode == 0:
            major, minor = map(int, done.stdout.split())
            found.append(((major, minor), path))
    return min(entry for entry in found if entry[0] >= (3, 6))


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_the_whole_job(site, run_cli, tmp_path, clusters_file):
    version, python = oldest_python()
    clusters_file.write_text(site.clusters_yaml(python=python))
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(4)])
    executor = f'{shlex.quote(python)} -c "import sys; print(sys.version_info[:2])" && test $X != 3 && {WRITE}'
    submit(run_cli, repo, executor)
    seen = watch(run_cli, repo)
    assert (seen["last_status"]["complete"], seen["last_status"]["failed"]) == (3, 1), seen
    logs = run_cli("logs", "--task-id", "0", cwd=repo).data["logs"]
    assert logs[0]["content"] == str(version)
    table = aggregate(run_cli, repo)
    assert [row["metrics"]["y"]["mean"] for row in table["rows"]] == [0, 1, 2]
    command = f'{shlex.quote(python)} -c "import sys; print(list(sys.version_info[:2]))"'
    assert run_cli("cluster-reduce", "--aggregate-cmd", command, cwd=repo).data["reduced"] == list(version)


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_chunks_of_a_series(site, run_cli, tmp_path, clusters_file):
    clusters_file.write_text(site.clusters_yaml(python=oldest_python()[1]))
    repo = make_repo(tmp_path / "repo", [{"start": start, "end": start + 2} for start in (0, 2)])
    submit(run_cli, repo, 'seq $((START + 1)) $END > "$HPC_RESULT_DIR/n.txt"')
    watch(run_cli, repo)
    joined = run_cli("join-series", "--file", "n.txt", cwd=repo).data
    assert (Path(joined["path_local"]) / "series.txt").read_text() == "1\n2\n3\n4\n"


@pytest.mark.parametrize("locale", [{}, {"LC_ALL": ""}, {"LANG": "C.UTF-8"}])
def test_umlauts_in_a_job_without_a_locale(tmp_path, locale):
    """The oldest Python cannot give a variable with an umlaut to a program, unless the job templates name a locale."""
    dispatcher = tmp_path / "work" / ".hpc" / "_hpc_dispatch.py"
    write(dispatcher, "import subprocess\nsubprocess.call(['printenv', 'NAME'], env={'NAME': 'm\\xfcller'})\n")
    env = {"PATH": os.environ["PATH"], "HPC_RUN_DIR": str(tmp_path), "HPC_PYTHON": oldest_python()[1], **locale}
    script = f". {RUNTIME_TEMPLATES / 'preamble.sh'}; hpc_dispatch"
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("müller\n", "")


def test_a_job_gets_no_locale_that_the_node_does_not_have(tmp_path):
    """RHEL 7 has no C.UTF-8: its ``locale charmap`` prints this."""
    write(tmp_path / "locale", "#!/bin/sh\necho ANSI_X3.4-1968\n")
    (tmp_path / "locale").chmod(0o755)
    write(tmp_path / "work" / ".hpc" / "_hpc_dispatch.py", "import os\nprint(os.environ.get('LC_CTYPE', 'none'))\n")
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HPC_RUN_DIR": str(tmp_path), "PYTHONCOERCECLOCALE": "0"}
    script = f". {RUNTIME_TEMPLATES / 'preamble.sh'}; hpc_dispatch"
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("none\n", "")
