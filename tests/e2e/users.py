"""Those who write to each other: users of a relay, and strangers at its doors for other relays."""

from __future__ import annotations

import email
import email.policy
import http.client
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.message import EmailMessage

from tests.e2e import mailbox, wire
from tests.e2e.rawsmtp import RawSmtp, Reply, submitter
from tests.e2e.relay import Relay, wait_until
from tests.patience import PATIENCE_S

REPORT_S = 15 + PATIENCE_S
"""How long a report on inbound mail may take: it is held back for 2 to 15 s (B7.2)."""


@dataclass
class User:
    """An account of a relay."""

    relay: Relay
    account: tuple[str, str]

    @classmethod
    def of(cls, relay: Relay) -> User:
        """Return a new user."""
        return cls(relay, mailbox.newcomer(relay))

    @property
    def address(self) -> str:
        return self.account[0]

    def send(self, *recipients: str, size: int = 2000) -> tuple[str, Reply]:
        """Submit an encrypted message; returns its Message-ID and the verdict."""
        message_id, octets = wire.encrypted(self.address, size)
        return message_id, self.submit(octets, *recipients)

    def submit(self, octets: bytes, *recipients: str) -> Reply:
        """Submit octets of one's own; returns the verdict."""
        with submitter(self.relay, self.account) as client:
            return client.submit(self.address, recipients, octets)

    def inbox(self) -> list[bytes]:
        """Return every message."""
        return mailbox.messages(self.relay, self.account)

    def find(self, message_id: str) -> list[bytes]:
        """Return the messages with a Message-ID."""
        return [octets for octets in self.inbox() if message_id_of(octets) == message_id]

    def await_message(self, message_id: str, timeout_s: float = PATIENCE_S) -> bytes:
        """Wait until a message has arrived, and see that it did once."""
        wait_until(f"{message_id} arrived", lambda: self.find(message_id), timeout_s)
        [found] = self.find(message_id)
        return found

    def reports(self) -> list[Report]:
        """Return the delivery reports in INBOX."""
        parsed = [parse(octets) for octets in self.inbox()]
        return [Report(m) for m in parsed if m.get_content_type() == "multipart/report"]

    def await_report(self, message_id: str, timeout_s: float = PATIENCE_S) -> Report:
        """Wait until a report on a message has come, and see that there is one."""

        def found() -> list[Report]:
            return [report for report in self.reports() if report.about == message_id]

        wait_until(f"a report on {message_id} came", found, timeout_s)
        [report] = found()
        return report


@dataclass(frozen=True)
class Report:
    """A delivery report, as core reads it (federation-web.md A10)."""

    message: EmailMessage

    @property
    def parts(self) -> list[EmailMessage]:
        return [part for part in self.message.iter_parts() if isinstance(part, EmailMessage)]

    @property
    def text(self) -> str:
        return str(self.parts[0].get_content())

    @property
    def blocks(self) -> list[EmailMessage]:
        """The blocks of recipients."""
        return list(self.parts[1].get_payload())[1:]  # type: ignore[arg-type]

    @property
    def failed(self) -> dict[str, str]:
        """Failed recipients with their status."""
        assert all(block["Action"] == "failed" for block in self.blocks)
        return {
            str(block["Final-Recipient"]).partition(";")[2].strip(): str(block["Status"])
            for block in self.blocks
        }

    @property
    def diagnostics(self) -> str:
        return "\n".join(str(block["Diagnostic-Code"]) for block in self.blocks)

    @property
    def about(self) -> str:
        """The Message-ID of the message that failed: the one key core has."""
        return message_id_of(self.parts[2].as_bytes().partition(b"\n\n")[2].replace(b"\n", b"\r\n"))


def parse(octets: bytes) -> EmailMessage:
    """Return a message as the standard library reads it."""
    parsed = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    return parsed


def message_id_of(octets: bytes) -> str:
    """Return the Message-ID, empty if there is none."""
    found = re.search(rb"(?im)^message-id:\s*(<[^>\r\n]+>)", octets)
    return found[1].decode() if found else ""


# --- strangers ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """What a door said: the HTTP status (0 on port 25) and the reply line in SMTP form."""

    status: int
    line: str

    @property
    def code(self) -> int:
        return int(self.line[:3])


Door = Callable[[Relay, str, Sequence[str], bytes], Said]


def by_smtp(relay: Relay, sender: str, recipients: Sequence[str], octets: bytes) -> Said:
    """Hand in at port 25; the first refusal is what was said."""
    with RawSmtp(relay, "smtp").secure() as client:
        reply = client.command(f"MAIL FROM:<{sender}>")
        for recipient in recipients:
            reply = client.command(f"RCPT TO:<{recipient}>") if reply.code == 250 else reply
        if reply.code == 250 and client.command("DATA").code == 354:
            reply = client.content(octets)
        return Said(0, reply.whole)


def by_https(relay: Relay, sender: str, recipients: Sequence[str], octets: bytes) -> Said:
    """Hand in at /mxdeliv."""
    headers = [("X-Mail-From", sender), *(("X-Mail-To", recipient) for recipient in recipients)]
    status, body, _ = post(relay, headers, octets)
    return Said(status, body.decode().strip())


def post(
    relay: Relay,
    headers: Sequence[tuple[str, str]],
    octets: bytes,
    *,
    method: str = "POST",
    path: str = "/mxdeliv",
) -> tuple[int, bytes, http.client.HTTPMessage]:
    """Send one request with headers as they are; returns status, body, headers."""
    client = http.client.HTTPSConnection(
        "127.0.0.1", relay.ports["https"], timeout=PATIENCE_S, context=wire.tls()
    )
    try:
        client.putrequest(method, path)
        for name, value in headers:
            client.putheader(name, value)
        client.putheader("Content-Length", str(len(octets)))
        client.endheaders(octets)
        response = client.getresponse()
        return response.status, response.read(), response.headers
    finally:
        client.close()
