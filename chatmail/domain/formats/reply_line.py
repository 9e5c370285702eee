"""What a peer said, made fit for our own replies, reports and lists: one clean SMTP reply line.

Invariant: `ddd d.d.d text`, printable 7-bit, at most 300 octets, the class of the enhanced code
that of the code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

MAX_REPLY_LINE: Final = 300

_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")
_SPACES: Final = re.compile(r" {2,}")
_ENHANCED: Final = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?![\d.])[: ]*")
_SMTP_TEXT: Final = re.compile(r"([245]\d\d)(?:[ -]|\Z)")
_MAX_READ: Final = 4096


def reply_line(code: int, texts: Iterable[str], *, absent: str = "") -> str:
    """Return one clean line.

    Args:  code: 200-599. texts: the lines of the reply without their codes; enhanced codes of
        further lines are dropped. absent: the enhanced code when the reply has none that fits;
        "" is `d.0.0`.
    """
    kind = str(code)[0]
    enhanced = ""
    words = []
    for line in texts:
        text = clean_text(line)
        if match := _ENHANCED.match(text):
            if not enhanced and match[1] == kind:
                enhanced = f"{match[1]}.{match[2]}.{match[3]}"
            text = text[match.end() :]
        if text:
            words.append(text)
    # Delta Chat core takes a permanent 5.5.0 for a temporary failure and tries again and again.
    if not enhanced or enhanced == "5.5.0":
        enhanced = "5.0.0" if enhanced else absent or f"{kind}.0.0"
    text = " ".join(words) or "No reason given"
    return f"{code} {enhanced} {text}"[:MAX_REPLY_LINE].rstrip()


def parse_reply_text(text: str) -> str | None:
    """Return a text that has the form of an SMTP reply as a clean line; None: it has not.

    Only the first line counts.
    """
    first = text[:_MAX_READ].lstrip().partition("\n")[0]
    match = _SMTP_TEXT.match(first)
    return reply_line(int(match[1]), [first[match.end() :]]) if match else None


def clean_text(text: str) -> str:
    """Return printable 7-bit text on one line, without spaces at its ends; bounded in length."""
    return _SPACES.sub(" ", _UNPRINTABLE.sub(" ", text[:_MAX_READ])).strip()
