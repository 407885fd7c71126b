"""What the statements of a function leave behind: its variables, and what it returns."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from hpc_agent.experiment.axis import filling, loops
from hpc_agent.experiment.axis.expressions import DEEPEST_CALL, Expressions
from hpc_agent.experiment.axis.reach import NONE, Linear, Reach
from hpc_agent.experiment.axis.scope import Scope, imported
from hpc_agent.experiment.axis.trail import Trail
from hpc_agent.experiment.axis.values import (
    Any_,
    Cell,
    Doubt,
    First,
    Gone,
    Group,
    Handle,
    Index,
    Plain,
    Rows,
    Scalar,
    Sequential,
    Store,
    join,
)

SCALAR_TYPES = ("int", "float", "bool", "str", "complex")


@dataclass
class Loop:
    """The loop over rows that is being looked at."""

    body: list[ast.stmt]
    start: Linear  # the first row number
    lower: Linear  # the row number is at least this, where the statement stands
    before: dict[str, Any_] = field(default_factory=dict)  # variables at the beginning of the body
    changed: list[Any_] = field(default_factory=list)  # lists, arrays and deques that the body fills
    lagging: list[str] = field(default_factory=list)  # variables of the row before that are being looked up
    # What decides whether the statement is reached at all.
    back: Reach = NONE
    ahead: Reach = NONE
    by_place: bool = False
    by_value: bool = False
    inner: int = 0  # how many inner loops the statement stands in
    # Which lists have got this row's value: here, at each way out of the body, and where a value decided it.
    filled: frozenset[int] = frozenset()
    ends: list[frozenset[int]] = field(default_factory=list)
    by_value_only: set[int] = field(default_factory=set)


class Statements(Expressions):
    """``run`` executes statements; values that leave the function are in ``trail.returned``."""

    def __init__(self, scope: Scope, env: dict[str, Any_], trail: Trail, depth: int = 0) -> None:
        super().__init__(scope, env, trail, depth)
        self.loop: Loop | None = None
        self.results: list[Any_] = []
        self.given: list[Any_] = []  # what a caller that goes on passed in

    def run(self, body: list[ast.stmt]) -> None:
        for statement in body:
            self.visit(statement)

    # What the expressions ask of the loop.

    def carried(self, node: ast.AST, name: str) -> Any_:
        return loops.lag(self, node, name)

    def row_at(self, node: ast.AST, index: Index) -> Cell:
        return loops.row_at(self, node, index)

    def being_changed(self, value: Any_) -> bool:
        return self.loop is not None and any(value is changed for changed in self.loop.changed)

    def comprehension(self, node: ast.ListComp | ast.GeneratorExp) -> Any_:
        return loops.comprehension(self, node)

    def inline(self, node: ast.Call, function: ast.FunctionDef) -> Any_:
        """The value of a call of a function of this module, whose body is looked into."""
        arguments = function.args
        if self.depth >= DEEPEST_CALL or arguments.vararg or arguments.kwarg or function.decorator_list or self.loop:
            raise Doubt(node, f"{function.name} is not looked into")
        names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
        env = self._defaults(function)
        env.update(zip(names, map(self.visit, node.args), strict=False))
        env.update({keyword.arg: self.visit(keyword.value) for keyword in node.keywords if keyword.arg})
        inner = Statements(self.scope, env, self.trail, self.depth + 1)
        inner.given = list(env.values())
        inner.run(function.body)
        if not inner.results:
            raise Doubt(node, f"{function.name} returns nothing")
        found = inner.results[0]
        for other in inner.results[1:]:
            found = join(node, found, other)
        return found

    def _defaults(self, function: ast.FunctionDef) -> dict[str, Any_]:
        arguments = function.args
        positional = [*arguments.posonlyargs, *arguments.args]
        pairs = list(zip(reversed(positional), reversed(arguments.defaults), strict=False))
        pairs += [(a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=False) if d is not None]
        return {argument.arg: self.visit(default) for argument, default in pairs}

    # Statements.

    def visit_Return(self, node: ast.Return) -> None:  # noqa: N802
        if self.loop:
            raise Doubt(node, "it returns in the midst of the rows")
        value = Scalar() if node.value is None else self.visit(node.value)
        self.results.append(value)
        if self.depth == 0:
            self.trail.returned.append((node, value))

    def visit_Pass(self, node: ast.Pass) -> None:  # noqa: N802
        pass

    def visit_Assert(self, node: ast.Assert) -> None:  # noqa: N802
        pass

    def visit_Import(self, node: ast.Import) -> None:  # noqa: N802
        self.scope.imports.update(imported(node))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:  # noqa: N802
        self.scope.imports.update(imported(node))

    def visit_Expr(self, node: ast.Expr) -> None:  # noqa: N802
        if isinstance(node.value, ast.Constant):
            return
        if filling.append(self, node.value):
            return
        value = self.visit(node.value)
        if not isinstance(value, Handle):
            raise Doubt(node, "what this line does cannot be told")

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:  # noqa: N802
        if node.value is not None:
            self._assign(node, node.target, node.value)

    def visit_Assign(self, node: ast.Assign) -> None:  # noqa: N802
        if len(node.targets) > 1:
            raise Doubt(node, "several assignments in one")
        self._assign(node, node.targets[0], node.value)

    def _assign(self, node: ast.stmt, target: ast.expr, value: ast.expr) -> None:
        if filling.update(self, node, target, value):
            return
        if isinstance(target, ast.Name):
            self.set(target.id, self._fresh(self.visit(value), value))
        elif isinstance(target, ast.Subscript):
            self._store(node, target, value)
        else:
            self._unpack(node, target, self.visit(value))

    def _fresh(self, value: Any_, source: ast.expr) -> Any_:
        """An empty list is filled later; one that begins with the first row too."""
        if (
            isinstance(source, ast.List)
            and isinstance(value, Group)
            and all(isinstance(v, Scalar | First) for v in value.items)
        ):
            return Store(array=False, lead=Linear(len(value.items)))
        return value

    def set(self, name: str, value: Any_) -> None:
        """Set a variable; inside a condition on rows it depends on those rows too."""
        loop = self.loop
        if loop and (loop.by_value or loop.by_place) and isinstance(value, Cell | Scalar | Plain):
            cell = self.of_row(ast.Name(name), value)
            value = Cell(cell.back.or_more(loop.back), cell.ahead.or_more(loop.ahead))
        self.env[name] = value

    def _unpack(self, node: ast.AST, target: ast.expr, value: Any_) -> None:
        if not isinstance(target, ast.Tuple | ast.List) or not all(isinstance(part, ast.Name) for part in target.elts):
            raise Doubt(node, "what is assigned here cannot be told")
        names = [part.id for part in target.elts if isinstance(part, ast.Name)]
        if isinstance(value, Group) and len(value.items) == len(names):
            parts: tuple[Any_, ...] = value.items
        elif isinstance(value, Cell):
            parts = (value,) * len(names)
        else:
            raise Doubt(node, "what is unpacked here cannot be told")
        for name, part in zip(names, parts, strict=True):
            self.set(name, part)

    def _store(self, node: ast.stmt, target: ast.Subscript, value: ast.expr) -> None:
        """out[i] = ..., out[a:b] = ..., table["column"] = ..."""
        box = self.env.get(target.value.id) if isinstance(target.value, ast.Name) else None
        if isinstance(box, Store) and box.array:
            filling.fill(self, node, box, target.slice, value)
        elif (
            isinstance(box, Plain | Rows)
            and isinstance(target.slice, ast.Constant)
            and isinstance(target.slice.value, str)
        ):
            self._replace(
                node, box, self.combine(node, [self.as_spread(node, box), self.as_spread(node, self.visit(value))])
            )
        elif self.loop and isinstance(box, Group | Store):
            raise Sequential(node, f"'{ast.unparse(target.value)}' collects something of all rows")
        else:
            raise Doubt(node, "what is assigned here cannot be told")

    def _replace(self, node: ast.AST, old: Any_, new: Any_) -> None:
        """A table that got a column, under each of its names."""
        if any(old is value for value in self.given):
            raise Doubt(node, "a function changes the table that it was given")
        for name, value in list(self.env.items()):
            if value is old:
                self.env[name] = new

    def visit_AugAssign(self, node: ast.AugAssign) -> None:  # noqa: N802
        read = ast.copy_location(_as_read(node.target), node)
        value = ast.copy_location(ast.BinOp(read, node.op, node.value), node)
        if filling.update(self, node, node.target, value):
            return
        old = self.env.get(node.target.id) if isinstance(node.target, ast.Name) else None
        if isinstance(node.target, ast.Subscript):
            self._store(node, node.target, value)
            return
        new = self.visit(value)
        if isinstance(old, Plain | Rows) and isinstance(new, Rows):
            self._replace(node, old, new)  # arrays and tables are changed in place
        if isinstance(node.target, ast.Name):
            self.set(node.target.id, new)

    def visit_IfExp(self, node: ast.IfExp) -> Any_:  # noqa: N802
        return loops.conditional_value(self, node) if self.loop else super().visit_IfExp(node)

    def visit_If(self, node: ast.If) -> None:  # noqa: N802
        if filling.conditional_update(self, node):
            return
        if self.loop:
            loops.branch(self, node)
            return
        if not node.orelse and all(isinstance(part, ast.Raise) for part in node.body):
            return
        test = self.visit(node.test)
        if not isinstance(test, Scalar | Plain):
            raise Doubt(node, "which branch is taken depends on the rows")
        self.both(node, lambda: self.run(node.body), lambda: self.run(node.orelse))

    def both(self, node: ast.If, first: object, second: object) -> None:
        """Run both branches and keep what is true after either; one that ends the function or raises leaves nothing."""
        before, results = dict(self.env), []
        for branch, body in ((first, node.body), (second, node.orelse)):
            self.env = dict(before)
            assert callable(branch)
            branch()
            if not _leaves(body):
                results.append(self.env)
        if len(results) == 2:
            one, other = results
            self.env = {name: join(node, one.get(name), other.get(name)) for name in {**one, **other}}
        else:
            self.env = results[0] if results else before

    def visit_Raise(self, node: ast.Raise) -> None:  # noqa: N802
        pass

    def visit_With(self, node: ast.With) -> None:  # noqa: N802
        for item in node.items:
            value = self.visit(item.context_expr)
            if not isinstance(value, Handle):
                raise Doubt(node, f"{ast.unparse(item.context_expr)} is not looked into")
            if isinstance(item.optional_vars, ast.Name):
                self.env[item.optional_vars.id] = value
        self.run(node.body)

    def visit_For(self, node: ast.For) -> None:  # noqa: N802
        if node.orelse:
            raise Doubt(node, "a loop with else")
        loops.run(self, node)

    def visit_While(self, node: ast.While) -> None:  # noqa: N802
        raise Doubt(node, "a while loop")

    def visit_Continue(self, node: ast.Continue) -> None:  # noqa: N802
        pass  # what it means for the rest of the body is loops.branch's business

    def visit_Break(self, node: ast.Break) -> None:  # noqa: N802
        raise Sequential(node, "it stops at a row that depends on the rows before")


def _as_read(target: ast.expr) -> ast.expr:
    read = ast.parse(ast.unparse(target), mode="eval").body
    for part in ast.walk(read):
        part.lineno = part.end_lineno = target.lineno  # type: ignore[attr-defined]
    return read


def _leaves(body: list[ast.stmt]) -> bool:
    return bool(body) and isinstance(body[-1], ast.Return | ast.Raise | ast.Continue)


def parameters(function: ast.FunctionDef) -> dict[str, Any_]:
    """What is known of them before anything runs: those with a type or a default that is a number or a text are no series."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: dict[str, ast.expr] = {
        a.arg: d for a, d in zip(reversed(positional), reversed(arguments.defaults), strict=False)
    }
    defaults.update(
        {a.arg: d for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=False) if d is not None}
    )
    found: dict[str, Any_] = {}
    for argument in (*positional, *arguments.kwonlyargs):
        kind = ast.unparse(argument.annotation) if argument.annotation else ""
        default = defaults.get(argument.arg)
        number = kind in SCALAR_TYPES or (isinstance(default, ast.Constant) and default.value is not None)
        text = kind == "str" or (isinstance(default, ast.Constant) and isinstance(default.value, str))
        linear = None if text else Linear(0, ((argument.arg, 1),))
        names = frozenset({argument.arg})
        found[argument.arg] = Scalar(linear, text) if number else Plain(linear, names)
    for rest in (arguments.vararg, arguments.kwarg):
        if rest:
            found[rest.arg] = Gone("arguments of any number are not looked into")
    return found
