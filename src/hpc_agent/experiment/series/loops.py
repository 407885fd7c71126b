"""Three templates of loops: a stencil or a deque, an exponential average, and a running fold."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from hpc_agent.experiment.series.column_methods import MATH, SCALAR_BUILTINS, WINDOW_FUNCTIONS, Fold
from hpc_agent.experiment.series.columns import OPERATORS, Columns
from hpc_agent.experiment.series.rows_needed import (
    ONE,
    ZERO,
    Container,
    Doubt,
    Linear,
    Number,
    Reach,
    Series,
    Stateful,
    Value,
    rows,
)


class Reader(Columns):
    """The rules of columns and of loops."""

    def statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.For):
            loop = _loop(self, node.target, node.iter)
            try:
                _run(loop, node)
            except Doubt:
                _refuse_state(node.body)
                raise
            return
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            container = _container(self, node.value)
            if container is not None:
                self.known[node.targets[0].id] = container
                return
        super().statement(node)

    def value(self, node: ast.AST) -> Value:
        if not isinstance(node, ast.ListComp):
            return super().value(node)
        if len(node.generators) != 1 or node.generators[0].ifs or node.generators[0].is_async:
            raise Doubt(node, "rows are left out or loops are nested here")
        loop = _loop(self, node.generators[0].target, node.generators[0].iter)
        _row_value(loop, node.elt)
        return _stencil(loop, node, self.series(node, loop.source))


def _refuse_state(body: list[ast.stmt]) -> None:
    """Raise Stateful where a name is set from its own value."""
    seen: set[str] = set()
    for part in ast.walk(ast.Module(body, [])):
        target = part.targets[0] if isinstance(part, ast.Assign) else getattr(part, "target", None)
        if isinstance(part, ast.Assign | ast.AugAssign) and isinstance(target, ast.Name):
            if (target.id in _names(part.value)) != isinstance(part, ast.AugAssign) and target.id not in seen:
                raise Stateful(part, f"'{target.id}' carries a state from row to row")
            seen.add(target.id)


def _names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _container(reader: Columns, node: ast.expr) -> Container | None:
    """Read ``[]``, ``deque(maxlen=k)`` and ``x[0]``."""
    if isinstance(node, ast.List) and not node.elts:
        return Container("list")
    if isinstance(node, ast.Call) and reader.names.path_of(node.func) == "collections.deque" and not node.args:
        words = [keyword.arg for keyword in node.keywords]
        return Container("deque", reader.rows_of(node.keywords[0].value)) if words == ["maxlen"] else None
    if isinstance(node, ast.Subscript) and ast.unparse(node.slice) == "0" and isinstance(node.value, ast.Name):
        return Container("first") if isinstance(reader.known.get(node.value.id), Series) else None
    return None


@dataclass
class Loop:
    """One loop over the rows: the names of its row's value or number, and the rows that its values were seen to need."""

    reader: Columns
    series: str
    node: ast.AST
    item: str | None = None
    index: str | None = None
    first: Linear = ZERO  # the smallest row number at this place, after ``i >= k``
    state: str | None = None  # the average or total of the rows so far
    window: str | None = None  # a deque
    back: Reach = field(default_factory=Reach)
    ahead: Reach = field(default_factory=Reach)

    @property
    def source(self) -> Value:
        return self.reader.known[self.series]


def _loop(reader: Columns, target: ast.expr, source: ast.expr) -> Loop:
    """Read the head of a loop. Raises Doubt for any other than over x or range(len(x))."""
    if isinstance(target, ast.Name) and isinstance(source, ast.Name):
        return Loop(reader, _series_name(reader, source), source, item=target.id)
    length = _only_argument(reader, source, "builtins.range")
    series = _only_argument(reader, length, "builtins.len")
    if isinstance(target, ast.Name) and series is not None:
        return Loop(reader, _series_name(reader, series), source, index=target.id)
    raise Doubt(source, "no template has this loop")


def _only_argument(reader: Columns, node: ast.expr | None, path: str) -> ast.expr | None:
    """Return x of ``path(x)``, None for another expression."""
    if (
        isinstance(node, ast.Call)
        and len(node.args) == 1
        and not node.keywords
        and reader.names.path_of(node.func) == path
    ):
        return node.args[0]
    return None


def _series_name(reader: Columns, node: ast.AST) -> str:
    if isinstance(node, ast.Name) and isinstance(reader.known.get(node.id), Series):
        return node.id
    raise Doubt(node, "the loop does not run over the rows of a series that has a name")


def _row_values(loop: Loop, *nodes: ast.expr) -> None:
    for node in nodes:
        _row_value(loop, node)


def _row_value(loop: Loop, node: ast.expr) -> None:
    """Take in an expression of values of rows near this one. Raises Doubt for any other."""
    if isinstance(node, ast.Constant):
        return
    if isinstance(node, ast.Name):
        if node.id in (loop.index, loop.window):
            raise Doubt(node, f"'{node.id}' itself goes into the value")
        if node.id not in (loop.item, loop.state):
            loop.reader.number(node)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, OPERATORS):
        _row_values(loop, node.left, node.right)
    elif isinstance(node, ast.UnaryOp):
        _row_value(loop, node.operand)
    elif isinstance(node, ast.Compare) and not any(
        isinstance(op, ast.In | ast.NotIn | ast.Is | ast.IsNot) for op in node.ops
    ):
        _row_values(loop, node.left, *node.comparators)
    elif isinstance(node, ast.IfExp):
        _choice(loop, node)
    elif isinstance(node, ast.Attribute):
        loop.reader.number(node)
    elif isinstance(node, ast.Subscript):
        _cell(loop, node)
    elif isinstance(node, ast.Call) and not node.keywords:
        _row_call(loop, node)
    else:
        raise Doubt(node, f"no rule for {ast.unparse(node)[:80]} in a loop")


def _row_call(loop: Loop, node: ast.Call) -> None:
    path = loop.reader.names.path_of(node.func) or ""
    module, _, name = path.partition(".")
    if path in WINDOW_FUNCTIONS and len(node.args) == 1:
        argument = node.args[0]
        if isinstance(argument, ast.Name) and argument.id == loop.window:
            return
        if isinstance(argument, ast.Subscript) and isinstance(argument.slice, ast.Slice):
            _slice(loop, argument, argument.slice)
            return
    scalar = (module == "math" and name in MATH) or (module == "builtins" and name in SCALAR_BUILTINS)
    if not scalar or (name in ("min", "max") and len(node.args) < 2):
        raise Doubt(node, f"no rule for {ast.unparse(node)[:60]} in a loop")
    _row_values(loop, *node.args)


def _offset(loop: Loop, node: ast.AST) -> Linear:
    """Read ``i``, ``i - 3``, ``i + k + 1`` as the rows after row i."""
    if isinstance(node, ast.Name) and node.id == loop.index:
        return ZERO
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        sign = 1 if isinstance(node.op, ast.Add) else -1
        return _offset(loop, node.left).plus(loop.reader.rows_of(node.right), sign)
    raise Doubt(node, "this row's number is not the loop's own plus or minus a number of rows")


def _own_series(loop: Loop, node: ast.Subscript) -> None:
    if not (isinstance(node.value, ast.Name) and node.value.id == loop.series and loop.index):
        raise Doubt(node, "only rows of the series that is looped over are known here")


def _cell(loop: Loop, node: ast.Subscript) -> None:
    """Take in ``x[i - k]``. Raises Doubt where the row number can be negative, which Python reads from the end."""
    _own_series(loop, node)
    offset = _offset(loop, node.slice)
    if _below_first(loop.first.plus(offset)):
        raise Doubt(node, "the row's number may be negative here, which is read from the end of the series")
    _reached(loop, offset)


def _reached(loop: Loop, offset: Linear) -> None:
    """Take in the row ``offset`` rows after the loop's own. A parameter in it counts as not negative."""
    signs = {count > 0 for _, count in offset.terms}
    if len(signs) > 1:
        raise Doubt(loop.node, "the parameters decide if this row is before or after the loop's own")
    _not_negative(loop, offset)
    before = ZERO.plus(offset, -1)
    loop.back = loop.back.or_more(rows(before if signs == {False} else max(0, before.constant)))
    loop.ahead = loop.ahead.or_more(rows(offset if signs == {True} else max(0, offset.constant)))


def _not_negative(loop: Loop, linear: Linear) -> None:
    for name, _ in linear.terms:
        caveat = f"the halo holds where {name} is not negative"
        if caveat not in loop.reader.notes.caveats:
            loop.reader.notes.caveats.append(caveat)


def _below_first(linear: Linear) -> bool:
    """Return False where a row's number is at least 0 for parameters that are not negative."""
    return linear.constant < 0 or any(count < 0 for _, count in linear.terms)


def _slice(loop: Loop, node: ast.Subscript, part: ast.Slice) -> None:
    """Take in ``x[max(0, i - k) : i + 1]``."""
    _own_series(loop, node)
    if part.lower is None or part.upper is None or part.step is not None:
        raise Doubt(node, "the slice grows with the series, or leaves rows out")
    lower, clipped = part.lower, False
    if isinstance(lower, ast.Call) and loop.reader.names.path_of(lower.func) == "builtins.max":
        clipped = len(lower.args) == 2 and ast.unparse(lower.args[0]) == "0"
        lower = lower.args[1] if clipped else lower
    start, end = _offset(loop, lower), _offset(loop, part.upper)
    if (not clipped and _below_first(loop.first.plus(start))) or _below_first(loop.first.plus(end)):
        raise Doubt(node, "the slice may reach before the first row, which is read from the end: use max(0, ...)")
    _reached(loop, start)
    _reached(loop, end.plus(ONE, -1))


def _choice(loop: Loop, node: ast.IfExp) -> None:
    """Take in ``a if i >= k else b``: the rows before k see another branch. Other conditions are of values only."""
    test = node.test
    if not (isinstance(test, ast.Compare) and ast.unparse(test.left) == loop.index):
        _row_values(loop, test, node.body, node.orelse)
        return
    if len(test.ops) != 1 or not isinstance(test.ops[0], ast.GtE):
        raise Doubt(node, "no rule for this condition on the row's number")
    begins = loop.reader.rows_of(test.comparators[0])
    if _below_first(begins):
        raise Doubt(node, "the condition holds from a row before the first one on")
    loop.back = loop.back.or_more(rows(begins))
    _not_negative(loop, begins)
    _row_value(loop, node.orelse)
    before, loop.first = loop.first, begins
    _row_value(loop, node.body)
    loop.first = before


def _stencil(loop: Loop, node: ast.AST, source: Series) -> Series:
    if loop.back.alternatives or loop.ahead.alternatives:
        loop.reader.notes.show(node, f"a stencil of {loop.back} rows before and {loop.ahead} after")
    return source.after(loop.back, loop.ahead)


def _run(loop: Loop, node: ast.For) -> None:
    """Take in one loop of the function's body; its results get their names. Raises Doubt when no template fits."""
    reader, body = loop.reader, list(node.body)
    if node.orelse or {loop.item, loop.index} & set(reader.known):
        raise Doubt(node, "no rule for a loop with else, or over a name that another value has")
    state = _update(loop, body[0])
    if state is not None:
        body.pop(0)
    outputs = [_output(loop, statement) for statement in body]
    if len(outputs) > 1 or (not outputs and (state is None or state.fold is None)):
        raise Doubt(node, "no template has this loop")
    if state and state.fold:
        if loop.back.alternatives or loop.ahead.alternatives:
            raise Doubt(node, "rows of the halo would be counted twice: fold trim_emission(...) of the terms")
        result = reader.folded(node, loop.source, state.fold)
    else:
        source = reader.series(node, loop.source)
        result = _stencil(loop, node, source.after(state.back) if state else source)
    for name in outputs:
        reader.known[name] = result
    for carried in filter(None, (loop.state, loop.window)):
        del reader.known[carried]  # after the loop it holds the last row's value
    if state and state.fold and not outputs:
        reader.known[str(loop.state)] = Series(result.back, result.ahead, Fold(state.fold.monoid, False))


def _output(loop: Loop, node: ast.stmt) -> str:
    """Take in ``out.append(value)``; return the list's name."""
    owner, value = _appended(node)
    if value is None or loop.reader.known.get(owner) != Container("list"):
        raise Doubt(node, "no template has this statement of a loop")
    fold = loop.state and loop.reader.known.get(loop.state)
    if isinstance(fold, Series) and fold.fold and not (isinstance(value, ast.Name) and value.id == loop.state):
        raise Doubt(node, "a running total goes into other values here")
    _row_value(loop, value)
    return owner


def _appended(node: ast.stmt) -> tuple[str, ast.expr | None]:
    """Return the names of ``owner.append(value)``; no value for another statement."""
    call = node.value if isinstance(node, ast.Expr) else None
    method = call.func if isinstance(call, ast.Call) and len(call.args) == 1 and not call.keywords else None
    if isinstance(method, ast.Attribute) and method.attr == "append" and isinstance(method.value, ast.Name):
        return method.value.id, call.args[0]  # type: ignore[union-attr]
    return "", None


def _update(loop: Loop, node: ast.stmt) -> Series | None:
    """Take in a loop's first statement where it updates a deque, an average or a fold; None where it does not."""
    reader = loop.reader
    owner, appended = _appended(node)
    ring = reader.known.get(owner)
    if appended is not None and isinstance(ring, Container) and ring.kind == "deque":
        _row_value(loop, appended)
        loop.window = owner
        reader.notes.show(node, f"a deque of {ring.size} rows")
        return Series(rows(ring.size.plus(ONE, -1)))
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
        target: ast.expr = node.target
        value: ast.expr = ast.copy_location(ast.BinOp(ast.Name(ast.unparse(target)), ast.Add(), node.value), node)
    elif isinstance(node, ast.Assign) and len(node.targets) == 1:
        target, value = node.targets[0], node.value
    else:
        return None
    name = ast.unparse(target)
    before = reader.known.get(name)
    if not (isinstance(before, Number) or before == Container("first")):
        raise Doubt(node, f"'{name}' is not known before the loop")
    found = _fold_of(loop, name, value) or _average_of(loop, name, value)
    if found is None:
        raise Doubt(node, f"'{name}' is no average and no fold")
    loop.state, reader.known[name] = name, found
    return found


def _fold_of(loop: Loop, name: str, value: ast.expr) -> Series | None:
    """Return the fold of ``s + value`` that starts at 0, or of ``max(s, value)``."""
    path = loop.reader.names.path_of(value.func) if isinstance(value, ast.Call) else None
    parts: list[ast.expr] = []
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add) and loop.reader.known[name] == Number(ZERO):
        parts, monoid = [value.left, value.right], "sum"
    elif path in ("builtins.max", "builtins.min") and isinstance(value, ast.Call) and not value.keywords:
        parts, monoid = list(value.args), path[-3:]
    others = [part for part in parts if ast.unparse(part) != name]
    if len(parts) != 2 or len(others) != 1 or name in _names(others[0]):
        return None
    _row_value(loop, others[0])
    return Series(fold=Fold(monoid, True))


def _average_of(loop: Loop, name: str, value: ast.expr) -> Series | None:
    """Return the reach of ``alpha * v + (1 - alpha) * y``, in either order; None where the average does not fade."""
    if not isinstance(value, ast.BinOp) or not isinstance(value.op, ast.Add):
        return None
    for own, other in ((value.left, value.right), (value.right, value.left)):
        factors = [own.left, own.right] if isinstance(own, ast.BinOp) and isinstance(own.op, ast.Mult) else []
        rest = [factor for factor in factors if ast.unparse(factor) != name]
        if len(rest) == 1 and name not in _names(rest[0]) | _names(other):
            reach = _fading(loop, rest[0])
            if reach is not None:
                _row_value(loop, other)
                return Series(reach)
    return None


def _fading(loop: Loop, factor: ast.expr) -> Reach | None:
    """Return the rows until ``factor ** rows`` is below 2 ** -128. None where the factor is another one than known here."""
    share: str | None = None
    if isinstance(factor, ast.BinOp) and isinstance(factor.op, ast.Sub) and ast.unparse(factor.left) in ("1", "1.0"):
        factor, share = factor.right, "{0}"
    number = factor.value if isinstance(factor, ast.Constant) and type(factor.value) in (int, float) else None
    if isinstance(number, int | float):
        kept = number if share is None else 1 - number
        return loop.reader.forgotten(factor, f"89 // {1 - abs(kept)!r}", 1, True) if abs(kept) < 1 - 1e-6 else None
    linear = loop.reader.number(factor).linear if isinstance(factor, ast.Name) else None
    if linear is None or not str(linear).isidentifier():
        return None
    smaller = "min({0}, 2 - {0})" if share else "min(1 - {0}, {0} + 1)"
    return loop.reader.forgotten(factor, "89 // " + smaller.format(linear), 1, False)
