import pytest

from hpc_agent.errors import SpecInvalid
from hpc_agent.infra.clusters import Cluster, GpuQueue
from hpc_agent.ops.run.resources import Resources, resolve_resources

DAY = 86400


def ask(wanted=None, ceiling=DAY, placement=None, **cluster):
    return resolve_resources(
        Cluster(name="c", scheduler="sge", scratch="/s/c", **cluster), wanted or Resources(), placement or {}, ceiling
    )


def test_the_request_wins_and_says_so():
    made = ask(Resources(walltime_sec=60, mem_mb=100), default_walltime_sec=5, default_mem_mb=7)
    assert (made.resources["walltime_sec"], made.resources["mem_mb"]) == (60, 100)
    assert (made.origin["walltime_sec"], made.origin["mem_mb"]) == ("request", "request")


def test_without_history_memory_has_a_margin_and_a_ceiling():
    assert ask(default_mem_mb=1000).resources["mem_mb"] == 1150
    assert ask(default_mem_mb=1000, cold_start_mem_buffer=0.5).resources["mem_mb"] == 1500
    assert ask(default_mem_mb=1000, max_node_mem_mb=1100).resources["mem_mb"] == 1100
    assert ask().resources["mem_mb"] is None


def test_a_default_at_the_limit_is_trimmed_for_back_fill_unless_told_otherwise():
    assert ask(default_walltime_sec=DAY).resources["walltime_sec"] == DAY - 900
    assert ask(default_walltime_sec=DAY, walltime_arbitrage=False).resources["walltime_sec"] == DAY
    assert ask().resources["walltime_sec"] == 4 * 3600
    assert ask(ceiling=1200).resources["walltime_sec"] == 1200


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (Resources(walltime_sec=DAY + 1), "resources.walltime_sec"),
        (Resources(mem_mb=5000), "resources.mem_mb"),
        (Resources(gpus=1, gpu_type="v100"), "resources.gpu_type"),
    ],
)
def test_what_the_cluster_cannot_give_is_refused_by_field(wanted, field):
    with pytest.raises(SpecInvalid) as caught:
        ask(wanted, max_node_mem_mb=4000, gpu_types=["a100"])
    assert caught.value.field == field


def test_gpu_queues_name_the_queue_and_the_resource():
    queues = {
        "gpu_a100.q": GpuQueue(name="A100", perf=2.0),
        "gpu_h200.q": GpuQueue(name="H200", perf=4.0),
        "gpu_old.q": GpuQueue(name="K80", perf=9.0),
    }
    options = {"gpu_queues": queues, "excluded_gpu_queue_prefixes": ["gpu_old"]}
    fastest = ask(Resources(gpus=1), **options)
    assert (fastest.placement["partition"], fastest.resources["gpu_type"]) == ("gpu_h200.q", "H200")
    named = ask(Resources(gpus=1, gpu_type="a100"), **options)
    assert (named.placement["partition"], named.resources["gpu_type"]) == ("gpu_a100.q", "A100")
    mine = ask(Resources(gpus=1), placement={"partition": "mine.q"}, **options)
    assert (mine.placement["partition"], mine.origin["partition"]) == ("mine.q", "request")


def test_a_gpu_constraint_is_for_gpu_tasks_only():
    assert ask(gpu_constraint="a100").placement["constraint"] is None
    assert ask(Resources(gpus=1), gpu_constraint="a100").placement["constraint"] == "a100"
