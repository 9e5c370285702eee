"""What can go wrong below the store, sorted by what follows from it.

StorageFault
├── DiskFull      heals: the jobs at hand fail, the store lives on
├── JobRefused    the database refused one statement: that job fails, others go on
├── Busy          somebody else holds the database (an operator's shell): try later
│   ├── Conflict     another process was faster: the same batch is tried again at once
│   └── Unavailable  the connection to the database is lost; nothing was stored
└── StoreFailed   a sync or I/O error: nothing is known any more, the process must end
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from chatmail.domain.model.errors import PermanentFailure

# A flood of connections may take every descriptor: that heals as a full disk does.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})


class StorageFault(Exception):
    """Root of the tree; never leaves the store."""


class DiskFull(StorageFault):
    """There was no room; what was begun has been undone."""


class JobRefused(StorageFault):
    """The database does not take these values."""


class Busy(StorageFault):
    """The database is locked by another program."""


class Conflict(Busy):
    """Two processes wanted the same rows in another order; this one was rolled back."""


class Unavailable(Busy):
    """The database server cannot be reached; the connection will be made again."""


class StoreFailed(StorageFault):
    """The disk or the database failed. Raised by the writer: the process has to end."""


class StateDirectoryInUse(PermanentFailure):
    """Another process owns the state directory."""


class CannotOpen(PermanentFailure):
    """The state directory or the database in it cannot be used; the text is for the operator."""


class UnsupportedDatabase(PermanentFailure):
    """The database address or version is none this program can serve."""


@contextmanager
def writing() -> Iterator[None]:
    """Translate OS errors of writes that no sync has covered yet.

    Raises:  DiskFull, StoreFailed.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull("no room on the disk, or no file descriptor") from error
        raise StoreFailed("writing failed") from error


@contextmanager
def syncing() -> Iterator[None]:
    """Translate OS errors of syncs.

    A failed sync may have dropped the dirty pages and cleared the error, so a second one would
    succeed without the octets being on the disk: whatever the error, the store has failed.
    Raises:  StoreFailed.
    """
    try:
        yield
    except OSError as error:
        raise StoreFailed("sync failed") from error
