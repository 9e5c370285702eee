"""What is asked of mail from other relays besides the gate: authenticity, rates, reports.

Source:  spec federation-web B3, B5.6, B7; policy 7.4.
"""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Final

import attrs

from chatmail.domain.formats.body_digest import BodyDigests, Canonicalization
from chatmail.domain.model.address import EmailAddress, is_literal
from chatmail.domain.model.settings import FederationSettings

MAX_RECIPIENTS: Final = 100
REPORT_DELAY_S: Final = (2, 15)
"""Drawn evenly: a report that always came at once would tell when its recipient was looked up."""


@attrs.frozen(kw_only=True)
class Rate:
    """A token bucket: `per_s` on average, `burst` at once."""

    kind: str
    per_s: float
    burst: float


MESSAGES: Final = Rate(kind="inbound", per_s=20.0, burst=500.0)
MESSAGES_UNPROVEN: Final = Rate(kind="inbound_unproven", per_s=2.0, burst=50.0)
# A10.4 gives the averages; the bursts are an hour's worth, so that nobody's mistake stays unsaid.
REPORTS_OF_DOMAIN: Final = Rate(kind="bounce_domain", per_s=1 / 60, burst=60.0)
REPORTS_OF_ADDRESS: Final = Rate(kind="bounce_address", per_s=10 / 3600, burst=10.0)


def is_exempt_from_dkim(author_domain: str, settings: FederationSettings) -> bool:
    """Say whether mail of this domain needs no signature (B5.7)."""
    return not settings.require_dkim or author_domain in settings.dkim_exempt


def comes_from_itself(author_domain: str, peer_host: str) -> bool:
    """Say whether an author at an address literal writes from that very address (B5.6).

    Args:  peer_host: an IP address as text; a scope (`%eth0`) and an IPv4 address in IPv6 clothes
        are seen through.
    """
    if not is_literal(author_domain):
        return False
    try:
        peer = ipaddress.ip_address(peer_host.partition("%")[0])
    except ValueError:
        return False
    mapped = peer.ipv4_mapped if isinstance(peer, ipaddress.IPv6Address) else None
    bare = author_domain[1:-1].removeprefix("IPv6:")
    return (mapped or peer) == ipaddress.ip_address(bare)


def message_rate(author_domain: str, *, comes_from_itself: bool) -> Rate:
    """Return the rate for messages of a domain; that of an unproven literal is a tenth."""
    if is_literal(author_domain) and not comes_from_itself:
        return MESSAGES_UNPROVEN
    return MESSAGES


def report_due_s(now_s: float, chance: bytes) -> int:
    """Return when a report is due: 2 to 15 s from now, by `chance` (some random octets)."""
    first, last = REPORT_DELAY_S
    return int(now_s) + first + int.from_bytes(chance, "big") % (last - first + 1)


def content_key(
    secret: bytes, recipient: EmailAddress, message_id: bytes | None, digests: BodyDigests | None
) -> bytes | None:
    """Return what tells a second arrival of the same message for a recipient (B7.5); 16 octets.

    Keyed, so that what is stored says nothing about who wrote what to whom.
    Args:  digests: of the content; None, and so is the answer: nothing was hashed.
    """
    if digests is None:
        return None
    body = digests.sha256(Canonicalization.SIMPLE) or digests.sha256(Canonicalization.RELAXED)
    if body is None:
        return None
    keyed = hashlib.blake2b(key=secret[:64], digest_size=16)
    for part in (str(recipient).encode(), message_id or b"", body):
        keyed.update(len(part).to_bytes(4, "big") + part)
    return keyed.digest()
