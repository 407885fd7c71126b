"""What a request asks for and the cluster's scheduler has no means for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hpc_agent.infra.backends import Backend, backend_names, get_backend
from hpc_agent.ops.run.checks import check_scheduler

CANNOT = {
    "max_running": "no limit on running elements",
    "memory": "no request for memory",
    "limits": "nobody reads them",
}


def findings(backend, gpus=0, max_running=None, mem_mb=None):
    request = SimpleNamespace(max_running=max_running, resources=SimpleNamespace(mem_mb=mem_mb, gpus=gpus))
    planned = SimpleNamespace(frozen=SimpleNamespace(node=SimpleNamespace(backend=backend)), request=request)
    return [(one.severity, one.evidence["field"], one.message, one.suggested_fix) for one in check_scheduler(planned)]


def test_a_request_for_what_the_scheduler_lacks_is_refused_with_its_reason(tmp_path):
    backend = Backend("other", tmp_path, cannot=CANNOT)
    assert findings(backend) == []
    assert findings(backend, max_running=3, mem_mb=100) == [
        (
            "error",
            "max_running",
            "max_running has no effect on other: no limit on running elements",
            "Leave --max-running out.",
        ),
        (
            "warning",
            "resources.mem_mb",
            "resources.mem_mb has no effect on other: no request for memory",
            "Leave --mem-mb out.",
        ),
    ]


def test_gpus_need_a_template_or_a_reason(tmp_path):
    [(severity, field, message, _)] = findings(Backend("other", tmp_path), gpus=2)
    assert (severity, field) == ("error", "resources.gpus")
    assert "ships no gpu_array template" in message
    [(_, _, message, fix)] = findings(Backend("other", tmp_path, cannot={"gpus": "no name for them"}), gpus=2)
    assert (message, fix) == ("resources.gpus has no effect on other: no name for them", "Leave --gpus out.")
    (tmp_path / "gpu_array.sh").touch()
    assert findings(Backend("other", tmp_path), gpus=2) == []


@pytest.mark.parametrize("name", ["slurm", "sge", "local"])
def test_the_built_in_schedulers_lack_nothing(name):
    assert name in backend_names()
    assert findings(get_backend(name), gpus=1, max_running=1, mem_mb=1) == []
