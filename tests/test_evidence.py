"""Every claim is measured, deterministic, and could come out otherwise."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from lossproof.cli import main
from lossproof.evidence import digits, kept, registry
from lossproof.evidence import prove as proving
from lossproof.evidence.descent import Descent
from lossproof.evidence.experiment import DEPENDS, HOLDS, Experiment, Outcome, Setting, number, say
from lossproof.evidence.prove import Proof, prove
from lossproof.problem import CannotRun
from lossproof.rules.registry import all_rules

EXPERIMENTS = list(registry.all_experiments().values())
QUICK = 0.3
LEARNING = (
    "bce-does-not-recover", "bce-moderate-logits", "double-softmax-adam", "double-softmax-learning",
    "one-class-cross-entropy", "softmax-over-batch", "swapped-arguments",
)  # fmt: skip
each_experiment = pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda each: each.id)


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSPROOF_CACHE_DIR", str(tmp_path / "cache"))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def steady(proof: Proof) -> dict[str, Any]:
    """What is the same in every run."""
    assert proof.outcome is not None, proof.error
    return {name: value for name, value in proof.outcome.figures.items() if name not in proof.outcome.timed}


# every experiment


@each_experiment
def test_the_claim_holds_here(experiment: Experiment) -> None:
    began = time.process_time()
    (proof,) = prove([experiment.id])
    took = time.process_time() - began
    assert proof.error == ""
    assert proof.outcome is not None
    outcome = proof.outcome
    assert outcome.verdict in (HOLDS, DEPENDS), outcome.measured
    assert bool(outcome.condition) is (outcome.verdict == DEPENDS)
    assert took < 4 * experiment.seconds
    assert outcome.figures
    assert re.fullmatch(r"[A-Z0-9`].*[.]", outcome.measured, re.DOTALL)
    assert "\n" not in outcome.measured + outcome.condition
    assert not outcome.condition.endswith(".")
    json.dumps(proof.as_dict(), allow_nan=False)
    if took < QUICK:
        twice_alike(proof)


@pytest.mark.slow
@each_experiment
def test_a_second_run_gives_the_same_figures(experiment: Experiment) -> None:
    twice_alike(*prove([experiment.id]))


def twice_alike(proof: Proof) -> None:
    (again,) = prove([proof.experiment.id])
    assert steady(again) == steady(proof)
    if proof.outcome is not None and not proof.outcome.timed:
        assert again.outcome == proof.outcome


@each_experiment
def test_the_claim_is_a_sentence_about_rules_that_exist(experiment: Experiment) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", experiment.id)
    assert re.fullmatch(r"\S.*\S\.", experiment.claim)
    assert "\n" not in experiment.claim + experiment.folk
    assert experiment.folk == "" or experiment.folk.endswith(".")
    assert set(experiment.rules) <= set(all_rules())
    assert list(experiment.rules) == sorted(set(experiment.rules))
    assert experiment.seconds <= 5
    home = sys.modules[experiment.measure.__module__]
    assert home.__name__.rpartition(".")[2] == experiment.id.replace("-", "_")
    assert home.EXPERIMENT is experiment
    assert home.__doc__


@pytest.mark.parametrize("code", sorted(all_rules()))
def test_a_rule_leans_on_an_experiment(code: str) -> None:
    evidence = all_rules()[code].evidence
    assert evidence in registry.all_experiments()
    assert code in registry.all_experiments()[evidence].rules


def in_a_fresh_process(*arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run([sys.executable, "-m", "lossproof", "prove", "--json", *arguments], capture_output=True)
    assert done.returncode == 0, done.stderr
    records: list[dict[str, Any]] = json.loads(done.stdout)
    return records


def same_in_a_fresh_process(arguments: list[str], ids: list[str]) -> None:
    for record, proof in zip(in_a_fresh_process(*arguments), prove(ids), strict=True):
        assert record["id"] == proof.experiment.id
        assert {k: v for k, v in record["figures"].items() if k not in record["timed"]} == steady(proof)


def test_the_headlines_are_the_same_in_a_fresh_process() -> None:
    same_in_a_fresh_process([], [experiment.id for experiment in registry.headlines()])


@pytest.mark.slow
def test_all_are_the_same_in_a_fresh_process() -> None:
    same_in_a_fresh_process(["--all"], [experiment.id for experiment in EXPERIMENTS])


# a run leaves everything as it was


def test_a_run_is_not_felt() -> None:
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(2)
    try:
        with torch.no_grad(), torch.inference_mode():
            (proof,) = prove(["bce-dead-gradient"])
            assert not torch.is_grad_enabled()
        assert torch.get_default_dtype() is torch.float64
        assert torch.get_num_threads() == 2
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(threads)
    assert torch.get_float32_matmul_precision() == precision
    assert torch.equal(torch.rand(4), expected)
    assert proof.verdict == HOLDS
    assert steady(proof) == steady(prove(["bce-dead-gradient"])[0])


def broken(setting: Setting) -> Outcome:
    raise ValueError("no such luck\nand more")


def refuted(setting: Setting) -> Outcome:
    return Outcome("does-not-hold", "It was 3.", {"it": 3})


def stand_in(monkeypatch: pytest.MonkeyPatch, **measures: Any) -> None:
    """Other measurements in the place of those of LP101's and LP102's experiments."""
    known = dict(registry.all_experiments())
    for name, measure in measures.items():
        measure.__module__ = "lossproof.evidence.activation.stand_in"
        old = known[name.replace("_", "-")]
        known[old.id] = Experiment(old.id, old.claim, old.rules, measure, old.folk)
    for module in (registry, proving, kept):
        monkeypatch.setattr(module, "all_experiments", lambda: known)


def test_one_that_raises_does_not_stop_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, bce_dead_gradient=broken)
    code, out, err = run(capsys, "prove", "bce-dead-gradient", "double-sigmoid", "--json")
    first, second = json.loads(out)
    assert (code, err) == (2, "")
    assert (first["verdict"], first["error"]) == (None, "ValueError: no such luck")
    assert second["verdict"] == HOLDS
    code, out, _ = run(capsys, "prove", "bce-dead-gradient", "double-sigmoid")
    assert code == 2
    assert "measured: ValueError: no such luck" in out
    assert "1 could not run" in out


def test_a_claim_that_does_not_hold_is_reported_with_the_advice_that_leans_on_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, bce_dead_gradient=refuted)
    code, out, _ = run(capsys, "prove", "LP101")
    assert code == 1
    assert "does-not-hold" in out
    assert (
        "bce-dead-gradient does not hold here: what LP101 and LP804 advise because of it does not apply as written."
        in out
    )
    code, out, _ = run(capsys, "explain", "LP101")
    assert code == 0
    assert "`bce-dead-gradient` **does not hold**: It was 3." in out
    assert "does not apply here as written" in out
    assert "does not hold" not in run(capsys, "explain", "LP102")[1]


def test_what_was_measured_is_kept_until_something_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept.quoted("bce-dead-gradient") is None
    assert kept.quoted("no-such-claim") is None
    (proof,) = prove(["bce-dead-gradient"])
    assert kept.quoted("bce-dead-gradient") == proof.outcome
    assert kept.quoted("bce-dead-gradient", device="cuda") is None
    monkeypatch.setattr(kept, "_torch", lambda: "1.0")
    assert kept.quoted("bce-dead-gradient") is None


def test_a_result_that_was_spoilt_is_none(tmp_path: Path) -> None:
    prove(["bce-dead-gradient"])
    (file,) = (tmp_path / "cache" / "evidence").iterdir()
    file.write_text('{"verdict": "surely"}')
    assert kept.quoted("bce-dead-gradient") is None


def test_nothing_is_kept_where_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LOSSPROOF_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert prove(["bce-dead-gradient"])[0].verdict == HOLDS
    assert kept.quoted("bce-dead-gradient") is None


@pytest.mark.parametrize("name", LEARNING)
def test_claims_about_learning_hold_without_scikit_learn(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "_file", lambda: None)
    digits._rows.cache_clear()
    (proof,) = prove([name])
    digits._rows.cache_clear()
    assert proof.outcome is not None, proof.error
    assert proof.verdict == HOLDS, proof.outcome.measured
    assert proof.outcome.figures["data"] == "drawn digits"


# the vocabulary


def test_an_outcome_is_plain_and_finite() -> None:
    with pytest.raises(ValueError, match="should be one of holds"):
        Outcome("true", "")
    with pytest.raises(ValueError, match="should be a plain number"):
        Outcome(HOLDS, "", {"loss": torch.ones(1)})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="among the figures"):
        Outcome(HOLDS, "", {"loss": 1.0}, timed=("ratio",))
    assert Outcome(HOLDS, "", {"loss": math.nan, "least": -math.inf}).figures == {"loss": "nan", "least": "-inf"}
    assert number(torch.tensor(math.inf)) == "inf"
    assert number(torch.tensor(0.5)) == 0.5


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "0"), (1.0, "1"), (16.6355, "16.6"), (-0.69, "-0.69"), (1234.5, "1,234"), (41399, "41,399"),
        (-1.9287e-10, "-1.9e-10"), (1e12, "1e12"),
        (math.nan, "NaN"), (-math.inf, "-inf"), (100.0, "100"), ("nan", "NaN"), ("inf", "inf"), (None, "none"),
        (True, "True"),
    ],
)  # fmt: skip
def test_numbers_as_they_are_written(value: Any, text: str) -> None:
    assert say(value) == text


@pytest.mark.parametrize("name", [None, "scikit-learn"])
def test_there_are_digits_either_way(monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    if name is None:
        monkeypatch.setattr(digits, "_file", lambda: None)
    elif digits._file() is None:
        pytest.skip("scikit-learn is not installed")
    digits._rows.cache_clear()
    data = digits.digits(Setting(torch.device("cpu")))
    digits._rows.cache_clear()
    assert data.name == ("drawn digits" if name is None else "scikit-learn's digits")
    assert data.x.shape == (1347, 64)
    assert data.test_x.shape == (450, 64)
    assert data.x.min() == 0
    assert data.x.max() == 1
    assert data.y.bincount().min() > 100


@pytest.mark.parametrize("method", ["SGD", "Adam"])
def test_descent_is_that_of_torch(method: str) -> None:
    source = torch.Generator().manual_seed(0)
    start = torch.randn(7, generator=source)
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    descent, optimizer = Descent([ours], method, 0.05), getattr(torch.optim, method)([theirs], lr=0.05)
    for _ in range(50):
        descent.down((ours.cos() * ours).sum())
        optimizer.zero_grad()
        (theirs.cos() * theirs).sum().backward()
        optimizer.step()
    assert torch.allclose(ours, theirs, atol=1e-5)
    with pytest.raises(ValueError, match="should be SGD or Adam"):
        Descent([ours], "Lion", 0.1)


# the command


def test_the_list_needs_no_torch() -> None:
    program = "import sys; sys.modules['torch'] = None; from lossproof.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", program, "prove", "--list"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(registry.all_experiments())
    done = subprocess.run([sys.executable, "-c", program, "prove"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install torch" in done.stderr


def test_the_list_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "prove", "--list", "--json")
    assert code == 0
    assert {each["id"]: each["claim"] for each in json.loads(out)} == registry.claims()
    code, out, _ = run(capsys, "prove", "--list", "LP101")
    assert all("LP101" in line for line in out.splitlines())


def test_json_is_as_the_contract_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "prove", "bce-dead-gradient", "--json")
    assert code == 0
    (record,) = json.loads(out)
    assert {"id", "claim", "verdict", "measured", "environment", "seconds", "rules"} <= set(record)
    assert {"torch", "device", "dtype", "threads", "python"} <= set(record["environment"])
    assert record["rules"] == ["LP101", "LP804"]


@pytest.mark.parametrize(
    "word",
    ["bce-dead-gradient", "BCE-dead", "LP101", "lp101", "LP1", "activation", "sigmoid-before-bce"],
)
def test_a_claim_has_many_names(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "prove", "--list", word)
    assert code == 0
    assert "bce-dead-gradient" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bce-dead-gradeint"], "unknown claim 'bce-dead-gradeint'. Did you mean bce-dead-gradient"),
        (["LP777"], "unknown claim 'LP777'"),
        (["--rule", "LP777"], "unknown rule 'LP777'"),
        (["--all", "LP101"], "--all is every claim"),
        (["LP101", "--device", "abacus"], "cannot measure on 'abacus': torch knows no such device"),
    ],
)
def test_what_cannot_be_run_is_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "prove", *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_a_table_on_a_terminal_and_words_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "prove", "bce-dead-gradient", "--color", "always")
    assert code == 0
    assert "measured here" in out
    assert "\x1b[" in out
    code, out, _ = run(capsys, "prove", "--rule", "LP101")
    assert "\x1b[" not in out
    assert "holds: A sigmoid before binary_cross_entropy" in out
    assert "hold" in out.splitlines()[-2]
    assert f"torch {torch.__version__}" in out.splitlines()[-1]


def test_from_python() -> None:
    with pytest.raises(CannotRun, match="unknown claim"):
        prove(["nothing-of-the-kind"])
    seen: list[tuple[int, int]] = []
    prove(["bce-dead-gradient"], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 1)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@each_experiment
def test_the_claim_holds_on_a_gpu(experiment: Experiment) -> None:
    (proof,) = prove([experiment.id], device="cuda")
    assert proof.error == ""
    assert proof.verdict in (HOLDS, DEPENDS), proof.outcome


def test_the_page_has_every_claim() -> None:
    script = Path(__file__).parent.parent / "scripts" / "render_evidence.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
