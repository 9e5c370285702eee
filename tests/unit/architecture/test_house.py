"""House rules that no linter knows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[3] / "chatmail"
MODULES = sorted(PACKAGE.rglob("*.py"))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE.parent))


def calls_of(attribute: str) -> Iterator[str]:
    for path in MODULES:
        for node in ast.walk(parsed(path)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == attribute
                and ast.unparse(node.func.value).endswith("intake")
            ):
                yield name_of(path)


def test_only_the_intake_use_case_commits_messages() -> None:
    """Policy T-41: every road into the store passes the gate."""
    for method in ("commit", "commit_all"):
        assert set(calls_of(method)) == {"chatmail/domain/usecases/intake.py"}


def test_package_markers_are_empty() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        if path != PACKAGE / "__init__.py":
            assert path.read_text() == "", name_of(path)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    if path.name != "__init__.py":
        assert ast.get_docstring(parsed(path)), name_of(path)


ALLOWED_BROAD = {
    "chatmail/adapters/net/listeners.py",  # the connection guard
    "chatmail/app/keeper.py",  # the keeper of background jobs
    "chatmail/app/serve.py",  # the command line
    "chatmail/adapters/imap/idle.py",  # another task's telling must not hurt who publishes
}


def test_broad_except_stands_in_four_places_only() -> None:
    found = set()
    for path in MODULES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ExceptHandler):
                caught = node.type and ast.unparse(node.type)
                passes_on = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
                if caught in (None, "Exception", "BaseException") and not passes_on:
                    found.add(name_of(path))
    assert found <= ALLOWED_BROAD


def test_threads_are_entered_through_two_doors_only() -> None:
    found = {
        name_of(path)
        for path in MODULES
        if ("to_thread." in path.read_text() and "trio" in path.read_text())
        or "threading.Thread(" in path.read_text()
    }
    assert all(
        name.startswith(("chatmail/adapters/system/threads", "chatmail/adapters/storage/"))
        for name in found
    ), found
