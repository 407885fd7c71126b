"""``hpc-agent mcp``: the list of tools, what a read-only server refuses, errors, long results, resources."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest
from experiment import make_repo
from mcp.shared.exceptions import MCPError
from mcp_client import MODES, in_memory, session_in
from mcp_types import INVALID_PARAMS

import hpc_agent
from hpc_agent.mcp_server.tools import CHOSEN, META
from hpc_agent.mcp_server.trimming import MOST_BYTES, fit, page, size
from hpc_agent.mcp_server.verbs import names, submits, writes
from hpc_agent.mcp_server.wording import parse_command
from hpc_agent.ops.run.invoke import catalogue

MOST_TOOLS, MOST_TOKENS, MOST_DESCRIPTION = 18, 6000, 400
TASKS = [{"x": number} for number in range(3)]


@pytest.fixture
def repo(tmp_path):
    return make_repo(tmp_path / "repo", TASKS)


def listed(repo, home, mode, **settings):
    async def ask(agent):
        return await agent.client.list_tools()

    return in_memory(session_in(repo, home.env, **settings), ask, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("settings", [{}, {"allow_submit": True}, {"allow_submit": True, "ask_user": True}])
def test_the_list_of_tools_is_small(mode, settings, repo, world_home, capsys):
    found = listed(repo, world_home, mode, **settings)
    tokens = len(found.model_dump_json(by_alias=True, exclude_none=True).encode()) / 4
    with capsys.disabled():
        print(f"\ntools/list, {mode}, {settings}: {len(found.tools)} tools, {tokens:,.0f} tokens")
    assert len(found.tools) <= MOST_TOOLS
    assert tokens <= MOST_TOKENS
    assert found == listed(repo, world_home, mode, **settings)  # the same order, the same words
    for tool in found.tools:
        assert len(tool.description) <= MOST_DESCRIPTION
        for schema in (tool.input_schema, tool.output_schema):
            jsonschema.Draft202012Validator.check_schema(schema)
            assert schema["type"] == "object"
            assert not {"anyOf", "oneOf", "allOf", "$ref"} & schema.keys()
        hints = tool.annotations.model_dump(exclude_none=True)
        assert hints.keys() == {"read_only_hint", "destructive_hint", "idempotent_hint", "open_world_hint"}
        verb = catalogue().get(tool.name)
        asks = bool(tool.meta and tool.meta["anthropic/requiresUserInteraction"])
        dangerous = submits(verb) if verb else tool.name == "call" and settings.get("allow_submit", False)
        assert asks == (dangerous and settings.get("ask_user", False))
        assert hints["destructive_hint"] == dangerous


def test_a_tool_shows_fields_that_its_verb_has():
    for verb, shown in CHOSEN.items():
        entry = catalogue()[verb]
        assert set(shown) <= {flag.path[0] for flag in entry.flags}, verb
        assert {flag.path[0] for flag in entry.flags if flag.required} <= set(shown or (f.path[0] for f in entry.flags))


def test_a_read_only_server_offers_and_runs_nothing_that_writes(repo, world_home):
    names_of_tools = [tool.name for tool in listed(repo, world_home, "2026-07-28").tools]
    assert not [name for name in names_of_tools if name not in META and writes(catalogue()[name])]
    before = sorted(os.walk(repo))

    async def try_all(agent):
        for verb in filter(lambda verb: writes(catalogue()[verb]), catalogue()):
            for tool, arguments in (("call", {"verb": verb, "arguments": dict(catalogue()[verb].example)}), (verb, {})):
                answer = await agent.call(tool, arguments)
                assert answer["error"]["error_code"] == "precondition_failed", (verb, answer)
                assert "read-only" in answer["summary"]
                assert "hpc-agent mcp --allow-submit" in answer["error"]["remediation"]

    in_memory(session_in(repo, world_home.env), try_all)
    assert sorted(os.walk(repo)) == before


@pytest.mark.parametrize("mode", MODES)
def test_errors_are_answers_with_a_remedy(mode, repo, world_home):
    async def provoke(agent):
        unknown = await agent.call("statsu", None)
        assert "Did you mean 'status'" in unknown["error"]["remediation"]
        other = await agent.call("run-story", {})
        assert other["error"]["remediation"] == 'Call the tool call with {"verb": "run-story"}.'
        verb = await agent.call("call", {"verb": "compere"})
        assert "Did you mean 'compare'" in verb["error"]["remediation"]
        field = await agent.call("status", {"run_idd": "x"})
        assert (field["error"]["error_code"], field["error"]["field"]) == ("spec_invalid", "run_idd")
        assert "Did you mean 'run_id'" in field["error"]["remediation"]
        missing = await agent.call("status", None)
        assert missing["error"]["error_code"] == "precondition_failed"
        assert missing["next"]["tool"] in (*CHOSEN, *META)
        folder = await agent.call("wait-for-events", {"experiment_dir": "nowhere"})
        assert folder["error"]["field"] == "experiment_dir"
        own = await agent.call("call", {"verbs": "status"})
        assert (
            own["error"]["remediation"] == "Did you mean 'verb'? The tool call takes: verb, arguments, field, offset."
        )
        wait = await agent.call("wait-for-events", {"wait_sec": 51})
        assert wait["error"]["field"] == "wait_sec"
        for given in ({"run_id": "../../x"}, {"consumer": "../x"}):
            odd = await agent.call("wait-for-events", given)
            assert odd["error"]["field"] in given
            assert "The tool wait-for-events takes" in odd["error"]["remediation"]
        for path in ("clusters.0.name.x", "clusters.0.ready.x"):
            deep = await agent.call("call", {"verb": "clusters-list", "field": path})
            assert (deep["error"]["field"], "a single value" in deep["error"]["message"]) == ("field", True)

    in_memory(session_in(repo, world_home.env), provoke, mode)


def test_find_leads_to_every_verb(repo, world_home):
    async def look(agent):
        everything = await agent.data("find", {})
        assert {row["verb"] for row in everything["verbs"]} == set(catalogue())
        for words, verb in [
            ("compare two runs", "compare"),
            ("why did tasks fail", "failures"),
            ("export RO-Crate", "export-crate"),
            ("repeat a run", "reproduce-run"),
            ("campaign budget", "campaign-budget"),
        ]:
            found = await agent.data("find", {"words": words})
            assert verb in [row["verb"] for row in found["verbs"][:5]], (words, found)
        for verb in catalogue():
            whole = await agent.data("find", {"verb": verb})
            fields = {flag.path[0] for flag in catalogue()[verb].flags}
            assert whole["verb"] == verb
            assert fields <= set(whole["input_schema"]["properties"])

    in_memory(session_in(repo, world_home.env), look)


def test_what_follows_a_dry_run_is_the_same_call(repo, world_home):
    tasks = [{"x": number, "text": "y" * 100} for number in range(200)]

    async def plan(agent):
        request = {"cluster": "local", "executor": 'echo "$X"', "dry_run": True}
        few = await agent.call("submit", request)
        assert few["next"] == {"tool": "submit", "arguments": {"cluster": "local", "executor": 'echo "$X"'}}
        many = await agent.call("submit", {**request, "tasks": tasks})
        assert many["next"] == {**few["next"], "as_before": ["tasks"]}

    in_memory(session_in(repo, world_home.env, allow_submit=True), plan)


def test_a_long_result_is_cut_and_the_rest_is_there(repo, world_home):
    asked = {"verb": "describe", "arguments": {"name": "submit", "full": True}}

    async def read(agent):
        answer = await agent.call("call", asked)
        assert answer["more"], "describe of submit is longer than an answer"
        for cut in answer["more"]:
            rest, get = 0, cut["get"]
            while get:
                part = await agent.call(get["tool"], get["arguments"])
                rest += len(part["data"]["part"])
                get = part.get("more", [{}])[0].get("get")
            assert cut["shown"] + rest == cut["of"]

    in_memory(session_in(repo, world_home.env), read)


def test_what_is_cut_fits_and_every_part_can_be_had():
    for data in (
        {"rows": [{"n": n, "text": "x" * 50} for n in range(2000)], "small": 1},
        {"text": "é" * 40_000},
        {"a": {"b": {"c": ["y" * 9000, "z" * 9000]}}},
        {f"k{n}": "v" * 100 for n in range(500)},
        [{"deep": ["w" * 100] * 50}] * 40,
    ):
        short, cuts = fit(data)
        assert size(short) <= MOST_BYTES
        assert cuts
        whole, offset = None, 0
        while True:
            part, cut = page(data, "", offset)
            whole = part if whole is None else {**whole, **part} if isinstance(part, dict) else whole + part
            if cut is None or cut["field"]:
                break
            offset = cut["shown"]
        assert size(part) <= MOST_BYTES


def test_commands_in_results_become_calls():
    executor = """train.py --lr "$LR" """
    line = "hpc-agent submit --cluster local --executor '" + executor + "' --mem-mb 100 --no-canary --outputs a,b"
    assert parse_command(line) == (
        "submit",
        {
            "cluster": "local",
            "executor": executor,
            "resources": {"mem_mb": 100},
            "canary": False,
            "outputs": ["a", "b"],
        },
    )
    assert parse_command("hpc-agent demo my-demo") == ("demo", {"experiment_dir": "my-demo"})
    for text in ("hpc-agent nothing", "ls", "hpc-agent status --nope 1", "hpc-agent status --run-id", "say 'hpc-agent"):
        assert parse_command(text) is None, text


@pytest.mark.parametrize("mode", MODES)
def test_resources_that_are_not_there_are_protocol_errors(mode, repo, world_home):
    async def read(agent):
        templates = (await agent.client.list_resource_templates()).resource_templates
        assert [t.uri_template for t in templates] == [
            "run://{run_id}/report{?experiment_dir}",
            "run://{run_id}/journal{?experiment_dir}",
        ]
        assert (await agent.client.list_resources()).resources == []
        for uri in (
            "run://none/journal",
            "run://none/report",
            "run://x/other",
            "run://../journal",
            "run://..%2f..%2fx/journal",
            "run://[/journal",
            "run://x/journal?experiment_dir=%00",
            "file:///etc/passwd",
        ):
            with pytest.raises(MCPError) as error:
                await agent.client.read_resource(uri)
            assert error.value.code == INVALID_PARAMS, uri

    in_memory(session_in(repo, world_home.env), read, mode)


def test_every_name_of_a_verb_is_known():
    assert all(names()[name] == name for name in catalogue())
    json.dumps(names())


@pytest.mark.parametrize("mode", MODES)
def test_the_workflows_are_prompts(mode, repo, world_home):
    """The texts are those of the slash commands, with the argument in them."""
    folder = Path(hpc_agent.__file__).parent / "slash_commands" / "commands"

    async def read(agent):
        listed = (await agent.client.list_prompts()).prompts
        assert [prompt.name for prompt in listed] == ["aggregate-hpc", "campaign-hpc", "monitor-hpc", "submit-hpc"]
        for prompt in listed:
            assert prompt.description
            given = await agent.client.get_prompt(prompt.name, {"arguments": "run-1234"})
            text = given.messages[0].content.text
            body = (folder / f"{prompt.name}.md").read_text().split("---\n", 2)[2].strip()
            assert body.replace("$ARGUMENTS", "run-1234") in text
            assert "$ARGUMENTS" not in (await agent.client.get_prompt(prompt.name)).messages[0].content.text
        with pytest.raises(MCPError, match="Did you mean 'submit-hpc'"):
            await agent.client.get_prompt("submit")

    in_memory(session_in(repo, world_home.env), read, mode)
