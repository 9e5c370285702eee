"""JSON-RPC 2.0: calls in, answers out. Pure; the caller bounds the octets.

For any octets the result is calls and faults, never an exception.
Source:  JSON-RPC 2.0 specification; spec admin 2 (error codes, by-name parameters, batches of 50).
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import attrs

MAX_BATCH: Final = 50
MAX_METHOD_CHARACTERS: Final = 64

CallId: TypeAlias = str | int | float | None


class ErrorCode(enum.IntEnum):
    """What went wrong; the last digits follow the HTTP status where there is one."""

    PARSE = -32700
    INVALID_REQUEST = -32600
    UNKNOWN_METHOD = -32601
    INVALID_PARAMS = -32602
    INTERNAL = -32603
    UNAUTHORIZED = -32001
    NOT_FOUND = -32004
    CONFLICT = -32009
    TOO_LARGE = -32013
    UNAVAILABLE = -32050
    TIMED_OUT = -32054


class RpcError(Exception):
    """A call that cannot be answered with a result; the message is for the operator.

    `field` names the parameter to blame; `reasons` holds one line each when there are several.
    """

    def __init__(
        self, code: ErrorCode, message: str, *, field: str = "", reasons: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.reasons = tuple(reasons)


@attrs.frozen(kw_only=True)
class Call:
    """One request. A notification wants no answer."""

    method: str
    params: Mapping[str, Any]
    id: CallId = None
    is_notification: bool = False


@attrs.frozen(kw_only=True)
class Fault:
    """Something in place of a request that is none."""

    id: CallId
    error: RpcError


@attrs.frozen
class Request:
    """What one message holds, in order; a batch is answered as one."""

    parts: tuple[Call | Fault, ...]
    is_batch: bool


def parse(octets: bytes) -> Request:
    """Read one message."""
    try:
        document = json.loads(octets, parse_constant=_refuse)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        return _only(Fault(id=None, error=RpcError(ErrorCode.PARSE, "not JSON")))
    if not isinstance(document, list):
        return _only(_part(document))
    if not 0 < len(document) <= MAX_BATCH:
        message = f"a batch holds 1 to {MAX_BATCH} calls"
        return _only(Fault(id=None, error=RpcError(ErrorCode.INVALID_REQUEST, message)))
    return Request(tuple(map(_part, document)), is_batch=True)


def _only(part: Call | Fault) -> Request:
    return Request((part,), is_batch=False)


def _refuse(word: str) -> None:
    raise ValueError("not JSON")


def _part(document: object) -> Call | Fault:
    if not isinstance(document, dict):
        return Fault(id=None, error=RpcError(ErrorCode.INVALID_REQUEST, "not a request"))
    call_id = document.get("id")
    if not _is_id(call_id):
        return Fault(id=None, error=RpcError(ErrorCode.INVALID_REQUEST, "the id is none"))
    method = document.get("method")
    if (
        document.get("jsonrpc") != "2.0"
        or not isinstance(method, str)
        or len(method) > MAX_METHOD_CHARACTERS
    ):
        return Fault(id=call_id, error=RpcError(ErrorCode.INVALID_REQUEST, "not a request"))
    params = document.get("params", {})
    if not isinstance(params, dict):
        error = RpcError(ErrorCode.INVALID_PARAMS, "parameters go by name")
        return Fault(id=call_id, error=error)
    return Call(method=method, params=params, id=call_id, is_notification="id" not in document)


def _is_id(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)  # 1e999 would come back as a word that is no JSON
    return not isinstance(value, bool) and isinstance(value, str | int | None)


def answer(call_id: CallId, result: object) -> dict[str, object]:
    """Return the answer of a call that succeeded; `result` has to be JSON."""
    return {"jsonrpc": "2.0", "id": call_id, "result": result}


def refusal(call_id: CallId, error: RpcError) -> dict[str, object]:
    """Return the answer of a call that failed."""
    data: dict[str, object] = {"reason": error.code.name.lower()}
    if error.field:
        data["field"] = error.field
    if error.reasons:
        data["reasons"] = list(error.reasons)
    shown = {"code": int(error.code), "message": error.message, "data": data}
    return {"jsonrpc": "2.0", "id": call_id, "error": shown}


def encode(answers: Sequence[Mapping[str, object]], *, is_batch: bool) -> bytes:
    """Return one line; nothing when there is nothing to answer."""
    if not answers:
        return b""
    document: object = list(answers) if is_batch else answers[0]
    return json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n"
