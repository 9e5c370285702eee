"""What follows from an error that a database names by its SQLSTATE (PostgreSQL, appendix A)."""

from __future__ import annotations

from typing import Final

from chatmail.adapters.storage.errors import (
    Busy,
    Conflict,
    DiskFull,
    JobRefused,
    StorageFault,
    Unavailable,
)

_DISK_FULL: Final = "53100"
_CONFLICTS: Final = frozenset({"40001", "40P01"})  # serialization failure, deadlock
_BUSY: Final = frozenset({"55P03", "57014"})  # a lock or a statement took too long
_AWAY: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"})


def fault_of(sqlstate: str | None) -> StorageFault:
    """Return the fault of a state; None is an error of the connection itself."""
    if sqlstate is None or sqlstate in _AWAY or sqlstate[:2] == "08":
        return Unavailable("the connection to the database is lost")
    if sqlstate == _DISK_FULL:
        return DiskFull("no room for the database")
    if sqlstate in _CONFLICTS:
        return Conflict("the database gave way to another process")
    # 53: out of memory or connections; 58 and XX: the server's own trouble, which it survives.
    if sqlstate in _BUSY or sqlstate[:2] in ("53", "58", "XX"):
        return Busy(f"the database cannot serve now ({sqlstate})")
    return JobRefused(f"the database refused a statement ({sqlstate})")
