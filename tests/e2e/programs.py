"""Mail programs of Debian, run in batch: their configuration and their maildirs."""

from __future__ import annotations

import contextlib
import mailbox
import os
import re
import secrets
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.e2e import wire
from tests.e2e.relay import Relay
from tests.patience import PATIENCE_S

RUN_S = PATIENCE_S
_MESSAGE_ID = re.compile(rb"(?im)^message-id:\s*(<[^>]+>)")


def run(command: Sequence[str], folder: Path, **environment: str) -> str:
    """Run a program that has to succeed, with `folder` as its home; returns what it printed."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=RUN_S,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder), **environment},
    )
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def message_id(octets: bytes) -> str:
    """The Message-ID of a message."""
    found = _MESSAGE_ID.search(octets)
    assert found is not None
    return found[1].decode()


class Dam:
    """Passes octets on to a relay's port, until so many went there: then it holds up the rest."""

    def __init__(self, relay: Relay, octets: int) -> None:
        self.is_full = threading.Event()
        self._left = octets
        self._there = ("127.0.0.1", relay.ports["imaps"])
        self._door = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.port: int = self._door.getsockname()[1]

    def __enter__(self) -> Dam:
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        with contextlib.suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        for one in (self._door, *self._sockets):
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._door.accept()
                there = socket.create_connection(self._there)
                self._sockets += (here, there)
                for job in (partial(self._pass, here, there), partial(_pour, there, here)):
                    self._threads.append(threading.Thread(target=job))
                    self._threads[-1].start()

    def _pass(self, here: socket.socket, there: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while self._left > 0 and (octets := here.recv(min(self._left, 65536))):
                there.sendall(octets)
                self._left -= len(octets)
        if self._left <= 0:
            self.is_full.set()


def _pour(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while octets := source.recv(65536):
            sink.sendall(octets)


@dataclass
class Mbsync:
    """An account and a tree of maildirs that mbsync keeps equal.

    `near`: the folder of the maildirs; INBOX is one of them.
    """

    relay: Relay
    account: tuple[str, str]
    near: Path

    @property
    def state(self) -> Path:
        """Where mbsync keeps what it knows: beside the maildirs, so that these may be removed."""
        return self.near.parent / f"{self.near.name}.state"

    def sync(self) -> str:
        """Synchronise everything both ways; returns what mbsync printed."""
        return run(self._command(self.relay.ports["imaps"]), self.near.parent)

    def begin(self, port: int) -> subprocess.Popen[bytes]:
        """Begin to synchronise by way of another port; the caller ends it."""
        return subprocess.Popen(
            self._command(port),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def _command(self, port: int) -> list[str]:
        self.near.mkdir(parents=True, exist_ok=True)
        self.state.mkdir(exist_ok=True)
        config = self.near.parent / f"{self.near.name}.mbsyncrc"
        config.write_text(
            f"""\
FSync no

IMAPAccount relay
Host 127.0.0.1
Port {port}
User {self.account[0]}
Pass "{self.account[1]}"
SSLType IMAPS
CertificateFile {self.relay.folder / "state" / "tls" / "fullchain.pem"}

IMAPStore far
Account relay

MaildirStore near
Path {self.near}/
Inbox {self.near}/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Remove Both
Expunge Both
Sync All
SyncState {self.state}/
"""
        )
        return ["mbsync", "-V", "-c", str(config), "all"]

    def maildir(self, name: str = "INBOX") -> mailbox.Maildir:
        """One of the maildirs, opened anew; made if it is missing."""
        (self.near / name).parent.mkdir(parents=True, exist_ok=True)
        return mailbox.Maildir(self.near / name, factory=None)

    def flags(self, name: str = "INBOX") -> dict[str, str]:
        """Message-ID to flags, as letters of the maildir."""
        return {
            message_id(path.read_bytes()): path.name.partition(":2,")[2]
            for part in ("new", "cur")
            for path in (self.near / name / part).iterdir()
        }

    def mark(self, wanted: Mapping[str, str], name: str = "INBOX") -> None:
        """Set flags of messages as a mail reader does: by renaming files."""
        for part in ("new", "cur"):
            for path in (self.near / name / part).iterdir():
                known = message_id(path.read_bytes())
                if known in wanted:
                    base = path.name.partition(":2,")[0]
                    path.rename(self.near / name / "cur" / f"{base}:2,{wanted[known]}")

    def add(self, octets: bytes, flags: str = "", name: str = "INBOX") -> None:
        """Put a message into a maildir as a mail reader does, LF as line ends."""
        self.maildir(name)
        base = f"1700000000.{secrets.token_hex(8)}.host"
        path = self.near / name / "cur" / f"{base}:2,{flags}"
        path.write_bytes(octets.replace(b"\r\n", b"\n"))

    def snapshot(self) -> dict[str, bytes]:
        """Every message file of every maildir with its content."""
        return {
            str(path.relative_to(self.near)): path.read_bytes()
            for part in ("new", "cur")
            for path in self.near.rglob(f"{part}/*")
            if path.is_file()
        }


def far_flags(
    relay: Relay, account: tuple[str, str], mailbox_name: str = "INBOX"
) -> dict[str, set[str]]:
    """Message-ID to flags of a mailbox on the relay."""
    found = {}
    with wire.imap(relay, *account) as client:
        kind, data = client.select(mailbox_name, readonly=True)
        assert kind == "OK", data
        rows = client.uid("FETCH", "1:*", "(FLAGS BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")[1]
    for row in rows:
        if isinstance(row, tuple):
            flags = re.search(rb"FLAGS \(([^)]*)\)", row[0])
            assert flags is not None
            found[message_id(row[1])] = set(flags[1].decode().split())
    return found
