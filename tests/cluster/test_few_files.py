"""What a run leaves on the cluster: few files, however many tasks it has."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from experiment import make_repo, submit, watch

pytestmark = pytest.mark.usefixtures("clusters_file")
NO_OPS = "def total():\n    return 1000\n\ndef resolve(task_id):\n    return {'x': task_id}\n"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_a_thousand_tasks_that_write_nothing_leave_few_files(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", NO_OPS)
    sent = submit(run_cli, repo, "true", "--pack", "500", "--no-canary")
    seen = watch(run_cli, repo, 240)
    assert seen["last_status"]["complete"] == 1000, seen
    run = Path(sent["remote_path"])
    # The run's copy of the code (hard links to the runtime) is the same for any number of tasks.
    left = [path for path in run.rglob("*") if run / "work" not in path.parents]
    assert len(left) < 40, "\n".join(map(str, sorted(left)))
    elements = run / "elements"
    assert Counter(path.suffix for path in elements.rglob("*.*")) == {".claim": 2, ".rec": 2, ".log": 2}
