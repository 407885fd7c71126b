"""What a function returns, read from its source: a task's function has to return a dict of numbers."""

import ast

import pytest

from hpc_agent.experiment.reading.returns import returns_metrics


@pytest.mark.parametrize(
    ("source", "known"),
    [
        ("def f(x): return {'a': x}", True),
        ("def f(x) -> dict: return g(x)", True),
        ("def f(x) -> 'Dict[str, float]': return g(x)", True),
        ("def f(x):\n    out = {}\n    out['a'] = x\n    return out", True),
        ("def f(x):\n    out = {}\n    return out", True),
        ("def f(x): return [x]", False),
        ("def f(x): return [y for y in x]", False),
        ("def f(x): return trim_emission([y for y in x])", False),
        ("def f(x): return kit.trim_emission({'mean': x})", True),
        ("def f(x):\n    out = []\n    for y in x:\n        out.append(y)\n    return trim_emission(out)", False),
        ("def f(x):\n    rows = [1]\n    out = rows\n    return out", False),
        ("def f(x) -> list[float]: return g(x)", False),
        ("def f(x) -> 'np.ndarray': return g(x)", False),
        ("def f(x) -> pd.Series: return g(x)", False),
        ("def f(x): return x.rolling(3).mean()", None),
        ("def f(x):\n    if x: return {}\n    return [x]", None),
        ("def f(x):\n    out = []\n    out = g(out)\n    return out", None),
        ("def f(x):\n    def g(): return [1]\n    return {'a': g()}", True),
        ("def f(x): print(x)", None),
        ("def f(x): return f'{x}'", False),
        ("def f(x): return x, 1", False),
    ],
)
def test_rows_are_told_from_metrics(source, known):
    assert returns_metrics(ast.parse(source).body[0]) is known
