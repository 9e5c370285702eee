"""Mail addresses and domains in their one normal form.

Holding an `EmailAddress` is the proof that it was normalised: every login, path, header
comparison and store key goes through `EmailAddress.parse`, so two spellings never meet.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Final

import attrs

MAX_ADDRESS_OCTETS: Final = 254
MAX_LOCAL_OCTETS: Final = 64
MAX_DOMAIN_OCTETS: Final = 253

_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f-\x9f]")
_DOTTED_QUAD: Final = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}\Z")


class AddressError(ValueError):
    """The text is no mail address or domain. The message never repeats the text."""


@lru_cache(maxsize=4096)
def normalise_domain(text: str) -> str:
    """Return the normal form of a domain or address literal.

    Returns:  A-labels in lower case, `[a.b.c.d]` or `[IPv6:…]` (RFC 5952).
    Raises:  AddressError: neither a domain name nor a literal.
    Source:  spec policy 2.2; RFC 5321 §4.1.3.
    """
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if _DOTTED_QUAD.match(bare):
        return _ipv4_literal(bare)
    if bare is not text or ":" in bare:
        return _ipv6_literal(bare)
    name = text.removesuffix(".").lower()
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            raise AddressError("domain is not a valid international name") from None
    if not 1 <= len(name) <= MAX_DOMAIN_OCTETS:
        raise AddressError("domain is empty or too long")
    if not all(_LABEL.match(label) for label in name.split(".")):
        raise AddressError("domain has an invalid label")
    return name


def _ipv4_literal(bare: str) -> str:
    octets = [int(part) for part in bare.split(".")]
    if max(octets) > 255:
        raise AddressError("address literal is out of range")
    return "[" + ".".join(map(str, octets)) + "]"


def _ipv6_literal(bare: str) -> str:
    digits = bare[5:] if bare[:5].lower() == "ipv6:" else bare
    if "%" in digits:  # a zone means something on one machine only, and may hold any character
        raise AddressError("address literal has a zone")
    try:
        return f"[IPv6:{ipaddress.IPv6Address(digits)}]"
    except ValueError:
        raise AddressError("address literal is malformed") from None


def is_literal(domain: str) -> bool:
    """Say whether a normalised domain is an address literal."""
    return domain.startswith("[")


@attrs.frozen(order=True)
class EmailAddress:
    """A mail address in canonical form; `str()` gives `local@domain`."""

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"

    @staticmethod
    def parse(text: str) -> EmailAddress:
        """Normalise one address (no angle brackets, no display name).

        Raises:  AddressError: not exactly one `@`, control characters or spaces, a part that is
            empty or too long, a domain that is none.
        Source:  spec policy 2.2, mail 6.3.
        """
        return _parse(text)

    def without_detail(self) -> EmailAddress:
        """Return the mailbox behind `user+detail@domain` (spec mail 6.3: in RCPT only)."""
        local, plus, _ = self.local.partition("+")
        return EmailAddress(local, self.domain) if plus and local else self


@lru_cache(maxsize=8192)
def _parse(text: str) -> EmailAddress:
    if _FORBIDDEN.search(text):
        raise AddressError("address has a space or control character")
    local, at, domain = text.partition("@")
    if not at or not local or not domain or "@" in domain:
        raise AddressError("address needs exactly one @ between two parts")
    if len(local) > MAX_LOCAL_OCTETS or len(text) > MAX_ADDRESS_OCTETS:
        raise AddressError("address is too long")
    if not local.isascii():
        raise AddressError("local part is not ASCII")
    return EmailAddress(local.lower(), normalise_domain(domain))
