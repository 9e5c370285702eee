"""Messages for the self-test: one in the form Delta Chat sends, one in clear.

Where ciphertext would be there are random octets: nobody ever reads them.
"""

from __future__ import annotations

import base64
import os
import secrets
from email.utils import formatdate
from typing import Final

from chatmail.domain.formats.crc24 import crc24

_X25519: Final = 25  # RFC 9580 §9.1
_CONTROL: Final = (
    b"Content-Type: application/pgp-encrypted\r\n"
    b"Content-Description: PGP/MIME version identification\r\n\r\nVersion: 1\r\n"
)


def encrypted_letter(sender: str, recipient: str, subject: str = "[...]") -> tuple[str, bytes]:
    """Return Message-ID and octets of an encrypted message (RFC 3156 §4)."""
    boundary = secrets.token_hex(16)
    kind = f'multipart/encrypted; protocol="application/pgp-encrypted"; boundary="{boundary}"'
    id, head = _head(sender, recipient, subject, kind)
    mark = f"--{boundary}".encode()
    payload = b'Content-Type: application/octet-stream; name="encrypted.asc"\r\n\r\n' + _armored()
    body = b"".join((mark, b"\r\n", _CONTROL, mark, b"\r\n", payload, mark, b"--\r\n"))
    return id, head + body


def cleartext_letter(sender: str, recipient: str) -> tuple[str, bytes]:
    """Return Message-ID and octets of a message that no relay may take."""
    id, head = _head(sender, recipient, "hello", "text/plain; charset=utf-8")
    return id, head + b"This is not encrypted.\r\n"


def _head(sender: str, recipient: str, subject: str, content_type: str) -> tuple[str, bytes]:
    id = f"<{secrets.token_hex(16)}@localhost>"
    fields = (
        f"From: <{sender}>",
        f"To: <{recipient}>",
        f"Date: {formatdate()}",
        f"Message-ID: {id}",
        f"Subject: {subject}",
        "Chat-Version: 1.0",
        "MIME-Version: 1.0",
        f"Content-Type: {content_type}",
    )
    return id, "".join(f"{field}\r\n" for field in (*fields, "")).encode()


def _armored() -> bytes:
    """Return an armored OpenPGP message: a session key for somebody, and data (RFC 9580 §6)."""
    session_key = b"\x03" + bytes(8) + bytes([_X25519]) + os.urandom(32) + b"\x21" + os.urandom(33)
    octets = _packet(1, session_key) + _packet(18, b"\x01" + os.urandom(600))
    text = base64.b64encode(octets)
    lines = b"".join(text[at : at + 64] + b"\r\n" for at in range(0, len(text), 64))
    check = base64.b64encode(crc24(octets).to_bytes(3, "big"))
    return b"".join(
        (
            b"-----BEGIN PGP MESSAGE-----\r\n\r\n",
            lines,
            b"=" + check + b"\r\n",
            b"-----END PGP MESSAGE-----\r\n",
        )
    )


def _packet(tag: int, body: bytes) -> bytes:
    return bytes([0xC0 | tag]) + b"\xff" + len(body).to_bytes(4, "big") + body
