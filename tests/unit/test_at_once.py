"""Several tasks at once in one element: what is planned, asked for, refused, and kept by a resubmission."""

from __future__ import annotations

import math
from types import SimpleNamespace
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_ledger import FakeScheduler, make_run, submitter
from test_plan_resources import ask
from test_recovery_policy import failed

from hpc_agent.errors import SpecInvalid
from hpc_agent.infra.clusters import Cluster
from hpc_agent.infra.constraints import parse_constraints
from hpc_agent.infra.throughput import WorkloadSpec, choose_pack, compute_submission_plan
from hpc_agent.mcp_server.budget import hours_of
from hpc_agent.node.shared.files import from_document
from hpc_agent.node.shared.ledger import Array, read_array, write_array
from hpc_agent.node.shared.ranges import decode_ranges
from hpc_agent.node.shared.run_folder import RunDocument
from hpc_agent.node.submission import resubmission, run_plan
from hpc_agent.node.submission.submitter import resources_of
from hpc_agent.node.why.recovery_policy import Policy, decide
from hpc_agent.ops.run.checks import check_history
from hpc_agent.ops.run.evidence import Evidence, TimeNeed
from hpc_agent.ops.run.resources import Resources, resolve_resources
from hpc_agent.state.runs import sidecar_of
from hpc_agent.view.terminal.runs import plan_facts

HOUR = TimeNeed(task_sec=3600.0, worst_sec=3600.0, typical_sec=3600.0, rows=50, origin="measured")


def plan_of(total, **fields):
    return compute_submission_plan(WorkloadSpec(total_tasks=total, **fields), parse_constraints(None))


def test_time_counts_turns_and_core_hours_count_tasks():
    alone = plan_of(64, est_task_sec=60, pack=8)
    at_once = plan_of(64, est_task_sec=60, pack=8, at_once=4)
    assert (alone.est_total_wall_sec, at_once.est_total_wall_sec) == (8 * 60 + 300, 2 * 60 + 300)
    assert at_once.est_core_hours == alone.est_core_hours == 64 * 60 / 3600
    assert (at_once.lower_bound_sec, {array.at_once for array in at_once.arrays}) == (2 * 60 + 300, {4})
    assert "8 tasks to an element, 4 at once (8 elements)" in at_once.strategy


def test_cores_that_are_known_let_fewer_elements_run():
    plan = plan_of(64, est_task_sec=60, pack=8, at_once=4, cpus=2, cores=16)
    assert "2 elements of 8 cores can run at once" in plan.strategy
    assert plan.est_total_wall_sec == 4 * 2 * 60 + 300  # 8 elements, two at a time, each of two turns


@given(st.integers(1, 5000), st.none() | st.floats(0.01, 100), st.integers(1, 64), st.integers(1, 2000))
def test_a_chosen_pack_has_whole_turns_and_keeps_the_limits(total, seconds, at_once, most):
    pack = choose_pack(total, seconds, 86400, most, at_once)
    assert min(at_once, total) <= pack <= total
    assert pack == total or pack % at_once == 0
    if seconds is not None and pack > at_once:
        assert math.ceil(pack / at_once) * seconds <= 86400 / 2
    assert choose_pack(total, seconds, 86400, most, 1) == choose_pack(total, seconds, 86400, most)


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"pack": 2, "at_once": 3}, "cannot run 3 of them at once"), ({"at_once": 0}, "must be at least 1")],
)
def test_nonsense_is_refused_by_field(fields, said):
    with pytest.raises(SpecInvalid, match=said) as caught:
        plan_of(10, **fields)
    assert caught.value.field == "at_once"


@pytest.mark.parametrize(
    ("wanted", "cluster", "remedy"),
    [
        (Resources(cpus=4), {"max_node_cpus": 30}, "--at-once 7"),
        (Resources(cpus=4), {"scheduler": "local", "local_cores": 3}, "--cpus 3, without --at-once"),
        (Resources(mem_mb=1000), {"max_node_mem_mb": 4000}, "--at-once 4, or --mem-mb 500"),
        (Resources(nodes=2), {}, "--nodes 1"),
    ],
)
def test_more_than_a_node_has_is_refused(wanted, cluster, remedy):
    site = Cluster(**{"name": "c", "scheduler": "slurm", "scratch": "/s", **cluster})
    with pytest.raises(SpecInvalid) as caught:
        resolve_resources(site, wanted, {}, 86400, at_once=8)
    assert caught.value.field == "at_once"
    assert remedy in caught.value.remediation
    resolve_resources(site, wanted, {}, 86400, at_once=1)


def test_memory_that_nobody_asked_for_is_a_share_of_the_node():
    site = Cluster(name="c", scheduler="slurm", scratch="/s", default_mem_mb=1000, max_node_mem_mb=4000)
    made = resolve_resources(site, Resources(), {}, 86400, at_once=8)
    assert made.resources["mem_mb"] == 500
    assert "its share, 500 MiB, of the 4000 MiB of a node" in made.origin["mem_mb"]
    assert ask(default_mem_mb=1000, max_node_mem_mb=4000).resources["mem_mb"] == 1150


def test_a_measured_walltime_is_that_of_the_turns():
    site, evidence = Cluster(name="c", scheduler="slurm", scratch="/s"), Evidence(HOUR, None, "")
    made = resolve_resources(site, Resources(), {}, 86400, evidence, pack=8, at_once=4)
    assert made.resources["walltime_sec"] == HOUR.walltime_sec(2)
    assert made.origin["walltime_sec"].endswith("8 tasks an element, 4 at once")
    assert check_history(2 * 3600, evidence, 8, 86400, 4) == []
    (finding,) = check_history(2 * 3600, evidence, 8, 86400)
    assert finding.code == "walltime_too_short"


def test_an_element_asks_for_each_task_that_it_runs_at_once():
    asked = {"cpus": 2, "mem_mb": 100, "gpus": 1, "gpu_type": "a100", "walltime_sec": 60, "nodes": 1, "exclusive": True}
    array = Array("a0", "0-7", pack=8, at_once=4, resources=asked)
    assert resources_of(array) == {**asked, "cpus": 8, "mem_mb": 400, "gpus": 4}
    assert resources_of(array._replace(at_once=1)) == asked
    assert resources_of(array._replace(resources={"mem_mb": None, "gpus": 0})) == {"mem_mb": None, "gpus": 0}


def test_the_scheduler_is_asked_so_and_the_ledger_keeps_the_task(tmp_path):
    folder, scheduler, jobs = make_run(tmp_path), FakeScheduler(), []
    for name in ("a0", "a1", "a2"):
        write_array(folder, read_array(folder, name)._replace(pack=4, at_once=2, resources={"cpus": 3}))
    honest = scheduler.submit
    with mock.patch.object(scheduler, "submit", lambda job: jobs.append(job) or honest(job)):
        submitter(folder, scheduler).submit_open_arrays()
    assert [job.resources for job in jobs] == [{"cpus": 6}] * 3
    assert read_array(folder, "a0").resources == {"cpus": 3}


def test_an_array_of_another_plan_keeps_the_longer_walltime(tmp_path):
    folder = make_run(tmp_path)
    old = read_array(folder, "a1")._replace(resources={"walltime_sec": 800})
    write_array(folder, read_array(folder, "a0")._replace(state="submitted", job_id="1"))
    write_array(folder, old)
    asked = old._replace(at_once=4, pack=4, tasks="0-3", resources={"walltime_sec": 200})
    assert run_plan.apply_plan(folder, [asked], ()) is False
    assert read_array(folder, "a1") == old


def resubmitted(count, size, **policy):
    diagnoses = [failed(task, "out_of_memory", mem_mb=1024) for task in range(count)]
    packed = [d._replace(array=d.array._replace(pack=8, at_once=4)) for d in diagnoses]
    groups, _ = decide(packed, Policy(policy), [])
    status = SimpleNamespace(arrays=[Array("a0", "0-99")], run=SimpleNamespace(chain=None, constraints={}))
    request = {"max_array_size": size, "job_prefix": "r.", "request_id": "q"}
    arrays = resubmission._arrays(status, groups, request)
    assert sorted(task for array in arrays for task in decode_ranges(array.tasks)) == list(range(count))
    return {(array.elements, array.pack, array.at_once) for array in arrays}


def test_a_resubmission_keeps_it_as_far_as_tasks_and_memory_allow():
    assert resubmitted(10, 100) == {(3, 4, 4)}
    assert resubmitted(3, 100) == {(1, 3, 3)}
    assert resubmitted(80, 20) == {(10, 8, 4)}
    assert resubmitted(10, 100, caps={"mem_mb": 6000}) == {(5, 2, 2)}  # each of them asks for 2048 MiB now
    assert resubmitted(10, 100, caps={"mem_mb": 2048}) == {(10, 1, 1)}


def test_documents_of_earlier_runs_have_neither():
    old = from_document(RunDocument, {"run_id": "r", "task_count": 1})
    assert (old.layout, old.isolate) == (1, "fork")
    assert from_document(Array, {"array": "a0", "tasks": "0"}).at_once == 1
    required = {"run_id": "r", "submitted_at": "", "executor": "", "result_dir_template": "", "task_count": 1,
                "wave_map": {}, "cluster": "c", "scheduler": "local", "remote_path": "/"}  # fmt: skip
    names = "run_name cmd_sha tasks_py_sha tree_sha snapshot hpc_agent_version".split()
    kept = sidecar_of({"sidecar_schema_version": 3, **dict.fromkeys(names, ""), **required}, [])
    assert (kept.layout, kept.isolate, kept.at_once) == (1, "fork", 1)


def test_budget_and_terminal_count_it():
    plan = {"est_core_hours": None, "total_tasks": 8, "pack": 8, "at_once": 4, "segments": 1, "isolate": "exec",
            "resources": {"walltime_sec": 3600, "cpus": 2}, "origin": {}}  # fmt: skip
    assert hours_of(plan, False) == 8.0
    facts = dict(plan_facts(plan))
    assert facts["at once"] == "4 tasks: an element asks for 8 cores"
    asked = dict(plan_facts({**plan, "resources": {"cpus": 1, "mem_mb": 200, "gpus": 1}}))
    assert asked["at once"] == "4 tasks: an element asks for 4 cores, 4 GPUs, 800 MiB"
    assert asked["memory"] == "200 MiB for each task"
    assert facts["each task"] == "2 cores"
    assert facts["isolate"] == "exec: each has an interpreter of its own"
    alone = dict(plan_facts({**plan, "at_once": 1, "isolate": "warm"}))
    assert "each element" in alone
    assert not {"at once", "isolate"} & alone.keys()
