"""What must hold of a store at any time: memory equals the database, counters equal the rows."""

from __future__ import annotations

from sqlalchemy import Connection, text

from chatmail.adapters.storage.flags import decode_flags
from tests.unit.ports.world import Stores


async def check_index_equals_database(stores: Stores) -> None:
    """Compare every cached head and every loaded mailbox with its rows."""
    index = stores.store.index
    rows = await stores.store.upkeep._reader.query(_rows)
    heads = {row.id: row for row in rows["mailboxes"]}
    for mailbox, head in index.heads.items():
        row = heads[mailbox]
        for name in ("account", "name", "uid_validity", "uid_next", "highest_modseq"):
            assert getattr(head, name) == getattr(row, name), name
        for name in ("messages", "unseen", "deleted", "octets", "special_use"):
            assert getattr(head, name) == getattr(row, name), name
        assert head.is_subscribed == bool(row.is_subscribed)
        assert " ".join(head.keywords) == row.keywords
    for mailbox, loaded in index.loaded.items():
        assert loaded.head is index.heads.get(mailbox, loaded.head)
        mine = [row for row in rows["messages"] if row.mailbox == mailbox]
        assert list(loaded.uids) == [row.uid for row in mine]
        assert loaded.entries.keys() <= {row.uid for row in mine}
        for row in mine:
            entry = loaded.entries.get(row.uid)
            if entry is None:
                assert loaded.cold_pages([row.uid]), "an entry is missing for no reason"
                continue
            assert entry.modseq == row.modseq
            assert entry.flags == decode_flags(row.flags, row.keywords)
            assert (entry.size, entry.header_size) == (row.size, row.header_size)
            place = entry.blob
            assert (place.blob, place.segment, place.offset) == (row.blob, row.segment, row.place)
    assert index._entries == sum(loaded.weight for loaded in index.loaded.values())
    check_counters(rows)


def check_counters(rows) -> None:
    refs: dict[int, int] = {}
    for row in rows["messages"]:
        refs[row.blob] = refs.get(row.blob, 0) + 1
    queued = {row.message for row in rows["outbound_recipients"]}
    assert {row.id for row in rows["outbound_messages"]} == queued
    for row in rows["outbound_messages"]:
        refs[row.blob] = refs.get(row.blob, 0) + 1
    assert {row.id: row.refs for row in rows["blobs"]} == refs
    assert not {row.id for row in rows["dead_blobs"]} & refs.keys()
    for box in rows["mailboxes"]:
        mine = [row for row in rows["messages"] if row.mailbox == box.id]
        assert box.messages == len(mine)
        assert box.octets == sum(row.size for row in mine)
        assert box.unseen == sum("\\Seen" not in decode_flags(row.flags, "") for row in mine)
        assert box.deleted == sum("\\Deleted" in decode_flags(row.flags, "") for row in mine)
        assert all(row.uid < box.uid_next for row in mine)
        assert all(row.modseq <= box.highest_modseq for row in mine)


def _rows(connection: Connection):
    queries = {
        "mailboxes": "SELECT * FROM mailboxes ORDER BY id",
        "messages": (
            "SELECT messages.*, blobs.segment, blobs.place, blobs.size, blobs.header_size"
            " FROM messages JOIN blobs ON blobs.id = messages.blob ORDER BY mailbox, uid"
        ),
        "blobs": "SELECT * FROM blobs",
        "dead_blobs": "SELECT * FROM dead_blobs",
        "outbound_messages": "SELECT * FROM outbound_messages",
        "outbound_recipients": "SELECT * FROM outbound_recipients",
    }
    return {name: connection.execute(text(query)).fetchall() for name, query in queries.items()}
