"""What is said before TLS counts for nothing; ALPN, SNI, tickets and versions.

Numbers in docstrings are those of spec mail 11.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from collections.abc import Iterator

import pytest

from tests.e2e import wire
from tests.e2e.raw import Closed, RawImap, running, smtp_auth
from tests.e2e.rawsmtp import plain
from tests.e2e.relay import Relay
from tests.patience import PATIENCE_S


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """One relay for the whole file."""
    with running(Relay(tmp_path_factory.mktemp("doors"))) as relay:
        yield relay


# --- 25: injection before TLS -------------------------------------------------------------------


@pytest.mark.parametrize("behind", ["A2 LOGIN {} {}\r\n", "A2", "\r\n"])
def test_cleartext_behind_starttls_closes_the_connection(relay: Relay, behind: str) -> None:
    """25: IMAP; nothing is answered and nothing of it is executed."""
    account = relay.credentials()
    with RawImap(relay, "imap") as raw:
        raw.greet()
        raw.send(b"A1 STARTTLS\r\n" + behind.format(*account).encode())
        assert raw.rest() == b""
    assert smtp_auth(relay, (account[0], "another password")) == 235, "the account was made"


def test_cleartext_behind_smtp_starttls_closes_the_connection(relay: Relay) -> None:
    """25: SMTP."""
    account = relay.credentials()
    injected = f"EHLO x\r\nAUTH PLAIN {plain(*account).decode()}\r\n"
    with socket.create_connection(("127.0.0.1", relay.ports["submission"]), PATIENCE_S) as raw:
        assert raw.recv(1000).startswith(b"220 ")
        raw.sendall(b"EHLO x\r\n")
        assert b"STARTTLS" in raw.recv(1000)
        raw.sendall(b"STARTTLS\r\n" + injected.encode())
        told = b""
        with contextlib.suppress(ConnectionError):
            while octets := raw.recv(1000):
                told += octets
    assert told == b""
    assert smtp_auth(relay, (account[0], "another password")) == 235


# --- 43: ALPN -----------------------------------------------------------------------------------


def certificate_at(relay: Relay, face: str, alpn: list[str], name: str | None = None) -> bytes:
    context = wire.tls()
    if alpn:
        context.set_alpn_protocols(alpn)
    with (
        socket.create_connection(("127.0.0.1", relay.ports[face]), PATIENCE_S) as raw,
        context.wrap_socket(raw, server_hostname=name) as tls,
    ):
        octets = tls.getpeercert(binary_form=True)
    assert octets is not None
    return octets


def test_alpn_on_443_chooses_the_face(relay: Relay) -> None:
    """43."""
    account = relay.credentials()
    for offered in (["imap"], ["imap", "http/1.1"]):
        with RawImap(relay, "https", alpn=offered) as raw:
            assert isinstance(raw.socket, ssl.SSLSocket)
            assert raw.socket.selected_alpn_protocol() == "imap"
            raw.greet()
            raw.log_in(account)
            raw.select()
    with RawImap(relay, "https", alpn=["smtp"]) as raw:
        assert raw.line().startswith(b"220 ")
        raw.send(b"EHLO [127.0.0.1]\r\n")
        while (line := raw.line()).startswith(b"250-"):
            assert b"STARTTLS" not in line
        raw.send(b"AUTH PLAIN " + plain(*account) + b"\r\n")
        assert raw.line().startswith(b"235 ")
    for offered in ([], ["http/1.1"], ["something-else"]):
        context = wire.tls()
        if offered:
            context.set_alpn_protocols(offered)
        web = http.client.HTTPSConnection(
            "127.0.0.1", relay.ports["https"], timeout=60, context=context
        )
        with contextlib.closing(web):
            web.request("GET", "/")
            assert web.getresponse().status == 200, offered
    with RawImap(relay, "https", alpn=["h2"]) as raw:
        assert isinstance(raw.socket, ssl.SSLSocket)
        assert raw.socket.selected_alpn_protocol() == "h2"
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        assert raw.exactly(4)[3:] == b"\4", "no SETTINGS frame"


def test_every_tls_door_shows_one_certificate_with_and_without_sni(relay: Relay) -> None:
    """43; spec 1.3."""
    shown = {
        certificate_at(relay, face, alpn, name)
        for face, alpn in [
            ("https", ["imap"]),
            ("https", ["smtp"]),
            ("https", []),
            ("https", ["h2", "http/1.1"]),
            ("imaps", []),
            ("imaps", ["imap"]),
            ("submissions", []),
            ("submissions", ["smtp"]),
        ]
        for name in (None, "mail.elsewhere.example")
    }
    assert len(shown) == 1


def test_mail_ports_refuse_the_protocol_of_another_face(relay: Relay) -> None:
    """43; spec 1.2 (EXTRA): ALPACA."""
    for face, alpn in (("imaps", "smtp"), ("submissions", "imap"), ("imaps", "http/1.1")):
        with contextlib.suppress(OSError, Closed), RawImap(relay, face, alpn=[alpn]) as raw:
            assert isinstance(raw.socket, ssl.SSLSocket)
            assert raw.socket.selected_alpn_protocol() is None or raw.rest() == b""


def test_tls_tickets_resume_and_old_tls_is_refused(relay: Relay) -> None:
    """Spec 1.3: TLS 1.3 only, with tickets."""
    context = wire.tls()
    with (
        socket.create_connection(("127.0.0.1", relay.ports["imaps"]), PATIENCE_S) as raw,
        context.wrap_socket(raw) as tls,
    ):
        assert tls.recv(1000).startswith(b"* OK ")
        session = tls.session
        assert tls.version() == "TLSv1.3"
        assert session is not None
        assert session.has_ticket
    with (
        socket.create_connection(("127.0.0.1", relay.ports["imaps"]), PATIENCE_S) as raw,
        context.wrap_socket(raw, session=session) as tls,
    ):
        assert tls.recv(1000).startswith(b"* OK ")
        assert tls.session_reused
    context = wire.tls()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        pytest.raises(OSError, match=r".*"),
        socket.create_connection(("127.0.0.1", relay.ports["imaps"]), PATIENCE_S) as raw,
        context.wrap_socket(raw) as tls,
    ):
        pass
