"""Keeps what was verified in shared memory, so that a restart does not hash every password anew.

5,000 clients that reconnect at once would cost 135 s of argon2 (spec mail 2.4, 11.44). The file is
on a memory file system and never on a disk: the machine's end is its end too. It holds the key of
the process before and keyed hashes of passwords, readable for nobody but the relay's own user, and
is of no use to whoever cannot read the memory of the relay anyway. Every doubt about it means:
start with nothing.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from chatmail.domain.model.account import AccountId

SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108  memory, on every Linux; guarded below
KEY_OCTETS: Final = 32
DIGEST_OCTETS: Final = 32

_MAGIC: Final = b"CMver\x01\r\n"
_RECORD: Final = struct.Struct(
    "<qd32s"
)  # account, valid until (UNIX time, s; 0: forgotten), digest
_MAX_RECORDS: Final = 200_000


class KeptVerifications:
    """An append-only list of what was verified; the last word about an account counts."""

    def __init__(self, path: Path, new_key: bytes, now_s: float, longest_s: float) -> None:
        """Read the file of the process before, or begin a new one.

        Args:  new_key: the key of a new file. longest_s: nothing is believed for longer than this.
        """
        self.key = new_key
        self.found: Mapping[AccountId, tuple[bytes, float]] = {}
        """Digest and UNIX time until which it counts, by account, least recent first."""
        self._path = path
        self._fd: int | None = None
        self._records = 0
        self._is_closed = False
        octets = _read_own(path)
        if octets is not None:
            self._load(octets, now_s, longest_s)

    def note(self, account: AccountId, digest: bytes, until_s: float) -> None:
        """Write down that a password was verified; an empty digest: forget the account."""
        if self._is_closed:
            return
        try:
            if self._fd is None:
                self._begin()
            os.write(self._fd or -1, _RECORD.pack(account, until_s if digest else 0.0, digest))
        except OSError:  # no memory left: the next start hashes
            self.close()
            return
        self._records += 1

    @property
    def is_long(self) -> bool:
        """Say whether the file is to be written anew with `renew`."""
        return self._records >= _MAX_RECORDS

    def renew(self, entries: Mapping[AccountId, tuple[bytes, float]]) -> None:
        """Replace the file by one that holds only these entries."""
        self.found = entries
        try:
            self._begin()
        except OSError:
            self.close()

    def close(self) -> None:
        """Stop writing; the file stays for the next process."""
        self._is_closed = True
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _load(self, octets: bytes, now_s: float, longest_s: float) -> None:
        body = octets[len(_MAGIC) + KEY_OCTETS :]
        if not octets.startswith(_MAGIC) or len(octets) < len(_MAGIC) + KEY_OCTETS:
            return
        found: dict[AccountId, tuple[bytes, float]] = {}
        whole = len(body) - len(body) % _RECORD.size
        for number, until_s, digest in _RECORD.iter_unpack(body[:whole]):
            account = AccountId(number)
            found.pop(account, None)
            # A clock that was set back must not make anything valid for longer.
            if now_s < until_s <= now_s + longest_s:
                found[account] = (digest, until_s)
        self.key = octets[len(_MAGIC) : len(_MAGIC) + KEY_OCTETS]
        self.found = found

    def _begin(self) -> None:
        """Put a file with what is known in the place of the old one. Raises:  OSError."""
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(draft, flags, 0o600)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(_MAGIC + self.key)
                records = self.found.items()
                file.writelines(
                    _RECORD.pack(who, until, digest) for who, (digest, until) in records
                )
            draft.rename(self._path)
        except OSError:
            os.close(fd)
            raise
        if self._fd is not None:
            os.close(self._fd)
        self._fd = fd
        self._records = len(self.found)


def shared_memory_path(state_dir: Path, directory: Path = SHARED_MEMORY) -> Path | None:
    """Return where the relay of this state directory keeps its file; None: there is no such place.

    Only memory will do: what a directory on a disk has held can be read there years later.
    """
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    places = [line.split()[1:3] for line in mounts.splitlines()]
    if [str(directory), "tmpfs"] not in places:
        return None
    name = hashlib.sha256(os.fsencode(state_dir.resolve())).hexdigest()[:16]
    return directory / f"chatmail-{os.geteuid()}-{name}"


def remove_stale(directory: Path, now_s: float, older_than_s: float) -> None:
    """Remove the files of relays of this user that are no more."""
    for path in directory.glob(f"chatmail-{os.geteuid()}-*"):
        with suppress(OSError):
            facts = path.lstat()
            if facts.st_uid == os.geteuid() and facts.st_mtime < now_s - older_than_s:
                path.unlink()


def _read_own(path: Path) -> bytes | None:
    """Return the octets of a file that nobody but us can have written or read."""
    limit = len(_MAGIC) + KEY_OCTETS + 2 * _MAX_RECORDS * _RECORD.size
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        facts = os.fstat(fd)
        is_ours = facts.st_uid == os.geteuid() and stat.S_IMODE(facts.st_mode) == 0o600
        if not stat.S_ISREG(facts.st_mode) or not is_ours or facts.st_size > limit:
            return None
        with open(fd, "rb", closefd=False) as file:
            return file.read()
    except OSError:
        return None
    finally:
        os.close(fd)
