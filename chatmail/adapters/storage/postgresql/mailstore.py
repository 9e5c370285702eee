"""Mailboxes of a database that other processes write too."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from chatmail.adapters.storage.index import AccountRecord
from chatmail.adapters.storage.loaded import LoadedMailbox
from chatmail.adapters.storage.mailstore import SqlMailStore
from chatmail.adapters.storage.postgresql.contents import (
    ContentMissing,
    Part,
    RecentContents,
    read_parts,
)
from chatmail.adapters.storage.postgresql.index import SharedIndex
from chatmail.adapters.storage.postgresql.link import Link
from chatmail.adapters.storage.postgresql.writer import Refresh
from chatmail.adapters.storage.reader import Reader
from chatmail.adapters.storage.writer import Log, Writer
from chatmail.domain.model.account import AccountId
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.mailbox import MailboxEntry, MailboxId


class SharedMailStore(SqlMailStore):
    """`MailStore` that looks at the rows before it answers SELECT, LIST, STATUS and QUOTA."""

    def __init__(
        self,
        writer: Writer,
        reader: Reader,
        index: SharedIndex,
        link: Link,
        recent: RecentContents,
        log: Log,
    ) -> None:
        super().__init__(writer, reader, index, log)
        self._link = link
        self._recent = recent

    async def read_many(
        self, wanted: Sequence[tuple[MailboxEntry, int, int]]
    ) -> builtins.list[bytes]:
        """`read` for several parts; no checkpoint when all of it was stored a moment ago."""
        parts = [Part.of(*one) for one in wanted]
        found = [b"" if not part.length else self._recent.part(part) for part in parts]
        cold = [place for place, octets in enumerate(found) if octets is None]
        if cold:
            asked = [parts[place] for place in cold]
            try:
                octets = await self._reader.run(read_parts, self._link, asked)
            except ContentMissing as error:
                self._log.warning("content_row_missing")
                raise TransientFailure("the message cannot be read") from error
            for place, one in zip(cold, octets, strict=True):
                found[place] = one
        return [octets or b"" for octets in found]

    async def _load(self, mailbox: MailboxId) -> LoadedMailbox | None:
        loaded = await super()._load(mailbox)
        if loaded is not None:
            # It may be newer than what was known of it until now.
            self._index.publish_head(loaded.head)
        return loaded

    async def _settle(self, account: AccountId) -> None:
        """Catch up with what others have committed."""
        await self._writer.do(Refresh(account))

    async def _record(self, account: AccountId) -> AccountRecord | None:
        return (await self._writer.do(Refresh(account))).record
