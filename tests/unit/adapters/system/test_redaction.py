from __future__ import annotations

import enum

import pytest

from chatmail.adapters.system.redaction import (
    REDACTED,
    PeerAddress,
    Pseudonyms,
    Public,
    Redactor,
    exception_place,
)
from chatmail.domain.model.address import AddressError, EmailAddress, normalise_domain
from chatmail.domain.model.verdict import RefusalReason
from tests.unit.fakes.system import FakeClock, FakeEntropy

ALICE = EmailAddress("alice", "relay.test")


def make(clock: FakeClock | None = None, **settings: bool) -> Redactor:
    return Redactor(pseudonyms=Pseudonyms(clock or FakeClock(), FakeEntropy()), **settings)


class Odd(enum.Enum):
    SECRET = "alice@relay.test"


@pytest.mark.parametrize(
    "value",
    [0, 17, -1, 2.5, True, None, "not_owner", "overloaded", "imap", "FETCH", "UID FETCH", "O-20"],
)
def test_numbers_and_words_of_our_code_pass(value: object) -> None:
    assert make().plain(value) == value


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("alice@relay.test", id="address"),
        pytest.param("<alice@relay.test>", id="path"),
        pytest.param("alice@[1.2.3.4]", id="literal-address"),
        pytest.param("1.2.3.4", id="ipv4"),
        pytest.param("1.2.3.4:993", id="ipv4-port"),
        pytest.param("2001:db8::1", id="ipv6"),
        pytest.param("::1", id="ipv6-short"),
        pytest.param("host-1-2-3-4.isp.example", id="reverse-name"),
        pytest.param("x7k2m9q4z", id="drawn-name"),
        pytest.param("Wb3kQz9pLm2xYv7tRn4sCd", id="drawn-password"),
        pytest.param("correct horse battery", id="phrase"),
        pytest.param("AGFsaWNlQHJlbGF5LnRlc3QAcGFzcw==", id="sasl"),
        pytest.param("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA", id="hash"),
        pytest.param("0123456789abcdef" * 4, id="token"),
        pytest.param("openpgp:wcBMA5", id="push-token"),
        pytest.param("Subject: hello", id="header"),
        pytest.param("<abc.def@localhost>", id="message-id"),
        pytest.param("a" * 41, id="long-word"),
        pytest.param("two\nlines", id="line-end"),
        pytest.param("", id="empty"),
        pytest.param(b"octets", id="octets"),
        pytest.param({"key": "value"}, id="dict"),
        pytest.param(object(), id="object"),
        pytest.param(Odd.SECRET, id="enum-of-text"),
        pytest.param(PeerAddress("192.0.2.77"), id="peer"),
    ],
)
def test_everything_else_becomes_a_mark(value: object) -> None:
    assert make().plain(value) == REDACTED


def test_enum_members_pass_as_their_values() -> None:
    assert make().plain(RefusalReason.OVER_QUOTA) == "over_quota"


def test_lists_are_judged_item_by_item_and_bounded() -> None:
    assert make().plain(("imap", "alice@relay.test", 3)) == ["imap", REDACTED, 3]
    assert make().plain(range(3)) == REDACTED
    assert len(make().plain(list(range(1000)))) == 16  # type: ignore[arg-type]


def test_marked_text_passes_on_one_line() -> None:
    assert make().plain(Public("127.0.0.1:2525")) == "127.0.0.1:2525"
    assert make().plain(Public("a\nb\x1b[0m")) == "a?b?[0m"


def test_addresses_are_8_hexadecimal_digits_that_change_daily() -> None:
    clock = FakeClock()
    redactor = make(clock)
    first = redactor.plain(ALICE)
    assert isinstance(first, str)
    assert len(first) == 8
    assert set(first) <= set("0123456789abcdef")
    assert redactor.plain(ALICE) == first
    assert redactor.plain(EmailAddress("bob", "relay.test")) != first
    clock.advance(86400)
    assert redactor.plain(ALICE) != first


def test_pseudonyms_are_keyed_by_the_process() -> None:
    clock = FakeClock()
    one, other = (Pseudonyms(clock, FakeEntropy(seed)).of(ALICE) for seed in (1, 2))
    assert one != other


def test_operator_may_have_no_pseudonyms() -> None:
    assert make(names_addresses=False).plain(ALICE) == REDACTED


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("nonsense", REDACTED),
    ],
)
def test_at_most_a_network_is_shown(host: str, expected: str) -> None:
    assert make(shows_networks=True).plain(PeerAddress(host)) == expected
    assert "192.0.2.77" not in repr(PeerAddress("192.0.2.77"))


def fail(secret: str) -> None:
    raise ValueError(f"leaks {secret}")


def test_exceptions_are_type_and_place_without_text() -> None:
    with pytest.raises(ValueError, match="leaks") as caught:
        fail("alice@relay.test")
    place = exception_place(caught.value)
    assert place.startswith("ValueError at ")
    assert place.rpartition(":")[2].isdecimal()
    assert "alice" not in place


def test_place_is_the_innermost_one_of_ours() -> None:
    with pytest.raises(AddressError) as caught:
        normalise_domain.__wrapped__("a..b")
    place = exception_place(caught.value)
    assert place.startswith("AddressError at chatmail.domain.model.address:")
    caught.value.__traceback__ = None
    assert exception_place(caught.value) == "AddressError"


def test_groups_name_their_first_leaves() -> None:
    group = ExceptionGroup(
        "secret", [ValueError("a"), ExceptionGroup("b", [OSError("c"), KeyError("d")])]
    )
    assert make().plain(group) == "ExceptionGroup(3): ValueError; OSError; KeyError"
