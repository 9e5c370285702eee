"""Messages for tests: well-formed ones by default, every piece replaceable.

`make_message()` gives what Delta Chat core sends, with random octets where ciphertext would be.
Everything is a function of its arguments: the same call gives the same octets.
"""

from __future__ import annotations

import base64
import functools
import random
from collections.abc import Sequence
from typing import Any

from chatmail.domain.formats.crc24 import crc24
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.message import Envelope

BOUNDARY = "18c7a0c1f2e4b3a9_0_ab12cd34ef56"
ALICE = "alice0001@example.org"
BOB = "bob000002@example.org"


def noise(size: int, seed: int = 1) -> bytes:
    """Return octets that do not compress."""
    return random.Random(f"{seed}/{size}").randbytes(size)


def address(text: str) -> EmailAddress:
    """Return a parsed address."""
    return EmailAddress.parse(text)


def envelope(sender: str | None, *recipients: str) -> Envelope:
    """Return an envelope; None is the null sender."""
    path = None if sender is None else address(sender)
    return Envelope(path, tuple(address(recipient) for recipient in recipients))


# --- OpenPGP packets ---------------------------------------------------------------------------


def packet(tag: int, body: bytes, *, length: str = "short") -> bytes:
    """Return a packet in the new format.

    Args:  length: `short` (as few octets as possible), `five` (always five), `partial` (chunks of
        4096 octets).
    """
    start = bytes([0xC0 | tag])
    if length == "five":
        return start + b"\xff" + len(body).to_bytes(4, "big") + body
    chunks = b""
    if length == "partial":
        while len(body) >= 4096:
            chunks += bytes([0xE0 | 12]) + body[:4096]
            body = body[4096:]
    return start + chunks + _short_length(len(body)) + body


def old_packet(tag: int, body: bytes, length_type: int = 1) -> bytes:
    """Return a packet in the old format; length type 3 is the indeterminate length."""
    start = bytes([0x80 | tag << 2 | length_type])
    return start + (len(body).to_bytes(1 << length_type, "big") if length_type < 3 else b"") + body


def _short_length(size: int) -> bytes:
    if size < 192:
        return bytes([size])
    if size < 8384:
        return bytes([((size - 192) >> 8) + 192, (size - 192) & 0xFF])
    return b"\xff" + size.to_bytes(4, "big")


def mpi(value: bytes) -> bytes:
    """Return a multiprecision integer; leading zero octets of the value are dropped."""
    number = int.from_bytes(value, "big")
    return number.bit_length().to_bytes(2, "big") + value.lstrip(b"\0")


def pkesk_body(version: int = 3, algorithm: int = 25, data: bytes | None = None) -> bytes:
    """Return the body of a public key session key packet, for a hidden recipient."""
    who = b"\x03" + bytes(8) if version == 3 else b"\x06\x00"
    if data is None:
        data = noise(32) + b"\x21" + noise(33, 2)
    return who + bytes([algorithm]) + data


def pkesk(version: int = 3, algorithm: int = 25, data: bytes | None = None) -> bytes:
    """Return a public key session key packet."""
    return packet(1, pkesk_body(version, algorithm, data))


def rsa_data(bits: int = 2048) -> bytes:
    """Return the algorithm data of RSA: one integer of exactly that many bits."""
    octets = bytearray(noise((bits + 7) // 8))
    top = (bits - 1) % 8
    octets[0] = octets[0] & ((1 << top) - 1) | 1 << top
    return mpi(bytes(octets))


def skesk6_body(s2k: bytes | None = None, aead: int = 2, cipher: int = 7) -> bytes:
    """Return the body of a version 6 symmetric session key packet, as core writes it."""
    s2k = b"\x01\x08" + noise(8) if s2k is None else s2k
    nonce = noise({1: 16, 2: 15, 3: 12}.get(aead, 15), 5)
    fields = bytes([cipher, aead, len(s2k)]) + s2k + nonce
    return b"\x06" + bytes([len(fields)]) + fields + noise(16, 6) + noise(16, 7)


def skesk4_body(s2k: bytes | None = None, cipher: int = 9, key: bytes = b"") -> bytes:
    """Return the body of a version 4 symmetric session key packet."""
    return (
        b"\x04" + bytes([cipher]) + (b"\x03\x08" + noise(8) + b"\x60" if s2k is None else s2k) + key
    )


def seipd_body(size: int = 1000, version: int = 1) -> bytes:
    """Return the body of an encrypted data packet with `size` octets of ciphertext."""
    if version == 1:
        return b"\x01" + noise(size, 3)
    return b"\x02\x07\x02\x06" + noise(32, 4) + noise(size, 3)


def seipd(size: int = 1000, version: int = 1, *, length: str = "short") -> bytes:
    """Return an encrypted data packet."""
    return packet(18, seipd_body(size, version), length=length)


def packets(size: int = 1000, recipients: int = 2) -> bytes:
    """Return the packets of a message to some recipients, as core writes them."""
    keys = b"".join(
        packet(1, pkesk_body(data=noise(32, 10 + n) + b"\x21" + noise(33, 50 + n)))
        for n in range(recipients)
    )
    return keys + seipd(size)


# --- armor and MIME ----------------------------------------------------------------------------


def wrap(octets: bytes, width: int = 64) -> bytes:
    """Return base64 in lines, each with its CRLF."""
    text = base64.b64encode(octets)
    return b"".join(text[at : at + width] + b"\r\n" for at in range(0, len(text), width))


def armor(
    octets: bytes,
    *,
    headers: bytes = b"",
    blank: bytes = b"\r\n",
    checksum: bool | bytes = True,
    width: int = 64,
    kind: bytes = b"MESSAGE",
) -> bytes:
    """Return an armored message.

    Args:  headers: armor header lines with their CRLFs. checksum: False for none; octets replace
        the line, CRLF included.
    """
    line = checksum if isinstance(checksum, bytes) else b""
    if checksum is True:
        line = b"=" + base64.b64encode(crc24(octets).to_bytes(3, "big")) + b"\r\n"
    begin, end = b"-----BEGIN PGP %b-----\r\n" % kind, b"-----END PGP %b-----\r\n" % kind
    return begin + headers + blank + wrap(octets, width) + line + end


def part(content: bytes, *fields: str) -> bytes:
    """Return a MIME part: header block, empty line, content."""
    return "".join(f"{field}\r\n" for field in fields).encode() + b"\r\n" + content


def multipart(
    *parts: bytes,
    boundary: str = BOUNDARY,
    preamble: bytes = b"\r\n",
    epilogue: bytes = b"\r\n",
    close: bool = True,
) -> bytes:
    """Return a multipart body; every part but an empty one is followed by its delimiter's CRLF."""
    delimiter = b"--" + boundary.encode()
    body = preamble
    for octets in parts:
        body += delimiter + b"\r\n" + octets + b"\r\n"
    return body + delimiter + b"--\r\n" + epilogue if close else body


CONTROL_PART = part(
    b"Version: 1\r\n",
    'Content-Type: application/pgp-encrypted; charset="utf-8"',
    "Content-Description: PGP/MIME version identification",
    "Content-Transfer-Encoding: 7bit",
)


def payload_part(armored: bytes, *fields: str) -> bytes:
    """Return the second part, as core writes it."""
    fields = fields or (
        'Content-Type: application/octet-stream; name="encrypted.asc"; charset="utf-8"',
        "Content-Description: OpenPGP encrypted message",
        'Content-Disposition: inline; filename="encrypted.asc";',
        "Content-Transfer-Encoding: 7bit",
    )
    return part(armored, *fields)


def encrypted_type(boundary: str = BOUNDARY) -> str:
    """Return core's Content-Type, with its space before the fold."""
    return f'multipart/encrypted; protocol="application/pgp-encrypted"; \r\n\tboundary="{boundary}"'


def encrypted_body(armored: bytes | None = None, *, size: int = 1000) -> bytes:
    """Return the body of an encrypted message."""
    armored = armor(packets(size)) if armored is None else armored
    return multipart(CONTROL_PART, payload_part(armored))


# --- whole messages ----------------------------------------------------------------------------


def header(*fields: tuple[str, str]) -> bytes:
    """Return a header block with its empty line."""
    return "".join(f"{name}: {value}\r\n" for name, value in fields).encode() + b"\r\n"


def core_fields(
    sender: str = ALICE, content_type: str | None = None, message_id: str | None = None
) -> list[tuple[str, str]]:
    """Return the outer fields core sends, in its order."""
    return [
        ("From", f"<{sender}>"),
        ("Date", "Tue, 18 Nov 2025 09:21:17 +0000"),
        ("Message-ID", message_id or "<4bd4c1a5-27ad-4d96-9a55-1f9d3a0f5bb1@localhost>"),
        ("To", '"hidden-recipients": ;'),
        ("Subject", "[...]"),
        ("Chat-Version", "1.0"),
        ("MIME-Version", "1.0"),
        ("Content-Type", content_type or encrypted_type()),
    ]


def make_message(
    *,
    sender: str = ALICE,
    encrypted: bool = True,
    size: int = 1000,
    fields: Sequence[tuple[str, str]] = (),
    without: Sequence[str] = (),
    message_id: str | None = None,
    body: bytes | None = None,
    text: str = "Hello",
) -> bytes:
    """Return a whole message.

    Args:
        encrypted: False for a plain text one that says `text`.
        size: octets of ciphertext; the message is about a third larger, and 1.2 kB more.
        fields: header fields to put first; a field of core's with the same name is left out.
        without: names of core's fields to leave out.
        body: replaces the body; it has to fit the Content-Type.
    """
    kind = encrypted_type() if encrypted else "text/plain; charset=utf-8"
    dropped = {name.lower() for name, _ in fields} | {name.lower() for name in without}
    own = core_fields(sender, kind, message_id)
    block = header(*fields, *(field for field in own if field[0].lower() not in dropped))
    if body is None:
        body = encrypted_body(size=size) if encrypted else text.encode() + b"\r\n"
    return block + body


def securejoin_request(
    step: str = "vc-request",
    *,
    sender: str = ALICE,
    text: str | None = None,
    flat: bool = False,
    fields: Sequence[tuple[str, str]] = (),
    body: bytes | None = None,
) -> bytes:
    """Return a Secure-Join request: in one part of multipart/mixed, or flat."""
    text = f"Secure-Join: {step}" if text is None else text
    kind = "text/plain; charset=utf-8" if flat else f'multipart/mixed; boundary="{BOUNDARY}"'
    if body is None:
        content = text.encode() + b"\r\n"
        body = content if flat else multipart(part(content, "Content-Type: text/plain"))
    own = [("Secure-Join", step), ("Secure-Join-Invitenumber", "u3Yz0_dk-17Ff")]
    return make_message(
        sender=sender, fields=[*fields, *own, ("Content-Type", kind)], encrypted=False, body=body
    )


REPORT_TEXT = b"Could not deliver to nobody@example.org: User unknown\r\n"
REPORT_STATUS = (
    b"Reporting-MTA: dns; mx.example.net\r\n\r\n"
    b"Final-Recipient: rfc822; nobody@example.net\r\n"
    b"Action: failed\r\nStatus: 5.1.1\r\n"
    b"Diagnostic-Code: smtp; 550 5.1.1 User unknown\r\n"
)


def report_body(*extra: bytes, text: bytes = REPORT_TEXT, original: bytes | None = None) -> bytes:
    """Return the body of a delivery status report, as Postfix lays it out."""
    original = make_message(size=300) if original is None else original
    original = original.replace(BOUNDARY.encode(), b"the-original")
    return multipart(
        part(text, "Content-Description: Notification", "Content-Type: text/plain; charset=utf-8"),
        part(REPORT_STATUS, "Content-Type: message/delivery-status"),
        part(original, "Content-Type: message/rfc822"),
        *extra,
        preamble=b"This is a MIME-encapsulated message.\r\n\r\n",
        epilogue=b"",
    )


def delivery_report(
    *,
    sender: str = "MAILER-DAEMON@example.net",
    fields: Sequence[tuple[str, str]] = (),
    without: Sequence[str] = (),
    body: bytes | None = None,
) -> bytes:
    """Return a delivery status report of another relay."""
    kind = f'multipart/report; report-type=delivery-status; boundary="{BOUNDARY}"'
    own = [("Auto-Submitted", "auto-replied"), ("Content-Type", kind)]
    names = {name.lower() for name, _ in fields} | {name.lower() for name in without}
    return make_message(
        sender=sender,
        fields=[*fields, *(field for field in own if field[0].lower() not in names)],
        without=without,
        encrypted=False,
        body=report_body() if body is None else body,
    )


def setup_message(*, sender: str = ALICE, armored: bytes | None = None) -> bytes:
    """Return an Autocrypt Setup Message."""
    if armored is None:
        lines = b"Passphrase-Format: numeric9x4\r\nPassphrase-Begin: 17\r\n"
        armored = armor(packet(3, skesk4_body()) + seipd(1500), headers=lines)
    body = multipart(
        part(b"This message contains your key.\r\n", "Content-Type: text/plain"),
        part(armored, "Content-Type: application/autocrypt-setup"),
    )
    kind = f'multipart/mixed; boundary="{BOUNDARY}"'
    fields = [("Autocrypt-Setup-Message", "v1"), ("Content-Type", kind)]
    return make_message(sender=sender, fields=fields, encrypted=False, body=body)


# --- messages by PGPy, an implementation that is not ours ---------------------------------------


@functools.cache
def pgpy_key(kind: str) -> Any:
    """Return a private key; made once. `kind`: `rsa` or `x25519`."""
    import pgpy
    from pgpy import constants as names

    algorithm, size = {
        "rsa": (names.PubKeyAlgorithm.RSAEncryptOrSign, 1024),
        "x25519": (names.PubKeyAlgorithm.EdDSA, names.EllipticCurveOID.Ed25519),
    }[kind]
    key = pgpy.PGPKey.new(algorithm, size)
    key.add_uid(
        pgpy.PGPUID.new("Alice"),
        usage={names.KeyFlags.Sign}
        | ({names.KeyFlags.EncryptCommunications} if kind == "rsa" else set()),
        hashes=[names.HashAlgorithm.SHA256],
        ciphers=[names.SymmetricKeyAlgorithm.AES256],
        compression=[names.CompressionAlgorithm.Uncompressed],
    )
    if kind == "x25519":
        subkey = pgpy.PGPKey.new(names.PubKeyAlgorithm.ECDH, names.EllipticCurveOID.Curve25519)
        key.add_subkey(subkey, usage={names.KeyFlags.EncryptCommunications})
    return key


def pgpy_encrypted(text: str = "Hello", *, kinds: Sequence[str] = ("rsa",)) -> bytes:
    """Return armor, really encrypted to keys of these kinds."""
    import pgpy
    from pgpy.constants import SymmetricKeyAlgorithm

    cipher = SymmetricKeyAlgorithm.AES256
    session_key = cipher.gen_key()
    message = pgpy.PGPMessage.new(text)
    for kind in kinds:
        message = pgpy_key(kind).pubkey.encrypt(message, cipher=cipher, sessionkey=session_key)
    return crlf(str(message))


def crlf(text: str) -> bytes:
    """Return text with CRLF line ends."""
    return text.replace("\r\n", "\n").replace("\n", "\r\n").encode()
