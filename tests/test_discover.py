"""Which files are found, and that git agrees about what is ignored."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lossproof.problem import CannotRun
from lossproof.source import discover as module
from lossproof.source.discover import Filter, discover, project_root
from lossproof.source.gitignore import Patterns

NAMES = ["a.py", "b.py", "ab.py", "a/a.py", "a/b.py", "a/b/a.py", "b/a/b.py", "b/ab/a.py", "ab/b.py", "b/b/b/a.py"]


def targets(root: Path, *arguments: str, **options: object) -> list[str]:
    found = discover(arguments or (str(root),), **options)  # type: ignore[arg-type]
    return [os.path.relpath(path, root).replace(os.sep, "/") for path in found.targets]


def known(root: Path, *arguments: str) -> list[str]:
    return [os.path.relpath(file.path, root).replace(os.sep, "/") for file in discover(arguments).files]


def test_finds_python_and_notebooks_in_order(project):
    root = project({"b.py": "", "a/z.ipynb": "{}", "a/a.py": "", "a/x.pyi": "", "a/y.txt": "", "a/c.pyc": ""})
    assert targets(root) == ["a/a.py", "a/z.ipynb", "b.py", "setup.py"]


@pytest.mark.parametrize("folder", sorted(module.DEFAULT_EXCLUDES))
def test_leaves_out_what_is_not_the_projects_code(project, folder):
    root = project({f"deep/{folder}/x.py": "", "deep/y.py": ""})
    assert targets(root) == ["deep/y.py", "setup.py"]


def test_a_virtual_environment_is_known_by_its_mark(project):
    root = project({"env/pyvenv.cfg": "", "env/lib/x.py": "", "environment/y.py": ""})
    assert targets(root) == ["environment/y.py", "setup.py"]


@pytest.mark.parametrize("folder", ["build", "venv/lib/site-packages", "env"])
def test_an_excluded_folder_is_checked_when_it_is_named(project, folder):
    root = project({f"{folder}/pkg/x.py": "", f"{folder}/pyvenv.cfg": ""})
    assert targets(root, folder) == [f"{folder}/pkg/x.py"]


def test_a_named_file_is_always_taken(project):
    root = project({"build/x.py": "", "script": "", ".gitignore": "*"})
    assert targets(root, "build/x.py", "script") == ["build/x.py", "script"]


def test_force_exclude_holds_for_named_files(project):
    root = project({"build/x.py": "", "gen/y.py": "", "src/z.py": ""})
    keep = Filter(excludes=[(str(root), Patterns(["gen/"]))])
    named = ["build/x.py", "gen/y.py", "src/z.py"]
    assert targets(root, *named, filter=keep, force_exclude=True) == ["src/z.py"]
    assert targets(root, *named, filter=keep) == named


def test_own_excludes(project):
    root = project({"a/x.py": "", "a/gen/y.py": "", "a/z_pb2.py": ""})
    keep = Filter(excludes=[(str(root), Patterns(["a/gen", "*_pb2.py"]))])
    assert targets(root, filter=keep) == ["a/x.py", "setup.py"]


def test_a_missing_path_cannot_be_checked(project):
    project()
    with pytest.raises(CannotRun, match=r"nowhere\.py: no such file or folder"):
        discover(["nowhere.py"])


def test_a_null_byte_in_a_path_cannot_be_checked(project):
    project()
    with pytest.raises(CannotRun):
        discover(["a\0b.py"])


def test_an_unreadable_folder_is_a_warning(project, monkeypatch):
    root = project({"a/x.py": "", "b/y.py": ""})
    real = os.scandir

    def scandir(path):
        if os.path.basename(path) == "a":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(module.os, "scandir", scandir)
    found = discover(["."])
    assert [os.path.relpath(path, root) for path in found.targets] == [os.path.join("b", "y.py"), "setup.py"]
    assert found.warnings == ["a: permission denied"]


def test_an_empty_folder_is_a_warning(project):
    root = project()
    (root / "empty").mkdir()
    found = discover(["empty"])
    assert found.targets == []
    assert found.warnings == ["empty: no Python file or notebook found here"]


def test_links_cannot_make_a_loop(project):
    root = project({"a/b/x.py": ""})
    (root / "a" / "b" / "loop").symlink_to(root)
    (root / "a" / "again").symlink_to(root / "a" / "b")
    assert targets(root) == ["a/b/x.py", "setup.py"]


def test_a_linked_file_counts_once(project, tmp_path):
    outside = tmp_path / "shared.py"
    outside.write_text("")
    root = project({"real.py": ""})
    (root / "alias.py").symlink_to(root / "real.py")
    (root / "one.py").symlink_to(outside)
    (root / "two.py").symlink_to(outside)
    (root / "broken.py").symlink_to(root / "gone.py")
    assert targets(root) == ["one.py", "real.py", "setup.py"]


def test_a_folder_named_like_a_file_is_entered(project):
    root = project({"odd.py/x.py": ""})
    assert targets(root) == ["odd.py/x.py", "setup.py"]


def test_overlapping_arguments_count_once(project):
    root = project({"a/x.py": "", "a/b/y.py": ""})
    assert targets(root, ".", "a", "a/b", "a/x.py", "./a/../a") == ["a/b/y.py", "a/x.py", "setup.py"]


def test_one_file_is_checked_in_its_project(project):
    root = project({"models/net.py": "", "train/run.py": "", "build/x.py": "", "data/.gitignore": "*"})
    found = discover(["train/run.py"])
    assert found.root == str(root)
    assert [file.display for file in found.files] == [os.path.join("models", "net.py"), "setup.py", "train/run.py"]
    assert found.targets == [str(root / "train" / "run.py")]


def test_without_a_project_the_common_folder_is_the_root(tmp_path, monkeypatch):
    for name in ("x/a/one.py", "x/b/two.py", "y/three.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    monkeypatch.setattr(module, "ROOT_MARKS", ())
    assert project_root([str(tmp_path / "x" / "a"), str(tmp_path / "x" / "b")]) == str(tmp_path / "x")


def test_an_installed_package_is_a_project(tmp_path):
    package = tmp_path / "venv" / "lib" / "site-packages" / "kit"
    (package / "sub").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("")
    assert project_root([str(package / "sub")]) == str(package)
    assert project_root([str(package.parent)]) == str(package.parent)


@pytest.mark.parametrize("reason", ["too many", "home"])
def test_a_disk_is_not_a_project(project, monkeypatch, reason):
    root = project({f"other/f{number}.py": "" for number in range(9)} | {"here/a.py": "", "here/b.py": ""})
    if reason == "home":
        monkeypatch.setenv("HOME", str(root))
        monkeypatch.setenv("USERPROFILE", str(root))
        assert known(root, "here/a.py", "setup.py") == ["here/a.py", "here/b.py", "setup.py"]
    else:
        monkeypatch.setattr(module, "MOST_FILES", 5)
        assert known(root, "here/a.py") == ["here/a.py", "here/b.py"]


def test_paths_below_are_shown_from_here(project, monkeypatch):
    root = project({"a/x.py": "", "b/y.py": ""})
    monkeypatch.chdir(root / "a")
    shown = {file.display for file in discover(["x.py", "../b/y.py"]).files}
    assert shown == {"x.py", str(root / "b" / "y.py"), str(root / "setup.py")}


def test_standard_input_takes_the_place_of_a_file(project):
    project({"a/x.py": "on disk"})
    found = discover(["-"], stdin=("a/x.py", b"piped"))
    assert [file.read() for file in found.files if file.path in found.targets] == [b"piped"]


# what git ignores


def git(root: Path, *arguments: str) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    return subprocess.run(
        ["git", *arguments], cwd=root, check=True, capture_output=True, text=True, env=environment
    ).stdout


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is what it is compared with")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    git(root, "init", "-q")
    return root


def agrees(root: Path) -> None:
    theirs = {name for name in git(root, "ls-files", "-oz", "--exclude-standard").split("\0") if name.endswith(".py")}
    assert set(targets(root)) == theirs


@needs_git
@pytest.mark.parametrize(
    "patterns",
    [
        "a/", "a", "/a", "/a/", "*.py", "a.py", "/a.py", "a/*.py", "a/**", "**/a.py", "a/**/a.py", "**/b/**", "?.py",
        "[a].py", "[!a].py", "[^a].py", "[a-b]b.py", "a*", "*b", "*b/", "/*", "*/b", "b/*/b.py", "*\n!a.py",
        "*\n!*/\n!a.py", "a/\n!a/b.py", "a/*\n!a/b.py", "# a\n\\#a\n", "a.py   ", "a.py\\ ", "\\a.py", "!a.py",
        "//a.py", "a//b.py", "**", "***", "a**", "**a.py", "a/**b", "[", "[a", "a[]b].py", "[]a].py",
        "*.py\n!/a.py\n/a.py",
        "\ufeffa.py", "a.py\r\nb.py\r", "b/b", "/b/", "a/b/", "**/", "/**", "*/", "\\", "a\\", "*.p?", "*.p[xy]",
        "ab.*",
    ],
)  # fmt: skip
def test_git_agrees(repository, patterns):
    (repository / ".gitignore").write_bytes(patterns.encode())
    agrees(repository)


@needs_git
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.lists(
            st.sampled_from(["a", "b", "ab", ".py", "*", "**", "/", "**/", "/**", "?", "[ab]", "[!a]", "!", " ", "\\"]),
            max_size=6,
        )
        .map("".join)
        .filter(lambda pattern: not re.search(r"[^/!]\*\*|\*\*[^/]", pattern)),  # undocumented, and git varies
        max_size=4,
    )
)
def test_git_agrees_about_anything(repository, patterns):
    (repository / ".gitignore").write_bytes("\n".join(patterns).encode())
    agrees(repository)


@needs_git
def test_ignore_files_in_folders_and_above(repository):
    (repository / ".gitignore").write_text("b.py\n/ab/\n")
    (repository / "a" / ".gitignore").write_text("!b.py\n/a.py\n")
    try:
        agrees(repository)
        assert targets(repository, str(repository / "a")) == ["a/b.py", "a/b/a.py"]
        unfiltered = targets(repository, filter=Filter(respect_gitignore=False))
        assert unfiltered == sorted(NAMES)
    finally:
        (repository / "a" / ".gitignore").unlink()


def test_an_ignored_linked_file_is_left_out(project, tmp_path):
    (tmp_path / "outside.py").write_text("")
    root = project({".gitignore": "alias.py\n"})
    (root / "alias.py").symlink_to(tmp_path / "outside.py")
    assert targets(root) == ["setup.py"]


@pytest.mark.parametrize(
    ("pattern", "path", "covered"),
    [
        ("tests/", "tests/a/b.py", True),
        ("tests/*", "tests/a/b.py", True),
        ("__init__.py", "a/b/__init__.py", True),
        ("a/*.py", "a/b/c.py", False),
        ("a/**/*.py", "a/b/c.py", True),
        ("c.py", "a/b/c.pyi", False),
    ],
)
def test_a_pattern_covers_what_lies_below(pattern, path, covered):
    assert Patterns([pattern]).covers(path) is covered
