"""The page of a rule is true: its wrong example is found by that rule alone, its right example by none."""

from __future__ import annotations

import ast
import importlib.util
import re
import runpy
from pathlib import Path

import pytest

from lossproof.check import Options, check_paths
from lossproof.finding import Finding
from lossproof.rules.registry import Rule, all_rules

ROOT = Path(__file__).parent.parent
SECTIONS = (
    *("What it does", "Why is this bad", "Measured", "Wrong", "Right", "Remedies", "When to ignore it", "References"),
)
RULES = list(all_rules().values())
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)


def sections(rule: Rule) -> dict[str, str]:
    """The sections by their heading. A ``#`` inside a code block is no heading."""
    found: dict[str, str] = {}
    heading, fenced = "", False
    for line in rule.page.splitlines():
        fenced ^= line.startswith("```")
        if line.startswith("## ") and not fenced:
            heading = line[3:]
            assert heading not in found
            found[heading] = ""
        elif heading:
            found[heading] += line + "\n"
    return found


def example(rule: Rule, section: str) -> str:
    blocks = re.findall(r"^```python\n(.*?)^```$", sections(rule)[section], re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, f"one Python block under {section}"
    return str(blocks[0])


def findings(rule: Rule, source: str, folder: Path) -> list[Finding]:
    """What the checker says of an example; of a rule that reads no source, what the audit says of its ``loss()``."""
    if rule.check is None:
        return audited(source, folder)
    (folder / "setup.py").write_text("")
    (folder / "example.py").write_text(source, encoding="utf-8")
    report = check_paths([folder / "example.py"], Options(cache=False, jobs=1))
    assert not report.warnings
    return report.findings


def audited(source: str, folder: Path) -> list[Finding]:
    torch = pytest.importorskip("torch")
    import lossproof

    path = folder / "example.py"
    path.write_text(source, encoding="utf-8")
    torch.manual_seed(0)
    with lossproof.recording():
        module = runpy.run_path(str(path))
        loss = module["loss"]()
    told = {key: module[key](loss) for key in ("names", "optimizer") if key in module}
    return list(lossproof.audit(loss, **told))


@each_rule
def test_the_sections_are_there_in_order(rule: Rule) -> None:
    assert rule.page.startswith(f"# {rule.code} {rule.name}\n")
    assert list(sections(rule)) == list(SECTIONS)
    assert all(text.strip() for text in sections(rule).values())


@each_rule
def test_the_wrong_example_is_found_by_its_rule_alone(rule: Rule, tmp_path: Path) -> None:
    found = findings(rule, example(rule, "Wrong"), tmp_path)
    mine = [f for f in found if f.rule == rule.code]
    assert mine
    assert mine[0].severity is rule.severity
    others = [f for f in found if f.rule != rule.code and f.severity.value != "info"]
    assert not others, [(f.rule, f.line, f.message) for f in others]


@each_rule
def test_the_right_example_is_clean(rule: Rule, tmp_path: Path) -> None:
    found = findings(rule, example(rule, "Right"), tmp_path)
    assert not found, [(f.rule, f.line, f.message) for f in found]


@each_rule
def test_the_examples_are_whole_programs(rule: Rule) -> None:
    """A reader can paste them: they parse, and every name in them comes from somewhere."""
    for section in ("Wrong", "Right"):
        source = example(rule, section)
        compile(source, f"{rule.code} {section}", "exec")
        tree = ast.parse(source)
        known = set(dir(__builtins__)) | set(__builtins__ if isinstance(__builtins__, dict) else ())
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                known |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                known.add(node.name)
            elif isinstance(node, ast.arg):
                known.add(node.arg)
            elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                known.add(node.id)
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert not used - known


@each_rule
def test_the_rule_speaks_briefly(rule: Rule) -> None:
    assert re.fullmatch(r"LP\d{3}", rule.code)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", rule.name)
    assert rule.summary.endswith(".")
    assert "\n" not in rule.summary + rule.hint
    assert rule.hint
    assert not rule.hint.endswith(".")


@each_rule
def test_the_page_has_no_long_lines(rule: Rule) -> None:
    assert [line for line in rule.page.splitlines() if len(line) > 120] == []


def test_the_generated_document_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("render_rules", ROOT / "scripts" / "render_rules.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.main(["--check"]) == 0, capsys.readouterr().out
