"""Commits per second and CPU per commit of the store, and what its parts cost.

python -m bench.store [--seconds 3] [--size 2048] [--dir DIR]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import trio

from chatmail.adapters.storage.store import Store, open_store
from chatmail.domain.model.account import NewAccount
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.mailbox import MailboxHint
from chatmail.domain.model.message import Body
from chatmail.domain.ports.intake import Delivery, IntakeBatch

MAILBOXES = 64


class _Hints:
    def publish(self, hint: MailboxHint) -> None: ...


class _Clock:
    def now_s(self) -> float:
        return time.time()

    def monotonic_s(self) -> float:
        return time.monotonic()


class _Log:
    def info(self, event: str, **fields: object) -> None:
        print(event, fields)

    warning = info


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1000


async def _load(
    store: Store, inboxes: list[int], callers: int, size: int, seconds: float, name: str
) -> None:
    header = b"From: a@example.org\r\nTo: b@example.org\r\nMessage-ID: <x@y>\r\n\r\n"
    waits: list[float] = []
    end = time.monotonic() + seconds

    async def call(number: int) -> None:
        content = b"x" * (size - len(header))
        while time.monotonic() < end:
            body = Body(header, (content,), len(content))
            delivery = Delivery(inboxes[number % len(inboxes)])
            batch = IntakeBatch(body=body, internal_date_s=1_700_000_000, deliveries=(delivery,))
            began = time.monotonic()
            await store.intake.commit(batch)
            waits.append(time.monotonic() - began)

    batches = store._writer.batches
    began, cpu = time.monotonic(), time.process_time()
    async with trio.open_nursery() as nursery:
        for number in range(callers):
            nursery.start_soon(call, number)
    took, cpu = time.monotonic() - began, time.process_time() - cpu
    print(
        f"{name:28} {len(waits) / took:8.0f} commits/s  {cpu / len(waits) * 1e6:6.0f} us CPU/commit"
        f"  batch {len(waits) / (store._writer.batches - batches):5.1f}"
        f"  p50 {_percentile(waits, 0.5):6.2f} ms  p99 {_percentile(waits, 0.99):6.2f} ms"
    )


async def _reads(store: Store, account: int, count: int) -> None:
    mailbox = await store.mail.open(account, "INBOX")
    uids, valid = mailbox.uids()
    entries = [mailbox.entry(uid) for uid in uids[: min(valid, count)]]
    cpu = time.process_time()
    for entry in entries:
        await store.mail.read(entry, 0, entry.size)
    cpu = time.process_time() - cpu
    print(f"{'read a whole message':28} {cpu / len(entries) * 1e6:6.1f} us CPU")
    cpu = time.process_time()
    modseq, uid_next = mailbox.info().highest_modseq - 1, mailbox.info().uid_next - 1
    for _ in range(count):
        await mailbox.changes_since(modseq, uid_next)
    cpu = time.process_time() - cpu
    print(f"{'changes_since, one arrival':28} {cpu / count * 1e6:6.1f} us CPU")
    mailbox.close()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--dir", default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        async with (
            open_store(Path(directory), "sqlite", _Hints(), _Clock(), _Log()) as store,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(store.run)
            accounts = []
            for number in range(MAILBOXES):
                address = EmailAddress.parse(f"user{number}@example.org")
                new = NewAccount(
                    address=address, secret="-", created_s=1_700_000_000, first_login_day=None
                )
                accounts.append((await store.accounts.create(new))[0])
            inboxes = [account.inbox for account in accounts]
            opened = [await store.mail.open(account.id, "INBOX") for account in accounts]
            for callers in (1, 4, 64):
                name = f"{options.size} octets, {callers} callers"
                await _load(store, inboxes, callers, options.size, options.seconds, name)
            await _reads(store, accounts[0].id, 2000)
            for mailbox in opened:
                mailbox.close()
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
