"""``describe``: one verb, in as much as fits on a page, or whole."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import msgspec

from hpc_agent.contract import command_words
from hpc_agent.contract.catalogue import CatalogueEntry, Flag, catalogue_entry, schema
from hpc_agent.contract.envelope import did_you_mean
from hpc_agent.contract.primitive import Primitive, Request, Result, by_any_name, primitive
from hpc_agent.errors import SpecInvalid
from hpc_agent.ops.run.fields import doc
from hpc_agent.world import World

# The bytes of the data: with the envelope around it the line has at most 3 KB.
MOST_BYTES = 3072 - 60
# Fields that most calls give: their flags are explained first.
FREQUENT = (
    "run_id", "campaign_id", "cluster", "executor", "tasks", "axes", "walltime_sec", "mem_mb", "cpus", "gpus", "dry_run",
    "canary", "est_task_sec", "run_name", "task_id", "all_failed", "lines", "sort", "direction", "top", "where", "metric",
    "space", "metrics", "strategy", "submit", "batch", "max_iters", "max_tasks", "partition", "account", "conda_env", "modules",
    "env", "metrics_file", "wall_clock_budget_sec", "force", "output_dir", "experiment_dir",
)  # fmt: skip


class DescribeRequest(Request):
    """The verb, and how much of it."""

    name: Annotated[str, doc("a verb or one of its aliases")]
    flags: Annotated[list[str], doc("explain these flags only, and each of them whole")] = []
    schema: Annotated[bool, doc("the JSON Schemas of request and result too")] = False
    full: Annotated[bool, doc("everything: every flag with its kind and default, schemas, effects")] = False


class DescribeResult(Result, kw_only=True, omit_defaults=True):
    """Fields that are empty are left out."""

    name: str
    summary: str
    description: str = ""
    effects: Annotated[list[str], doc("what the call does outside its own process")] = []
    example: Annotated[str, doc("a command that works in examples/horizon_sweep; run ids are made up")] = ""
    flags: Annotated[dict[str, str], doc("flag -> kind, default, meaning; required ones first")] = {}
    more_flags: Annotated[str, doc("the other flags; --flags NAMES explains some of them, --full all")] = ""
    returns: Annotated[str, doc("fields of the result; --field NAME prints one of them")] = ""
    errors: Annotated[list[str], doc("error codes; capabilities --full has their meanings")] = []
    next_verbs: list[str] = []
    more: Annotated[str, doc("the command that shows everything")] = ""
    entry: Annotated[dict[str, Any], doc("with full: the catalogue row")] = {}
    input_schema: Annotated[dict[str, Any], doc("with schema or full")] = {}
    output_schema: Annotated[dict[str, Any], doc("with schema or full")] = {}


@primitive(
    stage="introspect",
    positional="name",
    errors=[SpecInvalid],
    brief="a verb: flags, example",
    example={"name": "submit"},
    next_verbs=["find", "capabilities"],
    larger=["schema"],
)
def describe(request: DescribeRequest, world: World) -> DescribeResult:  # noqa: ARG001
    """Describe one verb: purpose, flags, one example, result fields, errors, next verbs; with ``full`` everything."""
    names = by_any_name()
    found = names.get(request.name)
    if found is None:
        words = " ".join(re.findall(r"[^\W_]+", request.name))[:80]
        looks = f"'hpc-agent find {words}' looks for it." if words else "Run 'hpc-agent capabilities' for all of them."
        remediation = did_you_mean(request.name.lower(), names) + looks
        raise SpecInvalid(f"there is no primitive '{request.name}'", field="name", remediation=remediation)
    entry = catalogue_entry(found)
    if request.flags:
        chosen = _chosen_flags(request.flags, entry, found.name)
        return DescribeResult(name=found.name, summary=found.summary, flags={f.flag: flag_line(f) for f in chosen})
    result = _page(found, entry)
    if request.full:
        result.flags, result.more_flags, result.more = {f.flag: flag_line(f) for f in ranked(entry)}, "", ""
        result.entry = msgspec.to_builtins(entry)
        result.description = found.description
    if request.schema or request.full:
        result.input_schema = schema(found.request, f"{found.name} input")
        result.output_schema = schema(found.result, f"{found.name} output")
    return result


def _page(found: Primitive, entry: CatalogueEntry) -> DescribeResult:
    """Return the verb in at most MOST_BYTES: flags are explained while there is room, the others have their names."""
    fields = (name for name in found.result.__struct_fields__ if name not in Result.__struct_fields__)
    page = DescribeResult(
        name=found.name,
        summary=found.summary,
        effects=entry.effects,
        example=example_line(found),
        returns=", ".join(fields),
        errors=entry.errors,
        next_verbs=entry.next_verbs,
        more=f"hpc-agent describe {found.name} --full",
    )
    flags = ranked(entry)
    shown = sum(flag.required for flag in flags)
    _fill(page, flags, shown)
    for description in (found.description, found.description.split("\n\n")[0], ""):
        page.description = " ".join(description.split())
        if _size(page) <= MOST_BYTES * 0.75 or not description:
            break
    while shown < len(flags):
        _fill(page, flags, shown + 1)
        if _size(page) > MOST_BYTES:
            _fill(page, flags, shown)
            break
        shown += 1
    return page


def _fill(page: DescribeResult, flags: list[Flag], shown: int) -> None:
    page.flags = {flag.flag: flag_line(flag) for flag in flags[:shown]}
    page.more_flags = " ".join(flag.flag for flag in flags[shown:])


def _size(page: DescribeResult) -> int:
    return len(msgspec.json.encode(page))


def ranked(entry: CatalogueEntry) -> list[Flag]:
    """Return the flags: required ones, those of the example, those that most calls give, the others."""

    def rank(flag: Flag) -> tuple[bool, bool, int]:
        name = flag.path[-1]
        often = FREQUENT.index(name) if name in FREQUENT else len(FREQUENT)
        return not flag.required, flag.path[0] not in entry.example, often

    return sorted(entry.flags, key=rank)


def flag_line(flag: Flag) -> str:
    """Return kind, default and meaning of a flag in a line."""
    kind = "|".join(flag.choices) if flag.choices else {"ints": "N,N", "strs": "A,B"}.get(flag.kind, flag.kind)
    facts = kind + (", required" if flag.required else "")
    if flag.default not in (None, [], {}, "", False):
        facts += f" [{flag.default if isinstance(flag.default, str) else json.dumps(flag.default)}]"
    return f"{facts}: {flag.help}" if flag.help else facts


def example_line(found: Primitive) -> str:
    """Return the example of a verb as a command, without what has its default."""
    return command_words.example_line(found.name, catalogue_entry(found))


def _chosen_flags(names: list[str], entry: CatalogueEntry, verb: str) -> list[Flag]:
    known = {flag.flag: flag for flag in entry.flags}
    chosen = []
    for name in names:
        flag = "--" + name.lstrip("-").rpartition(".")[2].replace("_", "-")
        if flag not in known:
            remedy = did_you_mean(flag, known) + f"Run 'hpc-agent describe {verb}' for all of them."
            raise SpecInvalid(f"'{verb}' has no flag {flag}", field="flags", remediation=remedy)
        chosen.append(known[flag])
    return chosen
