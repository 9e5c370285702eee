"""What stored settings change."""

from __future__ import annotations

import pytest

from chatmail.domain.model.settings import SettingValue
from chatmail.domain.policy.settings_rules import Overrides, overrides, unknown_keys

FILE: dict[str, SettingValue] = {
    "limits.max_message_size": 30 << 20,
    "retention.messages": 20 * 86400.0,
}


def changed(_file: dict[str, SettingValue] | None = None, **stored: str) -> Overrides:
    file = FILE if _file is None else _file
    return overrides({f"__{key}__": text for key, text in stored.items()}, file.__getitem__)


def test_nothing_stored_changes_nothing() -> None:
    assert changed() == Overrides(
        values={},
        ports={},
        local_only=frozenset(),
        closed=frozenset(),
        log_disabled=False,
        bad=(),
    )


def test_a_stored_text_becomes_a_typed_value_of_the_file() -> None:
    found = changed(
        REGISTRATION_OPEN="no",
        LIMITS_SEND_BURST="5",
        GLOBAL_DEFAULT="1048576",
        RETENTION_LARGE="1d",
        LANGUAGE="fa",
        MAX_FEDERATION_SIZE="50M",
    )
    assert found.values == {
        "registration.open": False,
        "limits.send_burst": 5,
        "limits.max_mailbox_size": 1048576,
        "retention.large": 86400.0,
        "web.language": "fa",
        "limits.max_federation_size": 50 << 20,
    }


def test_a_bad_text_is_told_and_changes_nothing() -> None:
    found = changed(LIMITS_SEND_BURST="many", LIMITS_MAX_RECIPIENTS="7")
    assert found.values == {"limits.max_recipients": 7}
    assert [(bad.key, bad.problem) for bad in found.bad] == [
        ("__LIMITS_SEND_BURST__", "is not a whole number, 0 or more")
    ]


def test_an_unknown_word_in_a_stored_switch_reads_as_false() -> None:
    """Spec admin 1.6; and it is told."""
    found = changed(REGISTRATION_OPEN="perhaps")
    assert found.values == {"registration.open": False}
    assert [bad.key for bad in found.bad] == ["__REGISTRATION_OPEN__"]


@pytest.mark.parametrize(
    ("stored", "octets"),
    [
        ({"MAX_MESSAGE_SIZE": "20M"}, 20 << 20),
        ({"APPENDLIMIT": "10M"}, 10 << 20),
        ({"MAX_MESSAGE_SIZE": "50M"}, 30 << 20),  # the append limit is still the file's
        ({"MAX_MESSAGE_SIZE": "50M", "APPENDLIMIT": "40M"}, 40 << 20),
        ({"MAX_MESSAGE_SIZE": "x", "APPENDLIMIT": "10M"}, 10 << 20),
    ],
)
def test_of_two_size_limits_the_smaller_holds(stored: dict[str, str], octets: int) -> None:
    assert changed(**stored).values["limits.max_message_size"] == octets


@pytest.mark.parametrize(
    ("file_s", "stored", "kept_s"),
    [
        (20 * 86400.0, {"MESSAGE_RETENTION": "5d"}, 5 * 86400.0),
        (20 * 86400.0, {"MESSAGE_RETENTION_ENABLED": "false"}, 0.0),
        (20 * 86400.0, {"MESSAGE_RETENTION_ENABLED": "true"}, 20 * 86400.0),
        (0.0, {"MESSAGE_RETENTION_ENABLED": "true"}, 30 * 86400.0),
        (0.0, {"MESSAGE_RETENTION": "5d"}, 0.0),
        (0.0, {"MESSAGE_RETENTION": "5d", "MESSAGE_RETENTION_ENABLED": "1"}, 5 * 86400.0),
        (9.0, {"MESSAGE_RETENTION": "5d", "MESSAGE_RETENTION_ENABLED": "0"}, 0.0),
    ],
)
def test_a_switch_and_a_duration_stand_for_the_retention_of_messages(
    file_s: float, stored: dict[str, str], kept_s: float
) -> None:
    found = changed({**FILE, "retention.messages": file_s}, **stored)
    assert found.values == {"retention.messages": kept_s}


def test_the_older_switch_of_push_counts_only_without_a_mode() -> None:
    assert changed(PUSH_ENABLED="true").values == {"push.mode": "on"}
    assert changed(PUSH_ENABLED="false").values == {"push.mode": "off"}
    assert changed(PUSH_ENABLED="false", PUSH_MODE="auto").values == {"push.mode": "auto"}


def test_faces_are_moved_hidden_and_closed() -> None:
    found = changed(
        SUBMISSION_TLS_PORT="4650",
        IMAP_PORT="0",
        IMAP_TLS_LOCAL_ONLY="yes",
        SMTP_LOCAL_ONLY="no",
        HTTP_ENABLED="false",
        HTTPS_ENABLED="true",
        TURN_PORT="999",
    )
    assert found.ports == {"submissions": 4650}
    assert found.local_only == {"imaps"}
    assert found.closed == {"http"}
    assert found.values == {}


def test_the_log_can_be_switched_off() -> None:
    assert changed(LOG_DISABLED="1").log_disabled
    assert not changed(LOG_DISABLED="0").log_disabled


def test_keys_that_nobody_knows_change_nothing_and_are_listed() -> None:
    assert changed(FROM_TOMORROW="x").values == {}
    assert unknown_keys(["__FROM_TOMORROW__", "__SMTP_PORT__", "A"]) == ("A", "__FROM_TOMORROW__")
