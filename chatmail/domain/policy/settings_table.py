"""Which settings can be changed while running: the table of spec admin 3.

A rule ties a stored key to the key of the configuration file that it overrides.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Final

import attrs


class Kind(enum.Enum):
    """What a value is, and so how its text is read and shown."""

    BOOLEAN = "boolean"
    SIZE = "size"
    OCTETS = "octets"
    DURATION = "duration"
    INTEGER = "integer"
    NUMBER = "number"
    PERCENT = "percent"
    PORT = "port"
    CHOICE = "choice"
    TEXT = "text"
    SECRET = "secret"  # noqa: S105 - the name of a kind
    IP = "ip"
    ORIGINS = "origins"


class Applies(enum.Enum):
    """When a change takes hold. NOTHING: the feature is not built; stored and shown only."""

    LIVE = "live"
    RELOAD = "reload"
    NOTHING = "-"


@attrs.frozen(kw_only=True)
class SettingRule:
    """One key.

    `name` is what the admin API calls it. `config_key` is the file's key that it overrides, empty
    for keys that no file has; `default` is the text shown for those.
    """

    key: str
    name: str
    kind: Kind
    config_key: str = ""
    applies: Applies = Applies.LIVE
    choices: tuple[str, ...] = ()
    minimum: float = 0
    maximum: float = 10**15
    default: str = ""


_NOT_BUILT: Final = Applies.NOTHING


def _plain(
    name: str,
    kind: Kind,
    config_key: str = "",
    applies: Applies = Applies.LIVE,
    *,
    choices: tuple[str, ...] = (),
    minimum: float = 0,
    default: str = "",
) -> SettingRule:
    """Describe a key whose API name is the key itself without its underscores."""
    return SettingRule(
        key=f"__{name.upper()}__",
        name=name,
        kind=kind,
        config_key=config_key,
        applies=applies,
        choices=choices,
        minimum=minimum,
        default=default,
    )


def _scalars(section: str, **kinds: Kind) -> Iterator[SettingRule]:
    """Describe keys of one section of the file: `__SECTION_KEY__`."""
    for name, kind in kinds.items():
        yield _plain(f"{section}_{name}", kind, f"{section}.{name}")


SETTING_FACES: Final = {
    "smtp": "smtp",
    "submission": "submission",
    "submission_tls": "submissions",
    "imap": "imap",
    "imap_tls": "imaps",
    "http": "http",
    "https": "https",
}
"""Name in settings → key of `[listen]`, for the faces that exist."""

_CIPHERS: Final = ("aes-128-gcm", "aes-256-gcm", "chacha20-ietf-poly1305")
_SECURITY: Final = ("ssl", "starttls", "default")

RULES: Final[tuple[SettingRule, ...]] = (
    _plain("registration_open", Kind.BOOLEAN, "registration.open"),
    _plain("jit_registration_enabled", Kind.BOOLEAN, "registration.jit"),
    _plain("registration_token_required", Kind.BOOLEAN, "registration.require_token"),
    *_scalars(
        "registration",
        username_length=Kind.INTEGER,
        username_min=Kind.INTEGER,
        username_max=Kind.INTEGER,
        password_length=Kind.INTEGER,
        password_min=Kind.INTEGER,
        rate_per_ip_hour=Kind.INTEGER,
        max_load_1m=Kind.NUMBER,
        min_available_memory=Kind.SIZE,
        min_free_disk_space=Kind.SIZE,
    ),
    _plain("appendlimit", Kind.SIZE, "limits.max_message_size", minimum=1),
    _plain("max_message_size", Kind.SIZE, "limits.max_message_size", minimum=1),
    _plain("max_federation_size", Kind.SIZE, "limits.max_federation_size", minimum=1),
    SettingRule(
        key="__GLOBAL_DEFAULT__",
        name="quota",
        kind=Kind.OCTETS,
        config_key="limits.max_mailbox_size",
        minimum=1,
    ),
    *_scalars(
        "limits",
        send_rate_per_minute=Kind.INTEGER,
        send_burst=Kind.INTEGER,
        max_imap_connections=Kind.INTEGER,
        max_smtp_connections=Kind.INTEGER,
        max_per_address=Kind.INTEGER,
        imap_sessions_per_account=Kind.INTEGER,
        smtp_sessions_per_account=Kind.INTEGER,
        max_recipients=Kind.INTEGER,
    ),
    _plain("gate_append_policy", Kind.CHOICE, "gate.append_policy", choices=("encrypted", "any")),
    *_scalars(
        "gate",
        allow_secure_join=Kind.BOOLEAN,
        minimise_bounces=Kind.BOOLEAN,
        opacity_check=Kind.BOOLEAN,
        strict_outer_headers=Kind.BOOLEAN,
        allow_autocrypt_setup=Kind.BOOLEAN,
    ),
    _plain("message_retention_enabled", Kind.BOOLEAN),
    _plain("message_retention", Kind.DURATION, minimum=1),
    _plain("auto_purge_seen", Kind.BOOLEAN, "retention.seen"),
    *_scalars(
        "retention",
        large=Kind.DURATION,
        large_threshold=Kind.SIZE,
        inactive_accounts=Kind.DURATION,
        unused_accounts=Kind.DURATION,
        quota_trim=Kind.BOOLEAN,
        quota_trim_high=Kind.PERCENT,
        quota_trim_low=Kind.PERCENT,
        address_quarantine=Kind.DURATION,
        seen_grace=Kind.DURATION,
        interval=Kind.DURATION,
    ),
    _plain("federation_enabled", Kind.BOOLEAN, "federation.enabled"),
    _plain(
        "federation_policy",
        Kind.CHOICE,
        "federation.policy",
        choices=("accept", "reject"),
    ),
    _plain("push_mode", Kind.CHOICE, "push.mode", _NOT_BUILT, choices=("auto", "on", "off")),
    _plain("push_enabled", Kind.BOOLEAN, applies=_NOT_BUILT),
    _plain("log_disabled", Kind.BOOLEAN, default="false"),
    _plain("language", Kind.CHOICE, "web.language", choices=("en", "fa", "es", "ru", "auto")),
    _plain("smtp_hostname", Kind.TEXT, "server.hostname", Applies.RELOAD),
    *(
        _plain(f"{name}_port", Kind.PORT, f"listen.{face}", Applies.RELOAD)
        for name, face in SETTING_FACES.items()
    ),
    *(
        _plain(f"{name}_local_only", Kind.BOOLEAN, applies=Applies.RELOAD, default="false")
        for name in SETTING_FACES
    ),
    _plain("http_enabled", Kind.BOOLEAN, applies=Applies.RELOAD, default="true"),
    _plain("https_enabled", Kind.BOOLEAN, applies=Applies.RELOAD, default="true"),
    # Features that are not built: what an older database or panel has stored stays readable.
    *(
        _plain(name, kind, applies=_NOT_BUILT)
        for name, kind in {
            "turn_enabled": Kind.BOOLEAN,
            "iroh_enabled": Kind.BOOLEAN,
            "ss_enabled": Kind.BOOLEAN,
            "ss_ws_enabled": Kind.BOOLEAN,
            "ss_grpc_enabled": Kind.BOOLEAN,
            "http_proxy_enabled": Kind.BOOLEAN,
            "admin_web_enabled": Kind.BOOLEAN,
            "webimap_enabled": Kind.BOOLEAN,
            "websmtp_enabled": Kind.BOOLEAN,
            "allow_inbound_remote_rcpt": Kind.BOOLEAN,
            "turn_local_only": Kind.BOOLEAN,
            "sasl_local_only": Kind.BOOLEAN,
            "iroh_local_only": Kind.BOOLEAN,
            "webmail_cors_origins": Kind.ORIGINS,
            "turn_port": Kind.PORT,
            "iroh_port": Kind.PORT,
            "sasl_port": Kind.PORT,
            "dovecot_port": Kind.PORT,
            "ss_port": Kind.PORT,
            "ss_ws_port": Kind.PORT,
            "ss_grpc_port": Kind.PORT,
            "http_proxy_port": Kind.PORT,
            "turn_relay_port_min": Kind.PORT,
            "turn_relay_port_max": Kind.PORT,
            "turn_realm": Kind.TEXT,
            "turn_relay_ip": Kind.IP,
            "iroh_relay_url": Kind.TEXT,
            "http_proxy_path": Kind.TEXT,
            "http_proxy_username": Kind.TEXT,
            "admin_path": Kind.TEXT,
            "admin_web_path": Kind.TEXT,
            "turn_secret": Kind.SECRET,
            "ss_password": Kind.SECRET,
            "http_proxy_password": Kind.SECRET,
        }.items()
    ),
    _plain("turn_ttl", Kind.INTEGER, applies=_NOT_BUILT, minimum=1),
    _plain("ss_cipher", Kind.CHOICE, applies=_NOT_BUILT, choices=_CIPHERS),
    _plain("dclogin_imap_security", Kind.CHOICE, applies=_NOT_BUILT, choices=_SECURITY),
    _plain("dclogin_smtp_security", Kind.CHOICE, applies=_NOT_BUILT, choices=_SECURITY),
)

BY_KEY: Final[Mapping[str, SettingRule]] = {rule.key: rule for rule in RULES}

_BY_NAME: Final[Mapping[str, SettingRule]] = {
    **{rule.config_key: rule for rule in reversed(RULES) if rule.config_key},
    "limits.max_message_size": BY_KEY["__MAX_MESSAGE_SIZE__"],
    "retention.messages": BY_KEY["__MESSAGE_RETENTION__"],
    **{rule.name: rule for rule in RULES},
}


def find_rule(name: str) -> SettingRule | None:
    """Return the rule of a key, given as `__KEY__`, as the API's name or as the file's key."""
    return BY_KEY.get(name.upper()) or _BY_NAME.get(name.lower())
