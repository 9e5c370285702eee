"""Parameters of a call: what is there, and whether it is what it has to be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from chatmail.adapters.control.services import ControlServices
from chatmail.domain.model.address import AddressError, EmailAddress, normalise_domain
from chatmail.domain.wire.jsonrpc import ErrorCode, RpcError

Params: TypeAlias = Mapping[str, Any]
Result: TypeAlias = object
Method: TypeAlias = Callable[[ControlServices, Params], Awaitable[Result]]

MAX_NAMES: Final = 200


def only(params: Params, *names: str) -> None:
    """Refuse parameters that the method does not have. Raises:  RpcError."""
    for name in params:
        if name not in names:
            raise invalid(str(name)[:64], "there is no such parameter")


def invalid(field: str, message: str) -> RpcError:
    """Return the error for a wrong parameter."""
    return RpcError(ErrorCode.INVALID_PARAMS, f"{field}: {message}", field=field)


def missing(what: str) -> RpcError:
    """Return the error for a part that this program does not have, or not now."""
    return RpcError(ErrorCode.UNAVAILABLE, what)


def text(params: Params, name: str) -> str:
    """Return a text that has to be there. Raises:  RpcError."""
    value = params.get(name)
    if not isinstance(value, str) or not value:
        raise invalid(name, "is missing or not a text")
    return value


def optional_text(params: Params, name: str) -> str:
    """Return a text, empty when it is not there. Raises:  RpcError."""
    value = params.get(name, "")
    if not isinstance(value, str):
        raise invalid(name, "is not a text")
    return value


def flag(params: Params, name: str, *, default: bool = False) -> bool:
    """Return a switch. Raises:  RpcError."""
    value = params.get(name, default)
    if not isinstance(value, bool):
        raise invalid(name, "is not true or false")
    return value


def number(params: Params, name: str, default: int, maximum: int) -> int:
    """Return a whole number from 1 to `maximum`. Raises:  RpcError."""
    value = params.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= maximum:
        raise invalid(name, f"is not a number from 1 to {maximum}")
    return value


def domain(params: Params, name: str) -> str:
    """Return a normalised domain. Raises:  RpcError."""
    try:
        return normalise_domain(text(params, name).strip())
    except AddressError as error:
        raise invalid(name, str(error)) from None


def address(params: Params, name: str) -> EmailAddress:
    """Return a mail address. Raises:  RpcError."""
    try:
        return EmailAddress.parse(text(params, name).strip())
    except AddressError as error:
        raise invalid(name, str(error)) from None


def as_text(field: str, value: object) -> str:
    """Take texts, numbers and switches as values of settings (spec admin 1.7)."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
    raise invalid(field, "is neither a text, a number nor a switch")


def names(params: Params) -> list[str]:
    """Return `names`, or the one of `name`. Raises:  RpcError."""
    if "name" in params:
        return [text(params, "name")]
    found = params.get("names")
    if (
        not isinstance(found, list)
        or not 0 < len(found) <= MAX_NAMES
        or not all(isinstance(name, str) for name in found)
    ):
        raise invalid("names", "is missing or not a list of texts")
    return found
