"""The defaults that are published (spec mail 0, policy 2, 3 and 7.4, contract 3)."""

from __future__ import annotations

from chatmail.domain.model.settings import (
    GateSettings,
    ImapSettings,
    LimitSettings,
    QuotaSettings,
    RegistrationSettings,
)


def test_limits() -> None:
    assert LimitSettings() == LimitSettings(
        max_message_bytes=31457280,
        max_federation_bytes=73400320,
        max_mailbox_bytes=524288000,
        send_rate_per_minute=60,
        send_burst=10,
        max_imap_connections=10000,
        max_smtp_connections=1000,
        max_per_address=0,
        imap_sessions_per_account=30,
        smtp_sessions_per_account=30,
        max_recipients=1000,
    )


def test_registration() -> None:
    assert RegistrationSettings() == RegistrationSettings(
        is_open=True,
        jit=True,
        require_token=False,
        username_length=9,
        username_min=9,
        username_max=9,
        password_length=22,
        password_min=9,
        rate_per_ip_hour=60,
        max_load_1m=5.0,
        min_available_memory_bytes=209715200,
        min_free_disk_bytes=1073741824,
        blocked_localparts=frozenset(),
    )


def test_trimming() -> None:
    assert QuotaSettings() == QuotaSettings(
        trim=True, trim_high_percent=75, trim_low_percent=70, spare_younger_s=86400
    )


def test_imap() -> None:
    assert ImapSettings() == ImapSettings(compress=True, idle_keepalive_s=240.0)


def test_gate_flags() -> None:
    assert GateSettings() == GateSettings(
        append_any=False,
        allow_secure_join=True,
        minimise_bounces=True,
        opacity_check=True,
        strict_outer_headers=False,
        allow_autocrypt_setup=False,
        passthrough_senders=frozenset(),
        passthrough_recipients=frozenset(),
    )
