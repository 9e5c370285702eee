"""The style sheet keeps text readable; nothing bundled reaches outside."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import chatmail.adapters.http as package

STATIC = Path(package.__path__[0]) / "static"
CSS = (STATIC / "main.css").read_text()


def palette(text: str) -> dict[str, str]:
    found = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6});", text))
    return {
        name: value if len(value) == 7 else "#" + "".join(c * 2 for c in value[1:])
        for name, value in found.items()
    }


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


LIGHT, DARK = (palette(part) for part in CSS.split("@media (prefers-color-scheme: dark)", 1))


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "paper"),
    [
        ("ink", "paper"),
        ("ink", "card"),
        ("soft", "paper"),
        ("soft", "card"),
        ("soft", "glow"),
        ("accent", "paper"),
        ("accent", "card"),
        ("accent", "glow"),
        ("accent-ink", "accent"),
        ("accent-ink", "accent-strong"),
        ("alert", "alert-paper"),
    ],
)
def test_text_has_contrast(theme: dict[str, str], ink: str, paper: str) -> None:
    light, dark = sorted((luminance(theme[ink]), luminance(theme[paper])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


@pytest.mark.parametrize("path", sorted(STATIC.glob("*.[cjs]*")), ids=lambda path: path.name)
def test_bundled_text_loads_nothing_from_elsewhere(path: Path) -> None:
    text = path.read_text().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|@import|url\((?!#)", text)
