"""Flags made from annotations: dataclasses and functions for tyro, simple-parsing, HfArgumentParser, Tap and jsonargparse."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from hpc_agent.experiment.reading import syntax
from hpc_agent.experiment.reading.flag_facts import TYPES, ExecutorFacts, FlagFacts
from hpc_agent.experiment.reading.modules import Found, Module, bases_of, lineage
from hpc_agent.experiment.reading.signature_flags import flag_of_parameter, inner_types, parameters_of, without_none

_FIELD = ("field", "Field", "HfArg", "attrib", "ib", "mutable_field", "list_field", "choice", "flag")
_FACTORIES = {"list": ast.List([], ast.Load()), "dict": ast.Dict([], []), "tuple": ast.Tuple([], ast.Load())}
_PLAIN_BASES = ("object", "Protocol", "Generic", "ABC", "BaseModel", "Tap", "NamedTuple", "Serializable", "NNModule")
_SKIPPED = ("ClassVar", "Suppress", "Fixed", "InitVar")


@dataclass(frozen=True)
class Style:
    """How a library spells its options. ``bools``: --x and --no-x, an option with a value, or one that turns the default."""

    bools: Literal["pair", "value", "turn"]
    dashes: bool = False
    nested: bool = False
    json: bool = False
    by_value: bool = False  # an Enum is given by its value instead of its name


class Field(NamedTuple):
    """One parameter of a function or one field of a class; ``default`` is ``...`` in the source for an unknown one."""

    name: str
    annotation: ast.expr | None
    default: ast.expr | None
    module: Module
    help: str = ""
    choices: ast.expr | None = None


def flags_of(found: Found, style: Style, facts: ExecutorFacts, prefix: tuple[str, ...] = ()) -> list[FlagFacts]:
    """Return the flags of a function's parameters or of a class's fields, and those of the classes that are its types."""
    flags: list[FlagFacts] = []
    for one in fields_of(found, facts):
        annotation = without_none(one.annotation) if one.annotation is not None else None
        inner = one.module.find(syntax.dotted(annotation))
        if one.name.startswith("_") or syntax.last_name(getattr(one.annotation, "value", None)) in _SKIPPED:
            continue
        if inner is not None and isinstance(inner.node, ast.ClassDef) and not _is_enum(inner):
            if len(prefix) > 5 or inner.node is found.node or annotation is not one.annotation:
                facts.doubt(f"the flags of {one.name}, a {inner.node.name}, are not listed")
            else:
                flags += flags_of(inner, style, facts, (*prefix, one.name) if style.nested else ())
            continue
        flags.append(_flag(one, style, facts, prefix, inner))
    return flags


def _flag(one: Field, style: Style, facts: ExecutorFacts, prefix: tuple[str, ...], enum: Found | None) -> FlagFacts:
    scope = one.module.scope
    flag = flag_of_parameter((ast.arg(one.name, _unwrapped(one.annotation)), one.default), scope)
    flag.inferred &= style.json  # jsonargparse takes any value for a parameter without an annotation
    flag.required |= syntax.last_name(one.default) == "MISSING"
    flag.help = one.help
    if one.choices is not None:
        flag.set_choices(one.choices, scope)
    if enum is not None:
        items = [node for node in enum.node.body if isinstance(node, ast.Assign)]
        values = [scope.value_or(node.value, None) for node in items]
        flag.choices = values if style.by_value else [syntax.dotted(node.targets[0]) for node in items]
    if flag.choices:
        flag.type = "str"
    if flag.type == "json" and _is_scalar_union(one.annotation):
        flag.type = "str"  # the library reads 1 and x from the bare words
    words = [part.replace("_", "-") if style.dashes else part for part in (*prefix, one.name)]
    flag.name, flag.options = "__".join((*prefix, one.name)), ["--" + ".".join(words)]
    if syntax.last_name(getattr(one.annotation, "value", None)) == "Positional":
        flag.options = []
    if flag.type == "bool" and flag.nargs is None:
        _set_bool(flag, style)
    elif style.json and flag.nargs is not None:
        flag.type, flag.nargs = "json", None
    elif flag.type == "json" and not style.json:
        flag.dynamic = True
        flag.type = "json" if isinstance(flag.default, (list, dict)) else "str"
        inner = without_none(one.annotation) if one.annotation is not None else None
        if isinstance(inner, (ast.Subscript, ast.BinOp)):
            facts.doubt(f"the values of {flag.name}: {ast.unparse(inner)} are not checked")
    return flag


def _is_scalar_union(node: ast.expr | None) -> bool:
    """Return True for ``Union[int, str]`` and ``int | str | None``: no member is written as JSON."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _is_scalar_union(node.left) and _is_scalar_union(node.right)
    if isinstance(node, ast.Subscript) and syntax.last_name(node.value) in ("Union", "Optional"):
        return all(map(_is_scalar_union, inner_types(node)))
    return (isinstance(node, ast.Constant) and node.value is None) or syntax.last_name(node) in TYPES


def _set_bool(flag: FlagFacts, style: Style) -> None:
    option = flag.options[0] if flag.options else ""
    if style.bools == "turn":
        flag.action = "store_false" if flag.default is True else "store_true"
    elif style.bools == "value" or flag.required or not option:
        flag.action = "store_bool"
    else:
        start, _, last = option.rpartition(".")
        flag.action = "boolean_optional"
        flag.options.append(f"{start}.no-{last}" if start else "--no-" + option[2:])


def _unwrapped(node: ast.expr | None) -> ast.expr | None:
    """Return T for ``Positional[T]`` and other marks of tyro."""
    marked = isinstance(node, ast.Subscript) and syntax.dotted(node.value).startswith(("tyro.", "Positional"))
    return inner_types(node)[0] if marked and node is not None else node


def fields_of(found: Found, facts: ExecutorFacts) -> list[Field]:
    """Return the parameters of a function, of a class's ``__init__``, or the annotated fields of a class and its bases."""
    if isinstance(found.node, syntax.Function):
        if found.node.args.kwarg is not None:
            facts.doubt(f"{found.node.name}() takes any parameter")
        return [Field(a.arg, a.annotation, default, found.module) for a, default in parameters_of(found.node)]
    classes = lineage(found)
    is_dataclass = any("dataclass" in syntax.last_name(node) for node in found.node.decorator_list)
    starts = ((node, one.module) for one in classes for node in one.node.body if isinstance(node, syntax.Function))
    start = next((Found(node, module) for node, module in starts if node.name == "__init__"), None)
    if start is not None and not is_dataclass:
        return fields_of(start, facts)
    fields: dict[str, Field] = {}
    for owner in reversed(classes):
        for base in owner.node.bases if isinstance(owner.node, ast.ClassDef) else ():
            if owner.module.find(syntax.dotted(base)) is None and _base(base) not in _PLAIN_BASES:
                facts.doubt(f"the flags of {owner.module.full_name(base)} are not listed")
        fields.update((one.name, one) for one in _own_fields(owner))
    return list(fields.values())


def _base(node: ast.expr) -> str:
    return syntax.last_name(node.value if isinstance(node, ast.Subscript) else node)


def _own_fields(owner: Found) -> Iterator[Field]:
    body = owner.node.body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        text = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            text = str(after.value.value).strip()
        if isinstance(node.value, ast.Call) and syntax.last_name(node.value) in _FIELD:
            yield from _of_field(node.target.id, node.annotation, node.value, owner.module, text)
        else:
            yield Field(node.target.id, node.annotation, node.value, owner.module, text)


def _of_field(name: str, annotation: ast.expr, call: ast.Call, module: Module, text: str) -> Iterator[Field]:
    """Yield the field of ``field(default=..., metadata={"help": ...})``; none for one that is not a parameter."""
    given = syntax.keywords_of(call)
    word = syntax.last_name(call)
    settings = module.scope.value_or(given.get("metadata"), None)
    settings = settings if isinstance(settings, dict) else {}
    text = str(module.scope.value_or(given.get("help"), settings.get("help", text)))
    choices: ast.expr | None = ast.List(call.args, ast.Load()) if word == "choice" else None
    if "choices" in settings:
        choices = ast.parse(repr(settings["choices"]), mode="eval").body
    default = given.get("default", call.args[0] if call.args and word in ("flag", "Field", "mutable_field") else None)
    factory = given.get("default_factory", given.get("factory"))
    if factory is not None:
        default = factory.body if isinstance(factory, ast.Lambda) else _FACTORIES.get(syntax.dotted(factory), factory)
    if isinstance(default, ast.Constant) and default.value is ...:
        default = None
    if module.scope.value_or(given.get("init"), True) is not False:
        yield Field(name, annotation, default, module, text, choices)


def _is_enum(found: Found) -> bool:
    return any(_base(base).endswith(("Enum", "IntFlag")) for base, _ in bases_of(found))
