"""Connections of the self-test: what mail programs and other relays open. Blocking."""

from __future__ import annotations

import http.client
import imaplib
import smtplib
import socket
import ssl
from collections.abc import Mapping
from typing import Final

import attrs

PATIENCE_S: Final = 20.0
HELLO: Final = "selftest.invalid"


@attrs.frozen(kw_only=True)
class Target:
    """A relay to be tested. `ports`: face → (host, port); a face that is off is not there.

    `hostname` is the name in its certificate. `context` says what of the certificate counts.
    """

    domain: str
    hostname: str
    ports: Mapping[str, tuple[str, int]]
    context: ssl.SSLContext

    def imap(self) -> imaplib.IMAP4:
        """Open IMAP. Raises:  OSError, imaplib.IMAP4.error."""
        if "imaps" in self.ports:
            host, port = self.ports["imaps"]
            return _ImapOverTls(host, port, self)
        host, port = self.ports["imap"]
        client = imaplib.IMAP4(host, port, timeout=PATIENCE_S)
        client.starttls(self.context)
        return client

    def submission(self) -> smtplib.SMTP:
        """Open submission, greeted. Raises:  OSError, smtplib.SMTPException."""
        if "submissions" in self.ports:
            host, port = self.ports["submissions"]
            client: smtplib.SMTP = _SmtpOverTls(host, port, self)
        else:
            host, port = self.ports["submission"]
            client = smtplib.SMTP(host, port, local_hostname=HELLO, timeout=PATIENCE_S)
            client.starttls(context=self.context)
        client.ehlo()
        return client

    def relay_door(self) -> smtplib.SMTP:
        """Open the door for other relays, greeted, in clear. Raises:  as `submission`."""
        host, port = self.ports["smtp"]
        client = smtplib.SMTP(host, port, local_hostname=HELLO, timeout=PATIENCE_S)
        client.ehlo()
        return client

    def start_tls(self, client: smtplib.SMTP) -> None:
        """Go on with TLS. Raises:  as `submission`."""
        client.starttls(context=self.context)
        client.ehlo()

    def post(self, path: str, fields: Mapping[str, str], body: bytes = b"") -> tuple[int, str]:
        """POST over HTTPS; returns status and first line. Raises:  OSError, HTTPException."""
        host, port = self.ports["https"]
        client = http.client.HTTPSConnection(host, port, timeout=PATIENCE_S, context=self.context)
        try:
            client.sock = self.tls(host, port)
            client.request("POST", path, body, {**fields, "Host": self.hostname})
            answer = client.getresponse()
            text = answer.read(4096).decode("utf-8", "replace")
            return answer.status, text.partition("\n")[0].strip()
        finally:
            client.close()

    def tls(self, host: str, port: int) -> ssl.SSLSocket:
        """Open a TLS connection under the relay's name. Raises:  OSError."""
        raw = socket.create_connection((host, port), PATIENCE_S)
        try:
            return self.context.wrap_socket(raw, server_hostname=self.hostname)
        except BaseException:
            raw.close()
            raise


def verified() -> ssl.SSLContext:
    """Return a context that believes what the system believes."""
    return ssl.create_default_context()


def unverified() -> ssl.SSLContext:
    """Return a context that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class _ImapOverTls(imaplib.IMAP4):
    """IMAP over TLS under a name that need not be the address."""

    def __init__(self, host: str, port: int, target: Target) -> None:
        self._target = target
        super().__init__(host, port, timeout=PATIENCE_S)

    def _create_socket(self, timeout: float | None) -> socket.socket:
        return self._target.tls(self.host, self.port)


class _SmtpOverTls(smtplib.SMTP):
    """SMTP over TLS under a name that need not be the address."""

    def __init__(self, host: str, port: int, target: Target) -> None:
        self._target = target
        super().__init__(host, port, local_hostname=HELLO, timeout=PATIENCE_S)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self._target.tls(host, port)
