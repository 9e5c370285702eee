"""What processes on one database tell each other with a commit.

A notice is a letter and a number; several stand in one text, blanks between. The first word names
the sender. Unknown letters are left alone, so that versions can live side by side.

    m<mailbox>:<modseq>   the mailbox has reached this modseq (or is gone)
    n<account>            mailboxes of the account were made, removed, renamed or subscribed
    a<account>            the account was changed, blocked or removed
    t<account>            its push tokens have changed
    s<generation>         the stored settings have changed
    r                     a report is due
    o                     mail for another relay is due
    h<domain>             what is known of a peer has changed, or was forgotten
    f                     the operator's rules about other relays have changed
    p                     nothing; the sender looks whether it hears itself
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

MAX_TEXT_OCTETS: Final = 7900
"""PostgreSQL takes payloads below 8000 octets."""

REPORTS: Final = "r"
OUTBOUND: Final = "o"
PEERS: Final = "f"
PING: Final = "p"

_PLAIN: Final = {REPORTS: "reports", OUTBOUND: "outbound", PEERS: "peers"}


def mailbox_changed(mailbox: int, modseq: int) -> str:
    """A mailbox has reached a modseq."""
    return f"m{mailbox}:{modseq}"


def names_changed(account: int) -> str:
    """The mailboxes of an account are others, or have other names."""
    return f"n{account}"


def account_changed(account: int) -> str:
    """The row of an account has changed, or is gone."""
    return f"a{account}"


def tokens_changed(account: int) -> str:
    """The push tokens of an account have changed."""
    return f"t{account}"


def settings_changed(generation: int) -> str:
    """The stored settings have reached a generation."""
    return f"s{generation}"


def peer_learned(domain: str) -> str:
    """What attempts have taught about a domain is stored anew, or forgotten."""
    return f"h{domain}"


def texts(sender: str, notices: Iterable[str]) -> list[str]:
    """Return the notices as few texts, each below the limit."""
    found: list[str] = []
    words, size = [sender], len(sender)
    for notice in dict.fromkeys(notices):
        if size + 1 + len(notice) > MAX_TEXT_OCTETS:
            found.append(" ".join(words))
            words, size = [sender], len(sender)
        words.append(notice)
        size += 1 + len(notice)
    if len(words) > 1:
        found.append(" ".join(words))
    return found


@attrs.define
class News:
    """What others have told, gathered over several texts."""

    mailboxes: set[int] = attrs.field(factory=set)
    names: set[int] = attrs.field(factory=set)
    accounts: set[int] = attrs.field(factory=set)
    tokens: set[int] = attrs.field(factory=set)
    settings: bool = False
    reports: bool = False
    outbound: bool = False
    peers: bool = False
    learned: set[str] = attrs.field(factory=set)
    heard_self: bool = False

    def __bool__(self) -> bool:
        return bool(self.mailboxes or self.names or self.accounts or self.tokens)

    def add(self, text: str, own: str) -> None:
        """Take in one text; what cannot be read is left alone: it is a hint."""
        sender, *notices = text.split(" ")
        if sender == own:
            self.heard_self = True
            return
        for notice in notices:
            kind, number = notice[:1], notice[1:].partition(":")[0]
            if notice in _PLAIN:
                setattr(self, _PLAIN[notice], True)
            elif kind == "s":
                self.settings = True
            elif kind == "h":
                self.learned.add(notice[1:])
            elif number.isascii() and number.isdigit() and kind in "mnat":
                self._of(kind).add(int(number))

    def _of(self, kind: str) -> set[int]:
        kinds = {"m": self.mailboxes, "n": self.names, "a": self.accounts, "t": self.tokens}
        return kinds[kind]
