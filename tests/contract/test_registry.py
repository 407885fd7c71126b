"""One definition, every surface: the registry, what is generated from it, and the layers."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jsonschema
import msgspec
import pytest

import hpc_agent
from hpc_agent import errors
from hpc_agent.cli.parse import parse_request
from hpc_agent.contract import envelope
from hpc_agent.contract.catalogue import envelope_schema, load_catalogue, schema
from hpc_agent.contract.generate import derived
from hpc_agent.contract.primitive import Effect, PartialError, Primitive, Request, Result, load_all
from hpc_agent.errors import BY_CODE, SpecInvalid
from hpc_agent.ops.run.command_line import command_line

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = load_all()
EVERY = pytest.mark.parametrize("primitive", REGISTRY.values(), ids=REGISTRY)


def test_generated_files_are_fresh():
    done = subprocess.run(
        [sys.executable, "-m", "hpc_agent.contract.generate", "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stale_file_is_noticed(tmp_path, monkeypatch):
    from hpc_agent.contract import generate

    monkeypatch.setattr(generate, "derived", lambda: {**derived(), ROOT / "docs" / "primitives" / "new.md": "text"})
    assert generate.main(["--check"]) == 1


@EVERY
def test_a_primitive_is_documented_and_typed(primitive: Primitive):
    assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", primitive.name)
    assert primitive.summary.endswith(".")
    assert len(primitive.summary) <= 120
    assert issubclass(primitive.request, Request)
    assert issubclass(primitive.result, Result)
    described = {name for name, facts in schema(primitive.request, "")["$defs"].items() for name in facts["properties"]}
    assert described or not msgspec.structs.fields(primitive.request)


@EVERY
def test_every_request_field_says_what_it_is(primitive: Primitive):
    definitions = schema(primitive.request, "")["$defs"]
    silent = [
        f"{kind}.{name}"
        for kind, facts in definitions.items()
        for name, body in facts["properties"].items()
        if "description" not in body
        and "$ref" not in body
        and not (name == "kind" and len(body.get("enum", [])) == 1)  # the tag of a union says which struct it is
        and not any("$ref" in option for option in body.get("anyOf", []))
    ]
    assert not silent or all(name.endswith((".resources", ".results")) for name in silent)


@EVERY
def test_a_primitive_has_a_brief_line_an_example_and_next_verbs(primitive: Primitive):
    assert 0 < len(primitive.brief) <= 30
    assert primitive.next_verbs
    assert set(primitive.next_verbs) <= set(REGISTRY) - {primitive.name}
    assert primitive.example or not msgspec.structs.fields(primitive.request)
    request = envelope.convert(dict(primitive.example), primitive.request, primitive.name)
    verb, *words = shlex.split(command_line(primitive.name, request))[1:]
    entry = load_catalogue()[verb]
    typed = parse_request(verb, entry, words, lambda: b"", Path())
    assert envelope.convert(typed, primitive.request, verb) == request


def test_names_and_aliases_are_one_namespace():
    names = [name for p in REGISTRY.values() for name in (p.name, *p.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("code", BY_CODE)
def test_an_error_has_a_code_and_a_remedy_that_names_a_command(code):
    error = BY_CODE[code]
    raised = error("what happened")
    document = json.loads(envelope.failure(raised))
    jsonschema.validate(document, envelope_schema())
    assert raised.exit_code in (1, 2, 3)
    assert "hpc-agent" in document["remediation"] or code == "ssh_unreachable"
    assert (error.__doc__ or "").strip()


def test_error_classes_without_a_code_are_only_the_categories():
    def subclasses(cls):
        return [deep for sub in cls.__subclasses__() for deep in (sub, *subclasses(sub))]

    bases = {cls.__name__ for cls in subclasses(errors.HpcError) if "error_code" not in vars(cls)}
    assert bases == {"UserError", "ClusterError"}


def test_success_envelopes_fit_the_schema_and_say_whether_anything_changed():
    class Done(Result):
        deduped: bool = False

    def primitive(*effects: Effect) -> Primitive:
        known = REGISTRY["submit"]
        return Primitive(**{**vars(known), "effects": frozenset(effects)})

    for effects, result, unchanged in [
        ([], Done(), True),
        ([Effect.SUBMIT], Done(), False),
        ([Effect.SUBMIT], Done(deduped=True, partial_errors=[PartialError("x", "y")]), True),
    ]:
        document = json.loads(envelope.success(primitive(*effects), result))
        jsonschema.validate(document, envelope_schema())
        assert document["idempotent"] is unchanged
        assert list(document) == sorted(document)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"ok": True, "idempotent": True, "data": {}, "extra": 1}, envelope_schema())


@pytest.mark.parametrize(
    ("document", "field", "hint"),
    [
        ({"cluster": "c", "executor": "x", "clutser": "y"}, "clutser", "'cluster'"),
        ({"cluster": "c"}, "executor", "--executor"),
        ({"cluster": 5, "executor": "x"}, "cluster", "describe submit"),
        ({"cluster": "c", "executor": "x", "resources": {"cpus": 0}}, "resources.cpus", "describe submit"),
        ([], None, ""),
    ],
)
def test_a_bad_request_names_the_field(document, field, hint):
    with pytest.raises(SpecInvalid) as caught:
        envelope.convert(document, REGISTRY["submit"].request, "submit")
    assert caught.value.field == field
    assert hint in caught.value.remediation


@pytest.mark.parametrize(
    ("verb", "document", "hint"),
    [
        ("campaign-init", {"campaign_id": "c", "strategy": "randm"}, "Did you mean 'random'? It is one of cma_es, "),
        (
            "campaign-init",
            {"campaign_id": "c", "stop_criteria": {"direction": "maxx"}},
            "Did you mean 'max'? It is one of auto",
        ),
        (
            "campaign-init",
            {"campaign_id": "c", "metrics": [{"name": "a", "directon": "min"}]},
            "Did you mean 'direction'? ",
        ),
        ("submit", {"cluster": "c", "executor": "x", "resources": {"mem_bm": 1}}, "Did you mean 'mem_mb'? "),
        ("aggregate", {"mode": "nothing-like-it"}, "It is one of auto, cluster-reduce, combiner-only. "),
    ],
)
def test_the_nearest_field_or_choice_is_told_at_any_depth(verb, document, hint):
    with pytest.raises(SpecInvalid) as caught:
        envelope.convert(document, REGISTRY[verb].request, verb)
    assert hint in caught.value.remediation


def test_the_library_surface_of_the_readme():
    from hpc_agent import (
        _PACKAGE_ROOT,
        RUNS_SUBDIR,
        TASKS_FILENAME,
        RepoLayout,
        get_template_path,
        load_clusters_config,
        load_tasks_module,
    )
    from hpc_agent.infra.backends import get_backend
    from hpc_agent.infra.constraints import ClusterConstraints, parse_constraints
    from hpc_agent.infra.remote import deploy_runtime
    from hpc_agent.infra.throughput import WorkloadSpec, build_wave_map, compute_submission_plan
    from hpc_agent.state.run_sha import compute_cmd_sha
    from hpc_agent.state.runs import find_existing_runs, find_run_by_cmd_sha, read_run_sidecar, write_run_sidecar

    assert (RUNS_SUBDIR, TASKS_FILENAME) == ("runs", "tasks.py")
    plan = compute_submission_plan(WorkloadSpec(total_tasks=6), parse_constraints({}))
    assert build_wave_map(plan) == {"0": "0-5"}
    assert isinstance(parse_constraints({}), ClusterConstraints)
    assert {"hoffman2", "discovery", "local"} <= set(load_clusters_config(env={}))
    assert next(_PACKAGE_ROOT.rglob("tasks_example.py")).parent.name == "scaffolds"
    for scheduler, ending in (("sge", "sh"), ("slurm", "slurm")):
        for name in ("cpu_array", "gpu_array"):
            path = get_template_path(scheduler, name)
            assert path == _PACKAGE_ROOT / f"models/mapreduce/templates/runtime/{scheduler}/{name}.{ending}"
            assert path.is_file()
        assert get_backend(scheduler).template(0).name == f"cpu_array.{ending}"
    assert callable(deploy_runtime)
    assert all(map(callable, (find_existing_runs, find_run_by_cmd_sha, read_run_sidecar, write_run_sidecar)))
    module = load_tasks_module(ROOT / "examples" / "horizon_sweep")
    assert module.total() == 6
    assert len(compute_cmd_sha(map(module.resolve, range(6)))) == 64
    assert RepoLayout(ROOT).sidecar("r").name == "r.json"


def test_every_public_name_is_exported():
    for name in hpc_agent.__all__:
        assert getattr(hpc_agent, name) is not None
    with pytest.raises(AttributeError):
        hpc_agent.nothing  # noqa: B018


def test_the_scaffold_of_tasks_py_shows_three_patterns():
    from hpc_agent.infra.backends import TEMPLATES
    from hpc_agent.node.shared.task_environment import load_tasks

    module = load_tasks(str(TEMPLATES / "scaffolds" / "tasks_example.py"))
    assert [module.resolve(i) for i in range(module.total())] == module.cartesian_product()
    chunks = module.row_chunks(rows=12, chunk=5)
    assert [(c["start"], c["end"]) for c in chunks] == [(0, 5), (5, 10), (10, 12)]
    windows = module.date_windows("2020-01-01", "2021-03-31")
    assert windows[0]["test_start"] == "2020-12-31"
    assert all(w["train_start"] < w["test_start"] < w["test_end"] <= "2021-03-31" for w in windows)
