"""The adversarial matrix A1 to A35: what somebody would try, at every door."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest

from chatmail.domain.formats.report_form import minimise_report
from chatmail.domain.model.message import Door, ReplaceValue
from chatmail.domain.model.verdict import Accept, Refuse
from tests.builders import (
    ALICE,
    BOB,
    BOUNDARY,
    CONTROL_PART,
    armor,
    delivery_report,
    encrypted_body,
    encrypted_type,
    envelope,
    make_message,
    multipart,
    noise,
    old_packet,
    packet,
    packets,
    part,
    payload_part,
    pkesk,
    pkesk_body,
    report_body,
    securejoin_request,
    seipd,
    seipd_body,
    skesk4_body,
    wrap,
)
from tests.unit.domain.scanning import REMOTE, outcome, verdict

SUB, INB, APPEND = Door.SUBMISSION, Door.SMTP_INBOUND, Door.APPEND
DOORS = (SUB, APPEND, INB, Door.HTTPS_INBOUND)
OCTETS = "Content-Type: application/octet-stream"
GOOD = armor(packets(300))
TEXT = b"Dear Bob, here is the plan for tomorrow. " * 30


def mixed(*parts: bytes, kind: str = "multipart/mixed") -> bytes:
    fields = [("Content-Type", f'{kind}; boundary="outer"')]
    return make_message(fields=fields, body=multipart(*parts, boundary="outer"))


def payload(octets: bytes, *fields: str) -> bytes:
    return make_message(body=multipart(CONTROL_PART, payload_part(octets, *fields)))


def walked(octets: bytes) -> bytes:
    return payload(armor(octets))


def control(content: bytes) -> bytes:
    first = part(content, "Content-Type: application/pgp-encrypted")
    return make_message(body=multipart(first, payload_part(GOOD)))


def raw_field(line: str) -> bytes:
    return make_message().replace(b"MIME-Version", line.encode() + b"\r\nMIME-Version", 1)


def typed(value: str, boundary: str = BOUNDARY) -> bytes:
    body = encrypted_body().replace(BOUNDARY.encode(), boundary.encode())
    return make_message(fields=[("Content-Type", value)], body=body)


def around(*, preamble: bytes = b"\r\n", epilogue: bytes = b"\r\n") -> bytes:
    parts = (CONTROL_PART, payload_part(GOOD))
    return make_message(body=multipart(*parts, preamble=preamble, epilogue=epilogue))


def nested(kind: str) -> bytes:
    return part(b"--x\r\n\r\nhi\r\n--x--\r\n", f"Content-Type: {kind}; boundary=x")


CHECKED = GOOD.replace(b"\r\n-----END", b"\r\nhello\r\n-----END")
BAD_CHECKSUM = armor(packets(300), checksum=b"=AAAAhello\r\n")
DELIMITER = b"--" + BOUNDARY.encode()
WHOLE = encrypted_body()


def matrix() -> Iterator[tuple[str, str, bytes]]:
    """Yield case, rule, message; each is refused at all doors with that rule."""
    marker = b"application/pgp-encrypted"
    yield (
        "A1 in the subject",
        "M-01",
        make_message(encrypted=False, fields=[("Subject", marker.decode())]),
    )
    yield "A1 in the body", "M-01", make_message(encrypted=False, text=marker.decode())
    inner = f"Content-Type: {encrypted_type()}".replace("\r\n", "")
    yield "A2", "M-01", mixed(part(encrypted_body(), inner), part(TEXT, "Content-Type: text/plain"))
    yield (
        "A3 first",
        "M-12",
        make_message(body=multipart(nested("multipart/mixed"), payload_part(GOOD))),
    )
    yield "A3 second", "M-12", make_message(body=multipart(CONTROL_PART, nested("multipart/mixed")))
    yield "A4 one part", "M-06", make_message(body=multipart(CONTROL_PART))
    yield "A4 preamble", "M-05", around(preamble=TEXT + b"\r\n")
    yield "A4 epilogue", "M-07", around(epilogue=TEXT)
    yield (
        "A5",
        "M-06",
        make_message(
            body=multipart(CONTROL_PART, payload_part(GOOD), part(TEXT, "Content-Type: text/plain"))
        ),
    )
    yield (
        "A6 encrypted first",
        "H-03",
        make_message().replace(b"\r\n\r\n", b"\r\nContent-Type: text/plain\r\n\r\n", 1),
    )
    yield "A6 text first", "H-03", raw_field("Content-Type: text/plain")
    yield "A7 space", "H-01", raw_field("Content-Type : text/plain")
    yield "A7 fold", "H-01", raw_field("Content-Type\r\n\t: text/plain")
    yield "A8 pieces", "H-05", typed('multipart/encrypted; boundary*0="a"; boundary*1="b"', "ab")
    yield "A8 twice", "H-05", typed(f"multipart/encrypted; boundary={BOUNDARY}; boundary=b")
    yield "A8 71", "M-02", typed(f"multipart/encrypted; boundary={'b' * 71}", "b" * 71)
    yield "A8 empty", "M-02", typed('multipart/encrypted; boundary=""', "")
    for junk in (b"X", b" X", b"--X", b"-"):
        line = DELIMITER + junk + b"\r\n"
        for place in (b"-----END", b"-----BEGIN"):
            rule = "A-06" if place == b"-----END" else "A-01"
            yield (
                f"A9 {junk!r} {place!r}",
                rule,
                make_message(body=WHOLE.replace(place, line + place)),
            )
    yield "A9 not closed", "M-06", make_message(body=WHOLE.replace(DELIMITER + b"--", b""))
    for text in (b"Version: 1\r\nhello", b"version: 1", b"Version: 1.0", b" " * 1_000_000):
        yield f"A10 {text[:20]!r}", "M-10", control(text)
    yield "A12 uuencode", "M-13", payload(GOOD, OCTETS, "Content-Transfer-Encoding: x-uuencode")
    yield "A13 before END", "A-06", payload(CHECKED)
    yield "A13 after END", "A-07", payload(GOOD + TEXT)
    yield "A13 two blocks", "A-07", payload(GOOD + GOOD)
    yield "A13 checksum", "A-05", payload(BAD_CHECKSUM)
    yield "A14 many", "A-02", payload(armor(packets(300), headers=b"Comment: x\r\n" * 200))
    yield (
        "A14 long",
        "A-02",
        payload(armor(packets(300), headers=b"Comment: " + b"x" * 10_000 + b"\r\n")),
    )
    yield "A16 lone SEIPD", "O-08", walked(seipd())
    yield "A16 SEIPD first", "O-08", walked(seipd() + pkesk())
    yield "A16 two SEIPD", "O-07", walked(pkesk() + seipd() + seipd())
    yield "A16 PKESK only", "O-07", walked(pkesk())
    yield "A16 trailing zero", "O-07", walked(pkesk() + seipd() + b"\0")
    yield "A16 trailing text", "O-07", walked(pkesk() + seipd() + TEXT)
    for tag in (0, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 17, 19, 20, 21, 40, 60, 63):
        noisy = packet(tag, noise(60))
        yield f"A17 tag {tag} first", "O-07", walked(noisy + pkesk() + seipd())
        yield f"A17 tag {tag} between", "O-07", walked(pkesk() + noisy + seipd())
        yield f"A17 tag {tag} last", "O-07", walked(pkesk() + seipd() + noisy)
    yield "A17 old literal", "O-07", walked(pkesk() + old_packet(11, TEXT[:200]) + seipd())
    yield "A18", "O-20", walked(pkesk() + packet(18, b"\x01" + TEXT))
    yield "A18 v2", "O-20", walked(pkesk(6) + packet(18, seipd_body(0, 2) + TEXT))
    for size in (0, 1, 40):
        yield f"A19 size {size}", "O-17", walked(pkesk() + packet(18, seipd_body(60)[:size]))
    for aead in (0, 9):
        body = bytes([2, 7, aead, 6]) + noise(100)
        yield f"A19 AEAD {aead}", "O-18", walked(pkesk(6) + packet(18, body))
    yield "A19 v3", "O-18", walked(pkesk() + packet(18, b"\x03" + noise(100)))
    letters = (TEXT * 4)[:4000]
    yield "A20 RSA", "O-13", walked(pkesk(3, 1, letters) + seipd())
    yield "A20 unknown", "O-20", walked(pkesk(3, 99, letters) + seipd())
    yield "A20 many", "O-20", walked(pkesk(3, 99, letters) * 200 + seipd())
    yield "A21 partial PKESK", "O-04", walked(packet(1, noise(5000), length="partial") + seipd())
    yield "A21 first of 256", "O-04", walked(pkesk() + b"\xd2\xe8" + seipd_body(255) + b"\0")
    yield "A21 partial last", "O-05", walked(pkesk() + b"\xd2\xe9" + seipd_body(511))
    yield "A21 4 GiB", "O-05", walked(pkesk() + b"\xd2\xff\xff\xff\xff\xff" + seipd_body(100))
    yield "A22 indeterminate", "O-02", walked(old_packet(1, pkesk_body(), 3) + seipd())
    yield "A23 v3 with v2", "O-19", walked(pkesk(3) + seipd(version=2))
    yield "A23 v6 with v1", "O-19", walked(pkesk(6) + seipd(version=1))
    yield "A25 1 MB", "P-04", make_message(fields=[("X", "\r\n ".join(["y" * 900] * 1100))])
    yield "A25 10k fields", "P-04", make_message(fields=[("X", "y")] * 10_000)
    yield (
        "A25 Autocrypt",
        "P-04",
        make_message(fields=[("Autocrypt", "\r\n ".join(["y" * 900] * 110))]),
    )
    yield "A26 bare LF", "P-02", make_message() + b"\n.\r\n"
    yield "A26 CR CR LF", "P-02", make_message().replace(b"\r\n", b"\r\r\n", 1)
    yield "A26 NUL", "P-03", make_message().replace(b"\r\n--18c7", b"\r\n--\x0018c7", 1)
    yield "A27 preamble", "M-05", around(preamble="Grüße\r\n".encode())
    yield "A27 epilogue", "M-07", around(epilogue="Grüße".encode())


CASES = {case: (rule, message) for case, rule, message in matrix()}


@pytest.mark.parametrize("door", DOORS, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_attempt_is_refused(case: str, door: Door) -> None:
    rule, message = CASES[case]
    if door.is_inbound:
        message = message.replace(ALICE.encode(), REMOTE.encode())
    assert outcome(message, door) == rule


def inbound(message: bytes) -> bytes:
    return message.replace(ALICE.encode(), REMOTE.encode())


def test_a11_text_in_part_headers_is_refused_on_submission() -> None:
    message = payload(GOOD, OCTETS, "X-Note: secret text")
    assert outcome(message) == "M-08"
    assert outcome(message, APPEND) == "M-08"


def test_a12_base64_around_armor_passes_inbound_only() -> None:
    message = payload(wrap(GOOD), OCTETS, "Content-Transfer-Encoding: base64")
    assert outcome(message) == "M-13"
    assert outcome(inbound(message), INB) == "encrypted"
    junk = payload(
        wrap(GOOD).replace(b"\r\n", b"\r\nhello!\r\n", 1),
        OCTETS,
        "Content-Transfer-Encoding: base64",
    )
    assert outcome(inbound(junk), INB) == "M-14"


def test_a15_padding_without_checksum_is_accepted() -> None:
    octets = next(o for n in range(3) if len(o := packets(300 + n)) % 3 == 1)
    armored = armor(octets, checksum=False)
    assert b"==\r\n-----END" in armored
    assert outcome(payload(armored)) == "encrypted"


def test_a22_old_format_session_keys_are_accepted() -> None:
    for kind in (0, 1, 2):
        octets = old_packet(1, pkesk_body(), kind) + old_packet(3, skesk4_body(), kind) + seipd()
        assert outcome(walked(octets)) == "encrypted"


def test_a24_what_the_ciphertext_holds_costs_nothing() -> None:
    bomb = zlib.compress(bytes(1_000_000), 9)
    whitened = bytes(a ^ b for a, b in zip(bomb, noise(len(bomb)), strict=True))
    assert outcome(walked(pkesk() + packet(18, b"\x01" + whitened))) == "encrypted"


FORGED = {
    "quoted": f'"<{ALICE}>" <{REMOTE}>',
    "list": f"{ALICE}, {REMOTE}",
    "group": f"all: {ALICE}, {REMOTE};",
    "two brackets": f"<{ALICE}>, <{REMOTE}>",
}


@pytest.mark.parametrize("value", FORGED.values(), ids=FORGED.keys())
def test_a28_forged_authors_are_refused(value: str) -> None:
    assert outcome(make_message(fields=[("From", value)])) in ("F-02", "F-03")


def test_a28_sender_field_cannot_stand_for_from() -> None:
    fields = [("Sender", ALICE), ("From", REMOTE)]
    assert outcome(make_message(fields=fields)) == "F-03"
    assert outcome(make_message(fields=[("From", ALICE), ("from", REMOTE)])) == "H-03"


def join(*contents: bytes, kind: str = "text/plain", preamble: bytes = b"") -> bytes:
    parts = (part(content, f"Content-Type: {kind}") for content in contents)
    return securejoin_request(body=multipart(*parts, preamble=preamble))


@pytest.mark.parametrize("door", [SUB, INB, Door.HTTPS_INBOUND], ids=str)
@pytest.mark.parametrize(
    "message",
    [
        join(b"Secure-Join: vc-request\r\nHi Bob"),
        join(b"Secure-Join: vc-request", b"Hi Bob"),
        join(b"<b>Secure-Join: vc-request</b>", kind="text/html"),
        securejoin_request("vc-requestx"),
        join(b"Secure-Join: vc-request", preamble=b"Hi Bob\r\n"),
    ],
    ids=["more text", "two parts", "html", "suffix", "preamble"],
)
def test_a29_handshakes_that_carry_text_are_refused(message: bytes, door: Door) -> None:
    message = inbound(message) if door.is_inbound else message
    assert isinstance(verdict(message, door), Refuse)


def test_a30_subject_of_a_handshake_is_replaced() -> None:
    judged = verdict(securejoin_request(fields=[("Subject", "secret")]))
    assert isinstance(judged, Accept)
    assert judged.edits == (ReplaceValue(b"subject", b"[...]"),)


def test_a31_users_cannot_send_reports() -> None:
    assert outcome(delivery_report(sender="MAILER-DAEMON@example.org")) == "F-03"
    assert outcome(delivery_report(sender=ALICE)) == "M-01"


def test_a32_imitated_reports_are_refused_and_large_ones_reduced() -> None:
    paths = envelope("xmailer-daemon@example.net", BOB)
    assert outcome(delivery_report(), INB, envelope=paths) == "M-01"
    from_x = delivery_report(sender="xmailer-daemon@example.net")
    assert outcome(from_x, INB, envelope=envelope(None, BOB)) == "M-01"
    quoted = make_message(
        sender="mailer-daemon@example.net", encrypted=False, text="multipart/report"
    )
    assert outcome(quoted, INB, envelope=envelope(None, BOB)) == "M-01"
    large = delivery_report(body=report_body(original=make_message(size=60_000)))
    assert outcome(large, INB, envelope=envelope(None, BOB)) == "bounce"
    assert len(minimise_report(large)) < 3000


@pytest.mark.parametrize("recipients", [["a@evil-ex.org"], ["a@sub.ex.org"], ["a@ex.org", BOB]])
def test_a33_passthrough_entries_match_whole_domains(recipients: list[str]) -> None:
    listed = {"passthrough_recipients": frozenset({"@ex.org"})}
    plain = make_message(encrypted=False)
    assert outcome(plain, settings=listed, envelope=envelope(ALICE, *recipients)) == "M-01"


def test_a34_nothing_from_a_header_can_break_a_reply_line() -> None:
    judged = verdict(make_message(fields=[("From", "x\r\n 250 OK <y> \x7f\x01@example.org")]))
    assert isinstance(judged, Refuse)
    assert judged.subject.isascii()
    assert judged.subject.isprintable()
    assert " " not in judged.subject
