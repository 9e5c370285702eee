"""What clients of the SMTP face say in these tests, and what they hear."""

from __future__ import annotations

from chatmail.domain.model.address import EmailAddress
from tests.unit.adapters.smtp.fakes import USER

ALICE = EmailAddress.parse(USER)
BOB = EmailAddress.parse("bob@relay.example")
MAIL = b"MAIL FROM:<alice@relay.example> BODY=8BITMIME\r\n"
RCPT = b"RCPT TO:<bob@relay.example>\r\n"
ENVELOPE = MAIL + RCPT + b"DATA\r\n"
GO_AHEAD = b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n"
CONTENT = b"From: alice@relay.example\r\n\r\n..dot\r\nhi\r\n.\r\n"
STORED = b"From: alice@relay.example\r\n\r\n.dot\r\nhi\r\n"
