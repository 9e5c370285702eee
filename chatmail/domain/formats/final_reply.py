"""Replies of peers as one clean line, `450 4.2.0 text`: what they say, and their final form."""

from __future__ import annotations

import re
from typing import Final

MAX_OCTETS: Final = 300
_REPLY: Final = re.compile(r"[245]\d\d ([245])\.(\d{1,3}\.\d{1,3}) (.*)")


def is_permanent(reply: str) -> bool:
    """Say whether a clean reply line refuses for good."""
    return reply.startswith("5")


def as_permanent(reply: str) -> str:
    """Return a clean reply as a final refusal: `450 4.4.1 text` becomes `550 5.4.1 text`."""
    found = _REPLY.match(reply)
    if found is None:
        return f"550 5.0.0 {reply}"[:MAX_OCTETS].rstrip()
    if is_permanent(reply):
        return reply
    # Delta Chat core takes 5.5.0 for a temporary failure (spec policy 1.11).
    detail = "0.0" if found[2] == "5.0" else found[2]
    return f"550 5.{detail} {found[3]}"


def expired(last: str) -> str:
    """Return the refusal of a message that was tried for too long; `last`: the last reply or ""."""
    reason = f": {last}" if last else ""
    return f"550 5.4.7 Delivery time expired{reason}"[:MAX_OCTETS].rstrip()
