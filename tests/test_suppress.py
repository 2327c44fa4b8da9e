"""Comments silence what they name, where they stand, and say so when they silence nothing."""

from __future__ import annotations

import json

import pytest

from lossproof.check import check_paths
from lossproof.source.suppress import find, may_hold
from lossproof.source.texts import Text

pytestmark = pytest.mark.usefixtures("fake_engine")


def outcome(project, source: str, name: str = "train.py") -> tuple[list[str], list[str]]:
    """The rules that are reported, and the complaints about suppressions."""
    project({name: source})
    report = check_paths([name])
    return [finding.rule for finding in report.findings], [str(each).split(": ", 2)[2] for each in report.unused]


@pytest.mark.parametrize(
    "comment",
    [
        "# lossproof: ignore[LP101]",
        "# lossproof: ignore[LP101] the paper does it so",
        "# lossproof: ignore[LP102, LP101]",
        "# lossproof: ignore [LP101]",
        "#lossproof:ignore[LP101]",
        "# LOSSPROOF: IGNORE[lp101]",
        "# lossproof: ignore[LP1]",
        "# lossproof: ignore[sigmoid-before-bce]",
        "# lossproof: ignore",
        "# lossproof: ignore because",
        "# type: ignore # lossproof: ignore[LP101]",
        "# noqa: LP101",
        "# noqa:LP101",
        "# NOQA: E501, LP101",
        "# noqa: E501 LP101",
        "# noqa: LP1",
        "# noqa",
        "# noqa # a reason",
    ],
)
def test_a_comment_silences_its_line(project, comment):
    rules, unused = outcome(project, f"x = fault_LP101(a)  {comment}\n")
    assert rules == []
    assert all("LP102" in complaint for complaint in unused)


@pytest.mark.parametrize(
    "comment",
    [
        "# lossproof: ignore[LP102]",
        "# lossproof: ignore[]",
        "# lossproof ignore",
        "# lossproof: ignored",
        "# noqa: E501",
        "# noqa: LP102",
        "# noqa: because I say so",
        "# ruff: noqa",
        "# lossproof: ignore-everything",
    ],
)
def test_other_comments_do_not(project, comment):
    assert outcome(project, f"x = fault_LP101(a)  {comment}\n")[0] == ["LP101"]


@pytest.mark.parametrize("line", range(5))
def test_it_may_stand_on_any_line_of_the_statement(project, line):
    lines = ["x = wrap(", "    fault_LP101(", "        a,", "    ),", ")"]
    lines[line] += "  # lossproof: ignore[LP101]"
    assert outcome(project, "\n".join(lines) + "\n") == ([], [])


def test_alone_on_a_line_it_holds_for_the_next_statement(project):
    source = (
        "def f():\n    # lossproof: ignore[LP101] as in the paper,\n    # whose appendix says why\n"
        "    x = fault_LP101(\n        a\n    )\n    y = fault_LP101(b)\n"
    )
    assert outcome(project, source) == (["LP101"], [])


def test_a_noqa_alone_on_a_line_holds_for_nothing(project):
    assert outcome(project, "# noqa\nx = fault_LP101(a)\n") == (["LP101"], [])


def test_it_does_not_reach_the_next_statement(project):
    rules, unused = outcome(project, "y = 1  # lossproof: ignore[LP101]\nx = fault_LP101(a)\n")
    assert rules == ["LP101"]
    assert unused == ["LP101 is not found here"]


@pytest.mark.parametrize("source", ['x = "# noqa"; fault_LP101(a)\n', 's = """\n# noqa"""; fault_LP101(a)\n'])
def test_a_string_is_no_comment(project, source):
    assert outcome(project, source)[0] == ["LP101"]


@pytest.mark.parametrize(
    ("comment", "left"),
    [
        ("# lossproof: ignore-file[LP101]", ["LP201"]),
        ("# lossproof: ignore-file[LP101, LP201] generated", []),
        ("# lossproof: ignore-file", []),
    ],
)
def test_a_whole_file(project, comment, left):
    assert outcome(project, f"x = fault_LP101(a)\ny = fault_LP201(b)\n{comment}\n") == (left, [])


@pytest.mark.parametrize(
    ("line", "complaints"),
    [
        ("x = 1  # lossproof: ignore[LP101]", ["LP101 is not found here"]),
        ("x = 1  # lossproof: ignore[LP101, LP2]", ["LP101 is not found here", "LP2 is not found here"]),
        ("x = fault_LP101(a)  # lossproof: ignore[LP101, LP2]", ["LP2 is not found here"]),
        ("x = 1  # lossproof: ignore", ["nothing is found here"]),
        ("x = 1  # lossproof: ignore-file[LP101]", ["LP101 is not found here"]),
        ("x = 1  # noqa: LP101", ["LP101 is not found here"]),
        ("x = 1  # noqa: E501,LP101", ["LP101 is not found here"]),
        ("x = 1  # noqa", []),
        ("x = 1  # noqa: E501", []),
        ("x = 1  # lossproof: ignore[LP803] seen by the run", []),
        ("x = '# lossproof: ignore[LP101]'", []),
    ],
)
def test_what_silences_nothing_is_said(project, line, complaints):
    assert outcome(project, line + "\n")[1] == complaints


def test_a_narrower_selection_makes_no_suppression_useless(project):
    from lossproof.check import Options

    project({"train.py": "x = fault_LP101(a)  # lossproof: ignore[LP101]\n"})
    assert check_paths(["train.py"], Options(select=["LP2"])).unused == []


def test_a_file_that_could_not_be_read_makes_no_suppression_useless(project):
    project({"train.py": "x = (  # lossproof: ignore[LP101]\n"})
    report = check_paths(["train.py"])
    assert report.unused == []
    assert report.warnings == ["train.py: SyntaxError"]


def test_only_checked_files_are_judged(project):
    project({"a.py": "x = 1\n", "b.py": "x = 1  # lossproof: ignore[LP101]\n"})
    assert check_paths(["a.py"]).unused == []
    assert len(check_paths(["."]).unused) == 1


def test_in_a_notebook(project):
    cells = ["y = 1", "x = fault_LP101(a)  # lossproof: ignore[LP101]", "z = fault_LP101(b)", "w = 2  # noqa: LP101"]
    content = {"cells": [{"cell_type": "code", "source": cell} for cell in cells]}
    project({"train.ipynb": json.dumps(content)})
    report = check_paths(["train.ipynb"])
    assert [finding.location.cell for finding in report.findings] == [3]
    assert [str(each) for each in report.unused] == [
        "train.ipynb:cell 4:1: unused suppression: LP101 is not found here"
    ]


def test_without_tokens_a_look_at_the_lines_has_to_do():
    found = find(Text("x = (  # lossproof: ignore[LP101]\n# lossproof: ignore[LP102]\ny = 1 +\n'''"))
    assert [(each.code, each.first, each.last) for each in found] == [("LP101", 1, 1), ("LP102", 2, 3)]


def test_the_reason_is_kept():
    (found,) = find(Text("x = 1  # lossproof: ignore[LP101] the paper does it so  # type: ignore\n"))
    assert found.reason == "the paper does it so"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"x # lossproof: ignore", True),
        (b"x #lossproof:ignore-file[LP1]", True),
        (b"x # noqa: LP101", True),
        (b"x # noqa: E501, LP101", True),
        (b"x # noqa", False),
        (b"x # noqa: E501\nLP101 = 1", False),
        (b"import lossproof", False),
    ],
)
def test_the_quick_look_at_the_bytes(data, expected):
    assert may_hold(data) is expected
