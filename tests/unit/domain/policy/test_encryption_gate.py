"""The judgement: identity, DKIM, hops, the order of the rules, what callers are told."""

from __future__ import annotations

import pytest

from chatmail.domain.model.message import Door
from chatmail.domain.model.verdict import RefusalReason, Refuse
from chatmail.domain.policy.encryption_gate import (
    DkimResult,
    effective_reverse_path,
    judge,
    needs_dkim,
)
from tests.builders import (
    ALICE,
    BOB,
    CONTROL_PART,
    address,
    armor,
    crlf,
    delivery_report,
    encrypted_body,
    encrypted_type,
    envelope,
    make_message,
    multipart,
    payload_part,
    pgpy_encrypted,
    pgpy_key,
    pkesk,
    securejoin_request,
    seipd,
)
from tests.unit.domain.policy.judging import APPEND, INB, PLAIN, SUB, accepted, refused, remote
from tests.unit.domain.scanning import REMOTE, context, outcome, scan

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
