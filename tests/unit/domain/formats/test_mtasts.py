"""MTA-STS records and policies (RFC 8461)."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats import mtasts
from chatmail.domain.formats.mtasts import StsError, StsTerms

POLICY = (
    b"version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmax_age: 604800\n"
)


@pytest.mark.parametrize(
    ("records", "found"),
    [
        pytest.param([b"v=STSv1; id=20160831085700Z;"], "20160831085700Z", id="rfc8461-3.1"),
        pytest.param([b"v=STSv1;id=1"], "1", id="without-spaces"),
        pytest.param([b"v=STSv1; x=y; id=1;"], "1", id="unknown-field"),
        pytest.param([b"v=spf1 -all", b"v=STSv1; id=1;"], "1", id="others-beside"),
        pytest.param([b"v=STSv1; id=1;", b"v=STSv1; id=2;"], None, id="two-count-as-none"),
        pytest.param([b"v=STSv1; id=;"], None, id="empty"),
        pytest.param([b"v=STSv1; id=a-b;"], None, id="not-alphanumeric"),
        pytest.param([b"v=STSv1; id=" + b"a" * 33], None, id="too-long"),
        pytest.param([b"v=STSv1; x=y;"], None, id="no-id"),
        pytest.param([b"v=STSv2; id=1;"], None, id="other-version"),
        pytest.param([b"v=STSv1"], None, id="no-fields"),
        pytest.param([b"\xff\xfe"], None, id="noise"),
        pytest.param([], None, id="nothing"),
    ],
)
def test_the_id_of_a_record(records: list[bytes], found: str | None) -> None:
    assert mtasts.policy_id(records) == found


def test_the_policy_of_the_standard() -> None:
    terms = StsTerms("enforce", ("mail.example.com", "*.example.net"), 604800)
    assert mtasts.parse_policy(POLICY) == terms
    assert mtasts.parse_policy(POLICY.replace(b"\n", b"\r\n")) == terms


@pytest.mark.parametrize(
    ("max_age", "seconds"), [(b"0", 86400), (b"3600", 86400), (b"9999999999", 31_557_600)]
)
def test_lives_are_a_day_to_a_year(max_age: bytes, seconds: int) -> None:
    octets = POLICY.replace(b"604800", max_age)
    assert mtasts.parse_policy(octets).max_age_s == seconds


def test_none_needs_no_host_and_unknown_fields_are_ignored() -> None:
    octets = b"version: STSv1\nfoo: bar\nmode: none\nmode: enforce\nmax_age: 86400\n"
    assert mtasts.parse_policy(octets) == StsTerms("none", (), 86400)


def test_hosts_that_are_none_are_left_out() -> None:
    octets = POLICY.replace(b"mx: mail.example.com", b"mx: a..b\nmx:\nmx: MAIL.example.com.")
    assert mtasts.parse_policy(octets).mx == ("mail.example.com", "*.example.net")


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        POLICY.replace(b"STSv1", b"STSv2"),
        POLICY.replace(b"enforce", b"maybe"),
        POLICY.replace(b"mx:", b"my:"),
        POLICY.replace(b"max_age: 604800", b""),
        POLICY.replace(b"604800", b"-1"),
        POLICY.replace(b"604800", b"1" * 11),
        POLICY + b"x" * 65536,
        b"<html>404</html>",
    ],
)
def test_what_is_no_policy(octets: bytes) -> None:
    with pytest.raises(StsError):
        mtasts.parse_policy(octets)


@given(st.binary(max_size=300))
def test_any_octets_are_a_policy_or_none(octets: bytes) -> None:
    with suppress(StsError):
        mtasts.parse_policy(POLICY + octets)


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("mail.example.com", True),
        ("other.example.com", False),
        ("a.example.net", True),
        ("a.b.example.net", False),
        ("example.net", False),
        ("net", False),
    ],
)
def test_a_star_stands_for_one_label(host: str, is_allowed: bool) -> None:
    assert mtasts.allows_host(("mail.example.com", "*.example.net"), host) is is_allowed


def test_ours_reads_back() -> None:
    octets = mtasts.render_policy(["mx.relay.test"])
    assert octets == (
        b"version: STSv1\r\nmode: enforce\r\nmx: mx.relay.test\r\nmax_age: 2419200\r\n"
    )
    assert mtasts.parse_policy(octets) == StsTerms("enforce", ("mx.relay.test",), 2419200)
    assert mtasts.policy_id([mtasts.render_record("202611211200").encode()]) == "202611211200"
