"""What an operator does with a running relay, and with one that does not run."""

from __future__ import annotations

import imaplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import wire
from tests.e2e.configured import ConfiguredRelay, running
from tests.e2e.mailbox import newcomer
from tests.e2e.raw import client
from tests.e2e.rawsmtp import submitter
from tests.e2e.relay import Relay, wait_until
from tests.e2e.stopwatch import Stopwatch
from tests.e2e.test_settings import said, tool
from tests.e2e.web import Web


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredRelay]:
    with running(tmp_path_factory.mktemp("operator")) as relay:
        yield relay


class NamedRelay(ConfiguredRelay):
    """A relay with a name instead of an address."""

    def write_config(self) -> None:
        super().write_config()
        text = self.config.read_text()
        named = 'domain = "chat.example"\npublic_ips = ["192.0.2.1"]'
        self.config.write_text(text.replace('ip = "127.0.0.1"', named))


def is_gone(session: imaplib.IMAP4) -> bool:
    try:
        session.noop()
    except (imaplib.IMAP4.abort, OSError):
        return True
    return False


def test_the_relay_passes_its_own_test(relay: Relay) -> None:
    data = said(relay, "test", "--local")
    assert data["failed"] == []
    assert said(relay, "accounts", "list")["accounts"] == []
    assert said(relay, "ban-list")["entries"] == []


def test_a_ban_ends_open_sessions_at_once_and_keeps_the_name(relay: Relay) -> None:
    """Spec policy T-22, admin 10.30: IDLE and SMTP within a second, JIT until the ban is lifted."""
    account = newcomer(relay)
    stopwatch = Stopwatch(relay)
    with client(relay, account, "INBOX") as raw, submitter(relay, account) as smtp:
        raw.idle()
        session = wire.imap(relay, *account)
        said(relay, "accounts", "ban", account[0], "spam")
        stopwatch.start()
        assert raw.idle_line().startswith(b"* BYE")
        assert smtp.line().startswith(b"421 ")
        assert smtp.is_closed()
        took = stopwatch.elapsed_s()
        wait_until("the session ended", lambda: is_gone(session))
        session.shutdown()
    print(f"sessions ended {took * 1000:.0f} ms after the answer")
    assert took < 1
    assert said(relay, "accounts", "info", account[0])["block_reason"] == "spam"
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        wire.imap(relay, *account)
    said(relay, "accounts", "unban", account[0])
    wire.imap(relay, *account).logout()
    said(relay, "accounts", "delete", account[0], "-y")
    assert said(relay, "accounts", "info", account[0])["credentials"] is False


def test_an_account_made_by_the_operator_can_log_in(relay: Relay) -> None:
    made = said(relay, "accounts", "create-random")
    wire.imap(relay, made["email"], made["password"]).logout()
    assert said(relay, "accounts", "info", made["email"])["last_login_at"] > 0


def test_an_ip_relay_needs_no_records(relay: Relay) -> None:
    assert "no records needed" in tool(relay, "dns", "zone").stdout
    assert tool(relay, "dns").returncode == 0


def test_a_named_relay_prints_its_zone_and_misses_it_in_dns(tmp_path: Path) -> None:
    relay = NamedRelay(tmp_path, tables={"dns": {"servers": '["127.0.0.1:9"]'}})
    relay.start()
    assert "chat.example. 3600 IN MX 10 " in tool(relay, "dns", "zone").stdout
    done = tool(relay, "dns", "check", "--no-probes")
    assert done.returncode == 6
    assert relay.stop() == 0


def test_what_is_said_is_kept_and_can_be_said_to_a_stopped_relay(relay: ConfiguredRelay) -> None:
    said(relay, "federation", "block", "spam.example")
    said(relay, "endpoint-cache", "set", "peer.example", "https://peer.test:8443/in")
    assert relay.stop() == 0
    assert said(relay, "federation", "list")["rules"][0]["domain"] == "spam.example"
    said(relay, "federation", "policy", "reject")
    assert said(relay, "queue")["count"] == 0
    assert tool(relay, "test").returncode == 3
    relay.start()
    assert said(relay, "federation", "status")["policy"] == "REJECT"
    said(relay, "federation", "flush", "-y")
    said(relay, "federation", "policy", "accept")
    said(relay, "endpoint-cache", "remove", "peer.example")


def test_keys_are_shown_served_and_rotated(tmp_path: Path) -> None:
    relay = NamedRelay(tmp_path, tables={"dns": {"servers": '["127.0.0.1:9"]'}})
    relay.start()
    (key,) = said(relay, "dkim", "show")["keys"]
    assert key["name"] == "opendkim._domainkey.chat.example"
    assert key["value"].startswith("v=DKIM1;k=rsa;p=MIIBIjAN")
    assert key["rdata"] in tool(relay, "dns", "zone").stdout
    served = Web(relay).get("/.well-known/_domainkey/opendkim")
    assert served.body.decode() == key["value"]
    assert said(relay, "dkim", "rotate")["state"] == "made"
    assert said(relay, "dkim", "rotate")["state"] == "waiting"
    assert said(relay, "dkim", "rotate", "--force")["state"] == "switched"
    assert relay.stop() == 0
    (key,) = said(relay, "dkim", "show")["keys"]
    assert key["selector"].startswith("opendkim-2")
    assert key["in_use"]
