"""Plaintext that passes: Secure-Join, lists, opt-in, setup messages."""

from __future__ import annotations

from typing import Any

import pytest

from chatmail.domain.model.message import DeleteField, Door
from chatmail.domain.model.verdict import RefusalReason, Refuse
from chatmail.domain.policy.encryption_gate import CleartextRecipients, DkimResult
from tests.builders import (
    ALICE,
    BOB,
    armor,
    envelope,
    make_message,
    multipart,
    packet,
    part,
    pkesk,
    securejoin_request,
    seipd,
    setup_message,
    skesk4_body,
)
from tests.unit.domain.policy.judging import APPEND, INB, PLAIN, SUB, accepted, refused, remote
from tests.unit.domain.scanning import REMOTE, outcome

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
