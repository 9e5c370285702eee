"""Every rule of octets, header, MIME, armor, packets: messages that keep it or break it."""

from __future__ import annotations

import pytest

from chatmail.domain.model.message import Door
from chatmail.domain.model.verdict import RefusalReason, Refuse
from tests.builders import (
    BOUNDARY,
    CONTROL_PART,
    armor,
    core_fields,
    encrypted_body,
    encrypted_type,
    header,
    make_message,
    mpi,
    multipart,
    noise,
    old_packet,
    packet,
    packets,
    part,
    payload_part,
    pkesk,
    pkesk_body,
    rsa_data,
    seipd,
    seipd_body,
    skesk4_body,
    skesk6_body,
    wrap,
)
from tests.unit.domain.scanning import outcome, scan, verdict

SUB, INB, APPEND = Door.SUBMISSION, Door.SMTP_INBOUND, Door.APPEND
OURS = (SUB, APPEND)
ALL = (SUB, APPEND, INB, Door.HTTPS_INBOUND)
OCTETS = "Content-Type: application/octet-stream"


def check(message: bytes, doors: tuple[Door, ...], expected: str) -> None:
    for door in doors:
        sender = "alice0001@example.org"
        if door.is_inbound:
            message = message.replace(sender.encode(), b"carol@example.net")
        assert outcome(message, door) == expected, door


def with_fields(*fields: tuple[str, str]) -> bytes:
    return make_message(size=200, fields=fields)


def with_raw(before: bytes = b"", after: bytes = b"") -> bytes:
    """A message with raw octets before its first field, or after its last."""
    block, body = make_message(size=200).split(b"\r\n\r\n", 1)
    return before + block + b"\r\n" + after + b"\r\n" + body


def with_type(value: str, boundary: str = BOUNDARY) -> bytes:
    body = encrypted_body(size=200).replace(BOUNDARY.encode(), boundary.encode())
    return make_message(fields=[("Content-Type", value)], body=body)


def with_parts(*parts: bytes, **around: object) -> bytes:
    return make_message(body=multipart(*parts, **around))  # type: ignore[arg-type]


def with_control(content: bytes, *fields: str) -> bytes:
    fields = fields or ("Content-Type: application/pgp-encrypted",)
    return with_parts(part(content, *fields), payload_part(armor(packets(200))))


def with_payload(content: bytes, *fields: str) -> bytes:
    return with_parts(CONTROL_PART, payload_part(content, *fields))


def with_packets(octets: bytes) -> bytes:
    return with_payload(armor(octets))


GOOD = packets(200)
ARMORED = armor(GOOD)
LINES = ARMORED.split(b"\r\n")  # BEGIN, blank, data …, checksum, END, nothing
ECDH = mpi(b"\x40" + noise(32)) + b"\x30" + noise(48)
TEXT = b"The quick brown fox jumps over the lazy dog. " * 40


def lines(*changed: bytes) -> bytes:
    return b"\r\n".join(changed)


def edited(at: int, line: bytes) -> bytes:
    """The armor with one line replaced."""
    return lines(*LINES[:at], line, *LINES[at + 1 :] if at != -1 else [])


def inserted(at: int, *more: bytes) -> bytes:
    """The armor with lines put before the one at `at` (negative counts from END)."""
    at = at if at >= 0 else len(LINES) + at
    return lines(*LINES[:at], *more, *LINES[at:])


CHECKSUM, END = len(LINES) - 3, len(LINES) - 2

ACCEPTED = [
    # octets
    ("P-02", ALL, make_message()),
    ("P-04", ALL, with_fields(*((f"X-{n}", "y" * 200) for n in range(247)))),
    ("P-04", ALL, with_fields(("X-Long", "\r\n ".join(["y" * 900] * 36)))),
    ("P-05", ALL, with_fields(("X", "y" * 995))),
    ("P-06", ALL, make_message(size=40)),
    ("P-07", (INB,), with_fields(("Subject", "Grüße"))),
    # header
    ("H-01", ALL, with_fields(("X!#$", "any"), ("Empty", ""), ("Folded", "a\r\n\t b\r\n c"))),
    ("H-02", ALL, with_raw(before=b"X:\r\n y\r\n")),
    ("H-03", ALL, with_fields(("X", "1"), ("X", "2"), ("Received", "a"), ("Received", "b"))),
    ("H-03", (INB,), with_fields(("Subject", "1"), ("subject", "2"), ("To", "a@b"), ("To", "c@d"))),
    ("H-04", (SUB,), with_fields(("Bcc", "x@y"), ("Resent-From", "x@y"), ("ARC-Seal", "1"))),
    ("H-05", ALL, with_type(f"Multipart/Encrypted;boundary={BOUNDARY};")),
    ("H-06", ALL, with_fields(("Content-Transfer-Encoding", "8BIT"))),
    ("H-06", ALL, with_fields(("Content-Transfer-Encoding", "7bit"))),
    # MIME
    ("M-01", ALL, with_type(f"MULTIPART/encrypted; boundary={BOUNDARY}")),
    ("M-02", ALL, with_type(f'multipart/encrypted; boundary="{"b" * 70}"', "b" * 70)),
    ("M-02", ALL, with_type('multipart/encrypted; boundary="a\'()+_,-./:=? z"', "a'()+_,-./:=? z")),
    ("M-03", ALL, with_type(f"multipart/encrypted; boundary={BOUNDARY}")),
    ("M-03", ALL, with_type(encrypted_type().replace("application/pgp", "Application/PGP"))),
    (
        "M-04",
        ALL,
        make_message(
            body=encrypted_body().replace(BOUNDARY.encode(), BOUNDARY.encode() + b" \t", 1)
        ),
    ),
    ("M-05", ALL, with_parts(CONTROL_PART, payload_part(ARMORED), preamble=b"")),
    ("M-05", ALL, with_parts(CONTROL_PART, payload_part(ARMORED), preamble=b" \t\r\n" * 4)),
    ("M-06", ALL, with_parts(CONTROL_PART, payload_part(ARMORED))),
    ("M-07", ALL, with_parts(CONTROL_PART, payload_part(ARMORED), epilogue=b"")),
    ("M-07", ALL, with_parts(CONTROL_PART, payload_part(ARMORED), epilogue=b"\r\n" * 32)),
    ("M-08", ALL, with_payload(ARMORED, OCTETS, "Content-ID: <1>", "MIME-Version: 1.0")),
    ("M-08", (INB,), with_payload(ARMORED, OCTETS, "X-Note: " + "y" * 246)),
    ("M-09", ALL, with_control(b"Version: 1", 'Content-type: Application/PGP-Encrypted; name="x"')),
    ("M-10", ALL, with_control(b"\r\n\t Version: 1 \r\n\r\n")),
    (
        "M-10",
        ALL,
        with_control(
            b"VmVyc2lvbjogMQ==\r\n",
            "Content-Type: application/pgp-encrypted",
            "Content-Transfer-Encoding: base64",
        ),
    ),
    ("M-11", ALL, with_payload(ARMORED, "Content-Type: Application/Octet-Stream; x=y")),
    ("M-13", ALL, with_payload(ARMORED, OCTETS, "Content-Transfer-Encoding: 8BIT")),
    ("M-13", ALL, with_payload(ARMORED, OCTETS)),
    ("M-14", (INB,), with_payload(wrap(ARMORED), OCTETS, "Content-Transfer-Encoding: base64")),
    (
        "M-14",
        (INB,),
        with_payload(
            ARMORED.replace(b"=", b"=3D").replace(b"BEGIN", b"BE=\r\nGIN"),
            OCTETS,
            "Content-Transfer-Encoding: Quoted-Printable",
        ),
    ),
    # armor
    ("A-01", ALL, with_payload(b"\r\n \t\r\n" * 4 + ARMORED)),
    ("A-01", ALL, with_payload(edited(0, b"-----BEGIN PGP MESSAGE----- \t"))),
    ("A-02", (INB,), with_payload(inserted(1, b"Version: 1", b"Comment: " + b"y" * 91))),
    (
        "A-02",
        (INB,),
        with_payload(inserted(1, b"Charset: u", b"MessageID: x", b"Hash: S", b"Comment: ")),
    ),
    ("A-03", ALL, with_payload(edited(1, b" \t"))),
    ("A-03", ALL, with_payload(armor(GOOD, blank=b""))),
    ("A-04", ALL, with_payload(armor(packets(2000), width=996))),
    ("A-04", ALL, with_payload(edited(2, LINES[2] + b" \t"))),
    ("A-04", ALL, with_payload(armor(GOOD, width=4))),
    ("A-05", ALL, with_payload(armor(GOOD, checksum=False))),
    ("A-05", (INB,), with_payload(edited(CHECKSUM, b"=AAAA"))),
    ("A-06", ALL, with_payload(inserted(END, b"", b" "))),
    ("A-06", ALL, with_payload(edited(END, b"-----END PGP MESSAGE-----\t "))),
    ("A-07", ALL, with_payload(ARMORED + b"\r\n \t" * 4)),
    # packets
    ("O-02", ALL, with_packets(old_packet(1, pkesk_body(), 0) + seipd())),
    (
        "O-02",
        ALL,
        with_packets(old_packet(3, skesk4_body(), 1) + old_packet(1, pkesk_body(), 2) + seipd()),
    ),
    ("O-03", ALL, with_packets(packet(1, pkesk_body(), length="five") + seipd(200))),
    ("O-03", ALL, with_packets(pkesk(3, 1, rsa_data()) + seipd(8400))),
    ("O-04", ALL, with_packets(pkesk() + seipd(9000, length="partial"))),
    ("O-04", ALL, with_packets(pkesk() + b"\xd2\xe9\x01" + noise(511) + b"\xe0\x07\x00")),
    ("O-06", ALL, with_packets(pkesk() + packet(18, seipd_body(60), length="five"))),
    ("O-07", ALL, with_packets(packet(3, skesk4_body()) + pkesk() + seipd())),
    ("O-08", ALL, with_packets(pkesk() + seipd())),
    ("O-09", ALL, with_packets(pkesk(3, 99, noise(4096 - 10)) + seipd())),
    ("O-10", ALL, with_packets(packet(1, b"\x03" + noise(8) + pkesk_body()[9:]) + seipd())),
    ("O-11", ALL, with_packets(pkesk(6) + seipd(version=2))),
    (
        "O-11",
        ALL,
        with_packets(packet(1, b"\x06\x15\x04" + noise(20) + pkesk_body()[9:]) + seipd(version=2)),
    ),
    (
        "O-11",
        ALL,
        with_packets(packet(1, b"\x06\x21\x06" + noise(32) + pkesk_body()[9:]) + seipd(version=2)),
    ),
    ("O-12", ALL, with_packets(pkesk(3, 35, noise(1200)) + seipd())),
    ("O-12", ALL, with_packets(pkesk(3, 110, noise(32)) + seipd())),
    ("O-13", ALL, with_packets(pkesk(3, 1, rsa_data(512)) + pkesk(3, 2, rsa_data(4095)) + seipd())),
    ("O-13", ALL, with_packets(pkesk(3, 16, rsa_data(700) + rsa_data(701)) + seipd())),
    ("O-13", ALL, with_packets(pkesk(3, 18, ECDH) + seipd())),
    ("O-13", ALL, with_packets(pkesk(3, 26, noise(56) + b"\x28" + noise(40)) + seipd())),
    ("O-14", ALL, with_packets(packet(3, skesk4_body(key=noise(33))) + seipd())),
    ("O-14", ALL, with_packets(packet(3, skesk4_body(key=noise(17), cipher=13)) + seipd())),
    ("O-15", ALL, with_packets(packet(3, skesk6_body(aead=1)) + seipd(version=2))),
    ("O-15", ALL, with_packets(packet(3, skesk6_body(aead=3)) + seipd(version=2))),
    ("O-16", ALL, with_packets(packet(3, skesk6_body(b"\x01\x08" + noise(8))) + seipd(version=2))),
    ("O-16", ALL, with_packets(packet(3, skesk6_body(b"\x04" + noise(19))) + seipd(version=2))),
    ("O-16", ALL, with_packets(packet(3, skesk4_body(b"\x00\x08")) + seipd())),
    ("O-17", ALL, with_packets(pkesk() + packet(18, b"\x01" + noise(40)))),
    ("O-18", ALL, with_packets(pkesk(6) + packet(18, seipd_body(16, 2)))),
    ("O-19", ALL, with_packets(packet(3, skesk6_body()) + pkesk(6) + seipd(version=2))),
    ("O-20", ALL, with_packets(pkesk() + seipd(90_000))),
    ("O-20", ALL, with_packets(pkesk() + packet(18, b"\x01" + b"a" * 255))),  # too short to tell
]

REFUSED = [
    # octets
    ("P-02", ALL, make_message().replace(b"Version: 1\r\n", b"Version: 1\n")),
    ("P-02", ALL, make_message().replace(b"Version: 1\r\n", b"Version: 1\r")),
    ("P-02", ALL, make_message() + b"\r"),
    ("P-03", ALL, make_message() + b"\0"),
    ("P-04", ALL, with_fields(*((f"X-{n}", "y" * 800) for n in range(82)))),
    ("P-04", ALL, with_fields(*((f"X-{n}", "y") for n in range(257)))),
    ("P-04", ALL, with_fields(("X-Long", "\r\n ".join(["y" * 900] * 37)))),
    ("P-05", ALL, with_fields(("X", "y" * 996))),
    ("P-06", ALL, header(*core_fields())[:-2]),
    ("P-06", ALL, b""),
    ("P-07", OURS, with_fields(("Subject", "Grüße"))),
    ("P-07", ALL, with_fields(("From", "Jürgen <alice0001@example.org>"))),
    # header
    ("H-01", ALL, with_raw(after=b"no field at all\r\n")),
    ("H-01", ALL, with_raw(after=b": no name\r\n")),
    ("H-01", ALL, with_raw(after=b"X : space\r\n")),
    ("H-01", ALL, with_raw(after=b"Content-Type\t: text/plain\r\n")),
    ("H-02", ALL, with_raw(before=b" folded\r\n")),
    ("H-03", ALL, with_raw(after=b"FROM: alice0001@example.org\r\n")),
    ("H-03", ALL, with_raw(after=b"Autocrypt: 1\r\nAutocrypt: 2\r\n")),
    ("H-03", OURS, with_fields(("Subject", "1"), ("subject", "2"))),
    ("H-05", ALL, with_type(f"multipart/encrypted (x); boundary={BOUNDARY}")),
    ("H-05", ALL, with_type(f'multipart/encrypted; boundary="{BOUNDARY}')),
    ("H-05", ALL, with_type(f"multipart/encrypted; boundary*={BOUNDARY}")),
    ("H-06", ALL, with_fields(("Content-Transfer-Encoding", "base64"))),
    ("H-06", ALL, with_fields(("Content-Transfer-Encoding", ""))),
    ("H-06", ALL, with_fields(("Content-Transfer-Encoding", "7bit; x=y"))),
    # MIME
    ("M-01", ALL, with_type(f"multipart/encrypted-foo; boundary={BOUNDARY}")),
    ("M-01", ALL, make_message(without=["Content-Type"])),
    ("M-02", ALL, with_type("multipart/encrypted")),
    ("M-02", ALL, with_type(f'multipart/encrypted; boundary="{"b" * 71}"', "b" * 71)),
    ("M-02", ALL, with_type('multipart/encrypted; boundary="b "', "b ")),
    ("M-02", ALL, with_type('multipart/encrypted; boundary=""', "")),
    ("M-02", ALL, with_type('multipart/encrypted; boundary="a@b"', "a@b")),
    ("M-03", ALL, with_type(encrypted_type().replace("pgp-encrypted", "pkcs7"))),
    (
        "M-04",
        ALL,
        make_message(
            body=encrypted_body().replace(BOUNDARY.encode(), BOUNDARY.encode() + b" " * 999, 1)
        ),
    ),
    ("M-05", ALL, with_parts(CONTROL_PART, payload_part(ARMORED), preamble=b"hello\r\n")),
    ("M-05", ALL, with_parts(CONTROL_PART, payload_part(ARMORED), preamble=b"\r\n" * 5)),
    ("M-06", ALL, with_parts(CONTROL_PART, payload_part(ARMORED), close=False)),
    ("M-06", ALL, with_parts(CONTROL_PART)),
    ("M-06", ALL, with_parts(CONTROL_PART, payload_part(ARMORED), part(b"", "Content-ID: x"))),
    ("M-07", ALL, with_parts(CONTROL_PART, payload_part(ARMORED), epilogue=b"bye")),
    ("M-07", ALL, with_parts(CONTROL_PART, payload_part(ARMORED), epilogue=b"\r\n" * 33)),
    ("M-08", OURS, with_payload(ARMORED, OCTETS, "X-Note: y")),
    ("M-08", INB, with_payload(ARMORED, OCTETS, "X-Note: " + "y" * 247)),
    ("M-08", ALL, with_payload(ARMORED, OCTETS, "Content-ID: 1", "Content-ID: 2")),
    ("M-08", ALL, with_payload(ARMORED, OCTETS, "Content-ID: " + "y" * 990)),
    ("M-08", ALL, with_payload(ARMORED, OCTETS, *("Content-Description: \r\n " + "y" * 900,) * 3)),
    ("M-08", ALL, with_payload(ARMORED, OCTETS, "nothing")),
    ("M-08", ALL, with_payload(ARMORED, " " + OCTETS)),
    ("M-08", ALL, with_payload(ARMORED, OCTETS + "; name*=utf-8''x")),
    ("M-08", ALL, with_payload(ARMORED, OCTETS, "Content-Description: Grüße")),
    ("M-08", INB, with_payload(ARMORED, OCTETS, *(f"X-{n}: y" for n in range(8)))),
    ("M-08", ALL, with_parts(CONTROL_PART, b"Content-Type: application/octet-stream")),
    ("M-09", ALL, with_control(b"Version: 1", "Content-Type: application/pgp")),
    ("M-09", ALL, with_control(b"Version: 1", "Content-ID: 1")),
    ("M-10", ALL, with_control(b"Version: 2")),
    ("M-10", ALL, with_control(b"Version: 1" + b" " * 60)),
    ("M-11", ALL, with_payload(ARMORED, "Content-Type: application/octet")),
    ("M-12", ALL, with_payload(ARMORED, "Content-Type: multipart/mixed; boundary=x")),
    ("M-12", ALL, with_control(b"Version: 1", "Content-Type: message/rfc822")),
    ("M-13", ALL, with_payload(ARMORED, OCTETS, "Content-Transfer-Encoding: binary")),
    ("M-13", ALL, with_payload(ARMORED, OCTETS, "Content-Transfer-Encoding:")),
    (
        "M-13",
        ALL,
        with_control(
            b"Version: 1", "Content-Type: application/pgp-encrypted", "Content-Transfer-Encoding: x"
        ),
    ),
    ("M-13", OURS, with_payload(wrap(ARMORED), OCTETS, "Content-Transfer-Encoding: base64")),
    (
        "M-14",
        ALL,
        with_control(
            b"!", "Content-Type: application/pgp-encrypted", "Content-Transfer-Encoding: base64"
        ),
    ),
    ("M-14", INB, with_payload(b"!" + wrap(ARMORED), OCTETS, "Content-Transfer-Encoding: base64")),
    ("M-14", INB, with_payload(wrap(ARMORED)[:-4], OCTETS, "Content-Transfer-Encoding: base64")),
    (
        "M-14",
        INB,
        with_payload(wrap(armor(packets(2000)), 1000), OCTETS, "Content-Transfer-Encoding: base64"),
    ),
    ("M-14", INB, with_payload(b"=\r\n=ZZ", OCTETS, "Content-Transfer-Encoding: quoted-printable")),
    (
        "M-14",
        INB,
        with_payload("ü".encode(), OCTETS, "Content-Transfer-Encoding: quoted-printable"),
    ),
    # armor
    ("A-01", ALL, with_payload(b"\r\n" * 9 + ARMORED)),
    ("A-01", ALL, with_payload(b"text\r\n" + ARMORED)),
    ("A-01", ALL, with_payload(edited(0, b" -----BEGIN PGP MESSAGE-----"))),
    ("A-01", ALL, with_payload(b"")),
    ("A-02", OURS, with_payload(inserted(1, b"Version: 1"))),
    ("A-02", INB, with_payload(inserted(1, b"Note: x"))),
    ("A-02", INB, with_payload(inserted(1, b"Comment: " + b"y" * 92))),
    ("A-02", INB, with_payload(inserted(1, *[b"Comment: y"] * 5))),
    ("A-02", INB, with_payload(inserted(1, "Comment: ü".encode()))),
    ("A-03", INB, with_payload(lines(LINES[0], b"Version: 1", *LINES[2:]))),
    ("A-03", ALL, with_payload(lines(LINES[0], b"hello world", *LINES[2:]))),
    ("A-04", ALL, with_payload(armor(packets(2000), width=1000))),
    ("A-04", ALL, with_payload(edited(2, b" " + LINES[2]))),
    ("A-04", ALL, with_payload(edited(2, LINES[2][:-4] + b"=" + LINES[2][-3:]))),
    ("A-04", ALL, with_payload(edited(2, LINES[2][:-1] + b"."))),
    ("A-05", ALL, with_payload(edited(CHECKSUM, b"=AAA"))),
    ("A-05", ALL, with_payload(edited(CHECKSUM, b"=AAA!"))),
    ("A-05", OURS, with_payload(edited(CHECKSUM, b"=AAAA"))),
    ("A-06", ALL, with_payload(lines(*LINES[:END], b""))),
    ("A-06", ALL, with_payload(inserted(END, b"", b"", b""))),
    ("A-06", ALL, with_payload(inserted(4, b""))),
    ("A-06", ALL, with_payload(edited(END, b"-----END PGP MESSAGE-----x"))),
    ("A-07", ALL, with_payload(ARMORED + b"\r\n" * 9)),
    ("A-07", ALL, with_payload(ARMORED + b"x")),
    ("A-08", ALL, with_payload(lines(LINES[0], b"", b"=twTO", *LINES[END:]))),
    ("A-08", ALL, with_payload(edited(CHECKSUM - 1, LINES[CHECKSUM - 1] + b"A"))),
    (
        "A-09",
        ALL,
        with_payload(GOOD.replace(b"\0", b"x").replace(b"\r", b"x").replace(b"\n", b"x")),
    ),
    ("A-10", ALL, with_payload(armor(GOOD, kind=b"SIGNED MESSAGE"))),
    ("A-10", ALL, with_payload(armor(GOOD, kind=b"PUBLIC KEY BLOCK"))),
    ("A-10", ALL, with_payload(armor(GOOD, kind=b"MESSAGE, PART 1/2"))),
    # packets
    ("O-01", ALL, with_packets(b"\x01" + GOOD)),
    ("O-02", ALL, with_packets(old_packet(1, pkesk_body(), 3) + seipd())),
    ("O-04", ALL, with_packets(packet(1, noise(4096), length="partial") + seipd())),
    ("O-04", ALL, with_packets(pkesk() + b"\xd2\xe8\x01" + noise(255) + b"\x00")),
    ("O-05", ALL, with_packets(GOOD[:-1])),
    ("O-05", ALL, with_packets(pkesk() + b"\xd2\xe9\x01" + noise(511))),
    ("O-05", ALL, with_packets(pkesk() + b"\xd2\xff\xff\xff\xff\xff\x01" + noise(60))),
    ("O-05", ALL, with_packets(pkesk() + b"\xd2")),
    ("O-07", ALL, with_packets(GOOD + b"\0")),
    ("O-07", ALL, with_packets(GOOD + seipd())),
    ("O-07", ALL, with_packets(pkesk())),
    ("O-08", ALL, with_packets(seipd())),
    ("O-08", ALL, with_packets(pkesk(3, 99, noise(32)) * 5001 + seipd())),
    ("O-09", ALL, with_packets(pkesk(3, 99, noise(4096 - 9)) + seipd())),
    ("O-09", ALL, with_packets(pkesk(3, 99, noise(4086)) * 1025 + seipd())),
    ("O-10", ALL, with_packets(packet(1, b"\x02" + pkesk_body()[1:]) + seipd())),
    ("O-10", ALL, with_packets(packet(1, b"\x03" + bytes(8)) + seipd())),
    ("O-10", ALL, with_packets(packet(1, b"") + seipd())),
    ("O-11", ALL, with_packets(packet(1, b"\x06\x14\x04" + noise(40)) + seipd(version=2))),
    ("O-11", ALL, with_packets(packet(1, b"\x06\x15") + seipd(version=2))),
    ("O-11", ALL, with_packets(packet(1, b"\x06\x15\x06" + noise(60)) + seipd(version=2))),
    *(("O-12", ALL, with_packets(pkesk(3, bad) + seipd())) for bad in (0, 3, 17, 19, 22, 27, 28)),
    ("O-13", ALL, with_packets(pkesk(3, 25, noise(32) + b"\x21" + noise(32)) + seipd())),
    ("O-13", ALL, with_packets(pkesk(3, 26, noise(56) + b"\x28" + noise(41)) + seipd())),
    ("O-13", ALL, with_packets(pkesk(3, 1, rsa_data(511)) + seipd())),
    ("O-13", ALL, with_packets(pkesk(3, 1, rsa_data() + b"x") + seipd())),
    ("O-13", ALL, with_packets(pkesk(3, 1, b"\x08\x01" + noise(257)) + seipd())),
    ("O-13", ALL, with_packets(pkesk(3, 16, rsa_data(700)) + seipd())),
    ("O-13", ALL, with_packets(pkesk(3, 18, ECDH + b"x") + seipd())),
    ("O-13", ALL, with_packets(pkesk(3, 99, noise(31)) + seipd())),
    ("O-14", ALL, with_packets(packet(3, skesk4_body(cipher=0)) + seipd())),
    ("O-14", ALL, with_packets(packet(3, skesk4_body(cipher=5)) + seipd())),
    ("O-14", ALL, with_packets(packet(3, skesk4_body(key=noise(16))) + seipd())),
    ("O-14", ALL, with_packets(packet(3, skesk4_body(key=noise(34))) + seipd())),
    ("O-15", ALL, with_packets(packet(3, skesk6_body(aead=4)) + seipd(version=2))),
    ("O-15", ALL, with_packets(packet(3, skesk6_body(cipher=6)) + seipd(version=2))),
    ("O-15", ALL, with_packets(packet(3, skesk6_body()[:-1]) + seipd(version=2))),
    ("O-15", ALL, with_packets(packet(3, b"\x06\x1d" + skesk6_body()[2:]) + seipd(version=2))),
    ("O-15", ALL, with_packets(packet(3, b"\x05" + skesk6_body()[1:]) + seipd(version=2))),
    ("O-16", ALL, with_packets(packet(3, skesk4_body(b"\x02\x08" + noise(8))) + seipd())),
    ("O-16", ALL, with_packets(packet(3, skesk6_body(b"\x05" + noise(9))) + seipd(version=2))),
    ("O-16", ALL, with_packets(packet(3, skesk6_body(b"\x01" + noise(10))) + seipd(version=2))),
    ("O-17", ALL, with_packets(pkesk() + packet(18, b"\x01" + noise(39)))),
    ("O-17", ALL, with_packets(pkesk() + packet(18, b""))),
    ("O-18", ALL, with_packets(pkesk(6) + packet(18, seipd_body(15, 2)))),
    ("O-18", ALL, with_packets(pkesk(6) + packet(18, b"\x02\x05" + seipd_body(60, 2)[2:]))),
    ("O-18", ALL, with_packets(pkesk(6) + packet(18, b"\x02\x07\x00" + seipd_body(60, 2)[3:]))),
    ("O-18", ALL, with_packets(pkesk(6) + packet(18, b"\x02\x07\x02\x11" + seipd_body(60, 2)[4:]))),
    ("O-18", ALL, with_packets(pkesk() + packet(18, b"\x03" + noise(60)))),
    ("O-19", ALL, with_packets(pkesk() + seipd(version=2))),
    ("O-19", ALL, with_packets(pkesk(6) + seipd())),
    ("O-19", ALL, with_packets(pkesk() + pkesk(6) + seipd())),
    ("O-19", ALL, with_packets(packet(3, skesk4_body()) + seipd(version=2))),
    ("O-20", ALL, with_packets(pkesk() + packet(18, b"\x01" + TEXT))),
    ("O-20", ALL, with_packets(pkesk() + packet(18, b"\x01" + noise(40_000) + TEXT * 20))),
    ("O-20", ALL, with_packets(pkesk(3, 99, TEXT) + seipd())),
]


def table(rows: list) -> list:  # type: ignore[type-arg]
    return [
        pytest.param(
            rule, doors if isinstance(doors, tuple) else (doors,), octets, id=f"{rule}-{at}"
        )
        for at, (rule, doors, octets) in enumerate(rows)
    ]


@pytest.mark.parametrize(("rule", "doors", "message"), table(ACCEPTED))
def test_a_message_that_keeps_the_rule_passes(
    rule: str, doors: tuple[Door, ...], message: bytes
) -> None:
    check(message, doors, "encrypted")


@pytest.mark.parametrize(("rule", "doors", "message"), table(REFUSED))
def test_a_message_that_breaks_the_rule_is_refused(
    rule: str, doors: tuple[Door, ...], message: bytes
) -> None:
    check(message, doors, rule)


def test_the_table_knows_every_rule() -> None:
    rules = [f"P-{n:02}" for n in range(2, 8)] + [f"H-{n:02}" for n in (1, 2, 3, 5, 6)]
    rules += [f"M-{n:02}" for n in range(1, 15)] + [f"A-{n:02}" for n in range(1, 11)]
    rules += [f"O-{n:02}" for n in (1, 2, 4, 5, 7, 8, *range(9, 21))]
    assert set(rules) <= {row[0] for row in REFUSED}


def test_p01_the_limit_itself_is_allowed() -> None:
    message = make_message()
    assert scan(message, max_bytes=len(message)).too_big is False
    facts = scan(message, max_bytes=len(message) - 1)
    assert facts.too_big
    assert facts.size == len(message)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (make_message().replace(b"\r\n", b"\n"), RefusalReason.BAD_LINE),
        (make_message() + b"\0", RefusalReason.BAD_LINE),
        (with_raw(before=b" x\r\n"), RefusalReason.BAD_HEADER),
        (b"From: a@b\r\n", RefusalReason.ENCRYPTION_NEEDED),
        (make_message(encrypted=False), RefusalReason.ENCRYPTION_NEEDED),
    ],
)
def test_reasons_of_the_first_rules(message: bytes, reason: RefusalReason) -> None:
    judged = verdict(message)
    assert isinstance(judged, Refuse)
    assert judged.reason is reason


def test_header_block_of_exactly_64_kib_passes() -> None:
    head = make_message(size=100)
    missing = 65536 - head.index(b"\r\n\r\n") - 4
    count, rest = divmod(missing, 900)
    filler = [f"X-{n:04}: " + "y" * 890 + "\r\n" for n in range(count - 1)]
    filler.append("X: " + "y" * 500 + "\r\n Y" + "z" * (900 + rest - 509) + "\r\n")
    message = "".join(filler).encode() + head
    assert message.index(b"\r\n\r\n") + 4 == 65536
    assert outcome(message) == "encrypted"
    assert outcome(b"X" + message) == "P-04"
    assert outcome(message.replace(b"\r\n\r\n", b"\r\nX:y\r\n\r\n", 1)) == "P-04"


def test_opacity_check_can_be_switched_off() -> None:
    message = with_packets(pkesk() + packet(18, b"\x01" + TEXT))
    assert outcome(message, settings={"opacity_check": False}) == "encrypted"
