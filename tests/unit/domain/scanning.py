"""Shared by the tests of the gate: scan octets, judge them at a door."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from unittest.mock import patch

from chatmail.domain.formats import pgp_mime
from chatmail.domain.formats.facts import MessageFacts
from chatmail.domain.formats.message_scanner import MessageScanner
from chatmail.domain.model.message import Door
from chatmail.domain.model.settings import GateSettings
from chatmail.domain.model.verdict import Accept, Verdict
from chatmail.domain.policy.encryption_gate import DkimResult, GateContext, judge
from tests.builders import ALICE, BOB, address, envelope

LIMIT = 31457280
LOCAL = frozenset({"example.org", "[192.0.2.1]"})
REMOTE = "carol@example.net"


def cut(octets: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """Cut octets into pieces of these sizes, and one piece of the rest."""
    start = 0
    for size in sizes:
        yield octets[start : start + size]
        start += size
    yield octets[start:]


def scan(message: bytes, sizes: Iterable[int] = (), *, max_bytes: int = LIMIT) -> MessageFacts:
    """Scan a message cut into pieces of these sizes.

    A message in pieces is read as it arrives, one in a single piece is held until its end: whoever
    compares the two holds the usual form against the readers in a row.
    """
    pieces = list(cut(message, sizes))
    held_octets = pgp_mime.MAX_OCTETS if len(pieces) == 1 else 0
    with patch.object(pgp_mime, "MAX_OCTETS", held_octets):
        scanner = MessageScanner(max_bytes=max_bytes)
        for chunk in pieces:
            scanner.feed(chunk)
        return scanner.finish()


def context(door: Door, **changes: Any) -> GateContext:
    """Return an ordinary context of a door: Alice writes to Bob, or Carol does, with DKIM."""
    if door.is_inbound:
        usual: dict[str, Any] = {"envelope": envelope(REMOTE, BOB), "dkim": DkimResult.PASS}
    else:
        usual = {"envelope": envelope(ALICE, BOB), "identity": address(ALICE)}
    settings = changes.pop("settings", {})
    chosen = settings if isinstance(settings, GateSettings) else GateSettings(**settings)
    return GateContext(**{"local_domains": LOCAL, "settings": chosen, **usual, **changes})


def verdict(message: bytes, door: Door = Door.SUBMISSION, **changes: Any) -> Verdict:
    """Judge a message at a door."""
    return judge(scan(message), door, context(door, **changes))


def outcome(message: bytes, door: Door = Door.SUBMISSION, **changes: Any) -> str:
    """Judge a message; return the kind it was accepted as, or the rule that refused it."""
    judged = verdict(message, door, **changes)
    return judged.kind.value if isinstance(judged, Accept) else judged.rule
