"""What an exchanger answers: JSON with messages in base64 (federation-web.md A14).

`{"hash", "count", "messages": [{"id", "from", "to": [...], "size", "date", "body"}]}`; only what is
needed is looked at. A message that makes no sense is left out, and the others are read.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any, Final, TypeGuard

import attrs

MAX_ANSWER_OCTETS: Final = 48 * 1024 * 1024
"""A message of 30 MiB is 40 MiB in base64."""
MAX_MESSAGES: Final = 1000
MAX_RECIPIENTS: Final = 100
MAX_TEXT: Final = 320
_LETTERS: Final = 65536 // 3 * 4


class ExchangeError(ValueError):
    """The answer is not what an exchanger says. Never repeats it."""


@attrs.frozen(kw_only=True)
class Parcel:
    """One message as it lies at the exchanger; addresses are unchecked. `body`: base64."""

    id: str
    sender: str
    recipients: tuple[str, ...]
    body: str

    def octets(self) -> Iterator[bytes]:
        """Yield the message in pieces of at most 64 KiB. Raises:  ExchangeError: no base64."""
        try:
            for start in range(0, len(self.body), _LETTERS):
                yield base64.b64decode(self.body[start : start + _LETTERS], validate=True)
        except (binascii.Error, ValueError):
            raise ExchangeError("a body is not base64") from None


def parse_exchange(octets: bytes) -> tuple[Parcel, ...]:
    """Read an answer; at most a thousand messages of it, the others come the next time.

    Raises:  ExchangeError: it is none.
    """
    try:
        answer = json.loads(octets)
    except (ValueError, RecursionError):
        raise ExchangeError("the answer is not JSON") from None
    messages = answer.get("messages") if isinstance(answer, dict) else None
    if messages is None and isinstance(answer, dict):
        return ()
    if not isinstance(messages, list):
        raise ExchangeError("the answer has no messages")
    found = (_parcel(one) for one in messages[:MAX_MESSAGES])
    return tuple([one for one in found if one is not None])


def _parcel(one: Any) -> Parcel | None:
    if not isinstance(one, dict):
        return None
    id, sender, recipients, body = (one.get(name) for name in ("id", "from", "to", "body"))
    if isinstance(id, int) and not isinstance(id, bool):
        id = str(id)
    if isinstance(recipients, str):
        recipients = [recipients]
    if not _is_text(id) or not id or not isinstance(body, str) or not isinstance(recipients, list):
        return None
    if not 0 < len(recipients) <= MAX_RECIPIENTS or not all(map(_is_text, recipients)):
        return None
    sender = "" if sender is None else sender
    if not _is_text(sender):
        return None
    if "\n" in body:
        body = "".join(body.split())
    return Parcel(id=id, sender=sender, recipients=tuple(recipients), body=body)


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and len(value) <= MAX_TEXT
