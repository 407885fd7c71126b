"""``scaffold-spec``: write a valid example request of a verb."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import inspect as mi

from hpc_agent.contract.envelope import convert
from hpc_agent.contract.primitive import Primitive, Request, Result, load_all, primitive
from hpc_agent.errors import SpecInvalid
from hpc_agent.ops.run.fields import doc
from hpc_agent.world import World

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
    "cmd_sha": "0" * 64,
    "run_signature_sha": "0" * 64,
    "expected_cmd_sha": "0" * 64,
}
# Verbs with an example of their own.
WHOLE: dict[str, dict[str, Any]] = {
    "build-tasks-py": {"executors": ["ridge"], "axes": {"horizon": [1, 5, 25], "alpha": [0.1, 1.0]}, "task_count": 6},
    "interview": {
        "goal": "Which horizon can be forecast?",
        "task_count": 6,
        "executors": ["ridge"],
        "task_generator": {
            "kind": "cartesian_product",
            "params": {"axes": {"horizon": [1, 5, 25], "alpha": [0.1, 1.0]}},
        },
        "cluster_target": {"cluster": "local"},
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


@primitive(stage="author", errors=[SpecInvalid], positional="verb")
def scaffold_spec(request: ScaffoldSpecRequest, world: World) -> ScaffoldSpecResult:  # noqa: ARG001
    """Write a valid example request for a verb, with the required fields or with all fields."""
    chosen = _find(request.verb)
    fields = _fields(chosen.request)
    required = [field.encode_name for field in fields if field.required]
    spec = dict(WHOLE.get(chosen.name, {}))
    for field in fields:
        name = field.encode_name
        if name not in spec and field.required:
            spec[name] = _example(chosen.request, name) if name in EXAMPLES else _smallest(field.type)
        elif name not in spec and request.full:
            default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
            spec[name] = msgspec.to_builtins(default)
    # The verb must accept its own example.
    convert(spec, chosen.request, chosen.name)
    return ScaffoldSpecResult(verb=chosen.name, spec=spec, required=required)


def _example(request: type[Request], name: str) -> Any:
    """Return the example value of a field, or the smallest value if the example has another type."""
    kinds = {field.encode_name: field.type for field in msgspec.structs.fields(request)}
    try:
        msgspec.convert(EXAMPLES[name], kinds[name])
    except msgspec.ValidationError:
        return _smallest(next(f.type for f in _fields(request) if f.encode_name == name))
    return EXAMPLES[name]


def _fields(request: type[Request]) -> tuple[mi.Field, ...]:
    info = mi.type_info(request)
    assert isinstance(info, mi.StructType)
    return info.fields


def _find(verb: str) -> Primitive:
    known = load_all()
    for one in known.values():
        if verb in (one.name, *one.aliases):
            return one
    raise SpecInvalid(f"there is no verb '{verb}'", field="verb", remediation="See 'hpc-agent --help'.")


def _smallest(kind: mi.Type) -> Any:
    """Return a value of the type: the first choice, one, an empty list."""
    if isinstance(kind, mi.Metadata):
        return _smallest(kind.type)
    if isinstance(kind, mi.UnionType):
        return _smallest(kind.types[0])
    if isinstance(kind, mi.LiteralType):
        return kind.values[0]
    if isinstance(kind, mi.StructType):
        fields = {f.encode_name: EXAMPLES.get(f.encode_name, _smallest(f.type)) for f in kind.fields if f.required}
        return {**fields, **({kind.tag_field: kind.tag} if kind.tag_field else {})}
    if isinstance(kind, (mi.ListType, mi.DictType)):
        return [] if isinstance(kind, mi.ListType) else {}
    if isinstance(kind, mi.IntType):
        return max(1, kind.ge or 1)
    return {mi.FloatType: 1.0, mi.BoolType: False}.get(type(kind), "example")
