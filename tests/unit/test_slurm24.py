"""The SLURM adapter on output recorded from SLURM 24.11 (tests/data/slurm24/README.md)."""

from pathlib import Path

import pytest

from hpc_agent.node.schedulers.slurm import adapter, site
from hpc_agent.node.shared.errors import NodeError
from hpc_agent.node.shared.ranges import decode_ranges

DATA = Path(__file__).parents[1] / "data" / "slurm24"
SINCE = 1796012000.0
REFUSED = {
    "partition": "sinfo -s", "array-size": "MaxArraySize", "qos-limit": "as many jobs", "account-limit": "as many jobs",
    "memory": "Ask for less", "gres": "Ask for less", "account": "sacctmgr", "qos": "sacctmgr", "constraint": "constraint",
    "exclude": "excluded nodes", "option": "extra_flags",
}  # fmt: skip


def recorded(name):
    """(exit code, stdout, stderr) of a recorded command."""
    head, _, rest = (DATA / f"{name}.txt").read_text().partition("--- stdout\n")
    out, _, err = rest.partition("--- stderr\n")
    return int(head.splitlines()[1].split()[-1]), out, err


def test_submissions_and_refusals():
    assert {path.stem for path in DATA.glob("refused-*.txt")} == {f"refused-{name}" for name in REFUSED}
    assert adapter.Slurm().parse_submit(*recorded("submit-array")) == "2090"
    for name, advice in REFUSED.items():
        with pytest.raises(NodeError) as caught:
            adapter.Slurm().parse_submit(*recorded(f"refused-{name}"))
        assert caught.value.code == "scheduler_refused", name
        assert advice in caught.value.remediation, name


def test_the_queue():
    wanted = {"2116", "2111", "2106", "2109", "2107", "2105", "2110", "2101"}
    rows = adapter.parse_queue(recorded("squeue-states")[1], wanted)
    found = {(row.job, row.elements): (row.state, row.reason) for row in rows}
    scattered = next(row for row in rows if row.job == "2111")
    assert list(decode_ranges(scattered.elements)) == list(range(0, 1201, 3))
    del found["2111", scattered.elements]
    assert found == {
        ("2116", "0"): ("completing", ""), ("2106", "0,2,4,6"): ("pending", "BeginTime"),
        ("2109", "0-1"): ("pending", "Dependency"), ("2107", "1-3"): ("pending", "JobArrayTaskLimit"),
        ("2105", "0-2"): ("held", "JobHeldUser"), ("2107", "0"): ("running", ""),
        ("2110", "0"): ("pending", "PartitionDown"), ("2101", "0"): ("pending", "PartitionTimeLimit"),
    }  # fmt: skip


def test_accounting():
    ends = adapter.parse_accounting(recorded("sacct-ends")[1], SINCE)
    assert {(row.job, row.element): (row.cause, row.exit_code, row.signal, row.host) for row in ends} == {
        ("2112", 0): (None, 0, None, "node1"), ("2112", 1): ("exit", 7, None, "node1"),
        ("2112", 2): ("signal", None, 9, "node1"), ("2112", 3): ("exit", 127, None, "node1"),
        ("2116", 0): ("cancelled", None, None, "node1"), ("2118", 0): ("environment", None, None, "node1"),
        ("2119", 0): ("never_started", None, None, ""),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["squeue-named", "sacct-named"])
def test_the_look_up_by_name(name):
    found = adapter.parse_named(recorded(name)[1], "ends", SINCE)
    assert set(found) == {"2060", "2059", "2112", "2116", "2117"}
    assert set(adapter.parse_named(recorded(name)[1], "ends", SINCE + 5000)) == set()


def test_partitions_and_their_gpus():
    answers = {"sinfo": recorded("sinfo")[1], "gpus": recorded("sinfo-gpus")[1], "squeue": "batch\nbatch,short\n"}
    found = site.partitions(
        lambda *argv: answers["squeue" if argv[0] == "squeue" else "gpus" if "-N" in argv else "sinfo"]
    )
    batch = next(partition for partition in found if partition.name == "batch")
    assert (batch.default, batch.nodes, batch.cpus_total, batch.cpus_node) == (True, 4, 256, 64)
    assert 0 < batch.cpus_idle <= 256
    assert [(gpu.type, gpu.total, gpu.idle) for gpu in batch.gpus] == [("fake", 8, 8)]
    assert batch.pending_jobs == 2


def test_a_throttled_request_is_no_answer_of_its_own():
    """The client says so with -v only, and waits: if it is ever told, the query has failed."""
    assert adapter.Slurm.unreachable.search("slurm_load_jobs error: RPC rate limit exceeded")
    said = recorded("throttled")[1].splitlines()
    assert said and all("Sleeping then trying again" in line for line in said)
