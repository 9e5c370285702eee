from __future__ import annotations

import itertools

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.settings import IdentitySettings, RegistrationSettings
from chatmail.domain.policy.registration import (
    NAME_ALPHABET,
    PASSWORD_ALPHABET,
    Attempt,
    CreationRefusal,
    draw_name,
    draw_password,
    is_jit_effective,
    judge_attempt,
    judge_name,
    judge_password,
    new_address,
    normalise_login,
)
from tests.unit.fakes.system import FakeEntropy

RELAY = RegistrationSettings()
MADMAIL = RegistrationSettings(username_min=8, username_max=20, password_min=8)
ANY = RegistrationSettings(username_min=1, username_max=64)
NAMED = IdentitySettings(
    mail_domain="relay.test",
    local_domains=frozenset({"relay.test", "other.test"}),
    hostname="relay.test",
)
LITERAL = IdentitySettings(
    mail_domain="[1.2.3.4]", local_domains=frozenset({"[1.2.3.4]"}), hostname="1.2.3.4"
)
ALICE = EmailAddress("alicealic", "relay.test")


@pytest.mark.parametrize(
    ("is_open", "jit", "token", "host"), list(itertools.product([True, False], repeat=4))
)
def test_truth_table_of_creation(is_open: bool, jit: bool, token: bool, host: bool) -> None:
    settings = RegistrationSettings(is_open=is_open, jit=jit, require_token=token)
    refusal = "load" if host else None

    def allowed(attempt: Attempt) -> bool:
        return judge_attempt(attempt, settings, refusal) is None

    assert allowed(Attempt.FIRST_LOGIN) == (jit and not token and not host)
    assert allowed(Attempt.NEW) == (is_open and not token and not host)
    assert allowed(Attempt.NEW_WITH_TOKEN) == (not host)
    assert allowed(Attempt.ADMIN)
    assert is_jit_effective(settings) == (jit and not token)


def test_missing_token_is_named_before_closed_registration() -> None:
    settings = RegistrationSettings(is_open=False, require_token=True)
    assert judge_attempt(Attempt.NEW, settings, "disk") is CreationRefusal.TOKEN_REQUIRED


@pytest.mark.parametrize("name", ["abcdefghi", "a.b-c_d12", "123456789", "a-------b"])
def test_good_names_by_default_profile(name: str) -> None:
    assert judge_name(name, RELAY) is None


@pytest.mark.parametrize(
    "name",
    [
        "abcdefgh",
        "abcdefghij",
        "",
        "Abcdefghi",
        "abc/efghi",
        "abc efghi",
        "-bcdefghi",
        "abcdefgh.",
        "_bcdefghi",
        "abc..efgh",
        "abc+efghi",
        "äbcdefghi",
        "abcdefgh\n",
    ],
)
def test_bad_names_by_default_profile(name: str) -> None:
    assert judge_name(name, RELAY) is CreationRefusal.NAME


def test_other_profile_takes_8_to_20_characters() -> None:
    assert judge_name("a" * 7, MADMAIL) is CreationRefusal.NAME
    assert judge_name("a" * 8, MADMAIL) is None
    assert judge_name("a" * 20, MADMAIL) is None
    assert judge_name("a" * 21, MADMAIL) is CreationRefusal.NAME


# Spec policy 2.3, word for word.
RESERVED = (
    "admin administrator root postmaster hostmaster webmaster abuse security noc support info "
    "mailer-daemon mail-daemon daemon nobody noreply no-reply bounce bounces autoconfig "
    "autodiscover mta-sts www ssladmin sslwebmaster"
)


@pytest.mark.parametrize("name", RESERVED.split())
def test_reserved_names_cannot_be_created(name: str) -> None:
    assert judge_name(name, ANY) is CreationRefusal.RESERVED


def test_nine_letter_webmaster_is_reserved_by_default() -> None:
    assert judge_name("webmaster", RELAY) is CreationRefusal.RESERVED


def test_names_of_settings_rows_cannot_be_created() -> None:
    assert judge_name("__setting", ANY) is CreationRefusal.NAME


def test_operator_can_block_more_names() -> None:
    settings = attrs.evolve(RELAY, blocked_localparts=frozenset({"forbidden"}))
    assert judge_name("forbidden", settings) is CreationRefusal.RESERVED


@pytest.mark.parametrize(
    "password",
    [
        pytest.param(b"12345abcd", id="nine-characters"),
        pytest.param(b"abcdefghijklmnopqrstuv", id="core-22"),
        pytest.param(b"abcdefghijklmnopqrstuvw", id="core-23"),
        pytest.param(b'a"b\\c d{}%', id="quotes-and-backslash"),
        pytest.param("пароль-длинный".encode(), id="utf-8"),
        pytest.param(b"abcde" + b"x" * 251, id="256-octets"),
    ],
)
def test_good_passwords(password: bytes) -> None:
    assert judge_password(password, ALICE, RELAY) is None


@pytest.mark.parametrize(
    "password",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"12345abc", id="eight-characters"),
        pytest.param("пароль".encode(), id="six-characters-in-twelve-octets"),
        pytest.param(b"abcde" + b"x" * 252, id="257-octets"),
        pytest.param(b"abcabcabcabc", id="three-distinct"),
        pytest.param(b"aaaabbbbccccdddd", id="four-distinct"),
        pytest.param(b"alicealic", id="equals-name"),
        pytest.param(b"AliceAlic@Relay.Test", id="equals-address"),
        pytest.param(b"\xff\xfeabcdefghij", id="no-utf-8"),
    ],
)
def test_bad_passwords(password: bytes) -> None:
    assert judge_password(password, ALICE, RELAY) is CreationRefusal.PASSWORD


@given(st.integers(0, 2**32))
def test_drawn_credentials_are_accepted(seed: int) -> None:
    draw = FakeEntropy(seed).text
    name, password = draw_name(draw, RELAY), draw_password(draw, RELAY)
    assert len(name) == 9
    assert set(name) <= set(NAME_ALPHABET)
    assert len(password) == 22
    assert set(password) <= set(PASSWORD_ALPHABET)
    assert judge_name(name, RELAY) is None
    assert judge_password(password.encode(), new_address(name, NAMED), RELAY) is None


def test_drawn_names_skip_reserved_and_blocked_ones() -> None:
    draws = iter(["webmaster", "forbidden", "allowed99"])
    settings = attrs.evolve(RELAY, blocked_localparts=frozenset({"forbidden"}))
    assert draw_name(lambda _alphabet, _length: next(draws), settings) == "allowed99"


def test_drawn_passwords_are_never_below_the_minimum() -> None:
    settings = attrs.evolve(RELAY, password_length=5, password_min=30)
    assert len(draw_password(FakeEntropy().text, settings)) == 30


def test_drawn_passwords_with_too_few_characters_are_drawn_again() -> None:
    draws = iter(["aaaaaaaaa", "abcdefghi"])
    assert draw_password(lambda _alphabet, _length: next(draws), RELAY) == "abcdefghi"


@pytest.mark.parametrize(
    ("login", "expected"),
    [
        ("Alice@Relay.TEST", "alice@relay.test"),
        ("alice", "alice@relay.test"),
        ("alice@other.test", "alice@other.test"),
        ("alice@relay.test.", "alice@relay.test"),
        ("alice@relay.test\r\n", "alice@relay.test"),
        ("alice@foreign.test", None),
        ("alice@@relay.test", None),
        ("x@y@relay.test", None),
        ("a%40b@relay.test", None),
        ("alice%40relay.test", None),
        (" alice@relay.test", None),
        ("alice@relay.test\r\n\r\n", None),
        ("alice\x00@relay.test", None),
        ("", None),
        ("@relay.test", None),
        ("alice@", None),
        ("älice@relay.test", None),
        ("a" * 400, None),
    ],
)
def test_login_names_are_normalised_or_refused(login: str, expected: str | None) -> None:
    address = normalise_login(login, NAMED)
    assert (str(address) if address else None) == expected


@pytest.mark.parametrize("login", ["u@1.2.3.4", "u@[1.2.3.4]", "U@1.2.3.4", "u"])
def test_literal_relay_takes_both_spellings(login: str) -> None:
    assert normalise_login(login, LITERAL) == EmailAddress("u", "[1.2.3.4]")


def test_u_label_and_a_label_are_one_domain() -> None:
    identity = attrs.evolve(
        NAMED, mail_domain="xn--mller-kva.test", local_domains=frozenset({"xn--mller-kva.test"})
    )
    expected = EmailAddress("u", "xn--mller-kva.test")
    assert normalise_login("u@Müller.test", identity) == expected
    assert normalise_login("u@xn--mller-kva.test", identity) == expected


@given(st.text(max_size=60))
def test_any_login_text_is_an_address_or_nothing(login: str) -> None:
    address = normalise_login(login, NAMED)
    assert address is None or address.domain in NAMED.local_domains
