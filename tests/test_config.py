"""Settings from files, and which rules they and the command line come to."""

from __future__ import annotations

import pytest

from lossproof.check import Options, check_paths, find_files
from lossproof.config import load
from lossproof.problem import CannotRun
from lossproof.selection import Layer, enabled

pytestmark = pytest.mark.usefixtures("fake_engine")

FAULTS = "a = fault_LP101(x)\nb = fault_LP102(x)\nc = fault_LP201(x)\nd = fault_LP301(x)\ne = fault_LP501(x)\n"


def rules(*paths: str, **options) -> list[str]:
    report = check_paths(paths or ["."], Options(config=load(paths or ["."]), **options))
    return [finding.rule for finding in report.findings]


def test_without_a_file_everything_is_on(project):
    project({"t.py": FAULTS})
    assert rules() == ["LP101", "LP102", "LP201", "LP301", "LP501"]


@pytest.mark.parametrize(
    ("name", "header"),
    [("pyproject.toml", "[tool.lossproof]\n"), ("lossproof.toml", ""), ("lossproof.toml", "[tool.lossproof]\n")],
)
def test_both_files_are_read(project, name, header):
    project({"t.py": FAULTS, name: header + 'select = ["LP2"]\n'})
    assert rules() == ["LP201"]


def test_the_nearest_file_with_our_table_counts(project, monkeypatch):
    root = project(
        {
            "pyproject.toml": '[tool.lossproof]\nselect = ["LP1"]',
            "sub/pyproject.toml": "[tool.other]\nlossproof = 1",
            "sub/deep/lossproof.toml": 'select = ["LP5"]',
            "sub/deep/pyproject.toml": '[tool.lossproof]\nselect = ["LP3"]',
            "sub/t.py": FAULTS,
            "sub/deep/t.py": FAULTS,
        }
    )
    assert rules("sub") == ["LP101", "LP102", "LP101", "LP102"]
    assert rules("sub/deep") == ["LP501"]
    assert rules("sub/deep/t.py") == ["LP501"]
    assert load(["sub"], isolated=True).select is None
    assert load(["sub"], file="sub/deep/pyproject.toml").select == ["LP3"]
    monkeypatch.chdir(root / "sub" / "deep")
    assert load().select == ["LP5"]


@pytest.mark.parametrize(
    ("settings", "options", "expected"),
    [
        ({"select": ["LP1"]}, {}, "101 102"),
        ({"ignore": ["LP1"]}, {}, "201 301 501"),
        ({"ignore": ["LP1"], "extend-select": ["LP101"]}, {}, "101 201 301 501"),
        ({"select": ["LP1"], "ignore": ["LP101"]}, {}, "102"),
        ({"select": ["LP101"], "ignore": ["LP1"]}, {}, "101"),
        ({"select": ["LP101"], "extend-ignore": ["LP101"]}, {}, ""),
        ({"select": ["LP1"], "extend-select": ["LP501"]}, {}, "101 102 501"),
        ({"select": []}, {}, ""),
        ({"select": ["LP1"]}, {"select": ["LP2"]}, "201"),
        ({"ignore": ["LP101"]}, {"select": ["LP1"]}, "101 102"),
        ({"ignore": ["LP101"]}, {"ignore": ["LP2"]}, "102 301 501"),
        ({"select": ["LP1"]}, {"extend_select": ["LP2"]}, "101 102 201"),
        ({"select": ["LP1"]}, {"extend_ignore": ["LP101"]}, "102"),
        ({}, {"select": ["sigmoid-before-bce", "lp3"]}, "101 301"),
        ({}, {"select": ["all"], "ignore": ["LP"]}, ""),
        ({}, {"ignore": ["ALL"], "select": ["LP501"]}, "501"),
    ],
)
def test_what_is_selected(project, settings, options, expected):
    lines = "".join(f"{key} = {value}\n" for key, value in settings.items())
    project({"t.py": FAULTS, "lossproof.toml": lines})
    assert rules(**options) == [f"LP{code}" for code in expected.split()]


def test_nothing_said_means_no_look_at_the_rules():
    assert enabled([Layer(), Layer()]) is None


@pytest.mark.parametrize(
    ("selector", "hint"),
    [
        ("LP1O1", "LP101"),
        ("sigmoid-befor-bce", "Did you mean sigmoid-before-bce"),
        ("LP77", ""),
        ("", ""),
        ("E501", ""),
        ("LP1012", "LP101"),
    ],
)
@pytest.mark.parametrize("key", ["select", "ignore", "extend_select", "extend_ignore"])
def test_an_unknown_rule_cannot_be_selected(project, selector, hint, key):
    project({"t.py": ""})
    with pytest.raises(CannotRun, match=f"unknown rule '{selector}'.*{hint}"):
        rules(**{key: [selector]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("selct = ['LP1']", r"lossproof\.toml: unknown setting 'selct'\. Did you mean select"),
        ("select = 'LP1'", r"lossproof\.toml: select must be a list of strings, not 'LP1'"),
        ("select = [1]", "select must be a list of strings"),
        ("format = 'jsn'", "format must be one of text, .*not 'jsn'. Did you mean json"),
        ("min-severity = 'warn'", "min-severity must be one of error, warning, info, not 'warn'. Did you mean warning"),
        ("min-confidence = 1", "min-confidence must be one of"),
        ("baseline = true", "baseline must be a string"),
        ("force-exclude = 'yes'", "force-exclude must be true or false"),
        ("per-file-ignores = ['LP1']", "per-file-ignores must be a table"),
        ("per-file-ignores = {a = 'LP1'}", "per-file-ignores must be a table"),
        ("per-file-ignores = {'a.py' = ['LP7777']}", "unknown rule 'LP7777'"),
        ("select = ['LP7777']", "unknown rule 'LP7777'"),
        ("select = [", "not valid TOML"),
    ],
)
def test_a_mistake_is_named(project, text, message):
    project({"t.py": "", "lossproof.toml": text})
    with pytest.raises(CannotRun, match=message):
        rules()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[tool]\nlossproof = 3"])
def test_a_broken_pyproject_is_named(project, content):
    root = project({"t.py": ""})
    (root / "pyproject.toml").write_bytes(content + b"\n# lossproof")
    with pytest.raises(CannotRun, match=r"pyproject\.toml"):
        rules()


def test_a_broken_pyproject_of_no_concern_to_us_is_left_alone(project):
    project({"t.py": FAULTS, "pyproject.toml": "this is [ not toml"})
    assert len(rules()) == 5


@pytest.mark.parametrize(
    ("file", "message"), [("gone.toml", "cannot read"), ("pyproject.toml", r"no \[tool\.lossproof\]")]
)
def test_a_named_file_must_be_there_and_be_ours(project, file, message):
    project({"pyproject.toml": ""})
    with pytest.raises(CannotRun, match=message):
        load(file=file)


def test_some_rules_are_off_in_some_files(project):
    project(
        {
            "lossproof.toml": """
                [per-file-ignores]
                "tests/*" = ["LP1"]
                "gen_*.py" = ["ALL"]
                "a/b.py" = ["unguarded-division"]
            """,
            "tests/deep/t.py": FAULTS,
            "a/gen_x.py": FAULTS,
            "a/b.py": FAULTS,
        }
    )
    assert rules("tests") == ["LP201", "LP301", "LP501"]
    assert rules("a") == ["LP101", "LP102", "LP301", "LP501"]


def test_patterns_and_paths_are_relative_to_the_file(project, monkeypatch):
    root = project(
        {
            "lossproof.toml": 'extend-exclude = ["/sub/gen"]\nbaseline = "known.json"\ncache-dir = "tmp/cache"',
            "sub/gen/x.py": "",
            "sub/y.py": "",
        }
    )
    monkeypatch.chdir(root / "sub")
    settings = load(["."])
    assert settings.baseline == str(root / "known.json")
    assert settings.cache_dir == str(root / "tmp" / "cache")
    assert [path[len(str(root)) :] for path in find_files(["."], Options(config=settings)).targets] == ["/sub/y.py"]


def test_own_excludes_replace_the_default(project):
    root = project({"build/x.py": "", "gen/y.py": "", "lossproof.toml": 'exclude = ["gen"]'})

    def found(**options):
        listed = find_files(["."], Options(config=load(["."]), **options)).targets
        return [path[len(str(root)) + 1 :] for path in listed]

    assert found() == ["build/x.py", "setup.py"]
    assert found(exclude=["setup.py"]) == ["build/x.py", "gen/y.py"]
    assert found(extend_exclude=["build"]) == ["setup.py"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"min_severity": "error"}, "101 103 104 201"),
        ({"min_severity": "warning"}, "101 103 104 201 301"),
        ({"min_severity": "info"}, "101 103 104 201 301 501"),
        ({"min_confidence": "proven"}, "101 201 301 501"),
        ({"min_confidence": "likely"}, "101 103 201 301 501"),
        ({"min_confidence": "possible"}, "101 103 104 201 301 501"),
        ({"min_confidence": "likely", "min_severity": "error"}, "101 103 201"),
    ],
)
def test_thresholds(project, options, expected):
    project({"t.py": "".join(f"fault_LP{code}(x)\n" for code in (101, 103, 104, 201, 301, 501))})
    assert rules(**options) == [f"LP{code}" for code in expected.split()]


def test_thresholds_from_the_file_and_over_it(project):
    project({"t.py": FAULTS, "lossproof.toml": 'min-severity = "error"'})
    assert rules() == ["LP101", "LP102", "LP201"]
    assert len(rules(min_severity="info")) == 5


@pytest.mark.parametrize("option", ["min_severity", "min_confidence"])
def test_a_threshold_that_does_not_exist(option):
    with pytest.raises(CannotRun, match="must be one of"):
        Options(**{option: "grave"})


def test_the_function_reads_the_configuration(project):
    import lossproof

    project({"t.py": FAULTS, "lossproof.toml": 'select = ["LP1"]'})
    assert [finding.rule for finding in lossproof.check("t.py").findings] == ["LP101", "LP102"]
    assert [finding.rule for finding in lossproof.check(["t.py"], ignore=["LP101"]).findings] == ["LP102"]
    assert lossproof.check.check_paths is check_paths


def test_the_package_offers_its_names():
    import lossproof

    for name in lossproof.__all__:
        assert getattr(lossproof, name) is not None
    with pytest.raises(AttributeError, match="nothing_like_it"):
        lossproof.nothing_like_it  # noqa: B018
