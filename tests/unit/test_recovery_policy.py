"""What is decided about failed tasks: more of what was missing, never beyond the limits, never a bug twice."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_agent.node.look.recorded import FailureFacts
from hpc_agent.node.shared.failure_classes import CATALOGUE
from hpc_agent.node.shared.ledger import Array
from hpc_agent.node.shared.ranges import decode_ranges
from hpc_agent.node.shared.run_folder import RunFolder
from hpc_agent.node.why.classify import Classification
from hpc_agent.node.why.diagnosis import Diagnosis
from hpc_agent.node.why.history import Earlier
from hpc_agent.node.why.recovery_policy import SAME_FAILURE_THRESHOLD, Policy, decide


def failed(task, kind, fingerprint="f", resubmits=(), mem_mb=1000):
    resources = {"mem_mb": mem_mb, "walltime_sec": 600, "cpus": 1}
    found = Classification(kind, "certain", [], fingerprint, None, None, "")
    array = Array("a0", "0", resources=resources, placement={"partition": "batch"})
    again = [Array("r2-0", "0", **more) for more in resubmits]
    return Diagnosis(task, found, FailureFacts(host="n1"), array, again)


def refused(blocked):
    return [(refusal.kind.name, refusal.ids) for refusal in blocked]


def test_each_class_gets_what_it_lacked():
    diagnoses = [failed(0, "out_of_memory"), failed(1, "walltime"), failed(2, "preempted"), failed(3, "out_of_memory")]
    groups, blocked = decide(diagnoses, Policy({}), [])
    asked = {tuple(g.ids): (g.resources["mem_mb"], g.resources["walltime_sec"]) for g in groups}
    assert asked == {(0, 3): (2048, 600), (1,): (1000, 1200), (2,): (1000, 600)}
    assert blocked == []


def test_caps_are_kept_and_the_cap_itself_is_no_reason_to_try_again():
    policy = {"caps": {"mem_mb": 1500, "walltime_sec": 600}}
    groups, blocked = decide([failed(0, "out_of_memory"), failed(1, "walltime")], Policy(policy), [])
    assert [g.resources["mem_mb"] for g in groups] == [1500]
    assert refused(blocked) == [("walltime", [1])]
    assert "all that the cluster allows" in blocked[0].why


def test_memory_that_nobody_asked_for_starts_somewhere():
    diagnosis = failed(0, "out_of_memory", mem_mb=None)
    assert decide([diagnosis], Policy({}), [])[0][0].resources["mem_mb"] == 2048


@pytest.mark.parametrize(("usable", "excluded"), [(["n1", "n2"], ["n1"]), (["n1"], []), ([], [])])
def test_a_bad_node_is_avoided_only_where_others_are_left(usable, excluded):
    groups, _ = decide([failed(0, "node_failure")], Policy({}), usable)
    assert groups[0].placement["exclude_nodes"] == excluded


@pytest.mark.parametrize(
    "kind", ["code_error", "cancelled", "missing_module", "signal", "unknown", "gpu_memory", "disk_full"]
)
def test_what_needs_a_person_is_left_alone_unless_it_is_named(kind):
    groups, blocked = decide([failed(0, kind)], Policy({}), [])
    assert (groups, refused(blocked)) == ([], [(kind, [0])])
    for named in ({"classes": [kind]}, {"tasks": [0]}, {"force": True}):
        assert decide([failed(0, kind)], Policy(named), [])[1] == []


def test_the_same_failure_of_the_code_is_not_tried_again():
    again = failed(0, "code_error", "bug", [{"fingerprints": ["bug"]}])
    _, blocked = decide([again], Policy({"classes": ["code_error"]}), [])
    assert "same way" in blocked[0].why
    assert decide([again], Policy({"classes": ["code_error"], "force": True}), [])[1] == []


@pytest.mark.parametrize("kind", ["licence", "lost_peer", "service_busy"])
def test_outside_causes_that_pass_are_tried_again_however_many_tasks_they_hit(kind):
    alike = [failed(task, kind, "same") for task in range(20)]
    groups, blocked = decide(alike, Policy({}), [])
    assert ([g.ids for g in groups], blocked) == ([list(range(20))], [])
    worn = [failed(0, kind, "same", [{"fingerprints": ["same"]}] * 3)]
    assert "3 times already" in decide(worn, Policy({}), [])[1][0].why


@pytest.mark.parametrize("kind", ["environment", "network", "licence_invalid", "missing_module", "heap_full"])
def test_what_was_mended_outside_of_the_code_may_be_sent_again_and_is_no_bug(kind):
    alike = [failed(task, kind, "same") for task in range(20)]
    _, blocked = decide(alike, Policy({}), [])
    assert len(blocked) == 1 and "bug" not in blocked[0].why
    assert decide(alike, Policy({"classes": [kind]}), [])[1] == []


@pytest.mark.parametrize(("policy", "excluded"), [({"classes": ["environment"]}, ["n1"]), ({"force": True}, [])])
def test_an_environment_that_one_node_lacks_is_looked_for_on_others(policy, excluded):
    groups, _ = decide([failed(0, "environment")], Policy(policy), ["n1", "n2"])
    assert groups[0].placement["exclude_nodes"] == excluded


def test_many_alike_are_a_bug():
    alike = [failed(task, "code_error", "bug") for task in range(SAME_FAILURE_THRESHOLD + 1)]
    groups, blocked = decide(alike, Policy({"classes": ["code_error"]}), [])
    assert (groups, blocked[0].to_json("./a.sh")["count"]) == ([], SAME_FAILURE_THRESHOLD + 1)


def test_attempts_are_counted():
    worn = failed(0, "walltime", resubmits=[{}, {}])
    assert "2 times already" in decide([worn], Policy({}), [])[1][0].why
    assert decide([worn], Policy({"max_attempts": 3}), [])[1] == []


KINDS = st.sampled_from([kind.name for kind in CATALOGUE])


@given(
    st.lists(st.tuples(KINDS, st.sampled_from("abc"), st.integers(0, 4)), max_size=30),
    st.fixed_dictionaries(
        {},
        optional={
            "tasks": st.lists(st.integers(0, 30), max_size=5),
            "classes": st.lists(KINDS, max_size=3),
            "force": st.booleans(),
            "max_attempts": st.integers(1, 5),
            "max_tasks": st.integers(0, 10),
            "caps": st.fixed_dictionaries({"mem_mb": st.integers(500, 5000), "walltime_sec": st.integers(300, 5000)}),
        },
    ),
)
def test_every_wanted_task_is_in_one_group_or_refused(tasks, document):
    diagnoses = [failed(n, kind, print_, [{}] * tries) for n, (kind, print_, tries) in enumerate(tasks)]
    policy = Policy(document)
    wanted = {d.task for d in diagnoses if policy.wants(d)}
    groups, blocked = decide(diagnoses, Policy(document), ["n1", "n2"])
    sent = [task for group in groups for task in group.ids]
    refused = [task for refusal in blocked for task in decode_ranges(refusal.to_json("python3 a.py")["tasks"])]
    assert sorted(sent + refused) == sorted(wanted)
    assert len(sent) <= document.get("max_tasks", len(sent))
    caps = document.get("caps")
    for group in groups:
        assert caps is None or group.resources["mem_mb"] <= max(1000, caps["mem_mb"])
        assert caps is None or group.resources["walltime_sec"] <= max(600, caps["walltime_sec"])


@pytest.mark.parametrize(
    "damaged", ["{", "[1]", '{"ended": [[0, 1]]}', '{"ended": 3}', '{"ended": [[[0], 1, "exit", "n1", 2]]}']
)
def test_a_damaged_decision_hides_no_other(tmp_path, damaged):
    folder = RunFolder(str(tmp_path))
    Path(folder.resubmits).mkdir()
    for name, text in (("a.json", damaged), ("b.json", '{"ended": [[4, 1, "walltime", "n1", 60.0]]}')):
        Path(folder.resubmits, name).write_text(text)
    assert Earlier(folder).of(4) == {1: {"cause": "walltime", "host": "n1", "seconds": 60.0}}


def test_tasks_among_which_to_choose_are_not_named():
    groups, blocked = decide(
        [failed(0, "preempted"), failed(1, "code_error"), failed(2, "preempted")], Policy({"among": [1, 2]}), []
    )
    assert [group.ids for group in groups] == [[2]]
    assert refused(blocked) == [("code_error", [1])]
