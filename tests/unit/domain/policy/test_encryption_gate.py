"""The judgement: identity, the plaintext exceptions, DKIM, edits, in the order of the table."""

from __future__ import annotations

from typing import Any

import pytest

from chatmail.domain.formats.rfc5322 import edit_header
from chatmail.domain.model.message import DeleteField, Door, ReplaceValue
from chatmail.domain.model.verdict import Accept, AcceptedKind, RefusalReason, Refuse
from chatmail.domain.policy.encryption_gate import (
    CleartextRecipients,
    DkimResult,
    effective_reverse_path,
    judge,
    needs_dkim,
)
from tests.builders import (
    ALICE,
    BOB,
    CONTROL_PART,
    REPORT_STATUS,
    address,
    armor,
    crlf,
    delivery_report,
    encrypted_body,
    encrypted_type,
    envelope,
    make_message,
    multipart,
    packet,
    part,
    payload_part,
    pgpy_encrypted,
    pgpy_key,
    pkesk,
    report_body,
    securejoin_request,
    seipd,
    setup_message,
    skesk4_body,
)
from tests.unit.domain.scanning import REMOTE, context, outcome, scan, verdict

SUB, INB, APPEND = Door.SUBMISSION, Door.SMTP_INBOUND, Door.APPEND
DAEMON = "mailer-daemon@example.net"
PLAIN = make_message(encrypted=False)


def refused(message: bytes, door: Door = SUB, **changes: Any) -> Refuse:
    judged = verdict(message, door, **changes)
    assert isinstance(judged, Refuse)
    return judged


def accepted(message: bytes, door: Door = SUB, **changes: Any) -> Accept:
    judged = verdict(message, door, **changes)
    assert isinstance(judged, Accept), judged
    return judged


def remote(message: bytes) -> bytes:
    """The same message from a remote author."""
    return message.replace(ALICE.encode(), REMOTE.encode())


# --- identity ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sender", [None, BOB, REMOTE, "alice0001+tag@example.org"])
def test_f01_only_the_login_may_be_the_envelope_sender(sender: str | None) -> None:
    judged = refused(make_message(), envelope=envelope(sender, BOB))
    assert (judged.reason, judged.rule) == (RefusalReason.NOT_OWNER, "F-01")
    assert (judged.subject, judged.object) == (sender or "", ALICE)


@pytest.mark.parametrize(
    "value",
    [
        ALICE,
        f"<{ALICE}>",
        "ALICE0001@Example.ORG",
        f"Alice <{ALICE}>",
        f'"Carol <carol@example.net>" <{ALICE}>',
        f"(carol@example.net) {ALICE} (a (nested) comment)",
        f"J. R. Alice\r\n <{ALICE}>",
        f"=?utf-8?q?Alice?= < {ALICE} >",
        f'"{ALICE.split("@")[0]}"@example.org',
    ],
)
def test_f02_f03_spellings_of_the_own_address_pass(value: str) -> None:
    accepted(make_message(fields=[("From", value)]))


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("", "F-02"),
        ("Alice", "F-02"),
        (f"{ALICE}, {REMOTE}", "F-02"),
        (f"<{ALICE}>, <{REMOTE}>", "F-02"),
        (f"<{ALICE}> <{REMOTE}>", "F-02"),
        (f"<{ALICE}><{REMOTE}>", "F-02"),
        (f"friends: {ALICE};", "F-02"),
        (f"<@relay.net:{ALICE}>", "F-02"),
        (f"<{ALICE}", "F-02"),
        (f"{ALICE}>", "F-02"),
        (f'"open <{ALICE}>', "F-02"),
        (f"(open {ALICE}", "F-02"),
        (f"{ALICE} {REMOTE}", "F-02"),
        ("alice0001 @example.org", "F-02"),
        ("alice0001@example.org@example.net", "F-02"),
        (f'"<{ALICE}>" <{REMOTE}>', "F-03"),
        (f"({ALICE}) {REMOTE}", "F-03"),
        (f"{ALICE.replace('@', '+tag@')}", "F-03"),
        (REMOTE, "F-03"),
    ],
)
def test_f02_f03_any_other_author_is_refused(value: str, rule: str) -> None:
    judged = refused(make_message(fields=[("From", value)]))
    assert (judged.reason, judged.rule) == (RefusalReason.INVALID_FROM, rule)


def test_f02_a_missing_author_is_refused() -> None:
    assert outcome(make_message(without=["From"])) == "F-02"
    assert outcome(make_message(without=["From"]), APPEND) == "F-02"


def test_f03_ip_relay_spellings_of_one_domain_are_equal() -> None:
    login = "alice0001@[192.0.2.1]"
    paths = {"envelope": envelope(login, BOB), "identity": address("alice0001@192.0.2.1")}
    accepted(make_message(fields=[("From", "<alice0001@[192.0.2.1]>")]), **paths)
    accepted(make_message(fields=[("From", "alice0001@192.0.2.1")]), **paths)


def test_invalid_from_echoes_only_printable_octets() -> None:
    judged = refused(make_message(fields=[("From", "a b\r\n\tc \x01<x>" + "y" * 200)]))
    assert judged.subject == "a?b?c??<x>" + "y" * 70
    assert judged.object == ALICE


@pytest.mark.parametrize("value", [REMOTE, "nobody", f"{ALICE}, {REMOTE}", ""])
def test_f04_another_sender_field_is_refused(value: str) -> None:
    assert outcome(make_message(fields=[("Sender", value)])) == "F-04"


def test_f04_the_same_sender_field_passes() -> None:
    assert outcome(make_message(fields=[("Sender", f"Me <{ALICE.upper()}>")])) == "encrypted"


def test_append_needs_an_author_but_not_oneself() -> None:
    assert outcome(make_message(sender=REMOTE), APPEND, envelope=envelope(None)) == "encrypted"
    assert outcome(make_message(fields=[("From", "a@b, c@d")]), APPEND) == "F-02"


@pytest.mark.parametrize("value", [f"{REMOTE}, x@y", "group: x@y;", "", "no address"])
def test_f05_inbound_needs_exactly_one_author(value: str) -> None:
    judged = refused(make_message(fields=[("From", value)]), INB)
    assert (judged.reason, judged.rule) == (RefusalReason.INVALID_FROM, "F-05")


@pytest.mark.parametrize("author", [ALICE, "x@[192.0.2.1]", "x@192.0.2.1", "x@EXAMPLE.org"])
@pytest.mark.parametrize("dkim", [DkimResult.PASS, DkimResult.NONE])
def test_f06_our_own_domain_never_comes_from_outside(author: str, dkim: DkimResult) -> None:
    judged = refused(make_message(fields=[("From", author)]), INB, dkim=dkim)
    assert (judged.reason, judged.rule) == (RefusalReason.SPOOFED_DOMAIN, "F-06")


def test_f06_nor_in_the_envelope() -> None:
    judged = refused(remote(make_message()), INB, envelope=envelope("x@example.org", BOB))
    assert judged.reason is RefusalReason.SPOOFED_DOMAIN


def test_f08_another_envelope_sender_counts_as_none() -> None:
    message = remote(make_message())
    other = envelope("list@example.com", BOB)
    assert outcome(message, INB, envelope=other) == "encrypted"
    assert effective_reverse_path(scan(message), other) is None
    assert effective_reverse_path(scan(message), envelope(None, BOB)) is None
    assert effective_reverse_path(scan(message), envelope(REMOTE, BOB)) == address(REMOTE)


# --- DKIM --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dkim", "reason"),
    [
        (DkimResult.NONE, RefusalReason.NO_DKIM),
        (DkimResult.BAD, RefusalReason.BAD_DKIM),
        (DkimResult.UNAVAILABLE, RefusalReason.DKIM_UNAVAILABLE),
        (None, RefusalReason.DKIM_UNAVAILABLE),
    ],
)
@pytest.mark.parametrize(
    "message", [remote(make_message()), remote(securejoin_request())], ids=["encrypted", "request"]
)
def test_f07_inbound_mail_needs_a_valid_signature(
    message: bytes, dkim: DkimResult | None, reason: RefusalReason
) -> None:
    judged = refused(message, INB, dkim=dkim)
    assert (judged.reason, judged.rule) == (reason, "F-07")


def test_f07_a_literal_cannot_sign() -> None:
    message = make_message(sender="x@[198.51.100.7]")
    assert (
        outcome(message, INB, dkim=None, envelope=envelope("x@[198.51.100.7]", BOB)) == "encrypted"
    )
    assert not needs_dkim(scan(message), INB, context(INB, dkim=None))


def test_f07_can_be_waived() -> None:
    assert outcome(remote(make_message()), INB, dkim=DkimResult.NOT_NEEDED) == "encrypted"


def test_encryption_is_judged_before_dkim() -> None:
    assert outcome(remote(PLAIN), INB, dkim=DkimResult.NONE) == "M-01"


def test_needs_dkim_only_for_what_would_be_accepted() -> None:
    unknown = context(INB, dkim=None)
    assert needs_dkim(scan(remote(make_message())), INB, unknown)
    assert needs_dkim(scan(remote(securejoin_request())), INB, unknown)
    bounce = context(INB, dkim=None, envelope=envelope(None, BOB))
    assert needs_dkim(scan(delivery_report()), INB, bounce)
    assert not needs_dkim(scan(remote(PLAIN)), INB, unknown)
    assert not needs_dkim(scan(make_message()), INB, unknown)
    assert not needs_dkim(scan(remote(make_message())), INB, context(INB))
    assert not needs_dkim(scan(make_message()), SUB, context(SUB))


# --- hops --------------------------------------------------------------------------------------


def test_more_than_fifty_hops_are_a_loop() -> None:
    hops = [("Received", "from a by b")]
    assert outcome(remote(make_message(fields=hops * 50)), INB) == "encrypted"
    judged = refused(remote(make_message(fields=hops * 51)), INB)
    assert judged.reason is RefusalReason.TOO_MANY_HOPS
    assert outcome(make_message(fields=hops * 51), SUB) == "encrypted"


# --- Secure-Join -------------------------------------------------------------------------------


def join(text: str, kind: str = "Content-Type: text/plain", **around: Any) -> bytes:
    return securejoin_request(body=multipart(part(text.encode(), kind), **around))


GOOD_REQUESTS = {
    "vc, form A": securejoin_request("vc-request"),
    "vg, form A": securejoin_request("vg-request"),
    "vc, form B": securejoin_request("vc-request", flat=True),
    "vg, form B": securejoin_request("vg-request", flat=True),
    "case and spaces": join("\r\n SECURE-JOIN: VC-Request \r\n\r\n"),
    "charset": join("Secure-Join: vc-request", "Content-Type: text/plain; charset=US-ASCII"),
    "no blank preamble": join("Secure-Join: vc-request", preamble=b"", epilogue=b""),
    "base64": join(
        "U2VjdXJlLUpvaW46IHZjLXJlcXVlc3Q=",
        "Content-Type: text/plain\r\nContent-Transfer-Encoding: base64",
    ),
    "flat, quoted-printable": securejoin_request(
        flat=True,
        text="Secure-Join: vc=2Drequest",
        fields=[("Content-Transfer-Encoding", "quoted-printable")],
    ),
}


@pytest.mark.parametrize("door", [SUB, INB, Door.HTTPS_INBOUND], ids=str)
@pytest.mark.parametrize("message", GOOD_REQUESTS.values(), ids=GOOD_REQUESTS.keys())
def test_x_sj_requests_pass(message: bytes, door: Door) -> None:
    message = remote(message) if door.is_inbound else message
    assert outcome(message, door) == "securejoin"


def test_x_sj_not_by_append() -> None:
    assert outcome(securejoin_request(), APPEND) == "M-01"


def test_x_sj_can_be_switched_off() -> None:
    assert outcome(securejoin_request(), settings={"allow_secure_join": False}) == "M-01"


BAD_REQUESTS = {
    "X-SJ1 later step": securejoin_request("vc-auth-required"),
    "X-SJ1 suffix": securejoin_request("vc-requestx"),
    "X-SJ1 v3 step": securejoin_request("vc-request-pubkey"),
    "X-SJ1 none": securejoin_request().replace(b"Secure-Join: vc-request\r\n", b"", 1),
    "X-SJ2 none": securejoin_request().replace(b"Secure-Join-Invitenumber:", b"X-Y:"),
    "X-SJ2 empty": securejoin_request().replace(b"u3Yz0_dk-17Ff", b""),
    "X-SJ2 text": securejoin_request().replace(b"u3Yz0_dk-17Ff", b"hello Bob"),
    "X-SJ2 long": securejoin_request().replace(b"u3Yz0_dk-17Ff", b"x" * 129),
    "X-SJ3 more text": join("Secure-Join: vc-request\r\nHi Bob"),
    "X-SJ3 other step": join("Secure-Join: vg-request"),
    "X-SJ3 html": join("Secure-Join: vc-request", "Content-Type: text/html"),
    "X-SJ3 charset": join("Secure-Join: vc-request", "Content-Type: text/plain; charset=utf-7"),
    "X-SJ3 preamble": join("Secure-Join: vc-request", preamble=b"hello\r\n"),
    "X-SJ3 epilogue": join("Secure-Join: vc-request", epilogue=b"hello"),
    "X-SJ3 not closed": join("Secure-Join: vc-request", close=False),
    "X-SJ3 part field": join("Secure-Join: vc-request", "Content-Type: text/plain\r\nX: hello"),
    "X-SJ3 encoding": join(
        "Secure-Join: vc-request", "Content-Type: text/plain\r\nContent-Transfer-Encoding: x-y"
    ),
    "X-SJ3 empty encoding": securejoin_request(
        flat=True, fields=[("Content-Transfer-Encoding", "")]
    ),
    "X-SJ3 top encoding": securejoin_request(fields=[("Content-Transfer-Encoding", "base64")]),
    "X-SJ3 two parts": securejoin_request(
        body=multipart(*[part(b"Secure-Join: vc-request", "Content-Type: text/plain")] * 2)
    ),
    "X-SJ3 flat html": securejoin_request(flat=True).replace(b"text/plain", b"text/html"),
    "X-SJ3 no boundary": securejoin_request().replace(b"boundary=", b"other="),
    "X-SJ4 size": securejoin_request(flat=True, text="Secure-Join: vc-request" + " " * 32_500),
    "X-SJ5 long value": securejoin_request(fields=[("Chat-Note", "y" * 257)]),
}


@pytest.mark.parametrize("message", BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_x_sj_anything_else_is_plaintext(message: bytes) -> None:
    judged = refused(message)
    assert judged.reason is RefusalReason.ENCRYPTION_NEEDED


def test_x_sj4_header_of_24_kib() -> None:
    block = [("Autocrypt", "\r\n ".join(["k" * 900] * 26))]
    assert outcome(securejoin_request(fields=block)) == "securejoin"
    block = [("Autocrypt", "\r\n ".join(["k" * 900] * 28))]
    assert outcome(securejoin_request(fields=block)) == "M-01"


def test_x_sj4_one_to_five_recipients() -> None:
    everyone = [f"bob{n}@example.org" for n in range(6)]
    assert outcome(securejoin_request(), envelope=envelope(ALICE, *everyone[:5])) == "securejoin"
    assert outcome(securejoin_request(), envelope=envelope(ALICE, *everyone)) == "M-01"
    assert outcome(securejoin_request(), envelope=envelope(ALICE)) == "M-01"


def test_x_sj5_other_fields_are_deleted_on_submission_only() -> None:
    fields = [
        ("X-Note", "secret"),
        ("Chat-User-Avatar", "0"),
        ("Ephemeral-Timer", "9"),
        ("Cc", "a@b"),
    ]
    edits = accepted(securejoin_request(fields=fields)).edits
    assert set(edits) == {DeleteField(b"x-note"), DeleteField(b"cc")}
    assert accepted(remote(securejoin_request(fields=fields)), INB).edits == ()


def test_x_sj5_length_of_deleted_fields_and_autocrypt_does_not_matter() -> None:
    fields = [("X-Note", "y" * 300), ("Autocrypt", "k" * 900)]
    assert outcome(securejoin_request(fields=fields)) == "securejoin"


# --- reports -----------------------------------------------------------------------------------

BOUNCE: dict[str, Any] = {"envelope": envelope(None, BOB)}
GOOD_REPORTS = {
    "postfix": delivery_report(),
    "postmaster": delivery_report(sender="Postmaster@example.net"),
    "no report-type": delivery_report().replace(b"report-type=delivery-status;", b""),
    "two parts": delivery_report(
        body=multipart(
            part(b"text", "Content-Type: text/plain"),
            part(REPORT_STATUS, "Content-Type: message/global-delivery-status"),
        )
    ),
    "headers": delivery_report(
        body=report_body().replace(b"message/rfc822", b"text/rfc822-headers")
    ),
    "8-bit text": delivery_report(body=report_body(text="Empfänger unbekannt".encode())),
    "90 kB original": delivery_report(
        body=report_body(original=make_message(encrypted=False, text="long " * 18_000))
    ),
}


@pytest.mark.parametrize("message", GOOD_REPORTS.values(), ids=GOOD_REPORTS.keys())
def test_x_dsn_reports_of_relays_pass(message: bytes) -> None:
    assert outcome(message, INB, **BOUNCE) == "bounce"
    assert outcome(message, INB, envelope=envelope(DAEMON, BOB)) == "bounce"


@pytest.mark.parametrize(("size", "passes"), [(100 * 1024, True), (100 * 1024 + 1, False)])
def test_x_dsn4_reports_of_up_to_100_kib_pass(size: int, passes: bool) -> None:
    original = make_message(size=300)
    missing = size - len(delivery_report(body=report_body(original=original)))
    filler = b"x" * (missing % 64) + (b"\r\n" + b"x" * 62) * (missing // 64)
    message = delivery_report(body=report_body(original=original + filler))
    assert len(message) == size
    assert (outcome(message, INB, **BOUNCE) == "bounce") is passes


BAD_REPORTS = {
    "X-DSN2 author": delivery_report(sender="xmailer-daemon@example.net"),
    "X-DSN2 author suffix": delivery_report(sender="mailer-daemonx@example.net"),
    "X-DSN2 not automatic": delivery_report(without=["Auto-Submitted"]),
    "X-DSN2 no": delivery_report(fields=[("Auto-Submitted", "no")]),
    "X-DSN2 no, with comment": delivery_report(fields=[("Auto-Submitted", "No; x=y")]),
    "X-DSN2 empty": delivery_report(fields=[("Auto-Submitted", "")]),
    "X-DSN3 read receipt": delivery_report().replace(
        b"report-type=delivery-status", b"report-type=disposition-notification"
    ),
    "X-DSN3 kind in the body only": delivery_report().replace(
        b"Content-Type: multipart/report", b"Content-Type: multipart/mixed"
    ),
    "X-DSN3 html": delivery_report(body=report_body().replace(b"text/plain", b"text/html")),
    "X-DSN3 long text": delivery_report(body=report_body(text=b"x" * 16385)),
    "X-DSN3 long status": delivery_report(
        body=report_body().replace(REPORT_STATUS, REPORT_STATUS * 120)
    ),
    "X-DSN3 attachment": delivery_report(
        body=report_body().replace(b"message/rfc822", b"application/octet-stream")
    ),
    "X-DSN3 four parts": delivery_report(
        body=report_body(part(b"more", "Content-Type: text/plain"))
    ),
    "X-DSN3 one part": delivery_report(body=multipart(part(b"x", "Content-Type: text/plain"))),
    "X-DSN3 long preamble": delivery_report(
        body=report_body().replace(b"This is a MIME", b"secret " * 150)
    ),
    "X-DSN3 not closed": delivery_report(body=report_body()[:-6]),
    "X-DSN4 size": delivery_report(
        body=report_body(original=make_message(encrypted=False, text="long " * 21_000))
    ),
}


@pytest.mark.parametrize("message", BAD_REPORTS.values(), ids=BAD_REPORTS.keys())
def test_x_dsn_anything_else_is_plaintext(message: bytes) -> None:
    assert refused(message, INB, **BOUNCE).reason is RefusalReason.ENCRYPTION_NEEDED


@pytest.mark.parametrize(
    "paths",
    [
        envelope("carol@example.net", BOB),
        envelope("xmailer-daemon@example.net", BOB),
        envelope(None, BOB, "alice0001@example.org"),
        envelope(None, "someone@example.net"),
    ],
    ids=["person", "name contains", "two recipients", "remote recipient"],
)
def test_x_dsn1_wrong_envelopes(paths: Any) -> None:
    assert outcome(delivery_report(), INB, envelope=paths) == "M-01"


def test_x_dsn4_an_unsigned_report_is_refused() -> None:
    judged = refused(delivery_report(), INB, dkim=DkimResult.NONE, **BOUNCE)
    assert judged.reason is RefusalReason.NO_DKIM


def test_d11_users_never_bounce() -> None:
    message = delivery_report(sender=ALICE)
    assert outcome(message) == "M-01"
    assert outcome(message, settings={"passthrough_senders": frozenset({ALICE})}) == "M-01"


def test_x_dsn6_our_own_reports_are_exempt() -> None:
    judged = accepted(delivery_report(sender="MAILER-DAEMON@example.org"), Door.REPORT)
    assert judged == Accept(AcceptedKind.EXEMPT)


# --- lists, opt-in, setup message ----------------------------------------------------------------


def test_x_pass1_listed_sender_to_local_recipients() -> None:
    listed = {"passthrough_senders": frozenset({ALICE})}
    assert outcome(PLAIN, settings=listed) == "passthrough"
    assert outcome(PLAIN, settings={"passthrough_senders": frozenset({BOB})}) == "M-01"
    assert outcome(PLAIN) == "M-01"


def test_x_pass1_never_lets_plaintext_out_to_strangers() -> None:
    listed = {"passthrough_senders": frozenset({ALICE})}
    away = envelope(ALICE, BOB, REMOTE)
    assert outcome(PLAIN, settings=listed, envelope=away) == "M-01"
    both = {**listed, "passthrough_recipients": frozenset({REMOTE})}
    assert outcome(PLAIN, settings=both, envelope=away) == "passthrough"


@pytest.mark.parametrize(
    ("recipients", "expected"),
    [
        (["a@ex.org"], "passthrough"),
        (["a@EX.org", "exact@other.org"], "passthrough"),
        (["a@evil-ex.org"], "M-01"),
        (["a@sub.ex.org"], "M-01"),
        (["a@ex.org", "b@other.org"], "M-01"),
        (["xexact@other.org"], "M-01"),
        ([], "M-01"),
    ],
)
def test_x_pass2_every_recipient_exactly(recipients: list[str], expected: str) -> None:
    listed = {"passthrough_recipients": frozenset({"@ex.org", "exact@other.org"})}
    assert outcome(PLAIN, settings=listed, envelope=envelope(ALICE, *recipients)) == expected


def test_x_pass_not_inbound() -> None:
    listed = {
        "passthrough_recipients": frozenset({BOB}),
        "passthrough_senders": frozenset({REMOTE}),
    }
    assert outcome(remote(PLAIN), INB, settings=listed) == "M-01"


def test_x_clr_only_if_every_recipient_agrees() -> None:
    plain = remote(PLAIN)
    assert outcome(plain, INB, cleartext_recipients=CleartextRecipients.ALL) == "cleartext_opt_in"
    assert outcome(plain, INB, cleartext_recipients=CleartextRecipients.SOME) == "M-01"
    assert outcome(plain, INB) == "M-01"
    assert outcome(PLAIN, SUB, cleartext_recipients=CleartextRecipients.ALL) == "M-01"
    unsigned = {"cleartext_recipients": CleartextRecipients.ALL, "dkim": DkimResult.NONE}
    assert outcome(plain, INB, **unsigned) == "F-07"


SELF: dict[str, Any] = {"envelope": envelope(ALICE, ALICE)}
SETUP = {"allow_autocrypt_setup": True}


def test_d14_setup_message_only_if_allowed_and_to_oneself() -> None:
    assert outcome(setup_message(), **SELF) == "M-01"
    assert outcome(setup_message(), settings=SETUP, **SELF) == "passthrough"
    assert outcome(setup_message(), settings=SETUP) == "M-01"
    assert outcome(setup_message(), settings=SETUP, envelope=envelope(ALICE, ALICE, BOB)) == "M-01"


BAD_SETUPS = {
    "header": setup_message().replace(b"Message: v1", b"Message: v2"),
    "long text": setup_message().replace(b"contains", b"contains" * 600),
    "html text": setup_message().replace(b"text/plain", b"text/html"),
    "payload type": setup_message().replace(b"autocrypt-setup\r\n\r\n", b"octet-stream\r\n\r\n"),
    "public key": setup_message(armored=armor(pkesk() + seipd())),
    "two keys": setup_message(armored=armor(packet(3, skesk4_body()) * 2 + seipd())),
    "transparent": setup_message(
        armored=armor(packet(3, skesk4_body()) + packet(18, b"\x01" + b"hello " * 200))
    ),
    "armor header": setup_message().replace(b"Passphrase-Begin", b"Comment"),
    "no armor": setup_message(armored=b"hello"),
    "not closed": setup_message()[:-6],
    "encoding": setup_message().replace(
        b"setup\r\n\r\n", b"setup\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    ),
    "epilogue": setup_message() + b"hello",
    "preamble": setup_message().replace(b"\r\n\r\n\r\n--", b"\r\n\r\nhello\r\n--", 1),
}


@pytest.mark.parametrize("message", BAD_SETUPS.values(), ids=BAD_SETUPS.keys())
def test_d14_any_other_form_is_plaintext(message: bytes) -> None:
    assert outcome(message, settings=SETUP, **SELF) == "M-01"


def test_d15_append_of_anything_if_allowed() -> None:
    assert outcome(PLAIN, APPEND) == "M-01"
    assert outcome(PLAIN, APPEND, settings={"append_any": True}) == "cleartext_opt_in"
    assert outcome(make_message(), APPEND, settings={"append_any": True}) == "encrypted"
    assert outcome(PLAIN + b"\0", APPEND, settings={"append_any": True}) == "P-03"
    no_author = make_message(encrypted=False, without=["From"])
    assert outcome(no_author, APPEND, settings={"append_any": True}) == "F-02"


def test_d17_other_plaintext_is_refused_with_the_rule_that_failed() -> None:
    judged = refused(PLAIN)
    assert judged == Refuse(RefusalReason.ENCRYPTION_NEEDED, "M-01")


# --- order -------------------------------------------------------------------------------------


def test_octets_come_before_header_before_identity_before_structure() -> None:
    bad = make_message(encrypted=False, fields=[("From", REMOTE), ("Sen der", "x")])
    assert outcome(bad + b"\r\0") == "P-02"
    assert outcome(bad + b"\0") == "P-03"
    assert outcome(bad) == "H-01"
    assert outcome(bad.replace(b"Sen der", b"Sender")) == "F-03"
    assert (
        outcome(bad.replace(b"Sen der: x\r\n", b"").replace(REMOTE.encode(), ALICE.encode()))
        == "M-01"
    )


def test_size_comes_first() -> None:
    facts = scan(b"\0" * 100, max_bytes=99)
    judged = judge(facts, SUB, context(SUB))
    assert judged == Refuse(RefusalReason.TOO_BIG, "P-01")


# --- edits -------------------------------------------------------------------------------------


def test_h04_fields_are_removed_on_submission() -> None:
    names = [
        "Bcc",
        "Resent-From",
        "Resent-To",
        "DKIM-Signature",
        "Authentication-Results",
        "ARC-Seal",
        "ARC-Message-Signature",
        "Return-Path",
        "Delivered-To",
        "Received",
        "X-Originating-IP",
        "X-Mailer",
        "User-Agent",
    ]
    fields = [(name, "x") for name in names]
    edits = accepted(make_message(fields=fields)).edits
    assert set(edits) == {DeleteField(name.lower().encode()) for name in names}


def test_subject_is_replaced_on_submission_for_every_kind() -> None:
    listed = {"passthrough_senders": frozenset({ALICE})}
    subject = [("Subject", "secret")]
    for message in (
        make_message(fields=subject),
        securejoin_request(fields=subject),
        make_message(fields=subject, encrypted=False),
    ):
        assert accepted(message, settings=listed).edits == (ReplaceValue(b"subject", b"[...]"),)
    assert accepted(make_message(without=["Subject"])).edits == ()
    assert accepted(remote(make_message(fields=subject)), INB).edits == ()
    assert accepted(make_message(fields=subject), APPEND).edits == ()


def test_a_message_of_core_stays_octet_for_octet() -> None:
    message = make_message()
    facts = scan(message)
    assert facts.header is not None
    assert edit_header(facts.header, accepted(message).edits) == facts.header


def test_inbound_trace_fields_are_removed() -> None:
    fields = [("Received", "x"), ("Received", "y"), ("DKIM-Signature", "v=1"), ("User-Agent", "z")]
    fields.append(("Authentication-Results", "a"))
    edits = accepted(remote(make_message(fields=fields)), INB).edits
    assert {edit.name for edit in edits} == {
        b"received",
        b"dkim-signature",
        b"authentication-results",
    }


def test_append_edits_nothing() -> None:
    assert accepted(make_message(fields=[("Received", "x"), ("Bcc", "y")]), APPEND).edits == ()


def test_strict_outer_headers_keep_only_what_core_knows() -> None:
    fields = [("X-Note", "x"), ("Keywords", "y"), ("List-Id", "l"), ("Chat-Disposition", "c")]
    fields += [("References", "<r>"), ("Autocrypt", "a"), ("Content-Transfer-Encoding", "7bit")]
    edits = accepted(make_message(fields=fields), settings={"strict_outer_headers": True}).edits
    assert {edit.name for edit in edits} == {b"x-note", b"keywords"}
    assert accepted(make_message(fields=fields)).edits == ()


# --- facts the callers use ---------------------------------------------------------------------


def test_missing_date_and_message_id_are_told() -> None:
    facts = scan(make_message(without=["Date", "Message-ID"])).header_facts
    assert (facts.has_date, facts.has_message_id, facts.message_id) == (False, False, None)
    facts = scan(make_message(message_id="<1@localhost>")).header_facts
    assert (facts.has_date, facts.message_id) == (True, b"<1@localhost>")


# --- another implementation --------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kinds", [("rsa",), ("x25519",), ("rsa", "x25519")], ids=str)
@pytest.mark.parametrize("door", [SUB, APPEND, INB], ids=str)
def test_what_pgpy_encrypts_passes(kinds: tuple[str, ...], door: Door) -> None:
    message = make_message(body=encrypted_body(pgpy_encrypted("Hello " * 500, kinds=kinds)))
    assert outcome(remote(message) if door.is_inbound else message, door) == "encrypted"


@pytest.mark.filterwarnings("ignore")
def test_what_pgpy_signs_compresses_or_writes_plainly_does_not_pass() -> None:
    import pgpy
    from pgpy.constants import CompressionAlgorithm, SymmetricKeyAlgorithm

    literal = pgpy.PGPMessage.new("Hello", compression=CompressionAlgorithm.Uncompressed)
    squeezed = pgpy.PGPMessage.new("Hello " * 100, compression=CompressionAlgorithm.ZIP)
    signed = pgpy.PGPMessage.new("Hello", compression=CompressionAlgorithm.Uncompressed)
    signed |= pgpy_key("rsa").sign(signed)
    clear = pgpy.PGPMessage.new("Hello", cleartext=True)
    clear |= pgpy_key("rsa").sign(clear)
    for made in (literal, squeezed, signed):
        assert outcome(make_message(body=encrypted_body(crlf(str(made))))) == "O-07"
    assert outcome(make_message(body=encrypted_body(crlf(str(clear))))) == "A-10"
    key = crlf(str(pgpy_key("rsa").pubkey))
    assert outcome(make_message(body=encrypted_body(key))) == "A-10"
    secret = pgpy.PGPMessage.new("Hello").encrypt("code", cipher=SymmetricKeyAlgorithm.AES256)
    assert outcome(make_message(body=encrypted_body(crlf(str(secret))))) == "encrypted"


def test_historic_layout_passes() -> None:
    armored = armor(pkesk() + seipd())
    blank = b"\r\n\r\n"
    body = multipart(CONTROL_PART, payload_part(armored), preamble=blank, epilogue=blank)
    fields = [("Content-Type", encrypted_type() + ";"), ("Autocrypt", "addr=a@b; keydata=AAAA")]
    fields += [("In-Reply-To", "<a@b>"), ("References", "<a@b>"), ("Chat-Group-ID", "x")]
    for door in (SUB, APPEND, INB):
        message = make_message(fields=fields, body=body)
        assert outcome(remote(message) if door.is_inbound else message, door) == "encrypted"
