"""The class of each recorded end of a log, and what recovery may do with it."""

from pathlib import Path

import pytest
import yaml

from hpc_agent.node.look.recorded import FailureFacts
from hpc_agent.node.shared.failure_classes import BY_NAME
from hpc_agent.node.shared.ledger import Array
from hpc_agent.node.why.classify import classify
from hpc_agent.node.why.diagnosis import _limits
from hpc_agent.node.why.failure_case import Limits

ROWS = yaml.safe_load((Path(__file__).parents[1] / "data/why/excerpts.yaml").read_text(encoding="utf-8"))
OUTSIDE = ("licence", "licence_invalid", "lost_peer", "network", "service_busy", "node_failure", "environment")


def traceback(row):
    file = row.get("file", "/scratch/u/hpc-agent/r/runs/r1/work/exp/train.py")
    last = row.get("raised", "")
    return (
        'Traceback (most recent call last):\n  File "/scratch/u/hpc-agent/r/runs/r1/work/exp/run.py", line 90, in <module>\n'
        f'    main()\n  File "{file}", line 42, in train\n    {row.get("source", "step(batch)")}\n{last}\n'
    )


def found_in(row):
    facts = dict(row.get("facts") or {})
    code = facts.pop("exit", 1)
    limits = Limits(**{key: facts.pop(key) for key in ("mem_mb", "gpus", "scheduler") if key in facts})
    known = {
        "cause": "code_error",
        "message": f"exit code {code}",
        "exit_code": code,
        "signal": None,
        "host": "n012",
        **facts,
    }
    log = row.get("log", "") + "\n" + (traceback(row) if "raised" in row else "")
    return classify(FailureFacts.from_json(known), limits, log)


@pytest.mark.parametrize("row", ROWS, ids=[f"{n}-{row['origin']}" for n, row in enumerate(ROWS)])
def test_class(row):
    found = found_in(row)
    assert found.name == row["class"]
    assert row.get("confidence", found.confidence) == found.confidence


def test_only_what_cannot_be_otherwise_is_certain():
    logs = [row for row in ROWS if "cause" not in (row.get("facts") or {})]  # where the log alone decides
    certain = {row["class"] for row in logs if found_in(row).confidence == "certain"}
    assert not certain & {"lost_peer", "service_busy", "out_of_memory", "too_many_threads", "environment"}


def test_no_outside_cause_is_mended_by_correcting_the_code():
    assert {row["class"] for row in ROWS} > set(OUTSIDE)
    for name in OUTSIDE:
        assert "Correct the code" not in BY_NAME[name].remedy


@pytest.mark.parametrize(
    ("gpus", "flags", "has_gpu"),
    [
        (2, [], True),
        (0, [], False),
        (None, ["--gres=gpu:1"], True),
        (0, ["-l", "cuda=1"], True),
        (0, ["--nice"], False),
    ],
)
def test_a_gpu_may_be_asked_for_in_the_words_of_the_site(gpus, flags, has_gpu):
    array = Array("a0", "0", resources={"gpus": gpus}, placement={"extra_flags": flags})
    assert bool(_limits(array, False, "slurm").gpus) == has_gpu
