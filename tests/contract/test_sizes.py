"""What an agent reads first is short: the list of verbs, one verb, the verbs for a job; and any answer unless more is asked."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_agent.contract import envelope
from hpc_agent.contract.catalogue import catalogue_entry
from hpc_agent.contract.primitive import REGISTRY, Effect, Primitive, Request, Result, load_all
from hpc_agent.contract.shorten import shorten
from hpc_agent.ops.introspect.inventory import short_list
from hpc_agent.world import World

VERBS = load_all()
EVERY = pytest.mark.parametrize("verb", VERBS)


def answer(verb: str, **fields: Any) -> tuple[int, Any]:
    """The bytes of the line that the command line prints, and its data."""
    primitive = REGISTRY[verb]
    line = envelope.success(primitive, primitive.function(envelope.convert(fields, primitive.request, verb), World()))
    return len(line) + 1, json.loads(line)["data"]


def test_capabilities_are_4_kb_and_have_every_verb():
    size, data = answer("capabilities")
    assert size <= 4096
    rows = {row.split(" ")[0].rstrip("!@+:"): row for rows in data["verbs"].values() for row in rows}
    assert set(rows) == set(VERBS)
    assert all(row.endswith(VERBS[name].brief) for name, row in rows.items())
    assert "! " in rows["submit"]
    assert "@ " in rows["run-story"]
    assert ": " in rows["load-context"]


def test_with_ninety_verbs_the_list_still_fits_and_no_name_is_left_out():
    step = len(VERBS) // (90 - len(VERBS))  # copies of verbs that are there, as long as these are
    more = [replace(VERBS[name], name=f"{name}2") for name in [*VERBS][::step]][: 90 - len(VERBS)]
    listed = short_list([*VERBS.values(), *more])
    named = [row.split(" ")[0].rstrip("!@+:") for rows in listed.values() for row in rows]
    assert sorted(named) == sorted([*VERBS, *(verb.name for verb in more)])
    without = sum(" " not in row for rows in listed.values() for row in rows)
    assert without == 0, f"{without} verbs have no line: shorten some"
    crowd = [replace(VERBS["status"], name=f"{name}-x{n}") for n, name in enumerate([*VERBS, *VERBS])]
    listed = short_list(crowd)
    around = answer("capabilities")[0] - len(json.dumps(short_list(VERBS.values()), separators=(",", ":")).encode())
    assert len(json.dumps(listed, separators=(",", ":")).encode()) + around <= 4096
    assert sum(map(len, listed.values())) == len(crowd)


@EVERY
def test_describe_is_3_kb(verb):
    size, data = answer("describe", name=verb)
    assert size <= 3072
    entry = catalogue_entry(VERBS[verb])
    assert {*data.get("flags", {}), *data.get("more_flags", "").split()} == {flag.flag for flag in entry.flags}
    assert {flag.flag for flag in entry.flags if flag.required} <= set(data.get("flags", {}))
    assert shlex.split(data["example"])[:2] == ["hpc-agent", verb]
    assert data["next_verbs"] == list(VERBS[verb].next_verbs)
    assert data.get("errors", []) == entry.errors
    shown = [flag for flag in data.get("flags", {}) if flag in data["example"]]
    assert all(word.partition("=")[0] in shown for word in shlex.split(data["example"]) if word.startswith("--"))


@EVERY
def test_describe_has_more_for_those_who_ask(verb):
    _, data = answer("describe", name=verb, full=True)
    entry = catalogue_entry(VERBS[verb])
    assert sorted(data.get("flags", {})) == sorted(flag.flag for flag in entry.flags)
    assert "more_flags" not in data
    assert data["input_schema"]["title"] == f"{verb} input"
    assert data["output_schema"]["title"] == f"{verb} output"
    assert data["entry"]["stage"] == entry.stage


def test_describe_explains_flags_by_name():
    _, data = answer("describe", name="submit", flags=["mem-mb", "--gpus", "resources.cpus"])
    assert set(data["flags"]) == {"--mem-mb", "--gpus", "--cpus"}
    assert "MiB" in data["flags"]["--mem-mb"]
    with pytest.raises(envelope.SpecInvalid, match="no flag --memmb") as caught:
        answer("describe", name="submit", flags=["memmb"])
    assert "--mem-mb" in caught.value.remediation


@pytest.mark.parametrize(
    ("words", "verb"),
    [
        ("why did my tasks crash", "failures"),
        ("rerun failed tasks", "resubmit"),
        ("show stdout of a task", "logs"),
        ("hyperparameter search", "campaign-init"),
        ("table of results as csv", "aggregate"),
        ("wait until it ends", "monitor-flow"),
        ("which partition starts first", "recommend-partition"),
        ("how many jobs may I submit, limits", "validate-self-qos-limit"),
        ("reproduce a run", "reproduce-run"),
        ("poll-run-status", "status"),
        ("first step in a new repo", "suggest-setup-action"),
        ("compare two runs", "compare"),
        ("example spec", "scaffold-spec"),
        ("faliures", "failures"),
        ("html page with charts", "report"),
        ("combiner", "aggregate"),
    ],
)
def test_find_leads_to_the_verb(words, verb):
    size, data = answer("find", words=words.split())
    assert verb in [row["verb"] for row in data["verbs"]][:3], data
    assert size <= 2500


@EVERY
def test_a_verb_is_found_by_its_name(verb):
    for words in ([verb], verb.split("-")):
        _, data = answer("find", words=words)
        assert data["verbs"][0]["verb"] == verb


def test_words_that_no_verb_has_are_told():
    _, data = answer("find", words=["zzqqxx", "zq"])
    assert data == {"verbs": [], "unknown_words": ["zzqqxx", "zq"], "next_step": "hpc-agent capabilities"}


class Long(Result):
    """A result with everything that may grow."""

    run_id: str = "r"
    rows: list[Any] = []
    tags: dict[str, int] = {}
    log: str = ""
    next_step: str = ""
    spec: dict[str, Any] = {}
    exact: list[int] = []


def long_verb(**options: Any) -> Primitive:
    options = {"stage": "x", "effects": [Effect.FILES], **options}
    return Primitive(
        name="long",
        function=lambda request, world: Long(),
        request=Request,
        result=Long,
        summary="",
        description="",
        **options,
    )


def short(result: Result, **options: Any) -> tuple[int, Any]:
    line = envelope.success(long_verb(**options), result, whole=lambda: "hpc-agent long --full")
    return len(line) + 1, json.loads(line)


def test_a_short_answer_is_left_as_it_is():
    assert set(short(Long(rows=[1, 2]))[1]) == {"ok", "idempotent", "data"}


def test_a_long_answer_counts_what_it_leaves_out():
    rows = [{"task": n, "tasks": list(range(300))} for n in range(100)]
    size, whole = short(Long(rows=rows, log="x" * 9000, next_step="y" * 900))
    data = whole["data"]
    assert size <= 4096
    assert whole["whole_answer"] == "hpc-agent long --full"
    assert whole["left_out"]["rows"] == 100 - len(data["rows"]) > 0
    assert whole["left_out"]["rows[].tasks"] == sum(300 - len(row["tasks"]) for row in data["rows"])
    assert data["rows"] == [
        {**row, "tasks": row["tasks"][: len(kept["tasks"])]} for row, kept in zip(rows, data["rows"], strict=False)
    ]
    assert data["log"].startswith("xx")
    assert data["log"].endswith("xx")
    assert f"[... {whole['left_out']['log']} characters ...]" in data["log"]
    assert data["next_step"] == "y" * 900


def test_maps_are_cut_and_what_another_verb_reads_is_not():
    spec, exact = {"tasks": list(range(200))}, list(range(200))
    size, whole = short(Long(tags={f"tag-{n:06}": n for n in range(900)}, spec=spec, exact=exact), whole=["exact"])
    assert size <= 4096
    assert whole["data"]["spec"] == spec
    assert whole["data"]["exact"] == exact
    assert whole["left_out"] == {"tags": 900 - len(whole["data"]["tags"])}
    assert set(whole["data"]["tags"]) == {f"tag-{n:06}" for n in range(len(whole["data"]["tags"]))}


def test_what_a_verb_can_spare_goes_first_from_the_last_items_on():
    rows = [{"task": n, "log": "x" * 300, "why": "y" * 30} for n in range(30)]
    _, whole = short(Long(rows=rows), spare=["rows[].log", "rows[].why"])
    kept = whole["data"]["rows"]
    assert [row["task"] for row in kept] == list(range(30))
    assert all("why" in row for row in kept)
    with_log = sum("log" in row for row in kept)
    assert 0 < with_log < 30
    assert all("log" in row for row in kept[:with_log])
    assert whole["left_out"] == {"rows[].log": 30 - with_log}


@pytest.mark.parametrize(
    ("verb", "fields", "asks"),
    [
        ("logs", {"lines": 500}, True),
        ("logs", {"lines": 5}, False),
        ("logs", {}, False),
        ("describe", {"name": "submit", "schema": True}, True),
        ("aggregate", {"top": 200}, True),
        ("aggregate", {}, False),
        ("list-in-flight", {"limit": 1000}, True),
    ],
)
def test_a_request_may_ask_for_a_longer_answer(verb, fields, asks):
    primitive = VERBS[verb]
    assert envelope.asks_more(primitive, envelope.convert(fields, primitive.request, verb)) is asks


@EVERY
def test_what_is_said_of_long_answers_names_fields_that_exist(verb):
    primitive = VERBS[verb]
    assert set(primitive.larger) <= set(primitive.request.__struct_fields__)
    named = {*primitive.whole, *(path.split(".")[0].removesuffix("[]") for path in primitive.spare)}
    assert named <= set(primitive.result.__struct_fields__)


JSON = st.recursive(
    st.integers(-9, 10**6) | st.sampled_from(["", "a", "x" * 300, "é" * 900, None, True]),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.sampled_from("abcdefgh"), inner),
    max_leaves=40,
)


@settings(max_examples=60)
@given(st.lists(JSON, max_size=50))
def test_any_list_is_shortened_to_the_size_and_its_head_is_kept(rows):
    document: dict[str, Any] = {"ok": True, "data": {"rows": json.loads(json.dumps(rows))}, "whole_answer": "x"}
    shorten(document, 900)
    assert len(json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()) <= 900 + 400
    kept = document["data"]["rows"]
    assert document["left_out"].get("rows", 0) == len(rows) - len(kept)


def test_an_error_is_shortened_too():
    details = {"findings": [{"message": f"task {n} is not right"} for n in range(500)]}
    error = envelope.SpecInvalid("wrong", details=details)
    line = envelope.failure(error, lambda: "hpc-agent x --full")
    document = json.loads(line)
    assert len(line) < 4096
    assert document["left_out"]["details.findings"] == 500 - len(document["details"]["findings"])
    assert len(json.loads(envelope.failure(error))["details"]["findings"]) == 500


def test_the_envelope_schema_knows_what_was_left_out():
    import jsonschema

    from hpc_agent.contract.catalogue import envelope_schema

    jsonschema.validate(short(Long(rows=list(range(3000))))[1], envelope_schema())
