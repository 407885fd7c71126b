import ast
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.writing.notebook_modules import module_source

NAME = "notebooks/pipeline/load.ipynb"


def notebook(*cells):
    """A code cell for each text; (kind, text) or (kind, text, tag) for others."""
    made = []
    for cell in cells:
        kind, source, *tags = ("code", cell) if isinstance(cell, str) else cell
        made.append({"cell_type": kind, "source": source, "metadata": {"tags": tags} if tags else {}})
    return json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def export(*cells):
    return module_source(NAME, notebook(*cells))


def refused(content):
    with pytest.raises(SpecInvalid) as caught:
        module_source(NAME, content)
    error = caught.value
    assert NAME in error.message
    assert error.details["notebook"] == NAME
    return error


def test_cells_in_order_with_their_numbers_and_markdown_as_comments():
    text = export(
        ("markdown", ["# Loading\n", "\n", "two lines"]),
        ("code", ["import os\n", "x = 1"]),
        ("raw", "not Python ("),
        ("code", "draw(", "hpc-skip"),
        ("markdown", "looking only", "hpc-skip"),
        "%matplotlib inline\n!ls\ny = x + 1\nfiles = !ls",
        "%%bash\necho hello (",
        "%%time\nz = y",
    )
    assert text == (
        f'"""Made from {NAME} by hpc-agent export-package: edit the notebook, not this file."""\n\n'
        "# %% cell 0 [markdown]\n# # Loading\n#\n# two lines\n\n"
        "# %% cell 1\nimport os\nx = 1\n\n"
        "# %% cell 5\n\n\ny = x + 1\nfiles = None\n\n"
        "# %% cell 6\n\n"
        "# %% cell 7\n\nz = y\n"
    )


def test_future_imports_come_first_wherever_they_stood():
    text = export(
        "x = 1",
        "from __future__ import annotations  # lazily\ny = 2",
        "é = 'é'; from __future__ import division; z = 3",
        "from __future__ import (\n    annotations,\n    generator_stop,\n)\nw: 'a' = 4",
    )
    body = ast.parse(text).body
    assert isinstance(body[1], ast.ImportFrom)
    assert [alias.name for alias in body[1].names] == ["annotations", "division", "generator_stop"]
    namespace = {}
    exec(compile(text, NAME, "exec"), namespace)
    assert [namespace[name] for name in "xyzwé"] == [1, 2, 3, 4, "é"]
    assert text.split("# %% cell 3\n")[1] == "\n\n\n\nw: 'a' = 4\n"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.booleans()), max_size=6))
def test_the_module_does_what_the_cells_do(steps):
    cells = [
        f"{name} = globals().get('{name}', 0) * 10 + {digit}" + ("\n%magic\n\n" if magic else "")
        for name, digit, magic in steps
    ]
    by_cell, by_module = {}, {}
    for name, digit, _ in steps:
        by_cell[name] = by_cell.get(name, 0) * 10 + digit
    exec(compile(export(*cells), NAME, "exec"), by_module)
    assert {name: by_module[name] for name in by_cell} == by_cell


@given(st.text())
def test_no_markdown_gets_out_of_its_comment(text):
    try:
        module = export(("markdown", text))
    except SpecInvalid:
        assert any(mark == "\0" or "\ud800" <= mark <= "\udfff" for mark in text)
        return
    assert len(ast.parse(module).body) == 1


@pytest.mark.parametrize(
    ("cells", "cell", "line"),
    [
        (["x = 1", "y = 2\nz = (3"], 1, 2),
        (["x = 1", "y = 2\n\nreturn y"], 1, 3),
        ([("markdown", "text"), "await x"], 1, 1),
        (["%time\nfrom __future__ import braces"], 0, 2),
        (["from __future__ import annotations as a"], 0, 1),
        (["x = '''open", "y = '''"], 0, 1),
        (["x = 1", "%magic\n\nglobal x"], 1, 3),
    ],
)
def test_a_syntax_error_is_named_by_cell_and_line(cells, cell, line):
    error = refused(notebook(*cells))
    assert (error.details["cell"], error.details["line"]) == (cell, line)
    assert f"{NAME}, cell {cell}, line {line}: " in error.message


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"\xff\xfe", b"[]", b"3", b"{}", b'{"cells": 3}', b'{"cells": [3]}', b'{"cells": [{"source": [3]}]}',
        b'{"cells": [{"metadata": [], "source": ""}]}', b"[" * 100000,
        b'{"worksheets": [{"cells": []}], "nbformat": 3}',
        b'{"metadata": {"language_info": {"name": "R"}}, "cells": []}',
        json.dumps({"cells": [{"cell_type": "code", "source": "x = '\ud800'"}]}).encode(),
        json.dumps({"cells": [{"cell_type": "markdown", "source": "\ud800"}]}).encode(),
        notebook("x = '\0'"), notebook("x = " + "(" * 5000 + ")" * 5000), notebook("-" * 100000 + "1"),
    ],
)  # fmt: skip
def test_what_is_no_python_notebook_is_refused(content):
    refused(content)


def test_the_line_of_bad_json_is_named():
    assert refused(b'{\n "cells": [\n  oops').details["line"] == 3


def test_windows_line_ends_and_a_byte_order_mark_are_no_obstacle():
    text = module_source(NAME, b"\xef\xbb\xbf" + notebook("%magic\r\nx = 1\r\ny = 2", ("markdown", "a\r\nb")))
    assert "# %% cell 0\n\nx = 1\ny = 2\n" in text
    assert "\r" not in text


def test_odd_escapes_make_no_noise(recwarn):
    export("x = '\\d'")
    assert not recwarn.list


def test_the_name_of_a_notebook_cannot_become_code():
    text = module_source('notebooks/scripts/a"""\nimport os\n\\.ipynb', notebook("x = 1"))
    assert [type(node) for node in ast.parse(text).body] == [ast.Expr, ast.Assign]
