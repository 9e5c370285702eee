"""What the statements of the queue cost."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from sqlalchemy import Connection, text

from chatmail.adapters.storage.database import Prepared
from chatmail.adapters.storage.federation.queue_sql import BACKLOGS, CLAIM_WINDOW, matching
from chatmail.domain.model.outbound import QueueFilter
from tests.unit.adapters.storage.conftest import Opener
from tests.unit.adapters.storage.federation.queued import FIRST
from tests.unit.ports.world import NOW_S, make_outbound


async def test_a_batch_of_messages_costs_two_statements_more(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opener() as stores:
        account = await stores.account()
        run, seen = Prepared.run, []
        run_many = Prepared.run_many
        monkeypatch.setattr(
            Prepared, "run", lambda self, *values: (seen.append(self._sql), run(self, *values))[1]
        )
        monkeypatch.setattr(
            Prepared,
            "run_many",
            lambda self, rows: (rows and seen.append(self._sql), run_many(self, rows))[1],
        )

        async def send(number: int) -> None:
            recipients = [f"u{one}@x.test" for one in range(20)]
            await stores.deliver(account.inbox, outbound=make_outbound(number, *recipients))

        batches = stores.store._writer.batches
        async with trio.open_nursery() as nursery:
            for number in range(1, 21):
                nursery.start_soon(send, number)
        batches = stores.store._writer.batches - batches
        assert batches <= 3
        assert len([sql for sql in seen if "outbound_" in sql]) <= 2 * batches


def plan_of(connection: Connection, query: str, *values: object) -> list[str]:
    rows = connection.exec_driver_sql("EXPLAIN QUERY PLAN " + query, values)
    return [row[3] for row in rows]


async def test_what_the_writer_asks_is_answered_from_indexes(opener: Opener) -> None:
    async with opener() as stores:
        sql = stores.store._writer._committer._sql.outbound
        plans = {
            "outbound_by_domain (domain=? AND is_large=? AND due_s<?)": (
                sql.claim,
                ("x.test", 0, 1.0, 1.0, 9, 9, 1.0, 9),
            ),
            "outbound_by_domain (domain=? AND is_large=? AND due_s>?)": (
                sql.some_later,
                ("x.test", 0, 1.0, 1.0, 9),
            ),
            "outbound_by_age (is_report=? AND created_s<?)": (sql.expired, (0, 1.0, 1.0, 9)),
            "outbound_due": (sql.next_free, ()),
            "outbound_leased": (sql.next_leased, ()),
            "outbound_doomed": (sql.some_doomed, (9,)),
            "outbound_by_sender (reverse_path=?)": (sql.doom, ("ann@relay.test",)),
            "delivered_once_by_age (expires_s<?)": (sql.forget_once, (1, 9)),
        }
        for index, (statement, values) in plans.items():
            plan = plan_of(sql.connection, statement._sql, *values)
            assert any(index in line for line in plan), plan
            assert not any(
                line.startswith("SCAN outbound_recipients") for line in plan if "USING" not in line
            ), plan


async def test_backlogs_are_counted_in_an_index_alone(opener: Opener) -> None:
    async with opener() as stores:
        connection = stores.store._writer._committer._database.writer
        rows = connection.execute(text(f"EXPLAIN QUERY PLAN {BACKLOGS.text}"), {"now": 1.0})
        assert [row[3] for row in rows] == [
            "SCAN outbound_recipients USING COVERING INDEX outbound_by_domain"
        ]


async def test_an_operators_page_of_one_destination_or_message_needs_no_scan(
    opener: Opener,
) -> None:
    async with opener() as stores:
        connection = stores.store._writer._committer._database.writer
        for wanted, index in (
            (QueueFilter(domain="x.test"), "outbound_by_domain (domain=?"),
            (QueueFilter(message=FIRST), "PRIMARY KEY (message=?"),
            (QueueFilter(sender="ann@relay.test"), "outbound_by_sender (reverse_path=?"),
        ):
            query, values = matching(wanted, (1, "a@x.test"), 9)
            rows = connection.execute(text(f"EXPLAIN QUERY PLAN {query.text}"), values)
            plan = [row[3] for row in rows]
            assert any(index in line for line in plan), plan


async def test_a_woken_backlog_of_any_length_goes_oldest_first(opener: Opener) -> None:
    async with opener() as stores:
        count = CLAIM_WINDOW + 50
        async with trio.open_nursery() as nursery:
            for number in range(1, count + 1):
                # Numbers say nothing about age, as with random ones.
                age_s = number * 7919 % count
                new = make_outbound(number, created_s=NOW_S - age_s, due_s=NOW_S + age_s)
                nursery.start_soon(partial(stores.deliver, outbound=new))
        assert await stores.outbound.wake("peer.test", NOW_S) == count - 1
        found: list[int] = []
        while claimed := await stores.outbound.claim("peer.test", NOW_S, 60, 16):
            found += [entry.message.created_s for entry in claimed]
        assert len(found) == count
        assert found == sorted(found)
