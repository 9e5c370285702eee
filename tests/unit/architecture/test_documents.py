"""The documents say what is there: events, files, names, keys, links."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatmail.app.config_keys import ALIASES, FIELDS, SECTIONS

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "chatmail"
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
MAPS = [DOCS / "architecture.md", DOCS / "walks.md"]
MODULES = sorted(PACKAGE.rglob("*.py"))

LEVELS = {"debug", "info", "warning", "error"}
FILLED_IN_LATER = {"event"}  # net/listeners: `_complain` passes its first argument on
TOP_FOLDERS = ("chatmail/", "tests/", "docs/", "bench/")
IN_PACKAGE = ("domain/", "adapters/", "app/")


def code_spans(path: Path) -> Iterator[str]:
    """Yield what stands in backticks."""
    yield from re.findall(r"`([^`\n]+)`", path.read_text())


def name_of(path: Path) -> str:
    return path.name


# --- events ---------------------------------------------------------------------------------------


def is_log(node: ast.expr, path: Path) -> bool:
    if path.name == "logs.py" and ast.unparse(node) == "self":
        return True
    return ast.unparse(node).rpartition(".")[2].strip("_").removeprefix("face_") == "log"


def logged_events() -> dict[str, tuple[set[str], set[str]]]:
    """Return event → (levels, fields) over all calls."""
    found: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    complaints: set[str] = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            first = node.args[0] if node.args else None
            if node.func.attr == "_complain" and isinstance(first, ast.Constant):
                complaints.add(first.value)
            if node.func.attr in LEVELS and is_log(node.func.value, path):
                assert first is not None, f"{path}:{node.lineno}"
                fields = {word.arg or "**" for word in node.keywords}
                if isinstance(first, ast.Name) and first.id in FILLED_IN_LATER:
                    names = complaints
                else:
                    assert isinstance(first, ast.Constant), f"{path}:{node.lineno}"
                    names = {first.value}
                for name in names:
                    found[name][0].add(node.func.attr)
                    found[name][1].update(fields)
        for name in complaints - set(found):
            found[name][0].add("warning")
            found[name][1].add("listener")
    return found


def documented_events() -> dict[str, tuple[set[str], set[str]]]:
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \|([^|]*)\|", (DOCS / "events.md").read_text(), re.MULTILINE
    )
    names = [name for name, _, _ in rows]
    assert len(set(names)) == len(names)
    return {name: ({level}, set(re.findall(r"`(\w+)`", fields))) for name, level, fields in rows}


def test_every_log_event_is_documented_with_level_and_fields() -> None:
    assert len(logged_events()) > 30  # the search itself works
    assert documented_events() == dict(logged_events())


# --- names of things ------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_named_exist(page: Path) -> None:
    named = {
        span
        for span in code_spans(page)
        if span.startswith((*TOP_FOLDERS, *IN_PACKAGE)) and " " not in span
    }
    named |= {span for span in code_spans(page) if re.fullmatch(r"[\w/.]+\.py", span)}
    missing = {
        span for span in named if not (ROOT / span).exists() and not (PACKAGE / span).exists()
    }
    assert missing == set()


@pytest.mark.parametrize("page", MAPS, ids=name_of)
def test_classes_and_functions_named_exist(page: Path) -> None:
    source = "\n".join(path.read_text() for path in MODULES)
    words = set(re.findall(r"\w+", source))
    named = {
        part
        for span in code_spans(page)
        if re.fullmatch(r"[A-Za-z_][\w.]*", span) and not span.endswith((".py", ".toml"))
        for part in span.split(".")
    }
    assert {"TakeIn", "SelectedView", "judge"} <= named
    assert named - words == set()


def test_every_package_has_its_place_in_the_architecture() -> None:
    packages = {
        str(path.parent.relative_to(PACKAGE)) + "/"
        for path in PACKAGE.glob("*/*/__init__.py")
        if path.parent.parent.name in ("domain", "adapters")
    }
    spans = set(code_spans(DOCS / "architecture.md"))
    assert packages <= spans


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_configuration_keys_named_exist(page: Path) -> None:
    named = {
        span.partition(" ")[0]
        for span in code_spans(page)
        if re.match(r"[a-z]+\.[a-z_0-9]+( =.*)?\Z", span)
        and span.partition(".")[0] in SECTIONS
        and not span.endswith((".py", ".md"))
    }
    assert named - set(FIELDS) - set(ALIASES) == set()


def test_keys_that_have_effect_are_those_that_the_code_reads() -> None:
    """Each key in the table of operating.md is read by something besides its checks."""
    rows = re.findall(
        r"^\| ((?:`\w+\.\w+`(?:, )?)+) \|", (DOCS / "operating.md").read_text(), re.MULTILINE
    )
    keys = {key for row in rows for key in re.findall(r"`([\w.]+)`", row)}
    assert len(keys) > 50
    only_named = {
        "config_keys.py",
        "config_sections.py",
        "config_services.py",
        "config_checks.py",
    }
    source = "\n".join(
        path.read_text() for path in (PACKAGE / "app").glob("*.py") if path.name not in only_named
    )
    faces = {key for key in keys if key.startswith("listen.")}  # reached by getattr
    unread = {
        key
        for key in keys - faces
        if not re.search(rf"\.{key.partition('.')[2]}\b|\"{re.escape(key)}\"", source)
    }
    # Through properties of BootConfig.
    assert unread - {"registration.nocreate_file", "server.state_dir", "dkim.key_dir"} == set()


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    if not page.exists():
        pytest.skip("not part of this tree")
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        aim = page.parent / file if file else page
        assert aim.exists(), target
        if anchor:
            assert anchor in anchors(aim), target


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
