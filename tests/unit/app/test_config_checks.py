from __future__ import annotations

from pathlib import Path

import pytest

from chatmail.app.config import load_config
from chatmail.app.config_choice import ConfigError
from chatmail.app.config_identity import tls_mode

SERVER = '[server]\ndomain = "_relay.test"\n'


def outcome(tmp_path: Path, text: str, mode: int = 0o600) -> tuple[list[str], list[str]]:
    """Return problems and warnings."""
    file = tmp_path / "c.toml"
    file.write_text(text)
    file.chmod(mode)
    try:
        return [], list(load_config(file, {}).warnings)
    except ConfigError as error:
        return list(error.problems), []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "c.toml: server.domain: is missing (set it, or server.ip)"),
        ("[server]\n", "c.toml: server.domain: is missing (set it, or server.ip)"),
        (
            '[server]\ndomain = "a.test"\nip = "192.0.2.1"\n',
            "c.toml:3: server.ip: server.domain is given as well: choose one",
        ),
        (
            '[server]\ndomain = "localhost"\n',
            'c.toml:2: server.domain: "localhost" is not a fully qualified domain name',
        ),
        (
            '[server]\ndomain = "a b.test"\n',
            'c.toml:2: server.domain: "a b.test" is not a fully qualified domain name',
        ),
        (
            '[server]\ndomain = "192.0.2.1"\n',
            'c.toml:2: server.domain: "192.0.2.1" is an IP address: use server.ip',
        ),
        (
            SERVER + 'hostname = "a b"\n',
            'c.toml:3: server.hostname: "a b" is not a host name',
        ),
        (
            SERVER + 'extra_domains = ["@"]\n',
            'c.toml:3: server.extra_domains: "@" is not a domain',
        ),
        (
            SERVER + '[dkim]\nalgorithms = "rsa1024"\n',
            'c.toml:4: dkim.algorithms: "rsa1024" is not understood',
        ),
        (
            SERVER + '[dkim]\ncanonicalization = "relaxed"\n',
            'c.toml:4: dkim.canonicalization: "relaxed" is not understood',
        ),
        (
            SERVER + '[dkim]\nselector = "../x"\n',
            'c.toml:4: dkim.selector: "../x" is not a DKIM selector',
        ),
        (
            SERVER + "[registration]\nusername_length = 10\n",
            "c.toml:4: registration.username_length: is outside 9 to 9, the lengths accepted",
        ),
        (
            SERVER + "[registration]\nusername_min = 0\n",
            "c.toml:4: registration.username_min: lengths are 1 to 64",
        ),
        (
            SERVER + "[registration]\npassword_length = 8\n",
            "c.toml:4: registration.password_length: is below registration.password_min (9)",
        ),
        (
            SERVER + "[registration]\npassword_length = 300\n",
            "c.toml:4: registration.password_length: is above 256, the longest password",
        ),
        (
            SERVER + '[limits]\nmax_mailbox_size = "1M"\n',
            "c.toml:4: limits.max_message_size: is above limits.max_mailbox_size (1048576 octets)",
        ),
        (
            SERVER + "[limits]\nmax_recipients = 0\n",
            "c.toml:4: limits.max_recipients: is 0",
        ),
        (
            SERVER + "[limits]\nsend_burst = 0\n",
            "c.toml:4: limits.send_burst: is 0: nobody could send",
        ),
        (
            SERVER + '[imap]\nidle_keepalive = "30s"\n',
            "c.toml:4: imap.idle_keepalive: is outside 60s to 270s",
        ),
        (
            SERVER + "[retention]\nquota_trim_low = 80\n",
            "c.toml:4: retention.quota_trim_low: is above retention.quota_trim_high",
        ),
        (
            SERVER + '[retention]\ninterval = "0s"\n',
            "c.toml:4: retention.interval: is below 1s",
        ),
        (
            SERVER + '[turn]\nrelay_ports = "3000-4000"\n',
            "c.toml:4: turn.relay_ports: contains the control port 3478",
        ),
        (
            SERVER + '[turn]\nrelay_ports = "many"\n',
            'c.toml:4: turn.relay_ports: "many" is not a range (use 49152-51199)',
        ),
        (
            SERVER + '[turn]\nrelay_ports = "50000-70000"\n',
            "c.toml:4: turn.relay_ports: ports are 1 to 65535",
        ),
        (
            SERVER + '[listen]\nimap = ["192.0.2.1:993"]\n',
            "c.toml:4: listen.imaps: *:993 is taken by listen.imap",
        ),
        (
            SERVER + '[listen]\nhttp = ["unix:/x"]\nhttps = ["unix:/x"]\n',
            "c.toml:5: listen.https: unix:/x is taken by listen.http",
        ),
        (
            SERVER + '[admin]\npath = "/admin/api"\n',
            "c.toml:4: admin.path: is equal to or inside admin.web_path (/admin)",
        ),
        (
            SERVER + '[admin]\npath = "/admin"\n',
            "c.toml:4: admin.path: is equal to or inside admin.web_path (/admin)",
        ),
        (
            SERVER + '[admin]\npath = "/new"\n',
            'c.toml:4: admin.path: "/new" collides with /new',
        ),
        (
            SERVER + '[admin]\nweb_path = "/.well-known/admin"\n',
            'c.toml:4: admin.web_path: "/.well-known/admin" collides with /.well-known',
        ),
        (
            SERVER + '[admin]\npath = "api"\n',
            'c.toml:4: admin.path: "api" is not a path below /',
        ),
        (
            SERVER + '[admin]\ntoken = "0123456789012345678901234567890"\n',
            "c.toml:4: admin.token: is shorter than 32 characters",
        ),
        (
            SERVER + '[admin]\ncors_origins = ["https://a.test/path"]\n',
            'c.toml:4: admin.cors_origins: "https://a.test/path" is not an origin'
            " (scheme://host, no path)",
        ),
        (
            SERVER + '[webmail]\ncors_origins = ["a.test"]\n',
            'c.toml:4: webmail.cors_origins: "a.test" is not an origin (scheme://host, no path)',
        ),
        (
            SERVER + '[tls]\nmode = "acme"\n[listen]\nhttp = []\n',
            "c.toml:6: tls.acme_challenge: http-01 needs port 80, but listen.http is empty",
        ),
        (
            SERVER + '[tls]\nmode = "files"\n',
            'c.toml:4: tls.cert: is missing (tls.mode is "files")',
        ),
        (
            SERVER + '[gate]\npassthrough_senders = ["@a.test"]\n',
            'c.toml:4: gate.passthrough_senders: "@a.test" is not an address',
        ),
        (
            SERVER + '[database]\nurl = "mysql://x"\n',
            "c.toml:4: database.url: is neither sqlite, sqlite:PATH nor postgresql://…",
        ),
    ],
)
def test_values_that_do_not_fit_are_problems(tmp_path: Path, text: str, expected: str) -> None:
    found, _ = outcome(tmp_path, text)
    assert expected in found


@pytest.mark.parametrize(
    "text",
    [
        SERVER + '[listen]\nimap = ["127.0.0.1:0"]\nimaps = ["127.0.0.1:0"]\n',
        SERVER + '[listen]\nimap = ["127.0.0.1:143"]\nimaps = ["127.0.0.2:143"]\n',
        SERVER + '[admin]\npath = "/newer"\ncors_origins = ["https://a.test:8443", "*"]\n',
        SERVER + '[gate]\npassthrough_recipients = ["@a.test", "b@a.test"]\n',
        SERVER + "[limits]\nsend_rate_per_minute = 0\nsend_burst = 0\n",
        SERVER + '[database]\nurl = "postgresql://user@host:5432/name"\n',
        SERVER + '[listen]\nmetrics = ["127.0.0.1:3903", "[::1]:3903"]\n',
    ],
)
def test_values_that_fit_pass_silently(tmp_path: Path, text: str) -> None:
    assert outcome(tmp_path, text) == ([], [])


@pytest.mark.parametrize(
    ("text", "mode", "expected"),
    [
        (SERVER + '[listen]\nmetrics = ["*:3903"]\n', 0o600, "METRICS ARE OPEN TO EVERYBODY"),
        (
            SERVER + '[storage]\nfsync = "never"\n',
            0o600,
            "has no effect, every message is synced before its 250",
        ),
        (SERVER + '[turn]\nsecret = "x"\n', 0o644, "everybody on this machine can read"),
        (
            SERVER + '[database]\nurl = "postgresql://u:p@h/n"\n',
            0o644,
            "everybody on this machine can read",
        ),
        (
            SERVER + '[tls]\nmode = "acme"\n[listen]\nhttp = ["*:8080"]\n',
            0o600,
            "http-01 comes in on port 80",
        ),
    ],
)
def test_risks_are_warnings(tmp_path: Path, text: str, mode: int, expected: str) -> None:
    found, (warning,) = outcome(tmp_path, text, mode)
    assert found == []
    assert expected in warning


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        (SERVER + '[turn]\nsecret = "x"\n', 0o640),
        (SERVER + '[turn]\nsecret = "${ENV:PATH}"\n', 0o644),
        (SERVER + '[database]\nurl = "postgresql://u@h/n"\n', 0o644),
        (SERVER, 0o644),
    ],
)
def test_files_without_readable_secrets_raise_no_alarm(
    tmp_path: Path, text: str, mode: int
) -> None:
    if "ENV" in text:
        text = text.replace("${ENV:PATH}", "${FILE:secret}")
        (tmp_path / "secret").write_text("x")
    assert outcome(tmp_path, text, mode) == ([], [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('domain = "relay.example.org"', "acme"),
        ('domain = "_relay.example.org"', "self-signed"),
        ('domain = "relay.test"', "self-signed"),
        ('domain = "relay.local"', "self-signed"),
        ('domain = "abc.onion"', "self-signed"),
        ('ip = "127.0.0.1"', "self-signed"),
        ('ip = "9.9.9.9"', "self-signed"),
        ('ip = "9.9.9.9"\n[tls]\nacme_ip = true', "acme"),
        ('ip = "10.0.0.1"\n[tls]\nacme_ip = true', "self-signed"),
        ('domain = "relay.example.org"\n[tls]\nmode = "external-proxy"', "external-proxy"),
    ],
)
def test_tls_mode_is_detected(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[server]\n" + text + "\n")
    assert tls_mode(load_config(file, {}).boot) == expected
