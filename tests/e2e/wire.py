"""Plain clients of the standard library, and messages the gate lets through."""

from __future__ import annotations

import imaplib
import secrets
import smtplib
import ssl

from tests.builders import make_message
from tests.e2e.relay import Relay
from tests.patience import PATIENCE_S


def tls() -> ssl.SSLContext:
    """A context that accepts the relay's self-signed certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def imap(relay: Relay, address: str, password: str) -> imaplib.IMAP4_SSL:
    """A logged-in IMAP connection."""
    client = imaplib.IMAP4_SSL(
        "127.0.0.1", relay.ports["imaps"], ssl_context=tls(), timeout=PATIENCE_S
    )
    try:
        client.login(address, password)
    except imaplib.IMAP4.error:
        client.shutdown()
        raise
    return client


def smtp(relay: Relay, address: str, password: str) -> smtplib.SMTP_SSL:
    """A logged-in submission connection."""
    client = smtplib.SMTP_SSL(
        "127.0.0.1", relay.ports["submissions"], context=tls(), timeout=PATIENCE_S
    )
    client.login(address, password)
    return client


def encrypted(sender: str, size: int = 2000) -> tuple[str, bytes]:
    """A message in the shape of Delta Chat core; returns its Message-ID and octets."""
    message_id = f"<{secrets.token_hex(12)}@e2e.example>"
    octets = make_message(sender=sender, size=size * 3 // 4, message_id=message_id)
    return message_id, octets
