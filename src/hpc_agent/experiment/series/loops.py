"""Three templates of loops: a stencil or a deque, an exponential average, and a running fold."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass, field

from hpc_agent.experiment.series.column_methods import (
    DECAY,
    EXACT,
    FADES,
    MATH,
    SCALAR_BUILTINS,
    WINDOW_BUILTINS,
    WINDOW_NUMPY,
    Fold,
)
from hpc_agent.experiment.series.columns import ONE, OPERATORS, Columns
from hpc_agent.experiment.series.reach import ZERO, Linear, Reach, named, rows
from hpc_agent.experiment.series.values import Container, Doubt, Frame, Number, Series, Stateful, Value

BITS = 128


class Reader(Columns):
    """The rules of columns and of loops."""

    def statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.For):
            run(self, node)
            return
        simple = isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
        container = _container(self, node.value) if simple else None  # type: ignore[attr-defined]
        if container is None:
            super().statement(node)
        else:
            self.known[node.targets[0].id] = container  # type: ignore[attr-defined]

    def value(self, node: ast.AST) -> Value:
        return comprehension(self, node) if isinstance(node, ast.ListComp) else super().value(node)


def _container(reader: Columns, node: ast.expr) -> Container | None:
    """Read ``[]``, ``[0.0] * len(x)``, ``np.zeros(len(x))``, ``deque(maxlen=k)`` and ``x[0]``."""
    path = reader.names.path_of(node.func) if isinstance(node, ast.Call) else None
    if isinstance(node, ast.List) and not node.elts:
        return Container("list")
    repeated = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) and isinstance(node.left, ast.List)
    if repeated and len(node.left.elts) == 1 and _length(reader, node.right)[1] == ZERO:  # type: ignore[attr-defined]
        reader.number(node.left.elts[0])  # type: ignore[attr-defined]
        return Container("filled")
    if isinstance(node, ast.Call) and path in ("numpy.zeros", "numpy.ones", "numpy.zeros_like", "numpy.full"):
        if path == "numpy.zeros_like":
            _series_name(reader, node.args[0])
        elif _length(reader, node.args[0])[1] != ZERO:
            return None
        if len(node.args) == (2 if path == "numpy.full" else 1) and not node.keywords:
            for part in node.args[1:]:
                reader.number(part)
            return Container("filled")
    if isinstance(node, ast.Call) and path == "collections.deque" and not node.args:
        words = [keyword.arg for keyword in node.keywords]
        return Container("deque", reader.rows_of(node.keywords[0].value)) if words == ["maxlen"] else None
    if isinstance(node, ast.Subscript) and ast.unparse(node.slice) == "0" and isinstance(node.value, ast.Name):
        return Container("first") if isinstance(reader.known.get(node.value.id), Series | Frame) else None
    return None


@dataclass
class Loop:
    """One loop over the rows: the names of its row's value and number, and what is known of it."""

    reader: Columns
    series: str
    node: ast.AST
    item: str | None = None
    index: str | None = None
    first: Linear = ZERO  # the loop's first row
    last: Linear = ZERO  # so many rows before the end it stops
    state: str | None = None  # the average or total of the rows so far
    window: str | None = None  # a deque
    back: Reach = field(default_factory=Reach)
    ahead: Reach = field(default_factory=Reach)


def comprehension(reader: Columns, node: ast.ListComp) -> Series:
    """Return the series of ``[... for v in x]`` or ``[... for i in range(len(x))]``."""
    if len(node.generators) != 1 or node.generators[0].ifs or node.generators[0].is_async:
        raise Doubt(node, "rows are left out or loops are nested here")
    loop = _loop(reader, node.generators[0].target, node.generators[0].iter)
    if loop.first != ZERO or loop.last != ZERO:
        raise Doubt(node, "a list needs an item for each row")
    with_names(loop, node.elt)
    return _finished(loop, node)


def with_names(loop: Loop, *expressions: ast.expr) -> None:
    for expression in expressions:
        _row_value(loop, expression)


def _finished(loop: Loop, node: ast.AST) -> Series:
    source = loop.reader.known[loop.series]
    if loop.back.alternatives or loop.ahead.alternatives:
        loop.reader.notes.show(node, f"a stencil of {loop.back} rows before and {loop.ahead} after")
    return loop.reader.series(node, source).after(loop.back, loop.ahead)


def _loop(reader: Columns, target: ast.expr, source: ast.expr) -> Loop:
    """Read the head of a loop. Raises Doubt for any other than over x, enumerate(x) or range(first, len(x) - last)."""
    if isinstance(source, ast.Name) and isinstance(target, ast.Name):
        return Loop(reader, _series_name(reader, source), source, item=target.id)
    path = reader.names.path_of(source.func) if isinstance(source, ast.Call) else None
    arguments = source.args if isinstance(source, ast.Call) and not source.keywords else []
    if path == "builtins.enumerate" and len(arguments) == 1 and isinstance(target, ast.Tuple):
        names = [item.id for item in target.elts if isinstance(item, ast.Name)]
        if len(names) == 2:
            return Loop(reader, _series_name(reader, arguments[0]), source, item=names[1], index=names[0])
    if path == "builtins.range" and len(arguments) in (1, 2) and isinstance(target, ast.Name):
        first = reader.rows_of(arguments[0]) if len(arguments) == 2 else ZERO
        series, last = _length(reader, arguments[-1])
        if _below_first(first) or _below_first(last):
            raise Doubt(source, "the loop begins before the first row, or ends after the last")
        loop = Loop(reader, series, source, index=target.id, first=first, last=last)
        loop.back, loop.ahead = rows(first), rows(last)
        _not_negative(loop, first.plus(last))
        return loop
    raise Doubt(source, "no template has this loop")


def _series_name(reader: Columns, node: ast.AST) -> str:
    if isinstance(node, ast.Name) and isinstance(reader.known.get(node.id), Series | Frame):
        reader.series(node, reader.known[node.id], folds=True)
        return node.id
    raise Doubt(node, "the loop does not run over the rows of a series that has a name")


def _length(reader: Columns, node: ast.AST) -> tuple[str, Linear]:
    """Read ``len(x)`` or ``len(x) - last``."""
    last = ZERO
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
        last, node = reader.rows_of(node.right), node.left
    if isinstance(node, ast.Call) and reader.names.path_of(node.func) == "builtins.len" and len(node.args) == 1:
        return _series_name(reader, node.args[0]), last
    raise Doubt(node, "the loop does not run to the length of the series")


def _row_value(loop: Loop, node: ast.expr) -> None:
    """Check that an expression has only values of rows near this one. Raises Doubt."""
    if isinstance(node, ast.Constant):
        return
    if isinstance(node, ast.Name):
        _row_name(loop, node)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, OPERATORS):
        with_names(loop, node.left, node.right)
    elif isinstance(node, ast.UnaryOp):
        _row_value(loop, node.operand)
    elif isinstance(node, ast.BoolOp):
        with_names(loop, *node.values)
    elif isinstance(node, ast.Compare):
        with_names(loop, node.left, *node.comparators)
        if any(isinstance(op, ast.In | ast.NotIn | ast.Is | ast.IsNot) for op in node.ops):
            raise Doubt(node, "no rule for this comparison")
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


def _row_name(loop: Loop, node: ast.Name) -> None:
    if node.id in (loop.item, loop.state):
        return
    if node.id in (loop.index, loop.window):
        raise Doubt(node, f"'{node.id}' itself goes into the value")
    loop.reader.number(node)


def _row_call(loop: Loop, node: ast.Call) -> None:
    module, _, name = (loop.reader.names.path_of(node.func) or "").partition(".")
    windows = WINDOW_BUILTINS if module == "builtins" else WINDOW_NUMPY if module == "numpy" else frozenset()
    if name in windows and len(node.args) == 1:
        argument = node.args[0]
        if isinstance(argument, ast.Name) and argument.id == loop.window:
            return
        if isinstance(argument, ast.Subscript) and isinstance(argument.slice, ast.Slice):
            _slice(loop, argument, argument.slice)
            return
    scalar = (module == "math" and name in MATH) or (module == "builtins" and name in SCALAR_BUILTINS)
    if not scalar or (name in ("min", "max") and len(node.args) < 2):
        raise Doubt(node, f"no rule for {ast.unparse(node)[:60]} in a loop")
    with_names(loop, *node.args)


def _offset(loop: Loop, node: ast.AST) -> Linear:
    """Read ``i``, ``i - 3``, ``i + k + 1`` as the rows after row i."""
    if isinstance(node, ast.Name) and node.id == loop.index:
        return ZERO
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        left = _offset(loop, node.left)
        return left.plus(loop.reader.rows_of(node.right), 1 if isinstance(node.op, ast.Add) else -1)
    raise Doubt(node, "this row is not so many rows from the loop's own")


def _cell(loop: Loop, node: ast.Subscript) -> None:
    """Take in ``x[i - k]``. Raises Doubt where the row number can be negative, which Python reads from the end."""
    if not (isinstance(node.value, ast.Name) and node.value.id == loop.series and loop.index):
        raise Doubt(node, "only rows of the series that is looped over are known here")
    offset = _offset(loop, node.slice)
    if _below_first(loop.first.plus(offset)):
        raise Doubt(node, "the row's number may be negative here, which is read from the end of the series")
    _reached(loop, offset)


def _reached(loop: Loop, offset: Linear) -> None:
    """Take in the row ``offset`` rows after the loop's own. A parameter in it counts as not negative."""
    signs = {count > 0 for _, count in offset.terms}
    if len(signs) > 1:
        raise Doubt(loop.node, "whether this row is before or after the loop's own depends on the parameters")
    if signs:
        _not_negative(loop, offset)
    before = offset.times(-1)
    loop.back = loop.back.or_more(rows(before if signs == {False} else max(0, before.constant)))
    loop.ahead = loop.ahead.or_more(rows(offset if signs == {True} else max(0, offset.constant)))


def _not_negative(loop: Loop, linear: Linear) -> None:
    for name, _ in linear.terms:
        loop.reader.notes.require(f"the halo holds where {name} is not negative")


def _below_first(linear: Linear) -> bool:
    """Return False where a row's number is at least 0 for parameters that are not negative."""
    return linear.constant < 0 or any(count < 0 for _, count in linear.terms)


def _slice(loop: Loop, node: ast.Subscript, part: ast.Slice) -> None:
    """Take in ``x[max(0, i - k) : i + 1]``, also with ``min(len(x), i + k)`` as its end."""
    if not (isinstance(node.value, ast.Name) and node.value.id == loop.series and loop.index):
        raise Doubt(node, "only rows of the series that is looped over are known here")
    if part.lower is None or part.upper is None or part.step is not None:
        raise Doubt(node, "the slice grows with the series, or leaves rows out")
    lower, upper = _bounded(loop, part.lower, "max"), _bounded(loop, part.upper, "min")
    start, end = _offset(loop, lower), _offset(loop, upper)
    if lower is part.lower and _below_first(loop.first.plus(start)):
        raise Doubt(node, "the slice may begin before the first row, which is read from the end: use max(0, ...)")
    if _below_first(loop.first.plus(end)):
        raise Doubt(node, "the slice may end before the first row, which is read from the end")
    _reached(loop, start)
    _reached(loop, end.plus(ONE, -1))


def _bounded(loop: Loop, node: ast.expr, name: str) -> ast.expr:
    """Return the other value of ``max(0, ...)`` or ``min(len(x), ...)``, else the node itself."""
    if (
        isinstance(node, ast.Call)
        and loop.reader.names.path_of(node.func) == f"builtins.{name}"
        and len(node.args) == 2
    ):
        for bound, other in (node.args, node.args[::-1]):
            if name == "max" and isinstance(bound, ast.Constant) and bound.value == 0:
                return other
            if name == "min" and isinstance(bound, ast.Call) and _length(loop.reader, bound) == (loop.series, ZERO):
                return other
    return node


def _choice(loop: Loop, node: ast.IfExp) -> None:
    """Take in ``a if i >= k else b``: the rows up to k see another branch. Other conditions are of values only."""
    test = node.test
    if not (isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == loop.index):
        if _full(loop, test):
            test = ast.Constant(value=True)
        with_names(loop, test, node.body, node.orelse)
        return
    bound = loop.reader.rows_of(test.comparators[0])
    operator = test.ops[0]
    if len(test.ops) != 1 or not isinstance(operator, ast.Gt | ast.GtE | ast.Lt | ast.LtE):
        raise Doubt(node, "no rule for this condition on the row's number")
    later, earlier = (node.body, node.orelse) if isinstance(operator, ast.Gt | ast.GtE) else (node.orelse, node.body)
    begins = bound.plus(ONE) if isinstance(operator, ast.Gt | ast.LtE) else bound
    if _below_first(begins):
        raise Doubt(node, "the condition holds from a row before the first one on")
    loop.back = loop.back.or_more(rows(begins))
    _not_negative(loop, begins)
    _row_value(loop, earlier)
    before, loop.first = loop.first, begins
    _row_value(loop, later)
    loop.first = before


def _full(loop: Loop, test: ast.expr) -> bool:
    """Return True for ``len(window) == k``, which holds from row k - 1 on."""
    return (
        isinstance(test, ast.Compare)
        and loop.window is not None
        and ast.unparse(test.left) == f"len({loop.window})"
        and loop.reader.names.path_of(ast.Name("len")) == "builtins.len"
        and len(test.ops) == 1
        and isinstance(test.ops[0], ast.Eq | ast.GtE | ast.Lt)
        and isinstance(loop.reader.value(test.comparators[0]), Number)
    )


def run(reader: Columns, node: ast.For) -> None:
    """Take in one loop of the function's body; its results get their names. Raises Doubt when no template fits."""
    loop = _loop(reader, node.target, node.iter)
    body = list(node.body)
    if node.orelse or not body:
        raise Doubt(node, "no rule for a loop with else")
    inner = {name for name in (loop.item, loop.index) if name}
    if inner & set(reader.known):
        raise Doubt(node, "the loop's name is another value's")
    state = _update(loop, body[0])
    if state is not None:
        body.pop(0)
    outputs = [_output(loop, statement) for statement in body]
    if len(outputs) > 1 or (not outputs and (state is None or state.fold is None)):
        raise _carried(node, node.body, "no template has this loop")
    found = state or Series()
    back, ahead = loop.back.then(found.back), loop.ahead
    source = reader.series(node, reader.known[loop.series], folds=True)
    if found.fold and (not _skips_halo(loop) or not (source.trimmed or source == Series())):
        raise Doubt(node, "rows of the halo would be counted twice: fold trim_emission(...) of the terms")
    result = source.after(back, ahead, found.fold)
    if found.fold is None and (loop.back.alternatives or loop.ahead.alternatives):
        reader.notes.show(node, f"a stencil of {loop.back} rows before and {loop.ahead} after")
    for name in outputs:
        reader.known[name] = result
    if loop.state:
        del reader.known[loop.state]  # after the loop it holds the last row's value
        if not outputs and found.fold:
            reader.known[loop.state] = Series(result.back, result.ahead, Fold(found.fold.monoid, False))
    if loop.window:
        del reader.known[loop.window]


def _skips_halo(loop: Loop) -> bool:
    """Return True where the loop begins after its halo and ends before the rows ahead: only own rows are folded."""
    own = (rows(loop.first), rows(loop.last))
    return (loop.back, loop.ahead) == own


def _carried(node: ast.stmt, body: list[ast.stmt], why: str) -> Doubt:
    """Return the Doubt about a loop: Stateful where a name is read before the loop sets it."""
    seen: set[str] = set()
    for part in ast.walk(ast.Module(body, [])):
        if isinstance(part, ast.AugAssign) and isinstance(part.target, ast.Name):
            return Stateful(part, f"'{part.target.id}' carries a state from row to row")
        if isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name):
            name = part.targets[0].id
            if name in {n.id for n in ast.walk(part.value) if isinstance(n, ast.Name)} and name not in seen:
                return Stateful(part, f"'{name}' carries a state from row to row")
            seen.add(name)
    return Doubt(node, why)


def _output(loop: Loop, node: ast.stmt) -> str:
    """Take in ``out.append(value)`` or ``out[i] = value``; return the list's name."""
    reader = loop.reader
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        call, owner = node.value, node.value.func.value
        is_list = isinstance(owner, ast.Name) and reader.known.get(owner.id) == Container("list")
        if is_list and node.value.func.attr == "append" and len(call.args) == 1 and not call.keywords:
            if loop.first != ZERO or loop.last != ZERO:
                raise Doubt(node, "the list needs an item for each row")
            _output_value(loop, call.args[0])
            return str(owner.id)  # type: ignore[attr-defined]
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Subscript):
        cell = node.targets[0]
        own = isinstance(cell.slice, ast.Name) and cell.slice.id == loop.index and isinstance(cell.value, ast.Name)
        if own and reader.known.get(cell.value.id) == Container("filled"):  # type: ignore[attr-defined]
            _output_value(loop, node.value)
            return str(cell.value.id)  # type: ignore[attr-defined]
    raise _carried(node, [node], "no template has this statement of a loop")


def _output_value(loop: Loop, node: ast.expr) -> None:
    fold = loop.state and loop.reader.known.get(loop.state)
    if isinstance(fold, Series) and fold.fold and not (isinstance(node, ast.Name) and node.id == loop.state):
        raise Doubt(node, "a running total goes into other values here")
    _row_value(loop, node)


def _update(loop: Loop, node: ast.stmt) -> Series | None:
    """Take in a loop's first statement where it updates a deque, an average or a fold; None where it does not."""
    reader = loop.reader
    if isinstance(node, ast.Expr) and (window := _appended(loop, node.value)) is not None:
        return window
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and isinstance(node.op, ast.Add):
        name, value = node.target.id, ast.BinOp(ast.Name(node.target.id), ast.Add(), node.value)
        ast.copy_location(value, node)
    elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        name, value = node.targets[0].id, node.value  # type: ignore[assignment]
    else:
        return None
    if not (isinstance(reader.known.get(name), Number) or reader.known.get(name) == Container("first")) or name not in {
        n.id for n in ast.walk(value) if isinstance(n, ast.Name)
    }:
        raise Stateful(node, f"'{name}' carries a state from row to row")
    loop.state = None
    found = _fold_of(loop, name, value) or _average_of(loop, name, value)
    if found is None:
        raise Stateful(node, f"'{name}' carries a state from row to row")
    loop.state = name
    reader.known[name] = found
    return found


def _appended(loop: Loop, node: ast.expr) -> Series | None:
    """Take in ``window.append(value)`` of a deque."""
    reader = loop.reader
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append"):
        return None
    owner = node.func.value
    ring = reader.known.get(owner.id) if isinstance(owner, ast.Name) else None
    if not (isinstance(ring, Container) and ring.kind == "deque") or len(node.args) != 1 or node.keywords:
        return None
    _row_value(loop, node.args[0])
    loop.window = owner.id  # type: ignore[attr-defined]
    reach = rows(ring.size.plus(ONE, -1))
    reader.notes.show(node, f"a deque of {ring.size} rows")
    return Series(reach)


def _fold_of(loop: Loop, name: str, value: ast.expr) -> Series | None:
    """Return the fold of ``s + value`` that starts at 0, or of ``max(s, value)``."""
    path = loop.reader.names.path_of(value.func) if isinstance(value, ast.Call) else None
    parts: list[ast.expr] = []
    monoid = ""
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add) and loop.reader.known[name] == Number(ZERO):
        parts, monoid = [value.left, value.right], "sum"
    elif path in ("builtins.max", "builtins.min") and isinstance(value, ast.Call) and not value.keywords:
        parts, monoid = list(value.args), path[-3:]
    own = [part for part in parts if isinstance(part, ast.Name) and part.id == name]
    others = [part for part in parts if part not in own]
    if len(own) != 1 or len(others) != 1 or name in {n.id for n in ast.walk(others[0]) if isinstance(n, ast.Name)}:
        return None
    _row_value(loop, others[0])
    loop.reader.notes.show(value, f"a running fold ({monoid})", EXACT if monoid == "sum" else None)
    return Series(fold=Fold(monoid, True))


def _average_of(loop: Loop, name: str, value: ast.expr) -> Series | None:
    """Return the reach of ``alpha * v + (1 - alpha) * y`` or ``y + alpha * (v - y)``."""
    if not isinstance(value, ast.BinOp) or not isinstance(value.op, ast.Add):
        return None
    decay: Reach | None = None
    rest: list[ast.expr] = []
    for part in (value.left, value.right):
        factor = _factor_of(part, name)
        if factor is not None:
            decay = _fading(loop, factor, share=False)
        elif isinstance(part, ast.Name) and part.id == name:
            continue
        else:
            rest.append(part)
    if decay is None and len(rest) == 1:
        decay, rest = _corrected(loop, rest[0], name)
    if decay is None or len(rest) != 1 or name in {n.id for n in ast.walk(rest[0]) if isinstance(n, ast.Name)}:
        return None
    _row_value(loop, rest[0])
    loop.reader.notes.show(value, f"an exponential average: forgotten after {decay} rows", FADES)
    return Series(decay)


def _factor_of(node: ast.expr, name: str) -> ast.expr | None:
    """Return c of ``c * name`` or ``name * c``."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        for own, factor in ((node.left, node.right), (node.right, node.left)):
            if isinstance(own, ast.Name) and own.id == name:
                return factor
    return None


def _corrected(loop: Loop, node: ast.expr, name: str) -> tuple[Reach | None, list[ast.expr]]:
    """Read the step of ``y + alpha * (v - y)``."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        for share, change in ((node.left, node.right), (node.right, node.left)):
            difference = isinstance(change, ast.BinOp) and isinstance(change.op, ast.Sub)
            if difference and isinstance(change.right, ast.Name) and change.right.id == name:  # type: ignore[attr-defined]
                return _fading(loop, share, share=True), [change.left]  # type: ignore[attr-defined]
    return None, []


def _fading(loop: Loop, node: ast.expr, share: bool) -> Reach | None:
    """Return the rows until ``factor ** rows`` is below 2 ** -128; ``share``: of 1 - factor. None where it does not fade."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and ast.unparse(node.left) in ("1", "1.0"):
        return _fading(loop, node.right, not share)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        factor = abs(1 - node.value if share else node.value)
        if factor >= 1:
            return None
        return rows(1 if factor == 0 else math.ceil(BITS * math.log(2) / -math.log(factor)) + 1)
    linear = loop.reader.number(node).linear if isinstance(node, ast.Name) else None
    if linear is None or linear.value is not None:
        return None
    name = str(linear)
    smaller = f"min({name}, 2 - {name})" if share else f"min(1 - {name}, {name} + 1)"
    term, _, more = DECAY.format(share=smaller).rpartition(" + ")
    return rows(named(term).plus(Linear(int(more))))
