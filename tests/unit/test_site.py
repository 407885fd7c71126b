"""What schedulers say of themselves (recorded on the test bed, and modelled on larger sites), and what follows from it."""

import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_agent.infra.clusters import Cluster, GpuQueue
from hpc_agent.infra.partitions import Gpu, Limit, PartitionFacts, SiteFacts
from hpc_agent.node.look import site_facts
from hpc_agent.node.schedulers import load
from hpc_agent.node.schedulers.base import Gpus, parse_config, walltime_seconds
from hpc_agent.node.schedulers.sge import site as sge
from hpc_agent.node.schedulers.slurm import site as slurm
from hpc_agent.node.schedulers.slurm.limits import limits as slurm_limits
from hpc_agent.node.shared.errors import NodeError
from hpc_agent.ops.plan.arrays_and_partitions import RecommendPartitionRequest, rank
from hpc_agent.ops.validate.validators import headroom, room_for

BED = """batch*|up|7-00:00:00|1:00:00|4|0/256/0/256|65536|gpu:fake:2|10
short|up|10:00|5:00|4|0/256/0/256|65536|gpu:fake:2|20
closed|down|1-00:00:00|n/a|4|0/256/0/256|65536|gpu:fake:2|1
"""
LARGE = """main*|up|2-00:00:00|1:00:00|10|100/60/0/160|192000+|(null)|1
main*|up|2-00:00:00|1:00:00|2|0/0/128/128|1031000|(null)|1
gpu|up|infinite|n/a|4|8/248/0/256|515000|gpu:a100:4(S:0-1),gpu:v100:2|5
"""
GRID = """CLUSTER QUEUE                   CQLOAD   USED    RES  AVAIL  TOTAL aoACDS  cdsuE
--------------------------------------------------------------------------------
all.q                             0.16      3      0     61     64      0      0
gpu_a100.q                        -NA-      0      0      0      8      0      8
"""
QUEUES = """qname                 all.q
slots                 64,[n1=16],[n2=32]
h_rt                  INFINITY
qname                 gpu_a100.q
h_rt                  24:00:00
slots                 8
"""
HOSTS = """HOSTNAME                ARCH         NCPU NSOC NCOR NTHR  LOAD  MEMTOT  MEMUSE  SWAPTO  SWAPUS
----------------------------------------------------------------------------------------------
global                  -               -    -    -    -     -       -       -       -       -
vm                      lx-amd64        2    1    2    2  0.32   23.5G  871.6M     0.0     0.0
big                     lx-amd64        2    1    2    2  0.32    1.5T  871.6M     0.0     0.0
"""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7-00:00:00", 604800), ("10:00", 600), ("1:00:00", 3600), ("30", 1800), ("1-12", 129600), ("infinite", None), ("n/a", None),
     ("INFINITY", None), ("24:00:00", 86400), ("", None)],
)  # fmt: skip
def test_walltimes(text, seconds):
    assert walltime_seconds(text) == seconds


def test_sinfo_of_the_bed_and_of_a_larger_site():
    bed = slurm.parse_sinfo(BED)
    assert [(p.name, p.state, p.default) for p in bed.values()] == [
        ("batch", "up", True), ("short", "up", False), ("closed", "down", False)
    ]  # fmt: skip
    assert bed["batch"].gpus == [Gpus("fake", 8, None)]
    large = slurm.parse_sinfo(LARGE)
    assert {k: getattr(large["main"], k) for k in ("nodes", "cpus_total", "cpus_idle", "mem_mb", "cpus_node")} == {
        "nodes": 12, "cpus_total": 288, "cpus_idle": 60, "mem_mb": 1031000, "cpus_node": 64
    }  # fmt: skip
    assert large["gpu"].max_walltime_sec is None
    assert [(g.type, g.total) for g in large["gpu"].gpus] == [("a100", 16), ("v100", 8)]
    assert slurm.gpus_of("gpu:3,shard:4") == [("gpu", 3)]
    assert slurm.parse_gpus_used("batch*  gpu:fake:2  gpu:fake:1(IDX:0)\nbatch* gpu:fake:2 gpu:fake:2(IDX:0-1)\n") == {
        ("batch", "fake"): 3
    }


@pytest.mark.parametrize(
    ("gres", "found"),
    [
        ("gpu:8(S:0-1)", [("gpu", 8)]),
        ("gpu:(null):7(IDX:0-6)", [("gpu", 7)]),
        ("gpu:nvidia_a100_1g.5gb:14(S:0-1),gpu:a100-80gb:2,shard:8,vgpu:3", [("nvidia_a100_1g.5gb", 14), ("a100-80gb", 2)]),
        ("gpu:3080:4(IDX:0-1,3)", [("3080", 4)]),
        ("craynetwork:4,gpu:fake:0(IDX:N/A)", [("fake", 0)]),
        ("(null)", []),
    ],
)  # fmt: skip
def test_gpus_of_a_node(gres, found):
    assert slurm.gpus_of(gres) == found


def answers(**texts):
    """A query that prints the text of the first name that occurs in the command, and nothing for another command."""
    return lambda *argv: next((text for name, text in texts.items() if name in " ".join(argv)), "")


def idle_gpus(sinfo, used):
    return {
        p.name: {g.type: (g.total, g.idle) for g in p.gpus}
        for p in slurm.partitions(answers(GresUsed=used, sinfo=sinfo))
    }


def test_gpus_in_use_without_a_type_and_of_mig_slices():
    mig = "gpu:1g.5gb:14(S:0-1),gpu:7g.40gb:1(S:0-1)"
    sinfo = "gpu*|up|2-0|1:00|2|96/160/0/256|515000|gpu:8(S:0-1)|1|128|mixed\n"
    sinfo += f"mig|up|1-0|1:00|1|8/120/0/128|1031000|{mig}|1|128|mixed\n"
    used = "gpu*|mixed|gpu:8(S:0-1)|gpu:(null):8(IDX:0-7)|\ngpu*|mixed|gpu:8(S:0-1)|gpu:(null):7(IDX:0-6)|\n"
    used += f"mig|mixed|{mig}|gpu:1g.5gb:14(IDX:0-13),gpu:7g.40gb:1(IDX:24)|\n"
    assert idle_gpus(sinfo, used) == {"gpu": {"gpu": (16, 1)}, "mig": {"1g.5gb": (14, 0), "7g.40gb": (1, 0)}}
    # columns of a width, as an old SLURM prints them: the second is cut, and no blank follows
    cut = "gpu   gpu:8(S:0-1)   gpu:(null):8(IDX:0-7)\ngpu   gpu:8(S:0-1)   gpu:(null):7(IDX:0-6)\n"
    cut += "mig   gpu:1g.5gb:14(S:0-1),gpu:7g.40gpu:1g.5gb:14(IDX:0-13),gpu:7g\n"
    assert idle_gpus(sinfo, cut) == {"gpu": {"gpu": (16, 1)}, "mig": {"1g.5gb": (14, 0), "7g.40gb": (1, None)}}
    assert idle_gpus(sinfo, "")["gpu"] == {"gpu": (16, None)}, "a query that failed is not a free GPU"


@pytest.mark.parametrize(
    "state",
    ["drained", "draining", "down*", "idle*", "maint", "reserved", "idle$", "reboot^", "fail", "inval", "idle+drain"],
)
def test_what_takes_no_jobs_is_not_idle(state):
    rows = "gpu*|up|1-0|1:00|1|64/0/0/64|515000|gpu:a100:8|1|64|mixed\ngpu*|up|1-0|1:00|1|0/64/0/64|515000|gpu:a100:8|1|64|%s\n"
    used = "gpu*|mixed|gpu:a100:8|gpu:a100:8(IDX:0-7)|\ngpu*|%s|gpu:a100:8|gpu:a100:2(IDX:0-1)|\n"
    partition = slurm.partitions(answers(GresUsed=used % state, sinfo=rows % state))[0]
    assert (partition.cpus_idle, partition.gpus) == (0, [Gpus("a100", 8, 0)])


@pytest.mark.parametrize(
    "state", ["idle", "idle~", "idle#", "mixed-", "planned", "completing", "IDLE+CLOUD+POWERED_DOWN"]
)
def test_what_takes_jobs_is_idle(state):
    row = f"gpu*|up|1-0|1:00|1|0/64/0/64|515000|gpu:a100:8|1|64|{state}\n"
    partition = slurm.partitions(answers(GresUsed=f"gpu*|{state}|gpu:a100:8|gpu:a100:2(IDX:0-1)|\n", sinfo=row))[0]
    assert (partition.cpus_idle, partition.gpus) == (64, [Gpus("a100", 8, 6)])


def test_drained_nodes_without_the_column_of_states():
    rows = "gpu*|up|1-0|1:00|1|64/0/0/64|515000|gpu:a100:8|1\ngpu*|up|1-0|1:00|1|0/0/64/64|515000|gpu:a100:8|1\n"
    used = "gpu   gpu:a100:8(S:0-1)   gpu:a100:8(IDX:0-7)\ngpu   gpu:a100:8(S:0-1)   gpu:a100:0(IDX:N/A)\ngpu   (null)   gpu:0\n"
    assert idle_gpus(rows, used) == {"gpu": {"a100": (8, 0)}}
    facts = SiteFacts(scheduler="slurm", partitions=[PartitionFacts(name="g", gpus=[Gpu("a100", 8, 0)])], limits=[])
    assert rank(facts, wanted(gpus=1), cluster())[0].idle == 0


def test_gpus_that_are_not_known_to_be_idle():
    facts = SiteFacts(
        scheduler="slurm", partitions=[PartitionFacts(name="g", cpus_idle=9, gpus=[Gpu("a100", 8)])], limits=[]
    )
    best = rank(facts, wanted(gpus=1), cluster())[0]
    assert (best.fits, best.idle) == (True, None)


def test_nodes_with_different_numbers_of_cores_in_one_row():
    mixed = (
        "main|up|1-0|1:00|2|0/96/0/96|192000+|(null)|1|32+|idle\nmain|up|1-0|1:00|1|0/64/0/64|192000|(null)|1|64|idle\n"
    )
    assert slurm.parse_sinfo(mixed)["main"].cpus_node == 64


CONFIG = "MaxArraySize            = 100001\nClusterName             = testbed\n"
PARTITION = (
    "PartitionName=batch AllowGroups=ALL Default=YES QoS=N/A\nPartitionName=big AllowGroups=ALL Default=NO QoS=bigq\n"
)
QOS = "normal|2000|200|||5000|\ntiny|10|4||||\ndebug|5|1||||\nbigq|||700|||\n"
QUEUED = "77_[0-549]|me|abc|normal|PD\n78_[0-9:2,12%4]|you|abc|normal|PD\n"
QUEUED += "90_3|me|abc|tiny|R\n91+1|me|abc|normal|R\n92|you|other|normal|R\n"


def limits_of(mine, members, queued=QUEUED, **placement):
    accounts = {"account=abc": members, "account=lab": "lab||||900|||root\n", "account=root": "root|normal||||||\n"}
    query = answers(
        **{
            "show config": CONFIG,
            "show partition": PARTITION,
            "show user": "abc\n",
            "show qos": QOS,
            "user=me": mine,
            **accounts,
        },
        squeue=queued,
    )
    return {(row.scope, row.name): (row.kind, row.limit, row.used) for row in slurm_limits(query, "me", placement)}


def test_limits_are_those_of_the_account_its_parents_and_the_qos_that_the_jobs_have():
    found = limits_of("abc|debug,normal,tiny||||||\nxyz|normal|3|||||\n", "abc|normal|||600|||lab\n")
    assert found == {
        ("cluster", "MaxArraySize"): ("array_size", 100000, None),
        ("account abc, all members", "GrpSubmit"): ("submitted", 600, 550 + 6 + 1 + 1),
        ("account lab, all members", "GrpSubmit"): ("submitted", 900, 558),
        ("qos normal", "MaxSubmitPU"): ("submitted", 2000, 551),
        ("qos normal", "MaxJobsPU"): ("running", 200, 1),
        ("qos normal, everybody", "GrpSubmit"): ("submitted", 5000, 558),
    }


@pytest.mark.parametrize(
    ("mine", "placement", "scopes"),
    [
        ("abc|debug,normal||||||\n", {"qos": "debug"}, {"qos debug"}),
        ("abc|debug||||||\n", {}, {"qos debug"}),  # the only one that is allowed
        ("abc|debug,tiny|||||tiny|\n", {}, {"qos tiny"}),  # the default
        (
            "abc|debug,tiny||||||\n",
            {"qos": "tiny", "partition": "big"},
            {"qos tiny", "qos bigq, all members of your account"},
        ),
        ("abc|debug|7|||||\nxyz|debug|3|||||\n", {"account": "xyz", "qos": "long"}, {"account xyz"}),
        ("abc|debug|7|||||\nxyz|debug|3|||||\n", {"qos": "long"}, {"account abc"}),  # of the default account
    ],
)
def test_a_qos_or_an_account_that_the_jobs_do_not_use_is_not_read(mine, placement, scopes):
    found = limits_of(mine, "", "", **placement)
    assert {scope for scope, _ in found} == {"cluster", *scopes}


def test_a_queue_that_is_not_known_is_not_empty():
    limits = limits_of("abc|normal||||||\n", "", "77_[0-5,9,...]|me|abc|normal|PD\n")
    assert limits["qos normal", "MaxSubmitPU"] == ("submitted", 2000, None)
    plain = {"scheduler": "slurm", "partitions": [], "limits": [Limit("MaxSubmit", "qos", "submitted", 10)]}
    row = headroom(SiteFacts(**plain), 5)[0]
    assert (row["state"], row["used"]) == ("unknown", None)
    assert "is not known" in row["sentence"]
    failed = SiteFacts(**plain, submitted=0, errors=[{"code": "squeue_failed", "detail": "timed out"}])
    assert headroom(failed, 5)[0]["state"] == "unknown"


def test_columns_that_are_missing_count_for_every_limit():
    assert (
        limits_of("abc|normal||\n", "abc|normal|||600", "77_[0-549]\n")["account abc, all members", "GrpSubmit"][2]
        == 550
    )


def test_grid_engine():
    queues = sge.parse_queue_settings(QUEUES, sge.parse_queues(GRID))
    assert {k: getattr(queues["all.q"], k) for k in ("state", "cpus_idle", "cpus_total", "max_walltime_sec", "cpus_node")} == {
        "state": "up", "cpus_idle": 61, "cpus_total": 64, "max_walltime_sec": None, "cpus_node": 64
    }  # fmt: skip
    assert (queues["gpu_a100.q"].state, queues["gpu_a100.q"].max_walltime_sec) == ("down", 86400)
    assert sge.parse_host_memory(HOSTS) == int(1.5 * 1024 * 1024)
    assert parse_config("max_u_jobs   0\nexecd_params  NONE\n") == {"max_u_jobs": "0", "execd_params": "NONE"}


def test_qhost_and_qstat_of_other_versions():
    old = "HOSTNAME                ARCH         NCPU  LOAD  MEMTOT  MEMUSE  SWAPTO  SWAPUS\n" + "-" * 79 + "\n"
    old += "global                  -               -     -       -       -       -       -\n"
    old += "n503                    lx26-amd64     64     -  503.9G       -  624.6G       -\n"
    old += "n504                    lx26-amd64     64  0.06  995.5G    4.4G  498.0G   13.8M\n"
    assert sge.parse_host_memory(old) == int(995.5 * 1024)
    assert sge.parse_host_memory("") is None
    without_res = "CLUSTER QUEUE                   CQLOAD   USED  AVAIL  TOTAL aoACDS  cdsuE\n" + "-" * 79 + "\n"
    without_res += "all.q                             0.40    120    136    256      0      0\n"
    assert (
        sge.parse_queues(without_res)["all.q"]._asdict().items()
        >= {"cpus_idle": 136, "cpus_total": 256, "state": "up"}.items()
    )
    assert sge.parse_queues("") == {}


@pytest.mark.parametrize(
    ("slots", "most"),
    [
        ("1,[compute-0-0.local=4],[compute-0-45.local=4], \\\n                      [dell-0-3.local=4]", 4),
        ("64", 64),
        ("8,[@fat=128],[n2=16]", 128),
        ("0", 0),
    ],
)
def test_the_largest_host_of_a_queue_with_exceptions(slots, most):
    text = (
        f"qname                 all.q\nhostlist              @allhosts\nslots                 {slots}\nh_rt  INFINITY\n"
    )
    assert sge.parse_queue_settings(text, sge.parse_queues(GRID))["all.q"].cpus_node == most


@pytest.mark.parametrize(
    ("h_rt", "seconds"),
    [
        ("24:00:00,[@longhosts=168:00:00]", 604800), ("00:45:00,[node2.site.org=00:30:00]", 2700), ("86400", 86400),
        ("24::", 86400), ("1:30", 90), ("24:00:00,[n1=INFINITY]", None), ("INFINITY,[n1=24:00:00]", None), ("INFINITY", None),
    ],
)  # fmt: skip
def test_the_longest_walltime_of_a_queue(h_rt, seconds):
    found = sge.parse_queue_settings(f"qname all.q\nh_rt {h_rt}\n", sge.parse_queues(GRID))["all.q"]
    assert found.max_walltime_sec == seconds


def test_an_array_of_grid_engine_is_one_job():
    """max_u_jobs counts jobs, as the manual page sge_conf has it; of an array qstat has a row for each element that runs."""
    rows = "job-ID  prior   name\n-----\n" + 3 * "  7 0.5 a me r\n" + "  7 0.5 a me qw 1-900:1\n" + " 12 0.5 b me qw\n"
    query = answers(**{"qconf": "max_u_jobs    3\nmax_aj_tasks   75000\n", "qstat -u me": rows})
    found = [Limit(**limit._asdict()) for limit in sge.limits(query, "me")]
    assert [(row.name, row.kind, row.used) for row in found] == [
        ("max_u_jobs", "jobs", 2),
        ("max_aj_tasks", "array_size", None),
    ]
    facts = SiteFacts(scheduler="sge", partitions=[], limits=found, submitted=904)
    assert [row["asked"] for row in headroom(facts, 1000)] == [1, 1000]
    assert headroom(facts, 1000, warn_at=1.0)[0]["state"] == "ok"
    assert headroom(facts, 1000, arrays=2)[0]["state"] == "over"


def test_a_limit_on_running_jobs_is_no_reason_to_do_anything():
    facts = SiteFacts(scheduler="slurm", partitions=[], limits=[Limit("MaxJobs", "q", "running", 4, 4)])
    finding = room_for(facts, 100, 0.7)[0]
    assert (finding.severity, finding.code, finding.suggested_fix) == ("info", "limit_over", "")


def cluster(**settings):
    return Cluster(name="c", scheduler="slurm", scratch="/s", **settings)


def wanted(**resources):
    return RecommendPartitionRequest(cluster="c", **resources)


PARTITIONS = st.builds(
    PartitionFacts,
    name=st.text("abcdef", min_size=1, max_size=4),
    state=st.sampled_from(["up", "up", "down"]),
    max_walltime_sec=st.none() | st.integers(60, 10**6),
    nodes=st.integers(1, 50),
    cpus_total=st.just(640),
    cpus_idle=st.integers(0, 640),
    cpus_node=st.sampled_from([8, 64]),
    mem_mb=st.sampled_from([4000, 64000]),
    gpus=st.lists(
        st.builds(Gpu, st.sampled_from(["a100", "v100"]), st.integers(1, 8), st.integers(0, 8)),
        max_size=2,
        unique_by=lambda g: g.type,
    ),
    pending_jobs=st.none() | st.integers(0, 1000),
)
WANTED = st.builds(
    wanted,
    walltime_sec=st.none() | st.integers(1, 10**6),
    mem_mb=st.none() | st.integers(1, 10**5),
    cpus=st.integers(1, 70),
    gpus=st.integers(0, 2),
    total_tasks=st.integers(1, 1000),
)


@given(st.lists(PARTITIONS, max_size=5, unique_by=lambda p: p.name), WANTED)
def test_what_is_recommended_fits_and_an_idle_partition_that_fits_is_never_missed(partitions, wanted):
    ranked = rank(SiteFacts(scheduler="slurm", partitions=partitions, limits=[]), wanted, cluster())
    by_name = {p.name: p for p in partitions}
    assert sorted(by_name) == sorted(c.partition for c in ranked)
    for candidate in ranked:
        p = by_name[candidate.partition]
        fits = (
            p.state == "up"
            and (not wanted.walltime_sec or not p.max_walltime_sec or wanted.walltime_sec <= p.max_walltime_sec)
            and (not wanted.mem_mb or wanted.mem_mb <= p.mem_mb)
            and wanted.cpus <= p.cpus_node
            and (not wanted.gpus or bool(p.gpus))
        )
        assert candidate.fits == fits == (not candidate.why_not)
    flags = [candidate.fits for candidate in ranked]
    assert flags == sorted(flags, reverse=True)
    roomy = PartitionFacts(
        name="zz", cpus_total=10**6, cpus_idle=10**6, cpus_node=128, mem_mb=10**6, gpus=[Gpu("a100", 9999, 9999)]
    )
    again = rank(SiteFacts(scheduler="slurm", partitions=[*partitions, roomy], limits=[]), wanted, cluster())
    assert again[0].fits


def test_gpus_by_free_slots_times_speed():
    perf = {"q1": GpuQueue("a100", 4.0), "q2": GpuQueue("v100", 1.0)}
    gpus = [Gpu("a100", 8, 1), Gpu("v100", 8, 3)]
    facts = SiteFacts(scheduler="slurm", partitions=[PartitionFacts(name="gpu", cpus_idle=99, gpus=gpus)], limits=[])
    assert rank(facts, wanted(gpus=1), cluster(gpu_queues=perf))[0].gpu_type == "a100"
    assert rank(facts, wanted(gpus=1), cluster())[0].gpu_type == "v100"
    assert rank(facts, wanted(gpus=1, gpu_type="V100"), cluster(gpu_queues=perf))[0].gpu_type == "v100"
    queues = SiteFacts(scheduler="sge", partitions=[PartitionFacts(name="q1", cpus_total=8, cpus_idle=4)], limits=[])
    assert rank(queues, wanted(gpus=1), cluster(gpu_queues=perf))[0].gpu_type == "a100"
    assert not rank(queues, wanted(gpus=1), cluster())[0].fits
    barred = rank(queues, wanted(gpus=1), cluster(gpu_queues=perf, excluded_gpu_queue_prefixes=["q"]))[0]
    assert barred.why_not == "clusters.yaml excludes it"


def test_a_debug_partition_is_for_small_work():
    both = [
        PartitionFacts(name="debug", cpus_idle=64, cpus_total=64),
        PartitionFacts(name="main", cpus_idle=64, cpus_total=64),
    ]
    facts = SiteFacts(scheduler="slurm", partitions=both, limits=[])
    assert rank(facts, wanted(walltime_sec=7200, total_tasks=4), cluster())[0].partition == "main"
    assert (
        rank(facts, wanted(walltime_sec=600, total_tasks=4), cluster(default_partition="debug"))[0].partition == "debug"
    )


def test_headroom_counts_all_of_the_users_jobs():
    facts = SiteFacts(
        scheduler="slurm",
        partitions=[],
        submitted=6,
        limits=[Limit("MaxSubmit", "qos", "submitted", 10), Limit("A", "c", "array_size", 10)],
    )
    assert [row["state"] for row in headroom(facts, 5)] == ["over", "ok"]
    assert [row["state"] for row in headroom(facts, 2)] == ["warn", "ok"]
    assert "6 are there and 2 would come" in headroom(facts, 2)[0]["sentence"]


def test_an_adapter_of_another_package_needs_no_partitions(tmp_path, monkeypatch):
    lines = ["from hpc_agent.node.schedulers.base import Scheduler", "class PBS(Scheduler):", "    pass"]
    lines += ["def scheduler(site):", "    return PBS()"]
    (tmp_path / "_hpc_backend.py").write_text("\n".join(lines) + "\n")
    with pytest.raises(NodeError, match="no scheduler adapter 'pbs'"):
        load("pbs", {})
    monkeypatch.syspath_prepend(tmp_path)
    adapter = load("pbs", {})
    del sys.modules["_hpc_backend"]
    assert (type(adapter).__name__, adapter.partitions_and_limits(str)) == ("PBS", ([], []))


def test_a_command_that_fails_leaves_the_rest_of_the_answer(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    facts = site_facts.site({"scheduler": "slurm"})
    assert (facts["partitions"], facts["limits"], facts["user"]["submitted"]) == ([], [], None)
    assert [error["code"] for error in facts["errors"]][:1] == ["sinfo_failed"]
    assert facts["errors"][-1]["code"] == "queue_failed"
    codes = [error["code"] for error in facts["errors"]]
    assert len(set(codes)) == len(codes), "a tool that fails is not run again"
    local = site_facts.site({"scheduler": "local", "site": {"local_state": str(tmp_path)}})
    assert local["partitions"][0]["cpus_total"] == len(os.sched_getaffinity(0))
    assert (local["user"]["submitted"], local["errors"]) == (0, [])
