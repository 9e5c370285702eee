"""QR codes as SVG and PNG."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Final

import segno

MAX_DATA_OCTETS: Final = 1024
QUIET_ZONE: Final = 4
"""Modules of light border: ISO/IEC 18004 asks for four, and dark pages need them."""

SCHEMES: Final = ("dcaccount:", "dclogin:", "https://i.delta.chat/", "openpgp4fpr:", "ss:")
"""What the public QR route encodes: it shall not draw codes for anybody's purposes."""

QUICK_MASK: Final = 2
"""Every reader takes any pattern. Strangers order these pictures, and each runs in the event loop:
1 kB costs 13 ms with a given pattern, 63 ms with the best one."""

_MIN_PIXELS: Final = 320
_LONG_DATA: Final = 100


def may_encode(data: str) -> bool:
    """Say whether the public route draws this text (spec federation-web D2)."""
    is_short = 0 < len(data.encode()) <= MAX_DATA_OCTETS
    return is_short and data.lower().startswith(SCHEMES)


def is_secret(data: str) -> bool:
    """Say whether the text holds a password, so that no cache may keep its picture."""
    return data.lower().startswith(("dclogin:", "ss:")) or "token=" in data


def svg(data: str, mask: int | None = QUICK_MASK) -> str:
    """Return a black on white SVG that scales to its box."""
    code = symbol(data, mask)
    out = io.BytesIO()
    code.save(
        out,
        kind="svg",
        border=QUIET_ZONE,
        xmldecl=False,
        omitsize=True,
        dark="#000",
        light="#fff",
        svgclass=None,
        lineclass=None,
    )
    side = code.symbol_size(border=QUIET_ZONE)[0] * _scale(code)
    # A size for viewers that show the file alone; the viewBox lets a page scale it.
    size = f'width="{side}" height="{side}" shape-rendering="crispEdges"'
    return out.getvalue().decode().replace("<svg ", f"<svg {size} ", 1)


def png(data: str) -> bytes:
    """Return a black on white PNG of at least 320 pixels."""
    code = symbol(data)
    out = io.BytesIO()
    code.save(out, kind="png", border=QUIET_ZONE, scale=_scale(code))
    return out.getvalue()


@lru_cache(maxsize=4)
def public_svg(data: str) -> str:
    """`svg` for the invite link, which is the same for everybody and worth keeping."""
    return svg(data, mask=None)


def symbol(data: str, mask: int | None = QUICK_MASK) -> segno.QRCode:
    """Encode text: level M while short, L for long login links, so modules stay large.

    Args:  mask: a pattern of ISO/IEC 18004 §7.8; None: the best of the eight, four fifths of the
        work.
    """
    level = "l" if len(data) > _LONG_DATA else "m"
    return segno.make_qr(data, error=level, mask=mask, boost_error=True)


def _scale(code: segno.QRCode) -> int:
    modules = int(code.symbol_size(border=QUIET_ZONE)[0])
    return -(-_MIN_PIXELS // modules)
