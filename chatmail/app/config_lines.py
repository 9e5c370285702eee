"""Where keys stand in a TOML text, so that a problem can name its line.

The parser of the standard library tells values, not places. This reads only as much as finding
keys takes: headers, key paths, and where strings and brackets that span lines end.
"""

from __future__ import annotations

import re
from typing import Final

_PART: Final = r"""(?:"[^"\n]*"|'[^'\n]*'|[A-Za-z0-9_-]+)"""
_DOTTED: Final = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_HEADER: Final = re.compile(rf"[ \t]*\[\[?[ \t]*({_DOTTED})[ \t]*\]")
_KEY: Final = re.compile(rf"[ \t]*({_DOTTED})[ \t]*=")
_TOKEN: Final = re.compile(r"""\"{3}|'{3}|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|[\[\]{}]|\#[^\n]*""")

KeyPath = tuple[str, ...]


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line (from 1) of each table header and key, by its full path."""
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    position, number = 0, 1
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        header = _HEADER.match(text, position, end)
        key = None if header else _KEY.match(text, position, end)
        if header:
            table = _parts(header[1])
            lines.setdefault(table, number)
        elif key:
            lines.setdefault(table + _parts(key[1]), number)
            end = _value_end(text, key.end())
        number += text.count("\n", position, end) + 1
        position = end + 1
    return lines


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int | None:
    """Return the line of a key, else of the nearest table around it."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def _parts(dotted: str) -> KeyPath:
    return tuple(part.strip("\"'") for part in re.findall(_PART, dotted))


def _value_end(text: str, position: int) -> int:
    """Return where the line end behind a value stands, brackets and long strings closed."""
    depth = 0
    while position < len(text):
        token = _TOKEN.search(text, position)
        newline = text.find("\n", position)
        if depth == 0 and newline >= 0 and (token is None or newline < token.start()):
            return newline
        if token is None:
            return len(text)
        position = token.end()
        if token[0] in ('"""', "'''"):
            close = text.find(token[0], position)
            position = len(text) if close < 0 else close + 3
        elif token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
    return len(text)
