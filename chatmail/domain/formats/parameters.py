"""MIME parameters that were cut into pieces, put together again.

Source:  RFC 2231 §3 (continuations), §4 (charset and language), §4.1 (both).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_PIECE: Final = re.compile(rb"(?P<name>[^*]+)\*(?P<number>0|[1-9][0-9]?)(?P<encoded>\*)?\Z")
# RFC 2231 §7 (attribute-char): what need not be encoded.
_UNSAFE: Final = re.compile(rb"[^A-Za-z0-9!#$&+.^_`{|}~-]")

Parameters = tuple[tuple[bytes, bytes], ...]
_Piece = tuple[bytes, bool]


def join_continuations(parameters: Parameters) -> Parameters:
    """Join `name*0`, `name*1`, … to `name`, or to `name*` when a piece is encoded.

    An IMAP server has to (RFC 2231 §3), while it leaves charset and language to the client. Pieces
    count from 0 without a gap, in any order; those behind a gap are dropped, those of a name
    without a piece 0 stay as they are.

    Args:  parameters: names in lower case, values unquoted.
    """
    pieces = _gathered(parameters)
    if not pieces:
        return parameters
    joined: dict[bytes, tuple[bytes, bytes]] = {}
    for name, value in parameters:
        found = _PIECE.match(name)
        if found is None or 0 not in pieces[found["name"]]:
            joined.setdefault(name, (name, value))
        elif found["name"] not in joined:
            joined[found["name"]] = _joined(found["name"], pieces[found["name"]])
    return tuple(joined.values())


def _gathered(parameters: Parameters) -> dict[bytes, dict[int, _Piece]]:
    pieces: dict[bytes, dict[int, _Piece]] = {}
    for name, value in parameters:
        found = _PIECE.match(name)
        if found is not None:
            of_name = pieces.setdefault(found["name"], {})
            of_name.setdefault(int(found["number"]), (value, found["encoded"] is not None))
    return pieces


def _joined(name: bytes, pieces: dict[int, _Piece]) -> tuple[bytes, bytes]:
    run: list[_Piece] = []
    while len(run) in pieces:
        run.append(pieces[len(run)])
    if not any(is_encoded for _, is_encoded in run):
        return name, b"".join(value for value, _ in run)
    return name + b"*", _encoded(run)


def _encoded(run: Sequence[_Piece]) -> bytes:
    """Join pieces where one is encoded: then all have to be."""
    values = [value if is_encoded else _percent(value) for value, is_encoded in run]
    if not run[0][1]:
        values.insert(0, b"''")  # charset and language stand before the first piece alone
    return b"".join(values)


def _percent(value: bytes) -> bytes:
    return _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], value)
