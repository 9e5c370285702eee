"""What the SMTP client says, and what it learns of the server's EHLO.

Source:  RFC 5321 §4.1; RFC 1870, 6152.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.wire.smtp.client_events import Transaction


def mail_command(transaction: Transaction, capabilities: Mapping[str, str]) -> str:
    """Return MAIL with the parameters that the server offers."""
    sender = transaction.reverse_path
    command = f"MAIL FROM:<{path(sender) if sender else ''}>"
    if "SIZE" in capabilities:
        command += f" SIZE={transaction.size}"
    if transaction.is_eight_bit and "8BITMIME" in capabilities:
        command += " BODY=8BITMIME"
    return command


def parse_capabilities(lines: tuple[str, ...]) -> Mapping[str, str]:
    """Return keyword → parameters, both in upper case (RFC 5321 §4.1.1.1)."""
    found = {}
    for line in lines:
        keyword, _, parameters = line.strip().upper().partition(" ")
        found[keyword] = parameters.strip()
    return found


_DOT_STRING: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z"
)


def path(address: EmailAddress) -> str:
    """Return an address as it stands between `<` and `>` (RFC 5321 §4.1.2), quoted if it must.

    The local part is the writer's, in his spelling (federation-web.md, address normal form).
    """
    local = address.written or address.local
    if _DOT_STRING.match(local):
        return f"{local}@{address.domain}"
    quoted = local.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"@{address.domain}'
