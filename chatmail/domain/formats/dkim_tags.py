"""DKIM tag lists: signature fields and key records, read strictly.

What cannot be read is no signature and no key; nothing is repaired. Source: RFC 6376 §3.2, §3.5,
§3.6.1; RFC 8463; spec federation-web B5.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

import attrs

from chatmail.domain.formats.body_digest import BodyDigests, Canonicalization
from chatmail.domain.formats.rfc5322 import Field, HeaderBlock, parse_header
from chatmail.domain.model.address import AddressError, normalise_domain

MAX_SIGNATURES: Final = 5
MAX_SIGNATURE_OCTETS: Final = 8192
MAX_SIGNED_NAMES: Final = 256
MAX_RECORD_OCTETS: Final = 8192
EXPIRY_LEEWAY_S: Final = 3600
FUTURE_LEEWAY_S: Final = 86_400

_FIELD_NAME: Final = b"dkim-signature"
_TAG: Final = re.compile(rb"[A-Za-z][A-Za-z0-9_]*\Z")
_SPACE: Final = re.compile(rb"[ \t\r\n]+")
# A run of spaces this long is nobody's folding; it is what makes regular expressions slow.
_LONG_SPACE: Final = re.compile(rb"[ \t\r\n]{60}")
_SELECTOR: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*\Z")
_NUMBER: Final = re.compile(rb"[0-9]{1,12}\Z")
_NAME: Final = re.compile(rb"[!-9;-~]+\Z")
_ALGORITHMS: Final = (b"rsa-sha256", b"ed25519-sha256")
_SHA256_OCTETS: Final = 32


def parse_tags(text: bytes) -> dict[bytes, bytes] | None:
    """Read `a=1; b=2` into a dictionary; None: it is no tag list, or names a tag twice."""
    tags: dict[bytes, bytes] = {}
    pieces = text.split(b";")
    if not pieces[-1].strip(b" \t\r\n"):
        pieces.pop()
    for piece in pieces:
        name, is_tag, value = piece.partition(b"=")
        name = name.strip(b" \t\r\n")
        if not is_tag or not _TAG.match(name) or name in tags:
            return None
        tags[name] = value.strip(b" \t\r\n")
    return tags


# --- signatures --------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class DkimSignature:
    """A signature that may be worth looking up its key; `tags` are the raw ones."""

    domain: str
    selector: str
    algorithm: bytes
    header_form: Canonicalization
    body_form: Canonicalization
    names: tuple[bytes, ...]
    body_hash: bytes
    signature: bytes
    identity_domain: str
    field: Field
    tags: dict[bytes, bytes]

    @property
    def key_name(self) -> str:
        """Where its key is in DNS."""
        return f"{self.selector}._domainkey.{self.domain}"


def candidates(
    block: HeaderBlock, author_domain: str, now_s: float
) -> tuple[DkimSignature | None, ...]:
    """Return the signatures of `author_domain`, topmost first, at most 5.

    None stands for one that names this domain and is worthless whatever its key: malformed,
    expired, of a weak algorithm, limited to a part of the body, not covering From.
    Source:  spec federation-web B5.1, B5.2.
    """
    found: list[DkimSignature | None] = []
    for field in block.fields:
        if field[0] != _FIELD_NAME:
            continue
        tags = parse_tags(block.octets[field[2] : field[3]])
        if tags is None or _domain(tags.get(b"d", b"")) != author_domain:
            continue
        raw = block.octets[field[2] : field[3]]
        is_sane = len(raw) <= MAX_SIGNATURE_OCTETS and not _LONG_SPACE.search(raw)
        found.append(_signature(field, tags, author_domain, now_s) if is_sane else None)
        if len(found) == MAX_SIGNATURES:
            break
    return tuple(found)


def digests_for(header: bytes) -> BodyDigests | None:
    """Return empty hashes in the forms the signatures of a header block ask for; None: no form.

    Args:  header: a block as it arrived, with or without faults.
    """
    if _FIELD_NAME not in header.lower():
        return None
    forms: set[Canonicalization] = set()
    block = parse_header(header)
    for field in block.fields:
        if field[0] == _FIELD_NAME:
            tags = parse_tags(block.octets[field[2] : field[3]]) or {}
            chosen = _forms(tags.get(b"c", b""))
            if b"d" in tags and chosen is not None:
                forms.add(chosen[1])
    return BodyDigests(*forms) if forms else None


def _signature(
    field: Field, tags: dict[bytes, bytes], domain: str, now_s: float
) -> DkimSignature | None:
    if not _is_usual(tags, now_s):
        return None
    forms = _forms(tags.get(b"c", b""))
    names = _names(tags.get(b"h", b""))
    selector = tags.get(b"s", b"").decode("ascii", "replace").lower()
    body_hash, signature = _base64(tags.get(b"bh", b"")), _base64(tags.get(b"b", b""))
    identity = _identity_domain(tags, domain)
    if forms is None or names is None or identity is None or not signature:
        return None
    if not _SELECTOR.match(selector) or len(selector) + len(domain) > 230:
        return None
    if body_hash is None or len(body_hash) != _SHA256_OCTETS:
        return None
    return DkimSignature(
        domain=domain,
        selector=selector,
        algorithm=tags[b"a"].lower(),
        header_form=forms[0],
        body_form=forms[1],
        names=names,
        body_hash=body_hash,
        signature=signature,
        identity_domain=identity,
        field=field,
        tags=tags,
    )


def _is_usual(tags: dict[bytes, bytes], now_s: float) -> bool:
    """Check the tags that need no more than a look."""
    if tags.get(b"v") != b"1" or tags.get(b"a", b"").lower() not in _ALGORITHMS:
        return False
    # `l=` leaves the rest of the body to whoever has the message in hand (B5.1).
    if b"l" in tags:
        return False
    methods = _SPACE.sub(b"", tags.get(b"q", b"dns/txt")).lower().split(b":")
    return b"dns/txt" in methods and _is_in_time(tags, now_s)


def _is_in_time(tags: dict[bytes, bytes], now_s: float) -> bool:
    times: dict[bytes, int] = {}
    for name in (b"t", b"x"):
        if name in tags:
            if not _NUMBER.match(tags[name]):
                return False
            times[name] = int(tags[name])
    signed, expires = times.get(b"t", 0), times.get(b"x")
    if signed > now_s + FUTURE_LEEWAY_S:
        return False
    return expires is None or (expires >= signed and expires + EXPIRY_LEEWAY_S >= now_s)


def _forms(value: bytes) -> tuple[Canonicalization, Canonicalization] | None:
    header, _, body = _SPACE.sub(b"", value).lower().partition(b"/")
    try:
        return (
            Canonicalization((header or b"simple").decode("ascii")),
            Canonicalization((body or b"simple").decode("ascii")),
        )
    except ValueError:  # UnicodeDecodeError is one
        return None


def _names(value: bytes) -> tuple[bytes, ...] | None:
    names = _SPACE.sub(b"", value).lower().split(b":")
    if len(names) > MAX_SIGNED_NAMES or b"from" not in names:
        return None
    return tuple(names) if all(_NAME.match(name) for name in names) else None


def _identity_domain(tags: dict[bytes, bytes], domain: str) -> str | None:
    """Return the domain of `i=`, None when it is not within `d=` (RFC 6376 §3.5)."""
    if b"i" not in tags:
        return domain
    found = _domain(tags[b"i"].rpartition(b"@")[2])
    is_within = found == domain or (found or "").endswith(f".{domain}")
    return found if is_within and b"@" in tags[b"i"] else None


def _domain(value: bytes) -> str | None:
    try:
        return normalise_domain(value.decode("utf-8"))
    except (AddressError, UnicodeDecodeError):
        return None


def _base64(value: bytes) -> bytes | None:
    try:
        return base64.b64decode(_SPACE.sub(b"", value), validate=True)
    except (binascii.Error, ValueError):
        return None


# --- key records -------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class KeyRecord:
    """A published key. `public` is SPKI (or PKCS#1) for rsa, 32 octets for ed25519; b"": revoked.

    `is_exact`: `t=s`, the domain of `i=` must be the one of `d=`.
    """

    algorithm: str
    public: bytes
    is_exact: bool = False


def parse_key_record(text: bytes) -> KeyRecord | None:
    """Read a TXT record; None: it is no key for mail, or for another hash.

    Source:  RFC 6376 §3.6.1; RFC 8463 §4.
    """
    tags = parse_tags(text) if len(text) <= MAX_RECORD_OCTETS else None
    if tags is None or b"p" not in tags:
        return None
    if b"v" in tags and (tags[b"v"] != b"DKIM1" or next(iter(tags)) != b"v"):
        return None
    if b"sha256" not in _list(tags, b"h", b"sha256"):
        return None
    if not _list(tags, b"s", b"*") & {b"*", b"email"}:
        return None
    algorithm = tags.get(b"k", b"rsa").lower()
    public = _base64(tags[b"p"])
    if algorithm not in (b"rsa", b"ed25519") or public is None:
        return None
    return KeyRecord(
        algorithm=algorithm.decode("ascii"), public=public, is_exact=b"s" in _list(tags, b"t", b"")
    )


def render_key_record(algorithm: str, public: bytes) -> str:
    """Return the text of a key record as this relay publishes it.

    Args:  public: SPKI for rsa (A11.5: raw PKCS#1 is refused by many verifiers), 32 octets for
        ed25519.
    """
    encoded = base64.b64encode(public).decode("ascii")
    return f"v=DKIM1;k={algorithm};p={encoded};s=email;t=s"


def _list(tags: dict[bytes, bytes], name: bytes, default: bytes) -> set[bytes]:
    return set(_SPACE.sub(b"", tags.get(name, default)).lower().split(b":"))
