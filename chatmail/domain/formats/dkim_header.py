"""What of a header block a DKIM signature covers, in canonical form (RFC 6376 §3.4, §3.5, §5.4).

For signing; the field that is made is laid out here too.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

import attrs

from chatmail.domain.formats.body_digest import Canonicalization
from chatmail.domain.formats.rfc5322 import HeaderBlock

FIELD_NAME: Final = b"DKIM-Signature"

# Named once more than they occur: a second one, added on the way, breaks the signature.
_OVERSIGNED: Final = (
    b"from", b"reply-to", b"subject", b"date", b"to", b"cc", b"resent-date", b"resent-from",
    b"resent-sender", b"resent-to", b"resent-cc", b"in-reply-to", b"references", b"list-id",
    b"list-help", b"list-unsubscribe", b"list-subscribe", b"list-post", b"list-owner",
    b"list-archive", b"autocrypt",
)  # fmt: skip
_SIGNED: Final = frozenset(
    (
        b"message-id", b"mime-version", b"content-type", b"content-transfer-encoding", b"sender",
        b"auto-submitted", b"resent-message-id",
    )
)  # fmt: skip
_SIGNED_PREFIXES: Final = (b"chat-", b"secure-join", b"resent-", b"list-")
_NEVER: Final = frozenset((b"received", b"return-path", FIELD_NAME.lower()))

_SPACE: Final = re.compile(rb"[ \t]+")
_BASE64_LINE: Final = 72


def signed_names(block: HeaderBlock) -> tuple[bytes, ...]:
    """Return the names for `h=`, lower case: each as often as it is to be covered.

    Source:  spec federation-web A11.2.
    """
    counts = Counter(name for name, *_ in block.fields)
    names: list[bytes] = []
    for name in _OVERSIGNED:
        names += [name] * (counts.pop(name, 0) + 1)
    for name, count in counts.items():
        if name not in _NEVER and (name in _SIGNED or name.startswith(_SIGNED_PREFIXES)):
            names += [name] * count
    return tuple(names)


def canonical_header(block: HeaderBlock, names: Sequence[bytes], form: Canonicalization) -> bytes:
    """Return the named fields in canonical form, each ended by CRLF.

    A name that comes again means the next field of that name above; one that is not there (any
    more) counts as nothing.
    Source:  RFC 6376 §5.4.2.
    """
    places: dict[bytes, list[int]] = {}
    for place, (name, *_) in enumerate(block.fields):
        places.setdefault(name, []).append(place)
    pieces: list[bytes] = []
    for name in names:
        if places.get(name):
            _, start, value, end = block.fields[places[name].pop()]
            pieces.append(_field(block.octets[start:value], block.octets[value:end], form))
    return b"".join(pieces)


def _field(name: bytes, value: bytes, form: Canonicalization) -> bytes:
    """Canonicalise one field; `name` with its colon, `value` with its CRLF."""
    if form is Canonicalization.SIMPLE:
        return name + value
    words = _SPACE.sub(b" ", value.replace(b"\r\n", b"")).strip(b" ")
    return b"%b%b\r\n" % (name.lower(), words)


@attrs.frozen(kw_only=True)
class SignatureTags:
    """The tags of a signature to be made; `algorithm` is rsa-sha256 or ed25519-sha256."""

    algorithm: str
    header_form: Canonicalization
    body_form: Canonicalization
    domain: str
    selector: str
    signed_s: int
    names: Sequence[bytes]
    body_hash: bytes

    def unsigned_field(self) -> bytes:
        """Return the field with an empty `b=`, folded, without its last CRLF."""
        lines = [
            f"v=1; a={self.algorithm}; c={self.header_form.value}/{self.body_form.value};",
            f"d={self.domain};",
            f"s={self.selector}; t={self.signed_s};",
            *_fold_names([name.decode("ascii") for name in self.names]),
            f"bh={base64.b64encode(self.body_hash).decode('ascii')};",
            "b=",
        ]
        return FIELD_NAME + b": " + "\r\n\t".join(lines).encode("ascii")

    def to_be_signed(self, block: HeaderBlock) -> bytes:
        """Return the octets that are hashed: the covered fields, then the signature's own."""
        name, _, value = self.unsigned_field().partition(b":")
        own = _field(name + b":", value + b"\r\n", self.header_form)
        covered = canonical_header(block, self.names, self.header_form)
        return covered + own.removesuffix(b"\r\n")

    def signed_field(self, signature: bytes) -> bytes:
        """Return the whole field with its CRLF."""
        text = base64.b64encode(signature)
        lines = [text[at : at + _BASE64_LINE] for at in range(0, len(text), _BASE64_LINE)]
        return self.unsigned_field() + b"\r\n\t".join(lines) + b"\r\n"


def _fold_names(names: Sequence[str]) -> list[str]:
    lines, line = [], "h="
    for name in names:
        if len(line) + len(name) + 1 > _BASE64_LINE and line != "h=":
            lines.append(line)
            line = ""
        line += name + ":"
    return [*lines, line.removesuffix(":") + ";"]
