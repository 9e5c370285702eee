"""Who the configured relay is, and the live settings that follow from its file."""

from __future__ import annotations

from typing import Final

from chatmail.app.config_keys import BootConfig
from chatmail.domain.model.address import AddressError, is_literal, normalise_domain
from chatmail.domain.model.settings import (
    FederationSettings,
    GateSettings,
    IdentitySettings,
    ImapSettings,
    LimitSettings,
    QueueSettings,
    QuotaSettings,
    RegistrationSettings,
    RetentionSettings,
    SettingsSnapshot,
)

# No public certificate authority signs these (RFC 2606, 6762, 7686).
_PRIVATE_ZONES: Final = (".local", ".test", ".localhost", ".invalid", ".example", ".onion")


def mail_domain(boot: BootConfig) -> str | None:
    """Return the normalised mail domain, `[192.0.2.1]` for a relay known by its address."""
    text = str(boot.server.ip) if boot.server.ip else boot.server.domain
    try:
        return normalise_domain(text)
    except AddressError:
        return None


def tls_mode(boot: BootConfig) -> str:
    """Return acme, files, self-signed or external-proxy. Source:  spec federation-web E1."""
    if boot.tls.mode:
        return boot.tls.mode
    if boot.tls.cert is not None:
        return "files"
    if boot.server.ip is not None:
        return "acme" if boot.tls.acme_ip and boot.server.ip.is_global else "self-signed"
    domain = mail_domain(boot) or ""
    is_private = domain.startswith("_") or "." not in domain or domain.endswith(_PRIVATE_ZONES)
    return "self-signed" if is_private or is_literal(domain) else "acme"


def identity(boot: BootConfig) -> IdentitySettings:
    """Return who we are, from a checked configuration.

    Raises:  ValueError: the configuration names no domain.
    """
    domain = mail_domain(boot)
    if domain is None:
        raise ValueError("the configuration names no mail domain")
    extra = (normalise_domain(name) for name in boot.server.extra_domains)
    return IdentitySettings(
        mail_domain=domain,
        local_domains=frozenset({domain, *extra}),
        hostname=boot.server.hostname or str(boot.server.ip or domain),
        operator_mailto=f"mailto:{boot.web.privacy_mail}" if boot.web.privacy_mail else None,
    )


def to_settings(boot: BootConfig) -> SettingsSnapshot:
    """Return the live settings as the file alone gives them."""
    return SettingsSnapshot(
        identity=identity(boot),
        registration=_registration(boot),
        limits=_limits(boot),
        gate=_gate(boot),
        imap=ImapSettings(
            compress=boot.imap.compress, idle_keepalive_s=float(boot.imap.idle_keepalive)
        ),
        quota=QuotaSettings(
            trim=boot.retention.quota_trim,
            trim_high_percent=boot.retention.quota_trim_high,
            trim_low_percent=boot.retention.quota_trim_low,
        ),
        retention=_retention(boot),
        federation=_federation(boot),
        queue=_queue(boot),
        trusted_proxies=tuple(map(str, boot.http.trusted_proxies)),
    )


def _federation(boot: BootConfig) -> FederationSettings:
    part = boot.federation
    return FederationSettings(
        is_enabled=part.enabled,
        rejects_by_default=part.policy == "reject",
        keeps_stats=part.stats,
        smtp_port=part.smtp_port,
        https_port=part.https_port,
        http_port=part.http_port,
        verifies_tls=part.tls == "verify",
        tls_noverify=frozenset(map(normalise_domain, part.tls_noverify)),
        tls_optional=frozenset(map(normalise_domain, part.tls_optional)),
        http_fallback=part.http_fallback,
        prefers_ipv6=part.prefer == "ipv6",
        endpoint_rewrite=part.endpoint_rewrite,
        single_rcpt=frozenset(map(normalise_domain, part.single_rcpt)),
        require_dkim=part.require_dkim,
        dkim_exempt=frozenset(map(normalise_domain, part.dkim_exempt)),
        require_tls=part.require_tls,
        mxdeliv_http=part.mxdeliv_http,
        literal_source=part.literal_source,
        dsn_to_unknown=part.unknown_recipient == "bounce",
    )


def _queue(boot: BootConfig) -> QueueSettings:
    part = boot.queue
    return QueueSettings(
        max_age_s=float(part.max_age),
        dsn_max_age_s=float(part.dsn_max_age),
        schedule_s=tuple(map(float, part.schedule)),
        parallelism=part.parallelism,
        per_destination=part.per_destination,
        start_delay_s=float(part.start_delay),
        reply_wait_s=float(part.reply_wait),
    )


def _registration(boot: BootConfig) -> RegistrationSettings:
    part = boot.registration
    return RegistrationSettings(
        is_open=part.open,
        jit=part.jit,
        require_token=part.require_token,
        username_length=part.username_length,
        username_min=part.username_min,
        username_max=part.username_max,
        password_length=part.password_length,
        password_min=part.password_min,
        rate_per_ip_hour=part.rate_per_ip_hour,
        max_load_1m=part.max_load_1m,
        min_available_memory_bytes=part.min_available_memory,
        min_free_disk_bytes=part.min_free_disk_space,
        blocked_localparts=frozenset(name.lower() for name in part.blocked_localparts),
    )


def _limits(boot: BootConfig) -> LimitSettings:
    part = boot.limits
    return LimitSettings(
        max_message_bytes=part.max_message_size,
        max_federation_bytes=part.max_federation_size,
        max_mailbox_bytes=part.max_mailbox_size,
        send_rate_per_minute=part.send_rate_per_minute,
        send_burst=part.send_burst,
        max_imap_connections=part.max_imap_connections,
        max_smtp_connections=part.max_smtp_connections,
        max_per_address=part.max_per_address,
        imap_sessions_per_account=part.imap_sessions_per_account,
        smtp_sessions_per_account=part.smtp_sessions_per_account,
        max_recipients=part.max_recipients,
    )


def _retention(boot: BootConfig) -> RetentionSettings:
    part = boot.retention
    return RetentionSettings(
        messages_s=part.messages,
        large_s=part.large,
        large_threshold_bytes=part.large_threshold,
        inactive_accounts_s=part.inactive_accounts,
        unused_accounts_s=part.unused_accounts,
        address_quarantine_s=part.address_quarantine,
        seen=part.seen,
        seen_grace_s=part.seen_grace,
        interval_s=part.interval,
    )


def _gate(boot: BootConfig) -> GateSettings:
    part = boot.gate
    return GateSettings(
        append_any=part.append_policy == "any",
        allow_secure_join=part.allow_secure_join,
        minimise_bounces=part.minimise_bounces,
        opacity_check=part.opacity_check,
        strict_outer_headers=part.strict_outer_headers,
        allow_autocrypt_setup=part.allow_autocrypt_setup,
        passthrough_senders=frozenset(part.passthrough_senders),
        passthrough_recipients=frozenset(part.passthrough_recipients),
    )
