"""Flags of absl: each ``flags.DEFINE_...`` of the modules that a script imports."""

from __future__ import annotations

from hpc_agent.experiment.reading import syntax
from hpc_agent.experiment.reading.flag_facts import ExecutorFacts, FlagFacts, FlagType
from hpc_agent.experiment.reading.modules import Module, StartedCall

_TYPES: dict[str, FlagType] = {"float": "float", "integer": "int", "bool": "bool", "boolean": "bool"}
_KNOWN = (*_TYPES, "string", "enum", "enum_class", "list", "spaceseplist")
_REQUIRED = ("mark_flag_as_required", "mark_flags_as_required")


def read_absl(module: Module, facts: ExecutorFacts) -> None:
    required: list[object] = []
    for call in module.started:
        _, mark, kind = call.name.rpartition("DEFINE_")
        last = call.name.rpartition(".")[2]
        if mark:
            _define(call, kind, facts)
        elif last in _REQUIRED and call.node.args:
            value = call.module.scope.value_or(call.node.args[0], None)
            required += value if isinstance(value, list) else [value]
    for flag in facts.flags:
        flag.required |= flag.name in required and flag.default is None


def _define(call: StartedCall, kind: str, facts: ExecutorFacts) -> None:
    """Add one flag: ``DEFINE_float(name, default, help)``, ``DEFINE_enum(name, default, values, help)``."""
    scope, given = call.module.scope, syntax.keywords_of(call.node)
    arguments = dict(enumerate(call.node.args))
    name = scope.value_or(arguments.get(0, given.get("name")), None)
    plain = kind.removeprefix("multi_")
    if kind in ("alias", "alias_flag"):
        return
    if not isinstance(name, str) or plain not in _KNOWN:
        facts.doubt(f"{call.place}: the flags of DEFINE_{kind} are not listed")
        return
    flag = FlagFacts(name=name, options=["--" + name], type=_TYPES.get(plain, "str"))
    default = arguments.get(1, given.get("default"))
    if default is not None:
        flag.dynamic = not flag.set_default(default, scope)
    flag.required = scope.value_or(given.get("required"), False) is True
    if plain == "enum" and (values := arguments.get(2, given.get("enum_values"))) is not None:
        flag.set_choices(values, scope)
    flag.help = str(scope.value_or(arguments.get(3 if plain.startswith("enum") else 2, given.get("help")), ""))
    if plain != kind:
        flag.action = "append"
    elif flag.type == "bool":
        flag.action = "store_bool"
    elif plain == "list":
        flag.nargs = ","
    facts.flags.append(flag)
