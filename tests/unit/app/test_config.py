from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any

import pytest

from chatmail.app.config import LoadedConfig, load_config
from chatmail.app.config_choice import ConfigError, config_file
from chatmail.app.config_identity import to_settings
from chatmail.app.config_keys import FIELDS, BootConfig
from chatmail.app.config_values import ListenAddress
from chatmail.domain.model.settings import RegistrationSettings, RetentionSettings

MINIMAL = '[server]\ndomain = "relay.example.org"\n'

CONTRACT_FILE = """
[server]
ip = "127.0.0.1"
hostname = "127.0.0.1"
state_dir = "state"
[listen]
smtp = ["127.0.0.1:0"]
submission = ["127.0.0.1:0"]
submissions = ["127.0.0.1:0"]
imap = ["127.0.0.1:0"]
imaps = ["127.0.0.1:0"]
http = ["127.0.0.1:0"]
https = ["127.0.0.1:0"]
turn = ["127.0.0.1:0"]
metrics = ["127.0.0.1:0"]
[tls]
mode = "self-signed"
[database]
url = "sqlite"
[dns]
servers = ["127.0.0.1:5353"]
[federation]
smtp_port = 25
https_port = 443
ca_file = ""
[log]
target = "stderr"
"""

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


def load(
    tmp_path: Path, text: str = MINIMAL, environ: dict[str, str] | None = None, **more: Any
) -> LoadedConfig:
    file = tmp_path / "chatmail.toml"
    file.write_text(text)
    file.chmod(0o600)
    return load_config(file, environ or {}, **more)


def problems(
    tmp_path: Path, text: str, environ: dict[str, str] | None = None, **more: Any
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, environ, **more)
    return list(caught.value.problems)


OURS = {"retention.interval", "federation.private_peers"}  # beyond the specification


def with_domain(text: str) -> str:
    return MINIMAL + text


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


def test_every_problem_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    text = (
        '[server]\ndomain = "relay.example.org"\n'
        "[registration]\npassword_mim = 3\nusername_min = 12\n"
        '[limits]\nmax_message_size = "30 M"\nsend_rate_per_minute = "x"\n'
        '[federation]\npolicy = "ACEPT"\n'
        '[turn]\nrelay_ports = "9-3"\n'
    )
    assert problems(tmp_path, text) == [
        "chatmail.toml:4: registration.password_mim: unknown key"
        " (did you mean registration.password_min?)",
        'chatmail.toml:7: limits.max_message_size: "30 M": unknown unit " M" (use e.g. 30M)',
        'chatmail.toml:8: limits.send_rate_per_minute: "x": is not a whole number',
        'chatmail.toml:10: federation.policy: "ACEPT": is none of accept, reject'
        " (did you mean accept?)",
        "chatmail.toml:5: registration.username_min: is above registration.username_max (9)",
        "chatmail.toml:12: turn.relay_ports: 9 is above 3",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[foo]\nbar = 1\n", "foo.bar: unknown key"),
        ("[regstration]\n", "regstration: unknown key (did you mean registration?)"),
        ("[limits.max_message_size]\nx = 1\n", "limits.max_message_size.x: unknown key"),
        ('[retention]\npassword_min = "3d"\n', "did you mean registration.password_min?"),
    ],
)
def test_unknown_keys_and_tables_are_problems(tmp_path: Path, text: str, expected: str) -> None:
    assert any(expected in problem for problem in problems(tmp_path, with_domain(text)))


def test_unknown_keys_are_warnings_when_not_strict(tmp_path: Path) -> None:
    loaded = load(tmp_path, with_domain("strict = false\n[foo]\nbar = 1\n"))
    assert loaded.warnings == ("chatmail.toml:5: foo.bar: unknown key",)


def test_not_strict_still_refuses_bad_values(tmp_path: Path) -> None:
    text = with_domain('strict = false\n[limits]\nsend_burst = "x"\n')
    assert problems(tmp_path, text) == [
        'chatmail.toml:5: limits.send_burst: "x": is not a whole number'
    ]


def test_syntax_error_names_its_line(tmp_path: Path) -> None:
    (problem, *_) = problems(tmp_path, '[server]\ndomain = "a\n')
    assert problem.startswith("chatmail.toml:2: ")


def test_missing_and_undecodable_files_are_problems(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent.toml: cannot be read: No such file"):
        load_config(tmp_path / "absent.toml", {})
    (tmp_path / "bad.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "bad.toml", {})


@pytest.mark.parametrize(
    ("alias", "read", "expected"),
    [
        ('append_policy = "any"\n' + MINIMAL, lambda b: b.gate.append_policy, "any"),
        (with_domain('public_ip = "192.0.2.1"'), lambda b: len(b.server.public_ips), 1),
        (with_domain('local_domains = ["x.test"]'), lambda b: b.server.extra_domains, ("x.test",)),
        (with_domain('[acme]\nemail = "op@x.test"'), lambda b: b.tls.acme_email, "op@x.test"),
        (with_domain("[limits]\nmax_imap = 5"), lambda b: b.limits.max_imap_connections, 5),
        (with_domain('[storage]\nmailbox = "1G"'), lambda b: b.limits.max_mailbox_size, 1024**3),
        (
            with_domain("[retention]\ndelete_mails_after = 3"),
            lambda b: b.retention.messages,
            259200,
        ),
        ('delete_mails_after = "3h"\n' + MINIMAL, lambda b: b.retention.messages, 10800),
        ("federation_stats = false\n" + MINIMAL, lambda b: b.federation.stats, False),
        ('turn_server = "t.test"\n' + MINIMAL, lambda b: b.turn.host, "t.test"),
        (with_domain('[metrics]\nlisten = ["127.0.0.1:1"]'), lambda b: len(b.listen.metrics), 1),
        (with_domain('[web]\nadmin_path = "/a"'), lambda b: b.admin.path, "/a"),
    ],
)
def test_older_names_work_with_a_warning(
    tmp_path: Path, alias: str, read: Any, expected: Any
) -> None:
    loaded = load(tmp_path, alias)
    assert read(loaded.boot) == expected
    assert any("is an older name of" in warning for warning in loaded.warnings)


@pytest.mark.parametrize("order", [0, 1])
def test_older_and_newer_name_together_are_a_problem(tmp_path: Path, order: int) -> None:
    lines = ['delete_mails_after = "9d"', 'messages = "3d"']
    text = with_domain("[retention]\n" + "\n".join(lines[order:] + lines[:order]) + "\n")
    assert problems(tmp_path, text) == [
        "chatmail.toml:5: retention.messages: is given twice (chatmail.toml:4)"
    ]


def test_older_words_of_tls_mode_work_with_a_warning(tmp_path: Path) -> None:
    loaded = load(tmp_path, with_domain('[tls]\nmode = "self_signed"\n'))
    assert loaded.boot.tls.mode == "self-signed"
    assert "older name of self-signed" in loaded.warnings[0]


def test_driver_and_dsn_become_the_database_url(tmp_path: Path) -> None:
    text = with_domain('[database]\ndriver = "sqlite3"\ndsn = "/x/y.db"\n')
    assert load(tmp_path, text).boot.database.url == "sqlite:/x/y.db"


def test_environment_overrides_the_file(tmp_path: Path) -> None:
    environ = {
        "CHATMAIL__LIMITS__MAX_MAILBOX_SIZE": "1G",
        "CHATMAIL__REGISTRATION__OPEN": "off",
        "CHATMAIL__LIMITS__SEND_BURST": "7",
        "CHATMAIL__LISTEN__SMTP": "127.0.0.1:2525,[::1]:2525",
        "CHATMAIL_STATE_DIR": "/srv/state",
        "CHATMAIL_ADMIN_PATH": "/secret-admin",
        "CHATMAIL_ADMIN_CORS_ORIGINS": "https://a.test,https://b.test",
        "CHATMAIL_IMAP_ADDR": "127.0.0.1:1143",
        "CHATMAIL_HTTP_ADDR": ":8080",
        "MAIL_DOMAIN": "ignored.example.org",
        "HOME": "/root",
    }
    loaded = load(tmp_path, with_domain('[limits]\nmax_mailbox_size = "2G"\n'), environ)
    boot = loaded.boot
    assert boot.limits.max_mailbox_size == 1024**3
    assert not boot.registration.open
    assert boot.limits.send_burst == 7
    assert list(map(str, boot.listen.smtp)) == ["127.0.0.1:2525", "[::1]:2525"]
    assert boot.state_dir == Path("/srv/state")
    assert boot.admin.path == "/secret-admin"
    assert boot.admin.cors_origins == ("https://a.test", "https://b.test")
    assert boot.listen.imap == (ListenAddress("127.0.0.1", 1143),)
    assert boot.listen.http == (ListenAddress("*", 8080),)
    assert boot.server.domain == "relay.example.org"
    assert loaded.origins["limits.max_mailbox_size"] == "env"
    assert loaded.origins["server.domain"] == "file"
    assert "limits.send_rate_per_minute" not in loaded.origins


def test_problems_of_the_environment_name_the_variable(tmp_path: Path) -> None:
    environ = {"CHATMAIL__LIMITS__SEND_BURST": "many", "CHATMAIL__LIMITS__SEND_BURTS": "1"}
    assert problems(tmp_path, MINIMAL, environ) == [
        "environment CHATMAIL__LIMITS__SEND_BURTS: limits.send_burts: unknown key"
        " (did you mean limits.send_burst?)",
        'environment CHATMAIL__LIMITS__SEND_BURST: limits.send_burst: "many":'
        " is not a whole number",
    ]


def test_container_shorthands_count_without_a_file() -> None:
    environ = {"MADDY_DOMAIN": "relay.example.org", "MADDY_HOSTNAME": "mx.example.org"}
    boot = load_config(None, environ).boot
    assert (boot.server.domain, boot.server.hostname) == ("relay.example.org", "mx.example.org")


def test_command_line_wins(tmp_path: Path) -> None:
    environ = {"CHATMAIL_STATE_DIR": "/srv/env"}
    loaded = load(tmp_path, MINIMAL, environ, overrides={"server.state_dir": "/srv/call"})
    assert loaded.boot.state_dir == Path("/srv/call")


def test_file_to_read_is_named_by_the_environment() -> None:
    assert config_file({"CHATMAIL_CONFIG": "/x/y.toml"}) == Path("/x/y.toml")


def test_a_file_below_the_working_directory_comes_before_the_system_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "chatmail.toml").touch()
    assert config_file({}) == Path("data/chatmail.toml")


def test_drop_ins_are_merged_in_name_order(tmp_path: Path) -> None:
    folder = tmp_path / "chatmail.d"
    folder.mkdir()
    (folder / "20.toml").write_text("[limits]\nsend_burst = 20\n")
    (folder / "10.toml").write_text("[limits]\nsend_burst = 10\nmax_recipients = 10\n")
    (folder / "note.txt").write_text("not toml")
    boot = load(tmp_path, with_domain("[limits]\nsend_burst = 1\n")).boot
    assert (boot.limits.send_burst, boot.limits.max_recipients) == (20, 10)
    (folder / "30.toml").write_text("[limits]\nsend_burst = 'x'\n")
    assert problems(tmp_path, MINIMAL)[0].startswith("30.toml:2: ")


def test_variables_and_files_are_inserted_in_texts(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t" * 40 + "\n")
    text = with_domain(
        'hostname = "${ENV:HOST}.example.org"\n'
        '[admin]\ntoken = "${FILE:token}"\n'
        '[limits]\nsend_burst = "${ENV:BURST}"\n'
        '[web]\ntitle = "$HOME ${other}"\n'
        '[http]\ntrusted_proxies = ["${ENV:PROXY}"]\n'
    )
    environ = {"HOST": "mx", "BURST": "4", "PROXY": "10.0.0.0/8"}
    boot = load(tmp_path, text, environ).boot
    assert boot.server.hostname == "mx.example.org"
    assert boot.admin.token == "t" * 40
    assert boot.limits.send_burst == 4
    assert boot.web.title == "$HOME ${other}"
    assert len(boot.http.trusted_proxies) == 1


def test_insertions_that_fail_are_problems_without_the_value(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("canary")
    text = with_domain(
        'hostname = "${ENV:ABSENT}"\n'
        '[web]\ntitle = "${FILE:absent}"\n'
        '[limits]\nsend_burst = "${FILE:short}"\n'
        '[admin]\ntoken = "${FILE:short}"\n'
    )
    found = problems(tmp_path, text)
    assert found[0].endswith('"${ENV:ABSENT}": the environment has no variable ABSENT')
    assert "cannot read" in found[1]
    assert found[2].endswith('"${FILE:short}": is not a whole number')
    assert found[3] == "chatmail.toml:9: admin.token: is shorter than 32 characters"
    assert "canary" not in "".join(found)


def test_secrets_are_never_repeated(tmp_path: Path) -> None:
    text = with_domain('[admin]\ntoken = 12345\n[turn]\nsecret = ["canary"]\n')
    assert problems(tmp_path, text) == [
        "chatmail.toml:4: admin.token: is not a text in quotes",
        "chatmail.toml:6: turn.secret: is not a text in quotes",
    ]


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
