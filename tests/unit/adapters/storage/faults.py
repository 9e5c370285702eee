"""File layers and databases that fail, or die, when told to."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from chatmail.adapters.storage.database import SqliteDatabase
from chatmail.adapters.storage.files import Files, Octets


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class FaultyFiles(Files):
    """`fail[operation]` = errno of the next calls of that operation; `after` lets some pass."""

    def __init__(self) -> None:
        self.fail: dict[str, int] = {}
        self.after = 0
        self.calls: list[str] = []

    def _called(self, operation: str) -> None:
        self.calls.append(operation)
        code = self.fail.get(operation)
        if code is None:
            return
        if self.after:
            self.after -= 1
            return
        raise OSError(code, os.strerror(code))

    def create(self, path: Path) -> int:
        self._called("create")
        return super().create(path)

    def write_at(self, fd: int, pieces: Sequence[Octets], offset: int) -> int:
        if "write_at" in self.fail and not self.after:
            # A full disk takes some octets before it says so.
            os.pwrite(fd, bytes(pieces[0])[:7], offset)
        self._called("write_at")
        return super().write_at(fd, pieces, offset)

    def sync(self, fd: int) -> None:
        self._called("sync")
        super().sync(fd)

    def sync_directory(self, fd: int) -> None:
        self._called("sync_directory")
        super().sync_directory(fd)

    def rename(self, source: Path, target: Path) -> None:
        self._called("rename")
        super().rename(source, target)

    def truncate(self, fd: int, size: int) -> None:
        self._called("truncate")
        super().truncate(fd, size)

    def read_resident(self, fd: int, length: int, offset: int) -> bytes | None:
        self.calls.append("read_resident")
        if "cold" in self.fail:
            return None
        return super().read_resident(fd, length, offset)

    def read(self, fd: int, length: int, offset: int) -> bytes:
        self._called("read")
        return super().read(fd, length, offset)


FULL = errno.ENOSPC
BROKEN = errno.EIO


def sqlite_error(code: int, text: str = "told to fail") -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


class FaultyDatabase(SqliteDatabase):
    """Raises `commit_error` at COMMIT (before it happens), `begin_error` at BEGIN."""

    commit_error: sqlite3.Error | None = None
    begin_error: sqlite3.Error | None = None

    def begin(self) -> None:
        if self.begin_error is not None:
            raise self.begin_error
        super().begin()

    def commit(self) -> None:
        if self.commit_error is not None:
            raise self.commit_error
        super().commit()


class DyingFiles(Files):
    """Kills the process at the `count`-th call of the step named in `step`."""

    def __init__(self, step: str, count: int) -> None:
        self._step = step
        self._left = count

    def at(self, step: str) -> None:
        if step == self._step:
            self._left -= 1
            if self._left == 0:
                die()

    def write_at(self, fd: int, pieces: Sequence[Octets], offset: int) -> int:
        self.at("before write")
        if self._step == "torn write" and self._left == 1:
            whole = b"".join(bytes(piece) for piece in pieces)
            os.pwrite(fd, whole[: len(whole) * 2 // 3], offset)
        self.at("torn write")
        end = super().write_at(fd, pieces, offset)
        self.at("after write")
        return end

    def sync(self, fd: int) -> None:
        super().sync(fd)
        self.at("after sync")

    def rename(self, source: Path, target: Path) -> None:
        self.at("before rename")
        super().rename(source, target)
        self.at("after rename")


class DyingDatabase(SqliteDatabase):
    """The same for the database's steps; `files` counts them."""

    files: DyingFiles

    def begin(self) -> None:
        super().begin()
        self.files.at("after begin")

    def commit(self) -> None:
        self.files.at("before commit")
        super().commit()
        self.files.at("after commit")
