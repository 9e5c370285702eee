"""The command line's end of the control socket: blocking, one call per connection."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from chatmail.adapters.control.binding import connect

CONNECT_S: Final = 10.0
MAX_ANSWER_OCTETS: Final = 16 * 1024 * 1024


class NotRunning(Exception):
    """Nobody answers on the control socket."""


class NotAllowed(Exception):
    """The control socket belongs to somebody else."""


class BrokenAnswer(Exception):
    """The server ended the conversation, or answered something that makes no sense."""


class CallRefused(Exception):
    """The server refused the call. `reasons` are for the operator, one line each."""

    def __init__(self, code: int, message: str, reasons: tuple[str, ...]) -> None:
        super().__init__(message)
        self.code = code
        self.reasons = reasons or (message,)


def call_server(
    directory: Path, method: str, params: Mapping[str, object], timeout_s: float
) -> Any:
    """Call a method of the running server and return its result.

    Args:  directory: where the socket lives. timeout_s: for the whole answer.
    Raises:  NotRunning, NotAllowed, BrokenAnswer, CallRefused.
    """
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": dict(params)}
    try:
        with connect(directory, CONNECT_S) as sock:
            sock.settimeout(timeout_s)
            sock.sendall(json.dumps(request).encode() + b"\n")
            line = _line(sock.makefile("rb"))
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        raise NotRunning("the server is not running") from None
    except PermissionError:
        raise NotAllowed("this needs the server's user, or root") from None
    except OSError as error:
        raise BrokenAnswer(f"the server does not answer: {error.strerror or error}") from None
    return _result(line)


def _line(stream: Any) -> bytes:
    with stream:
        line: bytes = stream.readline(MAX_ANSWER_OCTETS)
    return line


def _result(line: bytes) -> Any:
    try:
        answer = json.loads(line)
        if "error" not in answer:
            return answer["result"]
        error = answer["error"]
        reasons = tuple(error.get("data", {}).get("reasons", ()))
        refused = CallRefused(int(error["code"]), str(error["message"]), reasons)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BrokenAnswer("the server's answer makes no sense") from None
    raise refused
