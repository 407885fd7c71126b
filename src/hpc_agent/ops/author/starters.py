"""``build-template``, ``build-executor`` and ``scaffold-spec``: write a skeleton, an executor or a request to start from."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import inspect as mi

from hpc_agent.contract.catalogue import default_of
from hpc_agent.contract.envelope import convert, did_you_mean
from hpc_agent.contract.primitive import Effect, Request, Result, by_any_name, primitive
from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.writing import scaffolds
from hpc_agent.experiment.writing.generated_file import compare_generated, write_generated
from hpc_agent.infra.transport import quote
from hpc_agent.ops.run.fields import ExperimentDir, doc
from hpc_agent.state.repo_files import experiment_root, local_path
from hpc_agent.world import World

# The skeleton for notebooks replaces some files of the script's skeleton.
LAYERS = {"script": ("template_script",), "notebook": ("template_script", "template_notebook")}
PLACEHOLDER = "EXPERIMENT_NAME"
CACHES = frozenset(("__pycache__", ".ipynb_checkpoints", ".ruff_cache", ".pytest_cache"))


class BuildTemplateRequest(Request):
    """The folder of the skeleton, and the form of a task."""

    repo_dir: Annotated[str, doc("folder of the experiment; made where it is missing")] = "."
    shape: Annotated[
        Literal["script", "notebook"], doc("a task is executors/train.py, or a function of a notebook")
    ] = "script"
    force: Annotated[bool, doc("replace files that were edited")] = False


class SkeletonFile(msgspec.Struct, frozen=True):
    path: str
    state: Annotated[
        Literal["written", "kept", "differs"],
        doc("kept: the same bytes were there; differs: other content was there and stays"),
    ]


class BuildTemplateResult(Result):
    repo_dir: str
    shape: str
    files: Annotated[list[SkeletonFile], doc("every file of the skeleton, by path")]
    differing: Annotated[int, doc("files that were kept with other content; --force replaces them")]
    next_steps: list[str]
    deduped: Annotated[bool, doc("true: nothing was written now")]


@primitive(
    stage="author",
    effects=[Effect.FILES],
    errors=[SpecInvalid],
    positional="repo_dir",
    brief="write a whole experiment",
    example={"repo_dir": "study"},
    next_verbs=["dry-run-local", "submit"],
)
def build_template(request: BuildTemplateRequest, world: World) -> BuildTemplateResult:
    """Write the skeleton of an experiment: a script or notebook, its grid, tests, Makefile and CI.

    The skeleton runs without changes: pytest passes, and its six tasks can be submitted. Your files are overwritten only
    with --force.
    """
    root = local_path(world.cwd, request.repo_dir, "repo_dir", is_folder=True)
    texts = skeleton(request.shape, re.sub(r"[^A-Za-z0-9]+", "-", root.name).strip("-").lower() or "experiment")
    states = {path: compare_generated(root / path, text, root) for path, text in texts.items()}
    files = []
    for path, text in texts.items():
        keep = states[path] == "differs" and not request.force
        state = "differs" if keep else write_generated(root / path, text, request.force, root)
        files.append(SkeletonFile(path, state))
    return BuildTemplateResult(
        repo_dir=str(root),
        shape=request.shape,
        files=files,
        differing=sum(file.state == "differs" for file in files),
        next_steps=[f"cd {quote([str(root)])}", "make test", "make plan", "make submit", "make table"],
        deduped=all(file.state != "written" for file in files),
    )


def skeleton(shape: str, project: str) -> dict[str, str]:
    """Return path in the repo -> text for every file, sorted by path."""
    texts = {}
    for layer in LAYERS[shape]:
        folder = scaffolds.SCAFFOLDS / layer
        for path in folder.rglob("*"):
            if path.is_file() and not CACHES & set(path.parts):
                # dot_hpc is stored for .hpc; .txt hides pyproject.toml from our own tools.
                parts = [re.sub("^dot_", ".", part) for part in path.relative_to(folder).parts]
                text = path.read_text(encoding="utf-8").replace(PLACEHOLDER, project)
                texts["/".join(parts).removesuffix(".txt")] = text
    return dict(sorted(texts.items()))


class BuildExecutorRequest(Request):
    """The name, the folder and the flags of the starter."""

    name: Annotated[str, doc("of the file and its function: letters, digits and '_'")]
    output_dir: Annotated[str, doc("folder of the file, below experiment_dir")] = "executors"
    shape: Annotated[
        scaffolds.Shape, doc("argparse: standard library; register-run: a decorated function; notebook: .ipynb")
    ] = "register-run"
    flags: Annotated[
        list[str] | None,
        doc('name:type=default (int, float, str, bool); no default: required: "horizon:int=5,name:str"'),
    ] = None
    force: Annotated[bool, doc("replace a file that was edited")] = False
    experiment_dir: ExperimentDir = "."


class BuildExecutorResult(Result):
    path: Annotated[str, doc("relative to experiment_dir where it lies inside")]
    shape: str
    state: Annotated[str, doc("written, or kept: it was there already, byte for byte")]
    flags: Annotated[list[str], doc("the options of its command line")]
    command: Annotated[str | None, doc("value for submit's executor; none for a notebook")]
    entry: Annotated[str | None, doc("file:function of the registered function; none for argparse")]
    source: Annotated[str, doc("the text of the file")]
    deduped: Annotated[bool, doc("true: nothing was written now")]


@primitive(
    stage="author",
    effects=[Effect.FILES],
    errors=[SpecInvalid],
    positional="name",
    brief="write a starter executor",
    example={"name": "baseline", "flags": ["horizon:int=5"]},
    next_verbs=["build-tasks-py", "dry-run-local"],
)
def build_executor(request: BuildExecutorRequest, world: World) -> BuildExecutorResult:
    """Write one starter executor with the flags you name. The starter runs without changes.

    The starter fits a small forecast on made-up data: replace the computation with your own. A file with other content
    is overwritten only with --force.
    """
    name = scaffolds.check_module_name(request.name, "name", scaffolds.TAKEN)
    flags = scaffolds.parse_flags(scaffolds.DEFAULT_FLAGS if request.flags is None else request.flags)
    root = experiment_root(world.cwd, request.experiment_dir).root
    is_notebook = request.shape == "notebook"
    folder = local_path(root, request.output_dir, "output_dir", is_folder=True)
    path = folder / (name + (".ipynb" if is_notebook else ".py"))
    source = scaffolds.executor_source(name, request.shape, flags)
    state = write_generated(path, source, request.force)
    shown = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    return BuildExecutorResult(
        path=shown,
        shape=request.shape,
        state=state,
        flags=[flag.option for flag in flags],
        command=None if is_notebook else scaffolds.command_of(quote([shown]), flags),
        entry=None if request.shape == "argparse" else f"{shown}:{name}",
        source=source,
        deduped=state == "kept",
    )


GRID = {"horizon": [1, 5, 25], "alpha": [0.1, 1.0]}
# Example values of fields; the other fields get the smallest value of their type.
EXAMPLES: dict[str, Any] = {
    "cluster": "local",
    "executor": "python3 .hpc/cli.py",
    "executors": ["ridge"],
    "axes": {"horizon": [1, 5, 25]},
    "goal": "Which horizon can be forecast?",
    "task_count": 3,
    "total_tasks": 1000,
    "walltime_sec": 3600,
    "mem_mb": 4000,
    "est_task_sec": 60,
    "run_name": "horizon-sweep",
    "verb": "submit",
    **dict.fromkeys(("cmd_sha", "run_signature_sha", "expected_cmd_sha"), "0" * 64),
}
# An example of each kind of task generator.
GENERATORS: dict[str, dict[str, Any]] = {
    "enumerated": {"items": [{"model": "ridge", "alpha": 0.1}, {"model": "lasso", "alpha": 1.0}]},
    "cartesian_product": {"axes": GRID},
    "items_x_seeds": {"items": [{"alpha": 0.1}, {"alpha": 1.0}], "seeds": [0, 1, 2]},
    "numeric_logspace": {"param": "alpha", "low": 0.0001, "high": 10, "n": 6},
    "numeric_linspace": {"param": "dropout", "low": 0, "high": 0.5, "n": 6},
    "from_manifest": {"path": "runs.csv"},
    "latin_hypercube": {"ranges": {"alpha": {"low": 0.0001, "high": 10, "log": True}}, "n": 20, "seed": 0},
    "sobol": {"ranges": {"depth": {"low": 2, "high": 8, "integer": True}}, "n": 16, "seed": 0},
}
# Verbs with an example of their own.
WHOLE: dict[str, dict[str, Any]] = {
    "compare": {"run_ids": ["horizon-sweep-1a2b3c4d", "horizon-sweep-5e6f7a8b"]},
    "build-tasks-py": {
        "executors": ["ridge"],
        "axes": {"alpha": {"logspace": [0.0001, 10, 6]}, "seed": [0, 1, 2]},
        "task_count": 18,
    },
    "interview": {
        "goal": EXAMPLES["goal"],
        "task_count": 6,
        "executors": ["ridge"],
        "task_generator": {"kind": "cartesian_product", "params": {"axes": GRID}},
        "cluster_target": {"cluster": "local"},
    },
    "submit-flow-batch": {
        "common": {"cluster": "local", "executor": EXAMPLES["executor"]},
        "specs": [{"run_name": "short", "tasks": [{"horizon": 1}]}, {"run_name": "long", "tasks": [{"horizon": 25}]}],
    },
}


class ScaffoldSpecRequest(Request):
    """The verb, and the fields to write."""

    verb: Annotated[str, doc("a verb, as capabilities lists it")]
    full: Annotated[bool, doc("with every field, at its default")] = False


class ScaffoldSpecResult(Result):
    verb: str
    spec: Annotated[dict[str, Any], doc("for 'hpc-agent VERB --spec -'; checked against the verb's schema")]
    required: list[str]
    generators: Annotated[
        dict[str, dict[str, Any]], doc("kind of task_generator -> example params; axes beside one make the product")
    ] = {}


@primitive(
    stage="author",
    errors=[SpecInvalid],
    positional="verb",
    brief="an example request",
    example={"verb": "submit"},
    next_verbs=["describe"],
)
def scaffold_spec(request: ScaffoldSpecRequest, world: World) -> ScaffoldSpecResult:  # noqa: ARG001
    """Write a valid example request for a verb, with the required fields or with all fields."""
    chosen = by_any_name().get(request.verb)
    if chosen is None:
        message = f"there is no verb '{request.verb}'"
        remedy = did_you_mean(request.verb, by_any_name()) + "See 'hpc-agent --help'."
        raise SpecInvalid(message, field="verb", remediation=remedy)
    fields: Any = msgspec.structs.fields(chosen.request)
    spec = dict(WHOLE.get(chosen.name, {}))
    for field in fields:
        name = field.encode_name
        if name not in spec and field.required:
            spec[name] = _example(name, field.type)
        elif name not in spec and request.full:
            spec[name] = default_of(field)
    # The verb must accept its own example.
    convert(spec, chosen.request, chosen.name)
    required = [field.encode_name for field in fields if field.required]
    generators = GENERATORS if any(field.encode_name == "task_generator" for field in fields) else {}
    return ScaffoldSpecResult(verb=chosen.name, spec=spec, required=required, generators=generators)


def _example(name: str, annotation: Any) -> Any:
    """Return the example value of a field, or the smallest value if there is none of this type."""
    try:
        msgspec.convert(EXAMPLES[name], annotation)
    except (KeyError, msgspec.ValidationError):
        return _smallest(mi.type_info(annotation))
    return EXAMPLES[name]


def _smallest(kind: mi.Type) -> Any:
    """Return a value of the type: the first choice, one, the shortest list."""
    if isinstance(kind, mi.Metadata):
        return _smallest(kind.type)
    if isinstance(kind, mi.UnionType):
        return _smallest(kind.types[0])
    if isinstance(kind, mi.LiteralType):
        return kind.values[0]
    if isinstance(kind, mi.StructType):
        fields = {f.encode_name: EXAMPLES.get(f.encode_name, _smallest(f.type)) for f in kind.fields if f.required}
        return {**fields, **({kind.tag_field: kind.tag} if kind.tag_field else {})}
    if isinstance(kind, mi.IntType):
        return max(1, kind.ge or 1)
    if isinstance(kind, mi.ListType):
        return [_smallest(kind.item_type)] * (kind.min_length or 0)
    plain = {mi.DictType: {}, mi.FloatType: 1.0, mi.BoolType: False}
    return plain.get(type(kind), "example")
