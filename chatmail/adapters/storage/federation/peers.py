"""Everything that is known of other relays, as it was stored."""

from __future__ import annotations

import attrs
from sqlalchemy import Connection

from chatmail.adapters.storage.database import translated
from chatmail.adapters.storage.federation.directory import SqlPeerDirectory, read_directory
from chatmail.adapters.storage.federation.ledger import SqlPeerLedger
from chatmail.adapters.storage.federation.memory import SqlPeerMemory
from chatmail.adapters.storage.federation.peer_sql import PeerStatements
from chatmail.adapters.storage.writer import Writer


@attrs.frozen
class Peers:
    """The three ports about peers."""

    directory: SqlPeerDirectory
    memory: SqlPeerMemory
    ledger: SqlPeerLedger


def read_peers(connection: Connection, writer: Writer) -> Peers:
    """Read what is stored; blocks. Raises:  StorageFault."""
    with translated():
        sql = PeerStatements(connection)
        return Peers(
            SqlPeerDirectory(writer, read_directory(sql)),
            SqlPeerMemory(writer, sql),
            SqlPeerLedger(writer, sql),
        )
