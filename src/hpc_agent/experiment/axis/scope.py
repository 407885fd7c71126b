"""What a module says before anything runs: its imports, functions and constants; and which of its functions are pure."""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass, field

Function = ast.FunctionDef | ast.Lambda

PURE_BUILTINS = frozenset(
    "abs all any bool dict divmod enumerate float frozenset int isinstance len list max min pow range reversed round "
    "set sorted str sum tuple zip".split()
)
PURE_MODULES = ("math", "statistics", "cmath", "operator", "fractions", "decimal")
# Of numpy: no random numbers, no files, nothing that changes its argument.
PURE_NUMPY = frozenset(
    "abs absolute add all any arccos arcsin arctan arctan2 argmax argmin array asarray average cbrt ceil clip "
    "copysign corrcoef cos cosh cov deg2rad degrees divide dot exp exp2 expm1 fabs float32 float64 floor fmax fmin "
    "hypot int32 int64 isfinite isinf isnan log log10 log1p log2 max maximum mean median min minimum mod multiply "
    "nan_to_num nanmax nanmean nanmedian nanmin nanstd nansum nanvar negative percentile power prod ptp quantile "
    "rad2deg radians reciprocal remainder rint round sign sin sinh sqrt square std subtract sum tan tanh trunc var "
    "where".split()
)
# Of numbers, text, dicts and windows of rows.
PURE_METHODS = frozenset(
    "as_integer_ratio astype capitalize casefold clip copy count date day dot endswith find format get hour index "
    "isdigit isoformat item items join keys lower lstrip max mean median min minute month partition prod quantile "
    "replace round rstrip second split splitlines startswith std strip sum timestamp title tolist upper values var "
    "weekday year".split()
)
LOCAL_CHANGES = frozenset("append extend insert sort reverse add update setdefault".split())


@dataclass
class Scope:
    """The module around a function. ``cells``: the notebook cell of each function, by name."""

    imports: dict[str, str] = field(default_factory=dict)
    functions: dict[str, ast.FunctionDef] = field(default_factory=dict)
    constants: dict[str, ast.expr] = field(default_factory=dict)
    cells: dict[str, int] = field(default_factory=dict)
    _pure: dict[str, bool] = field(default_factory=dict)

    def read(self, body: list[ast.stmt], cell: int | None = None) -> None:
        """Take in the top level of a module or of a notebook's cell; what is defined twice is the later one."""
        for statement in body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                self.imports.update(imported(statement))
            elif isinstance(statement, ast.FunctionDef):
                self.functions[statement.name] = statement
                if cell is not None:
                    self.cells[statement.name] = cell
        for name in _declared_global(body):
            self.constants[name] = ast.Set(elts=[])
        for name, value in _assigned(body):
            if name in self.constants or not _literal(value):
                self.constants[name] = ast.Set(elts=[])  # of several values: none that can be relied on
            else:
                self.constants[name] = value

    def dotted(self, node: ast.AST, shadowed: frozenset[str] | set[str] = frozenset()) -> str | None:
        """``np.log`` as ``numpy.log``; the plain name for a builtin; None for what is neither."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id in shadowed:
            return None
        if node.id in self.imports:
            return ".".join([self.imports[node.id], *reversed(parts)])
        known = node.id in self.functions or node.id in self.constants
        return node.id if not parts and not known and hasattr(builtins, node.id) else None

    def is_function(self, name: str) -> bool:
        """Whether the name stands for a function of this module, and nothing else is assigned to it."""
        return name in self.functions and name not in self.constants and name not in self.imports

    def pure_call(self, name: str) -> bool:
        """Whether the function of this dotted name gives the same answer each time, of its arguments alone."""
        module, _, last = name.rpartition(".")
        return (
            (not module and name in PURE_BUILTINS)
            or module in PURE_MODULES
            or (module == "numpy" and last in PURE_NUMPY)
        )

    def pure(self, name: str) -> bool:
        """The same of a function of this module: no state, no side effect, and only such functions called."""
        if name not in self._pure:
            self._pure[name] = False  # a recursion is not looked into
            self._pure[name] = self.pure_function(self.functions[name])
        return self._pure[name]

    def pure_function(self, function: Function) -> bool:
        arguments = function.args
        defaults = [*arguments.defaults, *(default for default in arguments.kw_defaults if default)]
        if getattr(function, "decorator_list", []) or not all(
            isinstance(d, ast.Constant | ast.UnaryOp) for d in defaults
        ):
            return False
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        given = {argument.arg for argument in every if argument}
        body = function.body if isinstance(function, ast.FunctionDef) else [function.body]
        nodes = [node for part in body for node in ast.walk(part)]
        own = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        names = _Names(given | own, _fresh(nodes) - given)
        return all(self._pure_node(node, names) for node in nodes)

    def _pure_node(self, node: ast.AST, names: _Names) -> bool:
        if isinstance(node, ast.Call):
            return self._pure_callee(node.func, names)
        if isinstance(node, ast.AugAssign):
            return names.may_change(node.target)
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            return isinstance(node, ast.Subscript) and names.may_change(node.value)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            return node.id in names.local or self._known(node.id)
        forbidden = (
            ast.Global, ast.Nonlocal, ast.Yield, ast.YieldFrom, ast.Await, ast.Import, ast.ImportFrom, ast.Lambda,
            ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Delete, ast.With, ast.AsyncWith, ast.AsyncFor,
        )  # fmt: skip
        return not isinstance(node, forbidden)

    def _known(self, name: str) -> bool:
        if name in self.functions or name in self.imports:
            return True  # only called, which is looked at there
        return _literal(self.constants[name]) if name in self.constants else hasattr(builtins, name)

    def _pure_callee(self, callee: ast.expr, names: _Names) -> bool:
        name = self.dotted(callee, names.local)
        if name is not None:
            return self.pure_call(name)
        if isinstance(callee, ast.Name):
            return self.is_function(callee.id) and callee.id not in names.local and self.pure(callee.id)
        if not isinstance(callee, ast.Attribute):
            return False
        return callee.attr in PURE_METHODS or (callee.attr in LOCAL_CHANGES and names.may_change(callee.value))


@dataclass(frozen=True)
class _Names:
    """The names of a function's own, and those of them that hold what it made itself."""

    local: set[str]
    fresh: set[str]

    def may_change(self, target: ast.expr) -> bool:
        return isinstance(target, ast.Name) and target.id in self.fresh


def _fresh(nodes: list[ast.AST]) -> set[str]:
    """Names that are only ever assigned numbers and new collections: what is passed in cannot be changed through them."""
    new = (ast.Constant, ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    made: set[str] = set()
    other: set[str] = set()
    plain = {
        id(node.targets[0]): node.value for node in nodes if isinstance(node, ast.Assign) and len(node.targets) == 1
    }
    changed = {id(node.target) for node in nodes if isinstance(node, ast.AugAssign)}
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in changed:
            (made if isinstance(plain.get(id(node)), new) else other).add(node.id)
    return made - other


def imported(statement: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """Name here -> dotted name there."""
    if isinstance(statement, ast.Import):
        return {a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0] for a in statement.names}
    return {alias.asname or alias.name: f"{statement.module or ''}.{alias.name}" for alias in statement.names}


def _assigned(body: list[ast.stmt]) -> list[tuple[str, ast.expr]]:
    """(name, value) of every assignment at the top level; other ways to set a name count as no literal."""
    found: list[tuple[str, ast.expr]] = []
    for statement in body:
        simple = isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                value = getattr(statement, "value", None) if simple else None
                direct = value is not None and node in _targets(statement)
                found.append((node.id, value if value is not None and direct else ast.Set(elts=[])))
    return found


def _declared_global(body: list[ast.stmt]) -> set[str]:
    nodes = [node for statement in body for node in ast.walk(statement)]
    return {name for node in nodes if isinstance(node, ast.Global) for name in node.names}


def _targets(statement: ast.stmt) -> list[ast.expr]:
    targets = getattr(statement, "targets", None)
    return targets if targets is not None else [getattr(statement, "target", ast.Set(elts=[]))]


def _literal(value: ast.expr) -> bool:
    """A number, text or boolean, or a tuple of such."""
    if isinstance(value, ast.UnaryOp):
        return isinstance(value.operand, ast.Constant)
    if isinstance(value, ast.Tuple):
        return all(map(_literal, value.elts))
    return isinstance(value, ast.Constant)
