"""Accounts: a person's address here."""

from __future__ import annotations

from typing import NewType

import attrs

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.mailbox import MailboxId

AccountId = NewType("AccountId", int)

SECONDS_PER_DAY = 86400


def day_of(now_s: float) -> int:
    """Round unix time down to its UTC day (spec policy 2.10: no finer login time is kept)."""
    return int(now_s) // SECONDS_PER_DAY * SECONDS_PER_DAY


@attrs.frozen(kw_only=True)
class Account:
    """One account as the faces need it; `used_bytes`, `used_messages` are of the last commit."""

    id: AccountId
    address: EmailAddress
    inbox: MailboxId
    secret: str
    is_blocked: bool = False
    accepts_cleartext: bool = False
    used_bytes: int = 0
    used_messages: int = 0
    last_login_day: int | None = None


@attrs.frozen(kw_only=True)
class NewAccount:
    """What is needed to create an account. `secret` is a stored hash, never a password.

    `is_imported`: taken over from another server at `created_s`; its owner has it already.
    """

    address: EmailAddress
    secret: str
    created_s: int
    first_login_day: int | None
    is_imported: bool = False


@attrs.frozen
class Credentials:
    """What a client presented. `password` never appears in a repr."""

    login: str
    password: bytes = attrs.field(repr=False)
