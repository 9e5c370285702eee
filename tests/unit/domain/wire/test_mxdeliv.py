from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.federation import HopFault, RecipientFate
from chatmail.domain.wire.mxdeliv import (
    MAX_RECEIVED_RECIPIENTS,
    Answer,
    MxdelivFieldError,
    header_fields,
    judge_answer,
    parse_recipients,
    parse_sender,
    requests,
)

DELIVERED, TEMPORARY, PERMANENT = RecipientFate


def rcpt(name: str, domain: str = "peer.example") -> EmailAddress:
    return EmailAddress(name, domain)


# --- requests ------------------------------------------------------------------------------------


def test_at_most_fifty_recipients_in_one_request() -> None:
    """A4.1."""
    everyone = [rcpt(f"u{number}") for number in range(120)]
    batches = list(requests(everyone))
    assert [len(batch) for batch in batches] == [50, 50, 20]
    assert [recipient for batch in batches for recipient in batch] == everyone


def test_at_most_six_kib_of_recipient_fields_in_one_request() -> None:
    """A4.1."""
    everyone = [rcpt("u" * 60 + str(number), "d" * 60 + ".example") for number in range(60)]
    batches = list(requests(everyone))
    assert len(batches) > 1
    for batch in batches:
        fields = header_fields("h", None, batch, 0, "ua")
        octets = sum(len(n) + len(v) + 4 for n, v in fields if n == b"X-Mail-To")
        assert octets <= 6 * 1024
    assert [recipient for batch in batches for recipient in batch] == everyone


def test_a_peer_that_takes_one_gets_one_a_request() -> None:
    everyone = [EmailAddress(f"u{number}", "peer.test") for number in range(3)]
    assert list(requests(everyone, 1)) == [(one,) for one in everyone]


def test_no_recipients_no_request() -> None:
    assert list(requests([])) == []


def test_fields_of_a_request() -> None:
    """A4: one field per recipient, a length and never chunks."""
    fields = header_fields(
        "peer.example:8443", rcpt("alice", "[127.0.0.1]"), [rcpt("bob"), rcpt("carol")], 42, "cm/1"
    )
    assert fields == [
        (b"Host", b"peer.example:8443"),
        (b"X-Mail-From", b"alice@[127.0.0.1]"),
        (b"X-Mail-To", b"bob@peer.example"),
        (b"X-Mail-To", b"carol@peer.example"),
        (b"Content-Type", b"message/rfc822"),
        (b"Content-Length", b"42"),
        (b"User-Agent", b"cm/1"),
    ]


def test_the_null_sender_is_an_empty_value() -> None:
    assert (b"X-Mail-From", b"") in header_fields("h", None, [rcpt("bob")], 1, "ua")


# --- answers -------------------------------------------------------------------------------------


def judged(
    status: int, head: bytes = b"", content_type: str = "text/plain", retry_after: str = ""
) -> tuple[RecipientFate | HopFault | None, str, float | None]:
    judgement = judge_answer(
        Answer(
            status=status,
            head=head,
            content_type=content_type,
            retry_after=retry_after,
            date="Sun, 06 Nov 1994 08:49:37 GMT",
        )
    )
    assert (judgement.fate is None) != (judgement.fault is None)
    return judgement.fate or judgement.fault, judgement.reply, judgement.retry_after_s


@pytest.mark.parametrize("status", [200, 201, 202, 204])
@pytest.mark.parametrize(
    ("head", "content_type"),
    [(b"", ""), (b"OK", "text/plain"), (b"250 2.0.0 OK\r\n", "text/plain"), (b"{}", "x/json")],
)
def test_plausible_success_is_a_delivery(status: int, head: bytes, content_type: str) -> None:
    """A4.5."""
    fate, reply, _ = judged(status, head, content_type)
    assert fate is DELIVERED
    assert reply.startswith("250 2.0.0 ")


@pytest.mark.parametrize(
    ("status", "head", "content_type"),
    [
        pytest.param(200, b"", "text/html", id="html"),
        pytest.param(200, b"OK", "Text/HTML; charset=utf-8", id="html-with-charset"),
        pytest.param(200, b"<!doctype html>", "", id="page-without-type"),
        pytest.param(200, b" \r\n\t<html>", "text/plain", id="page-as-text"),
        pytest.param(203, b"OK", "text/plain", id="203"),
        pytest.param(206, b"OK", "text/plain", id="206"),
        pytest.param(301, b"", "", id="301"),
        pytest.param(302, b"", "", id="302"),
        pytest.param(304, b"", "", id="304"),
        pytest.param(307, b"250 2.0.0 OK", "", id="307"),
        pytest.param(308, b"", "", id="308"),
        pytest.param(404, b"not found", "text/plain", id="404"),
        pytest.param(404, b"<html>550 no", "text/html", id="404-page"),
        pytest.param(405, b"", "", id="405"),
        pytest.param(501, b"", "", id="501"),
    ],
)
def test_web_sites_are_not_relays(status: int, head: bytes, content_type: str) -> None:
    """A4.4, A4.5, A4.7: a landing page's 200 is not a delivery, a redirect is not followed."""
    assert judged(status, head, content_type)[0] is HopFault.UNSUPPORTED


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 422, 451, 501])
def test_smtp_text_in_a_refusal_counts(status: int) -> None:
    """A4.7."""
    assert judged(status, b"554 5.7.1 No DKIM signature found\n") == (
        PERMANENT,
        "554 5.7.1 No DKIM signature found",
        None,
    )
    assert judged(status, b"450 4.7.1 slow down")[:2] == (TEMPORARY, "450 4.7.1 slow down")


def test_the_replys_form_is_repaired() -> None:
    assert judged(400, b"550 5.5.0 x\x00y")[1] == "550 5.0.0 x y"


@pytest.mark.parametrize(
    ("status", "head", "reply"),
    [
        (400, b"bad request", "450 4.0.0 HTTP 400: bad request"),
        (401, b"", "450 4.0.0 HTTP 401: Request refused"),
        (403, b"Forbidden", "550 5.7.1 HTTP 403: Forbidden"),
        (403, b"Encryption Needed\nmore", "550 5.7.1 HTTP 403: Encryption Needed"),
        (418, b"<html>", "450 4.0.0 HTTP 418: Request refused"),
        (400, b"250 2.0.0 OK", "450 4.0.0 HTTP 400: 250 2.0.0 OK"),
    ],
)
def test_a_refusal_without_smtp_text_is_unclear(status: int, head: bytes, reply: str) -> None:
    """A4.7: SMTP is asked; if it cannot be, `reply` holds: permanent for 403 alone."""
    assert judged(status, head)[:2] == (HopFault.UNCLEAR, reply)


@pytest.mark.parametrize("head", [b"", b"552 5.3.4 too big", b"<html>", b"451 odd"])
def test_too_large_is_permanent(head: bytes) -> None:
    fate, reply, _ = judged(413, head)
    assert fate is PERMANENT
    assert reply.startswith("552 5.3.4 ")


def test_a_full_mailbox_is_temporary_and_not_for_a_minute() -> None:
    fate, reply, patience = judged(507, b"")
    assert (fate, patience) == (TEMPORARY, 900.0)
    assert reply.startswith("452 4.2.2 ")
    assert judged(507, b"", retry_after="1800")[2] == 1800.0
    assert judged(507, b"", retry_after="5")[2] == 900.0


@pytest.mark.parametrize("status", [429, 503])
def test_busy_peers_are_left_alone(status: int) -> None:
    fault, reply, patience = judged(status, b"", retry_after="30")
    assert (fault, patience) == (HopFault.BUSY, 30.0)
    assert reply[0] == "4"
    assert judged(status, b"451 4.7.5 DNS trouble")[1] == "451 4.7.5 DNS trouble"
    assert judged(429, b"450 4.2.0 x")[1] == "450 4.7.1 HTTP 429: 450 4.2.0 x"
    assert judged(503, b"450 4.2.0 x")[1] == "450 4.2.0 x"
    assert judged(status, b"550 5.7.1 no")[1][0] == "4"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("999999", 3600.0),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("Mon, 07 Nov 1994 08:49:37 GMT", 3600.0),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("9" * 30, None),
    ],
)
def test_retry_after_is_honoured_up_to_an_hour(value: str, seconds: float | None) -> None:
    assert judged(429, retry_after=value)[2] == seconds


@pytest.mark.parametrize("status", [500, 502, 504, 505, 520, 599, 100, 199, 600, 999])
def test_server_errors_are_broken(status: int) -> None:
    """A4.7: SMTP now."""
    assert judged(status, b"550 5.1.1 no")[0] is HopFault.BROKEN


@given(
    st.integers(0, 999),
    st.binary(max_size=60) | st.sampled_from([b"550 x", b"450", b"<a"]),
    st.text(max_size=20),
    st.text(max_size=40),
    st.text(max_size=40),
)
def test_every_answer_has_one_meaning(
    status: int, head: bytes, content_type: str, retry_after: str, date: str
) -> None:
    judgement = judge_answer(
        Answer(
            status=status, head=head, content_type=content_type, retry_after=retry_after, date=date
        )
    )
    assert (judgement.fate is None) != (judgement.fault is None)
    assert (judgement.fate is DELIVERED) == (judgement.reply[0] == "2")
    assert judgement.fate is not DELIVERED or status in (200, 201, 202, 204)
    assert len(judgement.reply) <= 300
    assert judgement.reply.isprintable()
    assert judgement.reply.isascii()


# --- the server's side ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["bob@peer.example"], ["bob@peer.example"]),
        (["<bob@peer.example>"], ["bob@peer.example"]),
        (["a@x.example", "b@x.example"], ["a@x.example", "b@x.example"]),
        (
            ["a@x.example, b@x.example,", "c@x.example"],
            ["a@x.example", "b@x.example", "c@x.example"],
        ),
        (["A@X.example", "a@x.example"], ["a@x.example"]),
        ([" bob@1.2.3.4\t"], ["bob@[1.2.3.4]"]),
        (["bob@[1.2.3.4]"], ["bob@[1.2.3.4]"]),
    ],
)
def test_recipients_come_in_many_forms(values: list[str], expected: list[str]) -> None:
    """B2.3."""
    assert [str(recipient) for recipient in parse_recipients(values)] == expected


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([], id="missing"),
        pytest.param([""], id="empty"),
        pytest.param([" , "], id="commas"),
        pytest.param(["<>"], id="null"),
        pytest.param(["bob"], id="no-domain"),
        pytest.param(["<<bob@peer.example>>"], id="two-pairs"),
        pytest.param(["bob@peer.example\r\nX: y"], id="control"),
        pytest.param(["b\x7fob@peer.example"], id="delete"),
        pytest.param(["b" * 320 + "@peer.example"], id="long"),
        pytest.param(["bob@peer.example", "nonsense"], id="one-of-two"),
        pytest.param(
            [f"u{number}@peer.example" for number in range(MAX_RECEIVED_RECIPIENTS + 1)], id="many"
        ),
        pytest.param(["a@b.example," * (MAX_RECEIVED_RECIPIENTS + 1)], id="many-the-same"),
    ],
)
def test_unusable_recipients_are_refused(values: list[str]) -> None:
    """B2.3, B2.4: 400."""
    with pytest.raises(MxdelivFieldError):
        parse_recipients(values)


def test_a_hundred_recipients_pass() -> None:
    values = [f"u{number}@peer.example" for number in range(MAX_RECEIVED_RECIPIENTS)]
    assert len(parse_recipients(values)) == MAX_RECEIVED_RECIPIENTS


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["alice@peer.example"], "alice@peer.example"),
        (["<alice@peer.example>"], "alice@peer.example"),
        ([""], None),
        (["<>"], None),
        (["  "], None),
    ],
)
def test_the_sender_may_be_null(values: list[str], expected: str | None) -> None:
    """B2.3: present but empty is the null sender."""
    sender = parse_sender(values)
    assert (str(sender) if sender else None) == expected


@pytest.mark.parametrize(
    "values", [[], ["a@x.example", "b@x.example"], ["nonsense"], ["a@x\n"], ["a" * 321]]
)
def test_a_missing_or_odd_sender_is_refused(values: list[str]) -> None:
    with pytest.raises(MxdelivFieldError):
        parse_sender(values)


def test_errors_repeat_nothing() -> None:
    with pytest.raises(MxdelivFieldError) as caught:
        parse_recipients(["secret@@peer.example"])
    assert "secret" not in str(caught.value)


@given(st.lists(st.text(max_size=30), max_size=4))
def test_what_is_sent_is_what_is_read(values: list[str]) -> None:
    try:
        recipients = parse_recipients(values)
    except MxdelivFieldError:
        return
    assert all(str(recipient).isascii() for recipient in recipients)
