"""The file operations that the store's promises rest on, in one object.

Tests put another one in its place that fails, or dies, at a chosen operation.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

Octets: TypeAlias = bytes | bytearray | memoryview

_PIECES_PER_CALL: Final = 1024  # IOV_MAX of Linux
_RESIDENT_ONLY: Final = getattr(os, "RWF_NOWAIT", None)


class Files:
    """Plain system calls; every method may raise OSError."""

    def create(self, path: Path) -> int:
        """Create a file that must not exist, for reading and writing; returns its descriptor."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def open(self, path: Path, *, writable: bool = False) -> int:
        """Open an existing file."""
        mode = os.O_RDWR if writable else os.O_RDONLY
        return os.open(path, mode | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        os.close(fd)

    def write_at(self, fd: int, pieces: Sequence[Octets], offset: int) -> int:
        """Write all pieces one behind the other; returns the offset behind the last."""
        pending = list(pieces)
        while pending:
            group = pending[:_PIECES_PER_CALL]
            done = os.pwritev(fd, group, offset)
            offset += done
            del pending[: len(group)]
            rest = _behind(group, done)
            if rest:
                pending[:0] = rest
        return offset

    def sync(self, fd: int) -> None:
        """Make the octets of a file durable."""
        os.fdatasync(fd)

    def open_directory(self, path: Path) -> int:
        """Open a directory, for `sync_directory`."""
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def sync_directory(self, fd: int) -> None:
        """Make the names in a directory durable."""
        os.fsync(fd)

    def truncate(self, fd: int, size: int) -> None:
        """Cut a file."""
        os.ftruncate(fd, size)

    def rename(self, source: Path, target: Path) -> None:
        """Rename within the state directory."""
        os.rename(source, target)

    def unlink(self, path: Path) -> None:
        """Remove a file; one that is gone already is no error."""
        path.unlink(missing_ok=True)

    def read(self, fd: int, length: int, offset: int) -> bytes:
        """Read up to `length` octets; may wait for the disk, so only in a thread."""
        pieces = []
        while length > 0:
            piece = os.pread(fd, length, offset)
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
        return b"".join(pieces)

    def read_resident(self, fd: int, length: int, offset: int) -> bytes | None:
        """Read exactly `length` octets if all of them are in memory, else return None."""
        if _RESIDENT_ONLY is None:
            return None
        buffer = bytearray(length)
        try:
            done = os.preadv(fd, [buffer], offset, _RESIDENT_ONLY)
        except OSError:  # EAGAIN: a cold page; EOPNOTSUPP: not on this file system
            return None
        return bytes(buffer) if done == length else None


def _behind(pieces: Sequence[Octets], done: int) -> list[Octets]:
    """Return what a short write left over."""
    for index, piece in enumerate(pieces):
        if done < len(piece):
            return [memoryview(piece)[done:], *pieces[index + 1 :]]
        done -= len(piece)
    return []
