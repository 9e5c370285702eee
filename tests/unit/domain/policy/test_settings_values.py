"""Texts of settings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.policy.settings_table import BY_KEY, RULES, Kind, SettingRule
from chatmail.domain.policy.settings_values import accept, read_stored, show


def rule(key: str) -> SettingRule:
    return BY_KEY[f"__{key}__"]


@pytest.mark.parametrize(
    ("key", "text", "stored"),
    [
        ("REGISTRATION_OPEN", "Yes", "true"),
        ("REGISTRATION_OPEN", "disabled", "false"),
        ("MAX_MESSAGE_SIZE", "1G 512M", "1536M"),
        ("GLOBAL_DEFAULT", "1G", "1073741824"),
        ("GLOBAL_DEFAULT", "1048576", "1048576"),
        ("REGISTRATION_MIN_AVAILABLE_MEMORY", "0", "0"),
        ("MESSAGE_RETENTION", "1d12h", "1d12h"),
        ("RETENTION_LARGE", "off", "0s"),
        ("RETENTION_LARGE", "604800", "7d"),
        ("LIMITS_SEND_BURST", " 5 ", "5"),
        ("REGISTRATION_MAX_LOAD_1M", "2.5", "2.5"),
        ("REGISTRATION_MAX_LOAD_1M", "123456789.25", "123456789.25"),
        ("REGISTRATION_MAX_LOAD_1M", "0", "0"),
        ("RETENTION_QUOTA_TRIM_HIGH", "80%", "80"),
        ("SMTP_PORT", "2525", "2525"),
        ("LANGUAGE", "FA", "fa"),
        ("FEDERATION_POLICY", "REJECT", "reject"),
        ("SMTP_HOSTNAME", "mail.relay.example", "mail.relay.example"),
        ("TURN_RELAY_IP", "[2001:db8::1]", "2001:db8::1"),
        ("TURN_SECRET", "a+b/c==", "a+b/c=="),
        ("WEBMAIL_CORS_ORIGINS", "https://a.example, *", "https://a.example\n*"),
        (
            "WEBMAIL_CORS_ORIGINS",
            "https://a.example\nhttp://b:8080",
            "https://a.example\nhttp://b:8080",
        ),
    ],
)
def test_what_is_written_is_stored_in_one_form(key: str, text: str, stored: str) -> None:
    assert accept(rule(key), text) == stored
    assert accept(rule(key), stored) == stored


@pytest.mark.parametrize(
    ("key", "text", "problem"),
    [
        ("REGISTRATION_OPEN", "perhaps", "true or false"),
        ("REGISTRATION_OPEN", "  ", "is empty"),
        ("MAX_MESSAGE_SIZE", "31457280", "not a size"),
        ("MAX_MESSAGE_SIZE", "0", "below 1"),
        ("MAX_MESSAGE_SIZE", "9999999999999G", "too large"),
        ("GLOBAL_DEFAULT", "0", "below 1"),
        ("MESSAGE_RETENTION", "0", "below 1"),
        ("MESSAGE_RETENTION", "999999999d", "hundred years"),
        ("LIMITS_SEND_BURST", "-1", "whole number"),
        ("LIMITS_SEND_BURST", "1.5", "whole number"),
        ("LIMITS_SEND_BURST", "9" * 20, "whole number"),
        ("REGISTRATION_MAX_LOAD_1M", "nan", "not a number"),
        ("RETENTION_QUOTA_TRIM_LOW", "101", "100 percent"),
        ("SMTP_PORT", "0", "must be 1-65535"),
        ("SMTP_PORT", "65536", "must be 1-65535"),
        ("SMTP_PORT", "smtp", "must be 1-65535"),
        ("TURN_TTL", "0", "below 1"),
        ("LANGUAGE", "de", "none of en, fa, es, ru, auto"),
        ("SMTP_HOSTNAME", "mail relay", "invalid characters"),
        ("SMTP_HOSTNAME", "mail\nrelay", "invalid characters"),
        ("SMTP_HOSTNAME", "a" * 254, "longer than 253"),
        ("TURN_RELAY_IP", "256.1.1.1", "not an IP address"),
        ("TURN_SECRET", 'a"b', "invalid characters"),
        ("TURN_SECRET", "a b", "invalid characters"),
        ("WEBMAIL_CORS_ORIGINS", "https://a.example/path", "origin"),
        ("WEBMAIL_CORS_ORIGINS", "x" * 5000, "longer than 4096"),
    ],
)
def test_what_means_nothing_is_refused_with_a_reason(key: str, text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        accept(rule(key), text)


def test_more_is_forgiven_to_what_is_stored() -> None:
    """Other versions wrote octets without a unit, and cleared ports by 0 or nothing."""
    assert read_stored(rule("MAX_MESSAGE_SIZE"), "31457280") == 31457280
    assert read_stored(rule("SMTP_PORT"), "0") is None
    assert read_stored(rule("SMTP_PORT"), " ") is None
    with pytest.raises(ValueError, match="1-65535"):
        read_stored(rule("SMTP_PORT"), "many")


@given(st.sampled_from(RULES), st.text(max_size=40))
def test_any_text_is_accepted_or_refused_in_one_line(one: SettingRule, text: str) -> None:
    try:
        stored = accept(one, text)
    except ValueError as refused:
        problem: str | None = str(refused)
    else:
        problem = None
        value = read_stored(one, stored)
        assert value is not None
        assert show(one, value) == stored
        assert "\n" not in stored or one.kind is Kind.ORIGINS
    assert "\n" not in (problem or "")
