"""The encryption gate: scanner and policy, at every door, held against a second parser."""

from __future__ import annotations

import email.parser
import email.policy
import re

from chatmail.domain.formats.facts import MessageFacts
from chatmail.domain.formats.message_scanner import MessageScanner
from chatmail.domain.formats.rfc5322 import edit_header
from chatmail.domain.model.message import Door
from chatmail.domain.model.verdict import Accept, AcceptedKind
from chatmail.domain.policy.encryption_gate import judge
from tests.builders import (
    BOUNDARY,
    CONTROL_PART,
    armor,
    delivery_report,
    encrypted_body,
    make_message,
    multipart,
    packet,
    packets,
    payload_part,
    pkesk,
    securejoin_request,
    seipd,
    setup_message,
    skesk4_body,
    skesk6_body,
)
from tests.fuzz.cutting import read, vector
from tests.unit.domain.scanning import context
from tests.unit.domain.strict_parser import accepts

LIMIT = 200_000
DOORS = (Door.SUBMISSION, Door.APPEND, Door.SMTP_INBOUND, Door.HTTPS_INBOUND)

WORDS = (
    *(b"\r\n", b"\r\n\r\n", b"\r\n ", b"Content-Type: ", b"Content-Transfer-Encoding: base64\r\n"),
    *(b"multipart/encrypted; ", b"protocol=", b"boundary=", b'"', b"application/octet-stream"),
    *(b"application/pgp-encrypted", b"Version: 1", b"-----BEGIN PGP MESSAGE-----\r\n", b"(a)"),
    *(b"-----END PGP MESSAGE-----\r\n", b"=AAAA\r\n", b"\r\n--", b"--\r\n", b"quoted-printable"),
    *(b"Secure-Join: vc-request\r\n", b"multipart/mixed", b"text/plain", b"multipart/report"),
    *(b"From: <a@b.example>\r\n", b"Subject: x\r\n", b"boundary*0=", b"\0", b"\r", b"\n", b"\xff"),
    *(b"\x01\x08", b"\xc1", b"\xc3", b"\xd2", b"\x84", b"\xe9", b"\xff\0\0\0"),
)


def _message(kind: int, payload: bytes) -> bytes:
    """Put the payload where a part of a message is; mutations of a whole one rarely get deep."""
    match kind % 6:
        case 1:
            return make_message(body=payload)
        case 2:
            return make_message(body=multipart(CONTROL_PART, payload_part(payload)))
        case 3:
            return make_message(body=encrypted_body(armor(payload)))
        case 4:
            return securejoin_request(body=payload)
        case 5:
            return delivery_report(body=payload)
        case _:
            return payload


def check(data: bytes) -> None:
    """Cuts change no fact, a slow simple parser agrees, what is accepted reads as encrypted."""
    given = read(data)
    message = _message(given.options, given.payload)
    facts = _scan([message])
    assert _scan(given.pieces(message)) == facts
    for door in (Door.SUBMISSION, Door.SMTP_INBOUND):
        assert _is_encrypted(facts, door) == accepts(message, inbound=door.is_inbound)
    for door in DOORS:
        _check_verdict(message, facts, door)


def _scan(pieces: list[bytes]) -> MessageFacts:
    scanner = MessageScanner(max_bytes=LIMIT)
    for piece in pieces:
        scanner.feed(piece)
    return scanner.finish()


def _is_encrypted(facts: MessageFacts, door: Door) -> bool:
    return facts.header_fault.at(door) is None and facts.structure.at(door) is None


def _check_verdict(message: bytes, facts: MessageFacts, door: Door) -> None:
    verdict = judge(facts, door, context(door))
    if not isinstance(verdict, Accept):
        assert verdict.subject.isascii()
        assert not re.search(r"[\x00-\x20]", verdict.subject)
        return
    assert facts.header is not None
    edited = edit_header(facts.header, verdict.edits) + message[len(facts.header) :]
    again = judge(_scan([edited]), door, context(door))
    assert isinstance(again, Accept)
    assert again.kind is verdict.kind
    assert again.edits == ()
    if verdict.kind is AcceptedKind.ENCRYPTED:
        _check_other_reader(edited)


def _check_other_reader(message: bytes) -> None:
    """The standard library's parser sees the same two parts, and nothing around them."""
    seen = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(message)
    assert seen.get_content_type() == "multipart/encrypted"
    parts = seen.get_payload()
    assert isinstance(parts, list)
    kinds = [part.get_content_type() for part in parts]
    assert kinds == ["application/pgp-encrypted", "application/octet-stream"]
    armored = parts[1].get_payload(decode=True)
    assert armored.strip().startswith(b"-----BEGIN PGP MESSAGE-----")
    assert armored.strip().endswith(b"-----END PGP MESSAGE-----")
    assert not (seen.preamble or "").strip()
    assert not (seen.epilogue or "").strip()


_CLOSE = b"\r\n--" + BOUNDARY.encode() + b"--"
_SMALL = packets(60, recipients=1)
VECTORS = (
    vector(make_message(size=60)),
    vector(make_message(encrypted=False)),
    vector(securejoin_request()),
    vector(securejoin_request("vg-request", flat=True)),
    vector(delivery_report()),
    vector(setup_message()),
    vector(encrypted_body(armor(_SMALL)), 1),
    # Lines that only begin like a delimiter, close before a real one.
    vector(multipart(CONTROL_PART, payload_part(armor(_SMALL) + b"--b\r\n"), boundary="b"), 6),
    vector(encrypted_body(armor(_SMALL)).replace(_CLOSE, b"x\r\n" + _CLOSE[:-2] + _CLOSE), 1),
    vector(encrypted_body(armor(_SMALL)).replace(_CLOSE, b"\r\n" + _CLOSE[:-4] + b"x" + _CLOSE), 1),
    vector(armor(_SMALL, headers=b"Version: x\r\n"), 2),
    vector(armor(_SMALL, checksum=False, blank=b""), 2),
    vector(_SMALL, 3),
    vector(packet(3, skesk6_body()) + seipd(60, 2), 3),
    vector(packet(3, skesk4_body()) + pkesk() + seipd(700, length="partial"), 3),
    vector(securejoin_request().partition(b"\r\n\r\n")[2], 4),
    vector(delivery_report().partition(b"\r\n\r\n")[2], 5),
)
