"""Found DNS records against needed ones, by meaning and not by letter.

Found texts are as `ZoneRecord.data`: TXT in one piece, names without a trailing dot, lower case.
Source:  spec federation-web C2.1.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Final

from chatmail.domain.formats.spf import passes_all
from chatmail.domain.formats.zone import RecordType, Role, ZoneFacts, ZoneRecord

_STRENGTH: Final = {"none": 0, "quarantine": 1, "reject": 2}


class Standing(enum.StrEnum):
    """How a needed record stands."""

    OK = "ok"
    MISSING = "missing"
    DIFFERS = "differs"
    UNKNOWN = "unknown"  # nobody could be asked


def tags(text: str) -> dict[str, str]:
    """Read `k=v; k=v` with any spaces; the first of equal keys counts."""
    found: dict[str, str] = {}
    for part in text.split(";"):
        key, equals, value = part.partition("=")
        if equals:
            found.setdefault(key.strip().lower(), re.sub(r"\s+", " ", value.strip()))
    return found


def compare(
    record: ZoneRecord,
    found: Sequence[str],
    facts: ZoneFacts,
    included: Mapping[str, str] | None = None,
) -> Standing:
    """Say how a record stands, given everything of its type at its name.

    Args:  included: SPF texts by domain, for `include` and `redirect`.
    """
    relevant = [text for text in found if _concerns(record, text)]
    if not relevant:
        return Standing.MISSING
    return Standing.OK if _holds(record, relevant, facts, included or {}) else Standing.DIFFERS


def _concerns(record: ZoneRecord, text: str) -> bool:
    """Say whether a found record is about the same thing: other TXT records may stand beside."""
    match record.role:
        case Role.SPF:
            return text.lower().split(" ")[0] == "v=spf1"
        case Role.STS | Role.DMARC | Role.TLS_REPORTS:
            return tags(text).get("v", "").upper() == tags(record.data)["v"].upper()
        case Role.CA:
            return _issuer(text) is not None
    return True


def _holds(
    record: ZoneRecord, found: Sequence[str], facts: ZoneFacts, included: Mapping[str, str]
) -> bool:
    wanted = record.data
    match record.role:
        case Role.ADDRESS:
            return any(same_address(text, wanted) for text in found)
        case Role.ALIAS:
            return any(text in (wanted, facts.hostname, facts.domains[0]) for text in found)
        case Role.MAIL:
            return {text.split(" ")[-1] for text in found} == {wanted.split(" ")[-1]}
        case Role.SERVICE:
            return any(text.split(" ")[2:] == wanted.split(" ")[2:] for text in found)
        case Role.CA:
            ours = _issuer(wanted)
            return any(_issuer(text) == ours for text in found)
        case _:
            return _text_holds(record, found, facts, included)


def _text_holds(
    record: ZoneRecord, found: Sequence[str], facts: ZoneFacts, included: Mapping[str, str]
) -> bool:
    if len(found) > 1 and record.role is not Role.DKIM:
        return False  # RFC 7208 §4.5, RFC 7489 §6.6.3, RFC 8461 §3.1: several are none
    match record.role:
        case Role.DKIM:
            return any(_key(text) == _key(record.data) for text in found)
        case Role.SPF:
            own = (record.name, facts.hostname)
            return passes_all(found[0], record.name, facts.addresses, own, included)
        case Role.DMARC:
            return _is_as_strict(tags(found[0]), tags(record.data))
        case Role.STS:
            return tags(found[0]).get("id") == tags(record.data)["id"]
        case Role.TLS_REPORTS:
            return "rua" in tags(found[0])  # whom they go to is the operator's choice
    return tags(found[0]) == tags(record.data)


def same_address(one: str, other: str) -> bool:
    """Say whether two texts are one IP address."""
    try:
        return ipaddress.ip_address(one) == ipaddress.ip_address(other)
    except ValueError:
        return False


def _key(text: str) -> tuple[str, str]:
    read = tags(text)
    return read.get("k", "rsa").lower(), read.get("p", "").replace(" ", "")


def _is_as_strict(found: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    def strength(read: Mapping[str, str]) -> tuple[int, ...]:
        return (
            _STRENGTH.get(read.get("p", "").lower(), -1),
            int(read.get("adkim", "r").lower() == "s"),
            int(read.get("aspf", "r").lower() == "s"),
            int(read.get("pct", "100") == "100"),
        )

    pairs = zip(strength(found), strength(wanted), strict=True)
    return all(have >= want for have, want in pairs)


def _issuer(text: str) -> str | None:
    """Return whom a CAA `issue` property allows; None: another property."""
    _, tag, value = [*text.split(" ", 2), "", ""][:3]
    if tag.lower() != "issue":
        return None
    return value.strip('"').partition(";")[0].strip().lower()


def is_address_set_ours(found: Sequence[str], facts: ZoneFacts) -> bool:
    """Say whether a name without an alias leads here all the same."""
    return bool(found) and all(
        any(same_address(text, ours) for ours in facts.addresses) for text in found
    )


def family(text: str) -> RecordType:
    """Return the type of record an address stands in."""
    return RecordType.A if ipaddress.ip_address(text).version == 4 else RecordType.AAAA
