"""What a configuration file says becomes the configuration and the settings."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

import pytest

from chatmail.app.config_identity import to_settings
from chatmail.app.config_keys import FIELDS, BootConfig
from chatmail.app.config_values import ListenAddress
from chatmail.domain.model.settings import RegistrationSettings, RetentionSettings
from tests.unit.app.config_files import CONTRACT_FILE, load, problems, with_domain

# Every key of spec admin 5.2.
SPECIFIED = """
server: domain ip hostname public_ips extra_domains state_dir runtime_dir ipv6 defaults strict user
  supervised
tls: mode cert key min submission_min acme_email acme_directory acme_challenge acme_names
  acme_webroot acme_reuse_key acme_ip renew_before
listen: smtp submission submissions imap imaps http https turn turns iroh shadowsocks metrics
  proxy_protocol
http: trusted_proxies alpn_mux
dns: servers
registration: open jit require_token username_length username_min username_max password_length
  password_min rate_per_ip_hour max_load_1m min_available_memory min_free_disk_space nocreate_file
  blocked_localparts
limits: max_message_size max_federation_size max_mailbox_size send_rate_per_minute send_burst
  max_imap_connections max_smtp_connections max_per_address imap_sessions_per_account
  smtp_sessions_per_account max_recipients
gate: append_policy allow_secure_join minimise_bounces opacity_check strict_outer_headers
  allow_autocrypt_setup passthrough_senders passthrough_recipients
imap: compress idle_keepalive
retention: messages large large_threshold inactive_accounts unused_accounts quota_trim
  quota_trim_high quota_trim_low address_quarantine seen seen_grace
storage: fsync
database: url
federation: enabled policy stats smtp_port https_port http_port ca_file tls tls_noverify
  tls_optional http_fallback prefer outbound_bind endpoint_rewrite single_rcpt require_dkim
  dkim_exempt require_tls
  mxdeliv_http literal_source unknown_recipient
queue: max_age dsn_max_age schedule parallelism per_destination start_delay reply_wait
dkim: selector key_dir algorithms canonicalization rotate_every
admin: path token cors_origins hosted_panels web_enabled web_path web_dir allow_from
web: dir language privacy_postal privacy_mail privacy_pdo privacy_supervisor contact_sharing title
  dcaccount_style app serve_release
webimap: enabled
websmtp: enabled
webmail: cors_origins
push: mode endpoint
turn: enabled host realm secret previous_secret ttl relay_ip relay_ip6 relay_ports
  allow_private_peers allowed_peers denied_peers max_per_account max_per_ip max_total max_rate
iroh: enabled relay_url max_per_ip max_total
shadowsocks: password cipher allowed_ports
log: target level format ip addresses audit
metrics: path token legacy_names peer_labels
backup: dir schedule keep encrypt_to
alerts: webhook disk_percent queue_age cert_days push_failures
"""

OURS = {"retention.interval", "federation.private_peers"}  # beyond the specification


def test_domain_alone_is_a_complete_file(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    assert loaded.warnings == ()
    assert loaded.boot.server.domain == "relay.example.org"
    assert loaded.boot.state_dir == Path("/var/lib/chatmail")
    assert loaded.boot.runtime_dir == Path("/var/lib/chatmail/run")
    assert loaded.boot.nocreate_file == Path("/var/lib/chatmail/nocreate")


def test_ip_alone_is_a_complete_file(tmp_path: Path) -> None:
    settings = to_settings(load(tmp_path, '[server]\nip = "192.0.2.7"\n').boot)
    assert settings.identity.mail_domain == "[192.0.2.7]"
    assert settings.identity.local_domains == {"[192.0.2.7]"}
    assert settings.identity.hostname == "192.0.2.7"


def test_retention_reaches_the_settings(tmp_path: Path) -> None:
    assert to_settings(load(tmp_path).boot).retention == RetentionSettings()
    text = """[retention]
messages = "3d"
large = "off"
large_threshold = "1M"
inactive_accounts = "10d"
unused_accounts = "2h"
address_quarantine = 0
seen = true
seen_grace = "5m"
interval = "30m"
"""
    assert to_settings(load(tmp_path, with_domain(text)).boot).retention == RetentionSettings(
        messages_s=259_200,
        large_s=0,
        large_threshold_bytes=1_048_576,
        inactive_accounts_s=864_000,
        unused_accounts_s=7200,
        address_quarantine_s=0,
        seen=True,
        seen_grace_s=300,
        interval_s=1800,
    )


def test_file_of_the_contract_is_read(tmp_path: Path) -> None:
    loaded = load(tmp_path, CONTRACT_FILE)
    boot = loaded.boot
    assert loaded.warnings == ()
    assert boot.server.ip == ipaddress.ip_address("127.0.0.1")
    assert boot.state_dir == tmp_path / "state"
    assert boot.listen.metrics == (ListenAddress("127.0.0.1", 0),)
    assert boot.dns.servers == (ListenAddress("127.0.0.1", 5353),)
    assert boot.federation.ca_file is None
    assert boot.log.target == ("stderr",)


def test_keys_are_those_of_the_specification() -> None:
    names = {
        f"{section}.{key}"
        for section, keys in re.findall(r"^(\w+):((?: \w+|\n  \w+)+)", SPECIFIED, re.MULTILINE)
        for key in keys.split()
    }
    assert set(FIELDS) == names | OURS


def test_listen_table_leaves_turns_and_iroh_off(tmp_path: Path) -> None:
    assert load(tmp_path).boot.listen.turns == (ListenAddress("*", 5349),)
    assert load(tmp_path).boot.listen.iroh == (ListenAddress("*", 3340),)
    listen = load(tmp_path, with_domain('[listen]\nsmtp = ["*:26"]\n')).boot.listen
    assert (listen.turns, listen.iroh) == ((), ())
    assert listen.imap == (ListenAddress("*", 143),)
    given = load(tmp_path, with_domain('[listen]\nturns = ["*:5350"]\n')).boot.listen
    assert given.turns == (ListenAddress("*", 5350),)


def test_relay_defaults_equal_the_domains_own(tmp_path: Path) -> None:
    settings = to_settings(load(tmp_path).boot)
    assert settings == type(settings)(identity=settings.identity)


def test_madmail_profile_has_its_own_defaults(tmp_path: Path) -> None:
    text = with_domain('defaults = "madmail"\n[limits]\nsend_burst = 3\n')
    boot = load(tmp_path, text).boot
    settings = to_settings(boot)
    assert settings.registration == RegistrationSettings(
        username_length=8,
        username_min=8,
        username_max=20,
        password_min=8,
        max_load_1m=0,
        min_available_memory_bytes=0,
        min_free_disk_bytes=0,
    )
    assert settings.limits.max_message_bytes == 100 * 1024**2
    assert settings.limits.max_mailbox_bytes == 1024**3
    assert (settings.limits.send_rate_per_minute, settings.limits.send_burst) == (0, 3)
    assert not settings.quota.trim
    assert (boot.retention.messages, boot.retention.unused_accounts) == (0, 720 * 3600)
    assert (boot.queue.parallelism, boot.dkim.selector) == (16, "default")
    assert (boot.push.mode, boot.iroh.enabled, boot.log.target) == ("off", False, ("off",))


def test_profile_never_overrides_what_is_given(tmp_path: Path) -> None:
    text = with_domain('defaults = "madmail"\n[push]\nmode = "on"\n')
    assert load(tmp_path, text).boot.push.mode == "on"


def test_settings_follow_the_file(tmp_path: Path) -> None:
    text = with_domain(
        'extra_domains = ["Zweite.Example"]\n'
        'hostname = "mx.example.org"\n'
        "[registration]\nopen = false\njit = false\nrate_per_ip_hour = 0\n"
        'blocked_localparts = ["Forbidden"]\n'
        '[gate]\nappend_policy = "any"\npassthrough_senders = ["a@relay.example.org"]\n'
        '[imap]\ncompress = false\nidle_keepalive = "60s"\n'
        "[federation]\nenabled = false\n"
        '[http]\ntrusted_proxies = ["10.0.0.0/8"]\n'
        '[web]\nprivacy_mail = "op@example.org"\n'
    )
    settings = to_settings(load(tmp_path, text).boot)
    assert settings.identity.local_domains == {"relay.example.org", "zweite.example"}
    assert settings.identity.hostname == "mx.example.org"
    assert settings.identity.operator_mailto == "mailto:op@example.org"
    assert not settings.registration.is_open
    assert not settings.registration.jit
    assert settings.registration.rate_per_ip_hour == 0
    assert settings.registration.blocked_localparts == {"forbidden"}
    assert settings.gate.append_any
    assert settings.gate.passthrough_senders == {"a@relay.example.org"}
    assert not settings.imap.compress
    assert settings.imap.idle_keepalive_s == 60
    assert not settings.federation.is_enabled
    assert settings.trusted_proxies == ("10.0.0.0/8",)


def test_no_domain_no_settings() -> None:
    with pytest.raises(ValueError, match="no mail domain"):
        to_settings(BootConfig())


@pytest.mark.parametrize(
    "literal",
    ["1", "1.5", '"x"', "true", "[]", "[1]", "[[1]]", "{ a = 1 }", "{}", "1979-05-27", '[""]'],
)
def test_any_type_at_any_key_is_a_value_or_a_problem(tmp_path: Path, literal: str) -> None:
    sections: dict[str, list[str]] = {}
    for name in FIELDS:
        section, _, key = name.partition(".")
        sections.setdefault(section, []).append(f"{key} = {literal}")
    text = "\n".join(f"[{name}]\n" + "\n".join(keys) for name, keys in sections.items())
    found = problems(tmp_path, text)
    assert len(found) > 20
    assert all(re.match(r"chatmail\.toml(:\d+)?: [a-z_.0-9]+: .", line) for line in found)
