"""What an expression depends on. Whatever is not known here raises Doubt."""

from __future__ import annotations

import ast

from hpc_agent.experiment.axis import calls
from hpc_agent.experiment.axis.arithmetic import arithmetic, is_number, moved, not_negative, padding
from hpc_agent.experiment.axis.reach import ONE, ZERO, Linear, rows
from hpc_agent.experiment.axis.scope import Scope
from hpc_agent.experiment.axis.trail import Trail
from hpc_agent.experiment.axis.values import (
    Any_,
    Carried,
    Cell,
    Doubt,
    First,
    Folded,
    Gone,
    Group,
    Index,
    Length,
    Plain,
    Ring,
    Rows,
    Scalar,
    Sequential,
    Span,
    Spread,
    Store,
    combine,
)

DEEPEST_CALL = 5
# Attributes of a table or array that are no column.
NO_COLUMNS = frozenset("T at attrs axes dt flags iat iloc index loc ndim shape size str".split())


TYPES = ("int", "float", "bool", "str", "complex")
NUMBERS = frozenset(
    "math.pi math.e math.inf math.nan numpy.pi numpy.e numpy.inf numpy.nan numpy.newaxis numpy.float64 numpy.float32 "
    "numpy.int64 numpy.int32 numpy.bool_".split()
)


class Expressions(ast.NodeVisitor):
    """``visit`` gives the value of an expression in ``env``."""

    def __init__(self, scope: Scope, env: dict[str, Any_], trail: Trail, depth: int = 0) -> None:
        self.scope = scope
        self.env = env
        self.trail = trail
        self.depth = depth

    def generic_visit(self, node: ast.AST) -> Any_:
        raise Doubt(node, f"{type(node).__name__} is not looked into")

    # What the loops of statements.py know more about.

    def carried(self, node: ast.AST, name: str) -> Any_:
        raise Sequential(node, f"'{name}' is carried from row to row")

    def row_at(self, node: ast.AST, index: Index) -> Cell:
        raise Doubt(node, f"row number {index.low} outside a loop")

    def being_changed(self, _value: Any_) -> bool:
        """Whether the loop that runs changes this list, array or deque."""
        return False

    def comprehension(self, node: ast.ListComp | ast.GeneratorExp) -> Any_:
        raise NotImplementedError

    def inline(self, node: ast.Call, function: ast.FunctionDef) -> Any_:
        raise NotImplementedError

    # Values.

    def combine(self, node: ast.AST, values: list[Any_]) -> Any_:
        found = combine(node, values)
        if isinstance(found, Cell | Folded):
            for value in values:
                if isinstance(value, Plain):
                    self.trail.used_as_number.update(dict.fromkeys(value.names, node))
        return found

    def of_row(self, node: ast.AST, value: Any_) -> Cell:
        """The value as that of one row; a parameter is a number. Raises Doubt for whole columns and totals."""
        if isinstance(value, Plain):
            self.trail.used_as_number.update(dict.fromkeys(value.names, node))
        if isinstance(value, Scalar | Plain):
            return Cell()
        if not isinstance(value, Cell):
            raise Doubt(node, "a whole column or a total where a value of one row was expected")
        return value

    def linear(self, node: ast.AST | None, what: str) -> Linear:
        """A number or an expression over parameters. Raises Doubt."""
        value = Scalar(ZERO) if node is None else self.visit(node)
        if isinstance(value, Scalar | Plain) and value.linear is not None:
            if isinstance(value, Plain):
                self.trail.used_as_number.update(dict.fromkeys(value.names, node or ast.Pass()))
            return value.linear
        raise Doubt(node or ast.Pass(), f"{what} is neither a number nor a parameter")

    def spread(self, node: ast.AST) -> Spread:
        """The value as something that belongs to rows; a parameter is the series."""
        return self.as_spread(node, self.visit(node))

    def as_spread(self, node: ast.AST, value: Any_) -> Spread:
        if isinstance(value, Plain):
            self.trail.used_as_series |= value.names
            return Rows()
        if isinstance(value, Store):
            value = self.finished(node, value)
        if isinstance(value, Ring):
            return self.window_of(node, value)
        if isinstance(value, Scalar):
            return Rows()
        found = combine(node, [value])
        assert isinstance(found, Spread)
        return found

    def finished(self, node: ast.AST, store: Store) -> Any_:
        """What a list or array holds after the loop that filled it."""
        if self.being_changed(store):
            raise Sequential(node, "what was put into a list for the rows before is read again")
        if store.content is None:
            return Rows() if store.array else Group()
        content = store.content
        return (
            content
            if isinstance(content, Folded)
            else Rows(content.back, content.ahead, isinstance(content, Rows) and content.short)
        )

    def window_of(self, node: ast.AST, ring: Ring) -> Cell:
        """What a deque holds: the rows before, and this one if it is in already."""
        if ring.content is None or not self.being_changed(ring):
            raise Doubt(node, "a deque is read outside the loop that fills it, or before it is filled")
        size = rows(ring.size if not ring.filled else ring.size.minus(ONE))
        return Cell(ring.content.back.plus(size), ring.content.ahead)

    # Expressions.

    def visit_Constant(self, node: ast.Constant) -> Any_:
        number = isinstance(node.value, int | float) and not isinstance(node.value, bool)
        return Scalar(Linear(node.value) if number else None, isinstance(node.value, str))  # type: ignore[arg-type]

    def visit_JoinedStr(self, node: ast.JoinedStr) -> Any_:
        parts = [self.visit(part.value) for part in node.values if isinstance(part, ast.FormattedValue)]
        found = self.combine(node, parts)
        return Scalar(text=True) if isinstance(found, Scalar | Plain) else found

    def visit_Name(self, node: ast.Name) -> Any_:
        value = self.env.get(node.id)
        if value is None:
            if node.id in self.scope.constants:
                constant: Any_ = self.visit(self.scope.constants[node.id])
                return constant
            if self.scope.dotted(node) in TYPES:
                return Scalar()
            raise Doubt(node, f"'{node.id}' is not known")
        if isinstance(value, Carried):
            return self.carried(node, value.name)
        if isinstance(value, Gone):
            raise Doubt(node, f"'{node.id}': {value.why}")
        return value

    def visit_BinOp(self, node: ast.BinOp) -> Any_:
        left, right = self.visit(node.left), self.visit(node.right)
        if isinstance(left, Index | Length | Span) or isinstance(right, Index | Length | Span):
            number = moved(node.op, left, right)
            if number is not None:
                return number
        if isinstance(left, Group | Store) or isinstance(right, Group | Store):
            return self._lists(node, left, right)
        both = [value for value in (left, right) if isinstance(value, Scalar | Plain)]
        if len(both) == 2:
            found = combine(node, both)
            linear = arithmetic(node.op, both[0].linear, both[1].linear)
            return Plain(linear, found.names) if isinstance(found, Plain) else Scalar(linear)
        return self.combine(node, [left, right])

    def _lists(self, node: ast.BinOp, left: Any_, right: Any_) -> Any_:
        """``[0] * len(x)``, and ``[None] * k + found``, which moves what was found by k rows."""
        if isinstance(node.op, ast.Mult) and isinstance(left, Group):
            if any(not isinstance(item, Scalar) for item in left.items):
                raise Doubt(node, "a list that is repeated holds more than constants")
            if isinstance(right, Length):
                return Store(array=True)
            if isinstance(right, Scalar | Plain) and right.linear is not None:
                return Store(array=False, lead=right.linear.times(len(left.items)))
        before, after = padding(left), padding(right)
        if before is None and after is None:
            return self.combine(node, [self.as_spread(node, v) if isinstance(v, Store) else v for v in (left, right)])
        if not isinstance(node.op, ast.Add) or (before is not None and after is not None):
            raise Doubt(node, "a list is calculated with")
        column = self.as_spread(node, left if before is None else right)
        if not isinstance(column, Rows):
            raise Doubt(node, "running totals are moved")
        if before is None:
            return Rows(column.back, column.ahead.or_more(rows(after or ZERO)))
        return Rows(column.back.plus(rows(before)).or_more(rows(before)), column.ahead.less(before))

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any_:
        value = self.visit(node.operand)
        if isinstance(value, Scalar | Plain) and value.linear is not None and isinstance(node.op, ast.USub):
            linear = value.linear.times(-1)
            return Plain(linear, value.names) if isinstance(value, Plain) else Scalar(linear)
        return self.combine(node, [value])

    def visit_BoolOp(self, node: ast.BoolOp) -> Any_:
        return self.combine(node, [self.visit(value) for value in node.values])

    def visit_Compare(self, node: ast.Compare) -> Any_:
        return self.combine(node, [self.visit(value) for value in (node.left, *node.comparators)])

    def visit_IfExp(self, node: ast.IfExp) -> Any_:
        return self.combine(node, [self.visit(value) for value in (node.test, node.body, node.orelse)])

    def visit_Tuple(self, node: ast.Tuple) -> Any_:
        return Group(tuple(self.visit(value) for value in node.elts))

    def visit_List(self, node: ast.List) -> Any_:
        return Group(tuple(self.visit(value) for value in node.elts))

    def visit_Dict(self, node: ast.Dict) -> Any_:
        if any(key is None for key in node.keys):
            raise Doubt(node, "a dict is unpacked into another")
        return Group(tuple(self.visit(value) for value in node.values))

    def visit_ListComp(self, node: ast.ListComp) -> Any_:
        return self.comprehension(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> Any_:
        return self.comprehension(node)

    def visit_Attribute(self, node: ast.Attribute) -> Any_:
        name = self.scope.dotted(node, set(self.env))
        if name is not None:
            if name.split(".")[0] in calls.HARMLESS:
                return Scalar()
            if name in (
                "math.pi",
                "math.e",
                "math.inf",
                "math.nan",
                "numpy.pi",
                "numpy.e",
                "numpy.nan",
                "numpy.inf",
                "numpy.newaxis",
            ):
                return Scalar()
            raise Doubt(node, f"{name} is not known")
        value = self.visit(node.value)
        if isinstance(value, Cell):
            return value
        if node.attr in NO_COLUMNS:
            raise Doubt(node, f".{node.attr} may depend on where the rows lie")
        if isinstance(value, Plain | Rows):
            return value if isinstance(value, Rows) else Plain(None, value.names)
        raise Doubt(node, f".{node.attr} is not known")

    def visit_Subscript(self, node: ast.Subscript) -> Any_:
        if isinstance(node.value, ast.Attribute) and node.value.attr == "shape" and is_number(node.slice, 0):
            return self.length(node.value.value)
        target = (
            node.value.value
            if isinstance(node.value, ast.Attribute) and node.value.attr in ("iloc", "iat")
            else node.value
        )
        value = self.visit(target)
        if isinstance(value, Store | Ring) or type(value) in (Plain, Rows):
            if isinstance(value, Ring) or (isinstance(value, Store) and not value.array and value.content is None):
                return self.window_of(node, value) if isinstance(value, Ring) else self.finished(node, value)
            return self._row_of(node, value)
        if isinstance(value, Folded):
            raise Doubt(node, "some of the running totals are taken")
        return self.combine(node, [value, *self._keys(node.slice)])

    def _keys(self, key: ast.expr) -> list[Any_]:
        parts = [key.lower, key.upper, key.step] if isinstance(key, ast.Slice) else [key]
        return [self.visit(part) for part in parts if part is not None]

    def _row_of(self, node: ast.Subscript, value: Any_) -> Any_:
        """A column, a row, some rows before and after it, or the series without its first or last rows."""
        key = node.slice
        if isinstance(key, ast.Slice):
            return self._slice(node, key, self.as_spread(node, value))
        if isinstance(key, ast.Tuple) and ast.unparse(key.elts[0]) == ":" and len(key.elts) == 2:
            key = key.elts[1]  # x[:, 3], a column of an array
            self.linear(key, "the column")
            return self.as_spread(node, value)
        place = self.visit(key)
        texts = place.items if isinstance(place, Group) else (place,)
        if all(isinstance(text, Scalar) and text.text for text in texts):
            return self.as_spread(node, value)
        if is_number(key, 0) and isinstance(value, Plain):
            return First()
        column = self.as_spread(node, value)
        if not isinstance(place, Index) or not isinstance(column, Rows) or column.short:
            raise Doubt(node, "which rows it takes cannot be told")
        cell = self.row_at(node, place)
        return Cell(column.back.plus(cell.back), column.ahead.plus(cell.ahead))

    def _slice(self, node: ast.AST, key: ast.Slice, column: Spread) -> Any_:
        if key.step is not None or not isinstance(column, Rows) or column.short:
            raise Doubt(node, "which rows it takes cannot be told")
        low = Scalar(ZERO) if key.lower is None else self.visit(key.lower)
        high = None if key.upper is None else self.visit(key.upper)
        if isinstance(low, Index) and isinstance(high, Index):
            cell = self.row_at(node, Index(low.low, high.high.minus(ONE), low.safe))
            return Cell(column.back.plus(cell.back), column.ahead.plus(cell.ahead))
        skip = getattr(low, "linear", None)
        left = Length() if high is None else high
        drop = (
            left.shift.times(-1) if isinstance(left, Length) else Linear().minus(getattr(left, "linear", None) or ONE)
        )
        known = isinstance(left, Length) or getattr(left, "linear", None) is not None
        if skip is None or not known or not not_negative(skip) or not not_negative(drop):
            raise Doubt(node, "which rows it takes cannot be told")
        return Rows(column.back.less(skip), column.ahead.plus(rows(skip)))

    def length(self, node: ast.expr) -> Any_:
        """The number of rows of a series; of a window or a text a value like any other."""
        value = self.visit(node)
        if isinstance(value, Cell | Ring):
            return self.as_spread(node, value)
        if isinstance(value, Group | Scalar):
            return Scalar()
        self.as_spread(node, value)
        return Length()

    def visit_Call(self, node: ast.Call) -> Any_:
        return calls.call(self, node)
