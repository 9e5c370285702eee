"""MTA-STS (RFC 8461): the TXT record, the policy file, and what a policy says of a mail host.

Both directions: what peers publish is read, ours is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from chatmail.domain.model.address import AddressError, normalise_domain

DAY_S: Final = 86400
MIN_AGE_S: Final = DAY_S
MAX_AGE_S: Final = 31_557_600
"""RFC 8461 §3.2: the largest max_age. Shorter lives than a day would undo the pinning (A12.1)."""
MAX_POLICY_OCTETS: Final = 65536
MAX_MX: Final = 100
OUR_MAX_AGE_S: Final = 2_419_200
MODES: Final = frozenset(("enforce", "testing", "none"))

_ID: Final = re.compile(r"[A-Za-z0-9]{1,32}\Z")


class StsError(ValueError):
    """The text is no MTA-STS policy. The message never repeats the text."""


@attrs.frozen
class StsTerms:
    """What a policy file says. `mx` are normalised names, some with a leading `*.`."""

    mode: str
    mx: tuple[str, ...]
    max_age_s: int


def policy_id(records: Iterable[bytes]) -> str | None:
    """Return the id in the TXT records of `_mta-sts.<domain>`; None: there is no valid one.

    Source:  RFC 8461 §3.1: more than one record that begins with `v=STSv1;` counts as none.
    """
    ours = [text for text in (_ascii(record) for record in records) if _is_record(text)]
    if len(ours) != 1:
        return None
    for field in ours[0].split(";")[1:]:
        name, _, value = field.partition("=")
        if name.strip() == "id":
            return value.strip() if _ID.match(value.strip()) else None
    return None


def _ascii(record: bytes) -> str:
    return record.decode("ascii", "replace")


def _is_record(text: str) -> bool:
    version, semicolon, _ = text.partition(";")
    return bool(semicolon) and re.fullmatch(r"v\s*=\s*STSv1", version.strip()) is not None


def parse_policy(octets: bytes) -> StsTerms:
    """Read a policy file, LF or CRLF lines.

    Returns:  `max_age_s` brought into one day to one year.
    Raises:  StsError: it is none.
    Source:  RFC 8461 §3.2: unknown fields are ignored; the first of several equal ones counts.
    """
    if len(octets) > MAX_POLICY_OCTETS:
        raise StsError("policy is too large")
    fields: dict[str, str] = {}
    mx: list[str] = []
    for line in octets.decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        if not colon:
            continue
        if name.strip() == "mx":
            mx += _mx_pattern(value.strip())
        else:
            fields.setdefault(name.strip(), value.strip())
    if fields.get("version") != "STSv1":
        raise StsError("policy has no version")
    mode = fields.get("mode", "")
    if mode not in MODES:
        raise StsError("policy has no known mode")
    if mode != "none" and not mx:
        raise StsError("policy names no host")
    return StsTerms(mode, tuple(mx[:MAX_MX]), _max_age(fields.get("max_age", "")))


def _mx_pattern(text: str) -> list[str]:
    prefix = "*." if text.startswith("*.") else ""
    try:
        return [prefix + normalise_domain(text.removeprefix(prefix))]
    except AddressError:
        return []


def _max_age(text: str) -> int:
    if not re.fullmatch(r"\d{1,10}", text, re.ASCII):
        raise StsError("policy has no max_age")
    return min(max(int(text), MIN_AGE_S), MAX_AGE_S)


def allows_host(mx: Sequence[str], host: str) -> bool:
    """Say whether a normalised mail host matches a pattern; `*.` stands for one label (§4.1)."""
    parent = host.partition(".")[2]
    return host in mx or (bool(parent) and f"*.{parent}" in mx)


def render_policy(hosts: Sequence[str], max_age_s: int = OUR_MAX_AGE_S) -> bytes:
    """Return our own policy file, CRLF lines (federation-web.md A12.2)."""
    lines = ["version: STSv1", "mode: enforce", *(f"mx: {host}" for host in hosts)]
    return "".join(f"{line}\r\n" for line in [*lines, f"max_age: {max_age_s}"]).encode("ascii")


def render_record(policy: str) -> str:
    """Return the text of our TXT record for a policy id."""
    return f"v=STSv1; id={policy};"
