"""Object identifiers of mailboxes and messages, derived and not stored.

An id is a keyed hash of what the store never changes. So it is the same after a restart, says
nothing of how many mailboxes and messages there are, and differs between accounts for one message.
Numbers of rows alone would not do: the highest may be given again after a deletion.
Source:  RFC 8474 §3, §8.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final

from chatmail.adapters.storage.segments import Place
from chatmail.domain.model.account import AccountId
from chatmail.domain.model.mailbox import MailboxEntry, MailboxInfo

ID_BYTES: Final = 15
"""Twenty characters of base64."""


class KeyedObjectIds:
    """`ObjectIds` of the store: hashes with a key of this server."""

    def __init__(self, server_key: bytes) -> None:
        self._server_key = server_key
        self._key = self.derive(b"object ids")

    def derive(self, purpose: bytes) -> bytes:
        """Return the key for one purpose: the same after a restart, and in all processes."""
        return hmac.digest(self._server_key, purpose, hashlib.sha256)

    def mailbox(self, info: MailboxInfo) -> str:
        """Return the MAILBOXID of a mailbox: it stays when the name changes."""
        # A later mailbox of the account has a larger UIDVALIDITY, even where its row has the number
        # of one that was deleted.
        return "F" + self._hashed(b"mailbox", info.id, info.uid_validity)

    def email(self, account: AccountId, entry: MailboxEntry) -> str:
        """Return the EMAILID of a message: that of its copies in other mailboxes too."""
        place: Place = entry.blob
        return "M" + self._hashed(b"email", account, place.blob, entry.size, entry.internal_date_s)

    def _hashed(self, kind: bytes, *numbers: int) -> str:
        text = b" ".join((kind, *(b"%d" % number for number in numbers)))
        digest = hmac.digest(self._key, text, hashlib.sha256)[:ID_BYTES]
        return base64.urlsafe_b64encode(digest).decode("ascii")
