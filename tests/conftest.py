"""What the tests share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache, or is coloured by the user's environment."""
    monkeypatch.setenv("LOSSPROOF_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The source eye, replaced by one that finds what it is told to (see ``fake_engine.py``)."""
    import fake_engine

    import lossproof.source

    fake = fake_engine.module()
    monkeypatch.setitem(sys.modules, "lossproof.source.engine", fake)
    monkeypatch.setattr(lossproof.source, "engine", fake, raising=False)
    return


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Make a project from paths and contents, and stand in it."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "setup.py").write_text("")
    monkeypatch.chdir(root)

    def make(files: dict[str, str] | None = None) -> Path:
        for name, content in (files or {}).items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        return root

    return make
