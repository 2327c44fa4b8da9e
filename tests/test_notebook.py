"""Notebooks become Python with the lines where they were."""

from __future__ import annotations

import ast
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossproof.source.notebook import neutralise, to_python


def notebook(*cells: str | tuple[str, str], **extra: object) -> bytes:
    listed = []
    for cell in cells:
        kind, source = cell if isinstance(cell, tuple) else ("code", cell)
        listed.append({"cell_type": kind, "source": source.splitlines(keepends=True)})
    return json.dumps({"cells": listed, "nbformat": 4, **extra}).encode()


def test_code_cells_are_laid_end_to_end():
    text, lines = to_python(notebook("a = 1\nb = 2", ("markdown", "# words"), "c = 3\n", "d = 4"))
    assert text == "a = 1\nb = 2\nc = 3\nd = 4\n"
    assert [lines.locate(number) for number in (1, 2, 3, 4)] == [(1, 1), (1, 2), (3, 1), (4, 1)]
    assert [lines.line_of(*lines[number]) for number in (1, 2, 3, 4)] == [1, 2, 3, 4]


def test_source_may_be_one_string_or_missing():
    cells = [{"cell_type": "code", "source": "a = 1\n\n"}, {"cell_type": "code"}, {"cell_type": "code", "source": "b"}]
    text, lines = to_python(json.dumps({"cells": cells}).encode())
    assert ast.unparse(ast.parse(text)) == "a = 1\nb"
    assert lines.locate(text.splitlines().index("b") + 1) == (3, 1)


def test_the_old_format_with_worksheets():
    sheets = [{"cells": [{"cell_type": "code", "input": ["a = 1\n", "b = 2"]}]}]
    assert to_python(json.dumps({"nbformat": 3, "worksheets": sheets}).encode())[0] == "a = 1\nb = 2\n"


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("%matplotlib inline", "pass"),
        ("    %matplotlib inline", "    pass"),
        ("!pip install torch", "pass"),
        ("!!ls", "pass"),
        ("!echo don't", "pass"),
        ("?print", "pass"),
        ("nn.Module??", "pass"),
        ("model?", "pass"),
        (",f a b", "pass"),
        ("files = !ls *.py", "files = None"),
        ("out = %sql select 1", "out = None"),
        ("a, b = !ls", "a, b = None"),
        ("%time loss = f(x)", "if 1 :loss = f(x)"),
        ("  %time  f(x)", "  if 1  :f(x)"),
        ("%timeit -n 10 f(x)", "pass"),
        ("a = b % c", "a = b % c"),
        ("a != b", "a != b"),
        ("a %= b", "a %= b"),
        ('a = "%s" % b', 'a = "%s" % b'),
        ("x = d['!']", "x = d['!']"),
        ("print('what?')", "print('what?')"),
        ("# really?", "# really?"),
    ],
)
def test_magics_are_harmless_and_the_rest_is_untouched(line, becomes):
    assert neutralise(line) == [becomes]


def test_a_timed_statement_keeps_its_columns():
    line = "    %time loss = criterion(out, y)"
    assert neutralise(line)[0].index("loss") == line.index("loss")


@pytest.mark.parametrize(
    "source",
    [
        "x = (a\n  % b)",
        'text = """\n%not a magic\n!nor this\n"""',
        "text = '''it's\n%one\n'''",
        "a = b \\\n  % c",
        'x = [  # a (comment\n  1,\n  "(",\n]\ny = 1',
        "f(r'\\', 1)\ny = '''\n%x\n'''",
        'x = """a \\"""\n%b\n"""',
    ],
)
def test_what_only_looks_like_a_magic_stays(source):
    assert "\n".join(neutralise(source)) == source


def test_a_magic_over_several_lines_keeps_their_number():
    assert neutralise("!pip install \\\n  torch \\\n  rich\nx = 1") == ["pass", "", "", "x = 1"]


@pytest.mark.parametrize("magic", ["%%time", "%%capture out", "%%timeit -n 3", "%%prun"])
def test_cell_magics_that_run_the_body_here_keep_it(magic):
    assert neutralise(f"{magic}\nx = 1") == ["", "x = 1"]


@pytest.mark.parametrize("magic", ["%%bash", "%%writefile x.py", "%%html", "%%javascript", "%%", "%%sql conn"])
def test_other_cell_magics_blank_the_cell(magic):
    assert neutralise(f"\n{magic}\nx = 1\ny = 2") == ["", "", "", ""]


def test_a_cell_that_is_no_python_does_not_spoil_the_others():
    text, lines = to_python(notebook("a = 1", "this is not python\nat all", "b = 2"))
    assert text == "a = 1\n\n\nb = 2\n"
    assert lines.broken == (2,)
    assert lines.locate(4) == (3, 1)


def test_await_at_the_top_is_python_here():
    assert to_python(notebook("x = await f()"))[0] == "x = await f()\n"


@pytest.mark.parametrize(
    ("about", "kept"),
    [
        ({"kernelspec": {"language": "python"}}, True),
        ({"kernelspec": {"language": "julia"}}, False),
        ({"language_info": {"name": "R"}}, False),
        ({"kernelspec": "odd"}, True),
        ({}, True),
    ],
)
def test_only_python_notebooks_are_read(about, kept):
    assert bool(to_python(notebook("x = 1", metadata=about))[0]) is kept


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "invalid JSON"),
        (b"{", "invalid JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[]", "a JSON object was expected"),
        (b"{}", "no cells"),
        (b'{"cells": 3}', "not a list"),
        (b'{"cells": [{"cell_type": "code", "source": 3}]}', "source of cell 1 is not text"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"worksheets": 1}', "no cells"),
    ],
)
def test_a_malformed_notebook_says_what_is_wrong(data, message):
    with pytest.raises(ValueError, match=f"not a notebook.*{message}"):
        to_python(data)


def test_lone_surrogates_and_null_bytes_do_no_harm():
    text, _ = to_python(b'{"cells": [{"cell_type": "code", "source": "x = \'\\ud800\'\\n"}]}')
    ast.parse(text)
    assert to_python(notebook("x = 1\0", "y = 2"))[0] == "\ny = 2\n"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(alphabet="ab =%!?'\"()[]\\\n#,;\t", max_size=60))
def test_no_cell_loses_or_gains_a_line(source):
    lines = source.split("\n")
    assert len(neutralise(source)) == len(lines) - (len(lines) > 1 and lines[-1] == "")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["cells", "worksheets", "source", "cell_type", "metadata"]), inner, max_size=3
            )
        ),
        max_leaves=8,
    )
)
def test_any_json_is_a_notebook_or_a_value_error(content):
    try:
        text = to_python(json.dumps(content).encode())[0]
    except ValueError:
        return
    ast.parse(text)
