"""What a power cut leaves of a state directory: names and octets that were synced, no others."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from chatmail.adapters.storage.database import SqliteDatabase
from chatmail.adapters.storage.files import Files

JUNK = b"CMsg" + bytes(range(256)) * 3
"""What may follow the last synced octet: a torn record, or what the disk held before."""


class ForgetfulFiles(Files):
    """Plain files that remember how much of them was synced, and do not really sync."""

    def __init__(self) -> None:
        self._paths: dict[int, Path] = {}
        self._synced: dict[Path, int] = {}
        self._names: set[Path] = set()
        self._directories: dict[int, Path] = {}

    def create(self, path: Path) -> int:
        fd = super().create(path)
        self._paths[fd] = path
        return fd

    def open(self, path: Path, *, writable: bool = False) -> int:
        fd = super().open(path, writable=writable)
        self._paths[fd] = path
        return fd

    def sync(self, fd: int) -> None:
        self._synced[self._paths[fd]] = os.fstat(fd).st_size

    def open_directory(self, path: Path) -> int:
        fd = super().open_directory(path)
        self._directories[fd] = path
        self._names.update(path.iterdir())
        self._synced.update((one, one.stat().st_size) for one in path.iterdir())
        return fd

    def sync_directory(self, fd: int) -> None:
        self._names.update(self._directories[fd].iterdir())

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self._synced[target] = self._synced.pop(source, 0)
        for fd, path in self._paths.items():
            if path == source:
                self._paths[fd] = target

    def left_by_a_power_cut(self, source: Path, target: Path) -> None:
        """Copy a state directory in use as it would be found again."""
        for path in source.rglob("*"):
            copy = target / path.relative_to(source)
            if path.is_dir():
                copy.mkdir(parents=True, exist_ok=True)
            elif path.suffix != ".seg":
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
            elif path in self._names:
                octets = path.read_bytes()[: self._synced.get(path, 0)]
                copy.write_bytes(octets + JUNK)


class HastyDatabase(SqliteDatabase):
    """Does not wait for the disk: what is lost in these tests is chosen by hand."""

    def open(self) -> None:
        super().open()
        self.writer.exec_driver_sql("PRAGMA synchronous=OFF").close()
