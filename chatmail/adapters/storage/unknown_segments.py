"""Segment files that the database beside them has never known: told of, and removed when asked.

Nothing else ever removes them: after a database was lost, or an older copy was put back, they are
the only place where acknowledged mail is left. After a crash they are what nobody was promised.
Which of the two it is, only the operator knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

from chatmail.adapters.storage import recovery
from chatmail.adapters.storage.database import FILE_NAME, SqliteDatabase, translated
from chatmail.adapters.storage.segments import segment_path


@attrs.frozen
class UnknownSegment:
    """One file with content; `changed_s` is when it was last written."""

    path: Path
    octets: int
    changed_s: float


def find_unknown_segments(state_dir: Path, *, remove: bool = False) -> Sequence[UnknownSegment]:
    """Return the segment files no row has ever pointed into, and remove them if told to.

    Args:  state_dir: of a stopped server; this process holds it meanwhile.
    Raises:  StateDirectoryInUse, UnsupportedDatabase, StoreFailed: nothing was removed.
    """
    with recovery.locked(state_dir):
        mail = state_dir / recovery.MAIL_NAME
        database = SqliteDatabase(state_dir / FILE_NAME)
        try:
            database.open()
            with translated():
                known = recovery.known_segments(database.reader)
        finally:
            database.close()
        paths = [segment_path(mail, one) for one in recovery.unknown_segments(known, mail)]
        found = [UnknownSegment(path, *_size_and_time(path)) for path in paths]
        if remove:
            for path in paths:
                path.unlink()
            recovery.sync_directory(mail)
        return found


def _size_and_time(path: Path) -> tuple[int, float]:
    facts = path.stat()
    return facts.st_size, facts.st_mtime
