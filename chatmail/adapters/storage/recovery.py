"""Taking possession of a state directory, and what a crash left in it.

Rows are the truth. Content behind the last row of a segment is garbage by construction, because a
process only appends to segments it made itself; content that a row promises and that is not there
is reported, and reading it fails.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, func, literal_column, select, update

from chatmail.adapters.storage.errors import StateDirectoryInUse
from chatmail.adapters.storage.schema import (
    accounts,
    blobs,
    dead_blobs,
    mailboxes,
    outbound_messages,
    outbound_recipients,
    reports,
    segments,
)
from chatmail.adapters.storage.segments import (
    RECORD_HEADER_BYTES,
    segment_numbers,
    segment_path,
)

LOCK_NAME: Final = "lock"
MAIL_NAME: Final = "mail"
SPOOL_NAME: Final = "spool"
PROCESS_NAME: Final = "process"
SERVER_KEY_PATH: Final = ("secrets", "server.key")
SERVER_KEY_BYTES: Final = 32
FARTHEST_S: Final = 86_400
"""No queue entry is put off for longer."""


@contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Hold the state directory for this process alone.

    Raises:  StateDirectoryInUse: another process has it.
    """
    state_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
    fd = os.open(state_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateDirectoryInUse(f"{state_dir}: another chatmail process uses it") from None
        yield
    finally:
        os.close(fd)


def make_directories(state_dir: Path) -> tuple[Path, Path]:
    """Return (mail, spool), made if missing; the spool is emptied.

    Whatever was being received when the last process ended was never acknowledged.
    """
    mail, spool = state_dir / MAIL_NAME, state_dir / SPOOL_NAME
    for directory in (mail, spool):
        directory.mkdir(mode=0o700, exist_ok=True)
    for path in spool.iterdir():
        if path.is_file():
            path.unlink()
    sync_directory(state_dir)
    return mail, spool


def server_key(state_dir: Path) -> bytes:
    """Return the key of tombstones and other keyed hashes; made at the first start."""
    path = state_dir.joinpath(*SERVER_KEY_PATH)
    if not path.exists():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        draft = path.with_suffix(".new")
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, secrets.token_bytes(SERVER_KEY_BYTES))
            os.fsync(fd)
        finally:
            os.close(fd)
        draft.rename(path)
        sync_directory(path.parent)
        sync_directory(state_dir)
    return path.read_bytes()


def last_process(state_dir: Path) -> int | None:
    """Return the number the last process here had among those that share the database."""
    try:
        return int((state_dir / PROCESS_NAME).read_text("ascii"))
    except (FileNotFoundError, ValueError):
        return None


def note_process(state_dir: Path, process: int) -> None:
    """Remember the number of this process; a crash before it is on the disk costs a lease."""
    draft = state_dir / f"{PROCESS_NAME}.new"
    draft.write_text(f"{process}\n", "ascii")
    draft.replace(state_dir / PROCESS_NAME)


def next_id(connection: Connection) -> itertools.count[int]:
    """Return the source of ids for accounts, mailboxes, blobs and reports: larger than any used."""
    columns = (accounts.c.id, mailboxes.c.id, blobs.c.id, dead_blobs.c.id, reports.c.id)
    used = [connection.execute(select(func.max(column))).scalar() or 0 for column in columns]
    return itertools.count(max(used) + 1)


def next_segment(connection: Connection, mail: Path) -> int:
    """Return a segment number that neither a file nor a row has."""
    return max([0, *known_segments(connection), *segment_numbers(mail)]) + 1


def known_segments(connection: Connection) -> set[int]:
    """Return the segments that rows of this database have pointed into."""
    return set(connection.execute(select(segments.c.number)).scalars())


def unknown_segments(known: Collection[int], mail: Path) -> list[int]:
    """Return the segments with content that this database has never known; empty ones are removed.

    They belong to a database that was lost, or to a newer one than the copy that was put back: what
    is in them may have been acknowledged, so they stay. (Or a crash came between a message and its
    row: then nobody was promised anything, but that looks the same.)
    """
    found = []
    for number in segment_numbers(mail):
        path = segment_path(mail, number)
        if number in known or not path.exists():  # a name of fewer digits is not ours
            continue
        if path.stat().st_size:
            found.append(number)
        else:
            path.unlink()
    return found


def count_accounts(connection: Connection) -> int:
    """Return the number of accounts."""
    return connection.execute(select(func.count()).select_from(accounts)).scalar() or 0


def return_leases(connection: Connection, now_s: float) -> None:
    """Free the reports and queue entries that the last process was working on."""
    connection.execute(update(reports).values(leased_until_s=0))
    return_queue_leases(connection)
    mend_queue_times(connection, now_s)


def return_queue_leases(connection: Connection, process: int | None = None) -> None:
    """Free the queue entries that a process was working on; None: whoever was.

    Cost:  one pass over what is leased, by index.
    """
    leased = outbound_recipients.c.leased_until_s > literal_column("0")
    query = update(outbound_recipients).where(leased).values(leased_until_s=0, leased_by=0)
    if process is not None:
        query = query.where(outbound_recipients.c.leased_by == process)
    connection.execute(query)


def mend_queue_times(connection: Connection, now_s: float) -> None:
    """Bring back what a clock that ran ahead has put into the future, where it would stay."""
    far_s = now_s + FARTHEST_S
    entry, message = outbound_recipients.c, outbound_messages.c
    for column, value in (
        (entry.due_s, now_s),
        (entry.leased_until_s, 0.0),
        (entry.created_s, int(now_s)),
        (message.created_s, int(now_s)),
    ):
        changes = {column.name: value}
        connection.execute(update(column.table).where(column > far_s).values(changes))


def missing_content(connection: Connection, mail: Path) -> list[int]:
    """Return the segments that are missing or shorter than their rows say.

    Cost:  one pass over `blobs`, one stat per segment; no content is read.
    """
    last = func.max(blobs.c.place + blobs.c.size)
    found = []
    for segment, end in connection.execute(select(blobs.c.segment, last).group_by(blobs.c.segment)):
        try:
            size = segment_path(mail, segment).stat().st_size
        except FileNotFoundError:
            size = 0
        if size < end + RECORD_HEADER_BYTES:
            found.append(segment)
    return found


def sync_directory(path: Path) -> None:
    """Make what was created, renamed or removed in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
