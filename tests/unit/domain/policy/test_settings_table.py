"""The table of settings."""

from __future__ import annotations

import pytest

from chatmail.domain.policy.settings_table import BY_KEY, RULES, Applies, Kind, find_rule


def test_keys_and_names_are_unique() -> None:
    assert len(BY_KEY) == len(RULES) == len({rule.name for rule in RULES})
    assert all(key.startswith("__") and key.endswith("__") for key in BY_KEY)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("__SMTP_PORT__", "__SMTP_PORT__"),
        ("__smtp_port__", "__SMTP_PORT__"),
        ("smtp_port", "__SMTP_PORT__"),
        ("max_message_size", "__MAX_MESSAGE_SIZE__"),
        ("limits.max_message_size", "__MAX_MESSAGE_SIZE__"),
        ("limits.send_burst", "__LIMITS_SEND_BURST__"),
        ("retention.messages", "__MESSAGE_RETENTION__"),
        ("registration.jit", "__JIT_REGISTRATION_ENABLED__"),
        ("quota", "__GLOBAL_DEFAULT__"),
    ],
)
def test_a_setting_is_found_by_key_name_and_file_key(name: str, key: str) -> None:
    found = find_rule(name)
    assert found is not None
    assert found.key == key


@pytest.mark.parametrize("name", ["", "nonsense", "__NONSENSE__", "smtp", "limits"])
def test_other_names_are_no_setting(name: str) -> None:
    assert find_rule(name) is None


def test_keys_of_the_older_relays_are_all_there() -> None:
    """Spec admin 3, the table."""
    faces = {"SMTP", "SUBMISSION", "SUBMISSION_TLS", "IMAP", "IMAP_TLS", "HTTP", "HTTPS"}
    faces |= {"TURN", "SASL", "IROH"}
    switches = {"SS", "SS_WS", "SS_GRPC", "HTTP_PROXY", "ADMIN_WEB", "WEBIMAP", "WEBSMTP"}
    switches |= {"TURN", "IROH", "HTTP", "HTTPS"}
    wanted = {
        *(f"__{face}_{what}__" for face in faces for what in ("PORT", "LOCAL_ONLY")),
        *(f"__{name}_ENABLED__" for name in switches),
        *("__PUSH_MODE__", "__PUSH_ENABLED__", "__FEDERATION_POLICY__", "__FEDERATION_ENABLED__"),
        *("__ALLOW_INBOUND_REMOTE_RCPT__", "__LOG_DISABLED__", "__DOVECOT_PORT__", "__SS_PORT__"),
        *("__SS_WS_PORT__", "__SS_GRPC_PORT__", "__HTTP_PROXY_PORT__", "__SMTP_HOSTNAME__"),
        *("__TURN_REALM__", "__TURN_SECRET__", "__TURN_RELAY_IP__", "__TURN_TTL__"),
        *("__TURN_RELAY_PORT_MIN__", "__TURN_RELAY_PORT_MAX__", "__IROH_RELAY_URL__"),
        *("__SS_CIPHER__", "__SS_PASSWORD__", "__HTTP_PROXY_PATH__", "__HTTP_PROXY_USERNAME__"),
        *("__HTTP_PROXY_PASSWORD__", "__ADMIN_PATH__", "__ADMIN_WEB_PATH__", "__LANGUAGE__"),
        *("__DCLOGIN_IMAP_SECURITY__", "__DCLOGIN_SMTP_SECURITY__", "__WEBMAIL_CORS_ORIGINS__"),
        *("__APPENDLIMIT__", "__MAX_MESSAGE_SIZE__", "__MAX_FEDERATION_SIZE__"),
        *("__REGISTRATION_OPEN__", "__JIT_REGISTRATION_ENABLED__", "__GLOBAL_DEFAULT__"),
        *("__REGISTRATION_TOKEN_REQUIRED__", "__AUTO_PURGE_SEEN__", "__MESSAGE_RETENTION__"),
        "__MESSAGE_RETENTION_ENABLED__",
    }
    assert wanted - set(BY_KEY) == set()


def test_secrets_have_their_own_kind() -> None:
    secrets = {rule.name for rule in RULES if rule.kind is Kind.SECRET}
    assert secrets == {"turn_secret", "ss_password", "http_proxy_password"}


def test_only_what_has_an_effect_says_when() -> None:
    """A key of a feature that is not built is stored and shown only."""
    for rule in RULES:
        is_inert = rule.name.startswith(("turn_", "iroh_", "ss_", "sasl_", "http_proxy_", "admin_"))
        if is_inert:
            assert rule.applies is Applies.NOTHING, rule.key
