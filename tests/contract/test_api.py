"""hpc_agent.api: every verb is a function with the fields of its request, and type checkers know all of it."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from hpc_agent import api
from hpc_agent.api import _call
from hpc_agent.contract import envelope
from hpc_agent.contract.catalogue import default_of
from hpc_agent.contract.primitive import Primitive, load_all
from hpc_agent.contract.python_api import function_name, keywords

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = load_all()
EVERY = pytest.mark.parametrize("primitive", REGISTRY.values(), ids=REGISTRY)


def function_of(primitive: Primitive):
    return getattr(api, function_name(primitive.name))


def document(primitive: Primitive, *arguments, **given):
    """The request that a call makes."""
    sent = {}

    def invoke(verb, request, world):
        sent.update(verb=verb, request=request)
        return primitive.result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hpc_agent.ops.run.invoke.invoke", invoke)
        assert function_of(primitive)(*arguments, **given) is primitive.result
    assert sent["verb"] == primitive.name
    return sent["request"]


@EVERY
def test_a_function_has_the_fields_of_its_request(primitive: Primitive):
    parameters = inspect.signature(function_of(primitive)).parameters
    assert set(parameters) == {*keywords(primitive), *(["progress"] if primitive.progress else [])}
    fields = {field.name: field for field in msgspec.structs.fields(primitive.request)}
    assert fields.keys() <= parameters.keys()
    required = {name for name, parameter in parameters.items() if parameter.default is parameter.empty}
    structs = {name for name, f in fields.items() if "$ref" in msgspec.json.schema(f.type) and not default_of_none(f)}
    assert required == {name for name, field in fields.items() if field.required} - structs
    by_keyword = [name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    assert set(parameters) - set(by_keyword) == ({primitive.positional} if primitive.positional else set())


def default_of_none(field) -> bool:
    return not field.required and default_of(field) is None


@EVERY
def test_a_function_says_what_each_argument_means(primitive: Primitive):
    function = function_of(primitive)
    text = inspect.getdoc(function) or ""
    assert text.startswith(primitive.summary)
    arguments = text.partition("\nArgs:\n")[2].partition("\nReturns:\n")[0]
    told = dict(re.findall(r"^    (\w+): (.*)$", arguments, re.MULTILINE))
    assert set(told) == set(inspect.signature(function).parameters)
    assert [name for name in inspect.signature(function).parameters if not told.get(name)] == []
    assert function.__annotations__["return"].rstrip("0123456789") == primitive.result.__name__
    for error in primitive.errors:
        assert f"\n    {error.__name__}: " in text


@EVERY
def test_what_is_given_is_the_request(primitive: Primitive):
    """Nothing that is left at its default is sent; the defaults, given one by one, are the request's own."""
    fields = {field.name: field for field in msgspec.structs.fields(primitive.request)}
    needed = {name: object_for(field.type) for name, field in fields.items() if field.required}
    assert document(primitive, **needed).keys() == needed.keys()
    defaults = {name: default_of(field) for name, field in fields.items() if not field.required}
    fresh = json.loads(json.dumps(defaults))
    sent = document(primitive, **needed, **fresh)
    assert {**fresh, **needed} == {**fresh, **sent}
    if not needed:
        assert envelope.convert(sent, primitive.request, primitive.name) == primitive.request()


def object_for(kind) -> object:
    """Some value of a type."""
    facts = msgspec.json.schema(kind)
    return {"string": "x", "integer": 1, "number": 1.5, "array": ["x"], "boolean": True}.get(
        facts.get("type"), {"x": 1}
    )


@pytest.mark.parametrize("name", [name for name, p in REGISTRY.items() if p.example])
def test_the_example_of_a_verb_is_a_call(name):
    primitive = REGISTRY[name]
    meant = envelope.convert(dict(primitive.example), primitive.request, name)
    assert envelope.convert(document(primitive, **primitive.example), primitive.request, name) == meant


def test_inner_fields_are_arguments_as_they_are_flags():
    submit = REGISTRY["submit"]
    spec = {"cluster": "c", "executor": "x", "resources": {"mem_mb": 100, "cpus": 2}}
    assert document(submit, **spec, mem_mb=500)["resources"] == {"mem_mb": 500, "cpus": 2}
    assert document(submit, cluster="c", executor="x", weight="n")["results"] == {"weight": "n"}
    assert document(REGISTRY["describe"], "submit") == {"name": "submit"}


def test_arguments_of_python_become_json():
    numpy = pytest.importorskip("numpy")
    from hpc_agent.ops.run.resources import Resources

    values = {
        "alpha": numpy.array([0.1, 0.5]), "seed": range(2), "fold": (numpy.int64(3),), "name": {"logspace": [1, 10, 2]},
    }  # fmt: skip
    sent = document(REGISTRY["build-tasks-py"], axes=values, experiment_dir=Path("here"))
    assert sent == {
        "axes": {"alpha": [0.1, 0.5], "seed": [0, 1], "fold": [3], "name": {"logspace": [1, 10, 2]}},
        "experiment_dir": "here",
    }
    assert json.loads(json.dumps(sent)) == sent
    resources = document(REGISTRY["submit"], cluster="c", executor="x", resources=Resources(mem_mb=7))["resources"]
    assert resources["mem_mb"] == 7
    with pytest.raises(api.HpcError) as caught:
        api.submit(cluster="local", executor="x", tasks=[{"x": object()}])
    assert (caught.value.error_code, caught.value.field) == ("spec_invalid", "tasks.x")


def test_the_import_is_light():
    """Modules of verbs, and msgspec, are imported when a verb is called."""
    program = (
        "import sys; from hpc_agent import api; api.submit; "
        "print([m for m in sys.modules if m.startswith(('hpc_agent.ops', 'hpc_agent.infra', 'msgspec', 'yaml', 'rich'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_an_alias_is_told_its_name():
    with pytest.raises(AttributeError, match=r"api\.aggregate\."):
        api.aggregate_flow  # noqa: B018
    with pytest.raises(AttributeError, match="'submit'"):
        api.sumbit  # noqa: B018
    assert set(api.__all__) == {*map(function_name, REGISTRY), "HpcError"}


GOOD = """
from pathlib import Path

from hpc_agent import RUNS_SUBDIR, RepoLayout, TASKS_FILENAME, load_tasks_module
from hpc_agent import _PACKAGE_ROOT, get_template_path, load_clusters_config
from hpc_agent import api
from hpc_agent.errors import HpcError, SpecInvalid
from hpc_agent.infra.backends import get_backend
from hpc_agent.infra.constraints import ClusterConstraints, parse_constraints
from hpc_agent.infra.remote import deploy_runtime
from hpc_agent.infra.throughput import WorkloadSpec, build_wave_map, compute_submission_plan
from hpc_agent.ops.run.resources import Resources
from hpc_agent.state.run_sha import compute_cmd_sha
from hpc_agent.state.runs import find_existing_runs, find_run_by_cmd_sha, read_run_sidecar, write_run_sidecar


def sweep(repo: Path) -> list[str]:
    try:
        run = api.submit(cluster="local", executor="python3 train.py", experiment_dir=repo, mem_mb=500, progress=True)
    except SpecInvalid as error:
        return [error.remediation, error.field or ""]
    again: bool = run.deduped
    seen = api.status(run_id=run.run_id, experiment_dir=repo)
    state: str = seen.lifecycle_state
    table = api.aggregate(run_id=run.run_id, over=["seed"], sort="loss", top=3)
    best = table.rows[0] if table.rows else []
    api.submit(cluster="c", executor="x", resources=Resources(cpus=2), early_stop={"metric": "loss", "reduction": 3})
    api.build_tasks_py(axes={"seed": range(3), "alpha": {"logspace": [1e-4, 10, 20]}})
    names = [row.run_id for row in api.list_in_flight().runs]
    described: str = api.describe("submit").summary
    return [state, described, *names, *map(str, best), *table.records()[0], str(again)]


def library() -> None:
    plan = compute_submission_plan(WorkloadSpec(total_tasks=6), parse_constraints({"max_array_size": 2}))
    waves: dict[str, str] = build_wave_map(plan)
    limits: ClusterConstraints = parse_constraints({})
    template: Path = get_template_path("slurm", "cpu_array")
    example: Path = next(_PACKAGE_ROOT.rglob("tasks_example.py"))
    module = load_tasks_module(Path("."))
    sha: str = compute_cmd_sha([{"x": 1}])
    layout = RepoLayout(Path("."))
    print(RUNS_SUBDIR, TASKS_FILENAME, waves, limits, template, example, module, sha, layout)
    print(load_clusters_config(), get_backend("sge"), deploy_runtime, find_existing_runs, find_run_by_cmd_sha)
    print(read_run_sidecar, write_run_sidecar, HpcError)
"""
BAD = {
    "api.status(run=1)": "call-arg",
    'api.submit(executor="x")': "call-arg",
    'api.submit(cluster="c", executor="x", mem_mb="1")': "arg-type",
    'api.aggregate(over="seed")': "arg-type",
    'api.aggregate(direction="up")': "arg-type",
    "api.status().nothing": "attr-defined",
    "api.aggregate_flow()": "attr-defined",
    "api.status(progress=True)": "call-arg",
}


@pytest.mark.timeout(600)
def test_a_type_checker_knows_each_keyword(tmp_path):
    """mypy --strict, with the settings and the cache of this project."""
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text(GOOD, encoding="utf-8")
    bad.write_text("\n".join(["from hpc_agent import api", *BAD]), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(good), str(bad)],
        cwd=ROOT, capture_output=True, text=True, timeout=500, check=False, env={**os.environ, "MYPY_FORCE_COLOR": "0"},
    )  # fmt: skip
    # the cache may have the same text under the path of an earlier test
    said = re.findall(r"(\w+\.py):(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE)
    wanted = [("bad.py", str(line), code) for line, code in enumerate(BAD.values(), 2)]
    assert (done.returncode, said) == (1, wanted), done.stdout + done.stderr


def test_progress_is_quiet_unless_it_is_asked_for(monkeypatch, capsys):
    monkeypatch.delenv("HPC_PROGRESS", raising=False)
    assert type(_call._reporter(False)).__name__ == "Progress"
    shown = _call._reporter(True)
    shown.update("pushing", files=12)
    shown.close()
    assert "pushing: files 12" in capsys.readouterr().err
    monkeypatch.setenv("HPC_PROGRESS", "none")
    assert type(_call._reporter(True)).__name__ == "Progress"
