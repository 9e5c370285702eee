"""The control socket's place in the file system: private from its first instant.

It is bound in a fresh directory of mode 0700, gets mode 0600 there, and is then renamed to where
clients look, so nobody else can reach it at any time and no umask has to be changed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from chatmail.domain.model.errors import PermanentFailure

SOCKET_NAME: Final = "control.sock"
MAX_PATH_BYTES: Final = 100
"""`sun_path` holds 107 (unix(7)); a longer path is reached through its directory's descriptor."""

BACKLOG: Final = 16
PROBE_S: Final = 2.0


class ControlSocketError(PermanentFailure):
    """The control socket cannot be opened; the text is one line for the operator."""


@contextmanager
def control_socket(directory: Path) -> Iterator[socket.socket]:
    """Give the listening socket; leaving removes it.

    Raises:  ControlSocketError: another process answers there, or the directory cannot be used.
    """
    path = directory / SOCKET_NAME
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_rival(path)
        sock = _bind(directory)
    except OSError as error:
        reason = error.strerror or "unknown error"
        raise ControlSocketError(f"{path}: cannot be opened: {reason}") from error
    with sock:
        identity = path.stat().st_ino
        try:
            yield sock
        finally:
            with contextlib.suppress(OSError):
                if path.lstat().st_ino == identity:  # not one that somebody else put there
                    path.unlink()


def _refuse_rival(path: Path) -> None:
    """What is left of a process that ended badly is replaced; one that answers is not."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ControlSocketError(f"{path}: is no socket; remove it")
    try:
        with connect(path.parent, PROBE_S):
            pass
    except ConnectionRefusedError:
        return
    except TimeoutError:
        pass  # somebody is there, only slow
    raise ControlSocketError(f"{path}: another process answers there")


def _bind(directory: Path) -> socket.socket:
    private = Path(tempfile.mkdtemp(prefix=".control-", dir=directory))
    draft = private / "s"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with reachable(private) as reached:
            sock.bind(f"{reached}/s")
        draft.chmod(0o600)
        sock.setblocking(False)
        sock.listen(BACKLOG)
        draft.rename(directory / SOCKET_NAME)
    except BaseException:
        sock.close()
        draft.unlink(missing_ok=True)
        raise
    finally:
        private.rmdir()
    return sock


@contextmanager
def reachable(directory: Path) -> Iterator[str]:
    """Give a short name of a directory, while the context is open."""
    if len(os.fsencode(directory / SOCKET_NAME)) <= MAX_PATH_BYTES:
        yield str(directory)
        return
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def connect(directory: Path, timeout_s: float) -> socket.socket:
    """Return a blocking connection to the control socket in `directory`.

    Raises:  FileNotFoundError, ConnectionRefusedError: nobody is there. OSError.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout_s)
    try:
        with reachable(directory) as reached:
            sock.connect(f"{reached}/{SOCKET_NAME}")
    except BaseException:
        sock.close()
        raise
    return sock
