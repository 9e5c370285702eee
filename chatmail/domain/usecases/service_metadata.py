"""IMAP METADATA: what the relay says of itself, and the push tokens of an account.

Everything but the tokens is answered from memory: this runs before a client fetches its first
message, so nothing here may wait for another service (spec mail T16).
Source:  RFC 5464; spec mail 4.4 (GETMETADATA), policy 5 (registration).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import attrs

from chatmail.domain.model.account import AccountId
from chatmail.domain.model.mailbox import INBOX
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.ports.mailstore import DeviceTokens
from chatmail.domain.ports.system import Clock

SERVER: Final = ""
DEVICE_TOKEN: Final = "/private/devicetoken"  # noqa: S105  the name of an entry
MAX_TOKEN_OCTETS: Final = 8192
_TOKEN: Final = re.compile(rb"[\x21-\x7e]+\Z")

Provider: TypeAlias = Callable[[], str | None]
"""Returns a value at once, or None when the service is off or in trouble."""


class MetadataRefusal(enum.Enum):
    """Why SETMETADATA was refused."""

    NO_PERMISSION = "no_permission"
    NO_PRIVATE = "no_private"
    TOO_LONG = "too_long"
    BAD_TOKEN = "bad_token"  # noqa: S105  no secret


@attrs.frozen
class MetadataAnswer:
    """Values of GETMETADATA, in the order asked; a value None is NIL.

    `longest_left_out`: size of the largest value above MAXSIZE, 0 when all were told.
    """

    entries: tuple[tuple[str, bytes | None], ...]
    longest_left_out: int = 0


def _nothing() -> str | None:
    return None


@attrs.frozen(kw_only=True)
class ServiceMetadata:
    """Answers GETMETADATA and SETMETADATA."""

    tokens: DeviceTokens
    settings: Callable[[], SettingsSnapshot]
    clock: Clock
    turn: Provider = _nothing
    iroh_relay: Provider = _nothing
    app_versions: Provider = _nothing

    async def get(
        self,
        account: AccountId,
        mailbox: str,
        names: Sequence[str],
        *,
        max_size: int | None = None,
        depth: int | None = 0,
    ) -> MetadataAnswer:
        """Return the values of the known entries among `names`; unknown ones are left out.

        Args:  mailbox: `` for the server, else a mailbox that exists. names: lower case.
            max_size: leave out larger values. depth: also entries that many levels below (None:
            all of them), RFC 5464 §4.2.2.
        """
        providers = await self._providers(account, mailbox, names, depth)
        found: dict[str, bytes | None] = {}
        longest = 0
        for asked in names:
            for name, provide in providers.items():
                if name in found or not _is_within(name, asked, depth):
                    continue
                text = provide()
                value = None if text is None else text.encode("utf-8")
                if value is not None and max_size is not None and len(value) > max_size:
                    longest = max(longest, len(value))
                    continue
                found[name] = value
        return MetadataAnswer(tuple(found.items()), longest)

    async def _providers(
        self, account: AccountId, mailbox: str, names: Sequence[str], depth: int | None
    ) -> dict[str, Provider]:
        if mailbox == SERVER:
            settings = self.settings()
            return {
                "/shared/comment": lambda: settings.identity.operator_comment,
                "/shared/admin": lambda: settings.identity.operator_mailto,
                "/shared/vendor/deltachat/irohrelay": self.iroh_relay,
                "/shared/vendor/deltachat/turn": self.turn,
                "/shared/vendor/deltachat/maxsmtprecipients": lambda: str(
                    settings.limits.max_recipients
                ),
                "/shared/vendor/deltachat/appversions": self.app_versions,
            }
        if mailbox == INBOX and any(_is_within(DEVICE_TOKEN, name, depth) for name in names):
            tokens = " ".join(await self.tokens.of(account, int(self.clock.now_s())))
            return {DEVICE_TOKEN: lambda: tokens or None}
        return {}

    async def set(
        self,
        account: AccountId,
        mailbox: str,
        entries: Sequence[tuple[str, bytes | None]],
        session_token: str | None,
    ) -> str | MetadataRefusal | None:
        """Add or remove push tokens: all of `entries`, or none when one is refused.

        Args:  session_token: the token this session has set; NIL removes that one only, because
            the other devices of the account still need theirs.
        Returns:  the session's token from now on.
        """
        for name, value in entries:
            refusal = _judge(mailbox, name, value)
            if refusal is not None:
                return refusal
        for _, value in entries:
            if value is not None:
                session_token = value.decode("ascii")
                await self.tokens.add(account, session_token, int(self.clock.now_s()))
            elif session_token is not None:
                await self.tokens.remove(account, session_token)
                session_token = None
        return session_token


def _judge(mailbox: str, name: str, value: bytes | None) -> MetadataRefusal | None:
    if mailbox != INBOX or name != DEVICE_TOKEN:
        if name.startswith("/private/"):
            return MetadataRefusal.NO_PRIVATE
        return MetadataRefusal.NO_PERMISSION
    if value is None:
        return None
    if len(value) > MAX_TOKEN_OCTETS:
        return MetadataRefusal.TOO_LONG
    return None if _TOKEN.match(value) else MetadataRefusal.BAD_TOKEN


def _is_within(name: str, asked: str, depth: int | None) -> bool:
    if name == asked:
        return True
    below = name.removeprefix(asked.rstrip("/") + "/")
    if below == name or depth == 0:
        return False
    return depth is None or below.count("/") < depth
