"""A QR code out of text characters, two modules high each."""

from __future__ import annotations

from typing import Final

import segno

QUIET_ZONE: Final = 2
"""Less than the four of the standard: terminals are small, and cameras of phones manage."""

_BLACK_ON_WHITE: Final = "\x1b[30;107m"
_RESET: Final = "\x1b[0m"
_BLOCKS: Final = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}


def terminal_qr(data: str) -> str:
    """Return lines that draw `data`, each ended by a newline.

    Colours are set outright: with the terminal's own, dark themes would invert the code.
    """
    code = segno.make_qr(data, error="l", boost_error=False)
    rows = [[int(module) for module in row] for row in code.matrix_iter(border=QUIET_ZONE)]
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    lines = []
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        blocks = "".join(_BLOCKS[pair] for pair in zip(upper, lower, strict=True))
        lines.append(f"{_BLACK_ON_WHITE}{blocks}{_RESET}\n")
    return "".join(lines)
