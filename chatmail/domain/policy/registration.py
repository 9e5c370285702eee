"""Who may get an account, and under which name and password.

Everything here concerns creation alone: an existing account logs in whatever its name or
password looks like.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from typing import Final, TypeAlias

from chatmail.domain.model.address import AddressError, EmailAddress
from chatmail.domain.model.settings import IdentitySettings, RegistrationSettings

NAME_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
PASSWORD_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"  # noqa: S105 - an alphabet
MAX_PASSWORD_OCTETS: Final = 256
MIN_DISTINCT_CHARACTERS: Final = 5
MAX_LOGIN_OCTETS: Final = 320

# Certificate authorities accept five of these for domain validation, and `mailer-daemon`
# carries gate privileges (spec policy 2.3).
RESERVED_NAMES: Final = frozenset(
    {
        "admin",
        "administrator",
        "root",
        "postmaster",
        "hostmaster",
        "webmaster",
        "abuse",
        "security",
        "noc",
        "support",
        "info",
        "mailer-daemon",
        "mail-daemon",
        "daemon",
        "nobody",
        "noreply",
        "no-reply",
        "bounce",
        "bounces",
        "autoconfig",
        "autodiscover",
        "mta-sts",
        "www",
        "ssladmin",
        "sslwebmaster",
    }
)

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?\Z")

Draw: TypeAlias = Callable[[str, int], str]
"""Draws that many characters evenly from an alphabet (`Entropy.text`)."""


class Attempt(enum.Enum):
    """A way to ask for an account."""

    FIRST_LOGIN = "first_login"
    NEW = "new"
    NEW_WITH_TOKEN = "new_with_token"  # noqa: S105 - the name of a way, not a secret
    ADMIN = "admin"


class CreationRefusal(enum.Enum):
    """Why no account is created. Values are for counters and logs."""

    CLOSED = "closed"
    TOKEN_REQUIRED = "token_required"  # noqa: S105 - the name of a reason
    HOST = "host"
    NAME = "name"
    RESERVED = "reserved"
    PASSWORD = "password"  # noqa: S105 - the name of a reason
    RATE = "rate"


def is_jit_effective(settings: RegistrationSettings) -> bool:
    """Say whether a first login may create its account at all."""
    return settings.jit and not settings.require_token


def judge_attempt(
    attempt: Attempt, settings: RegistrationSettings, host_refusal: str | None
) -> CreationRefusal | None:
    """Say whether this way to an account is open now; None: it is.

    Args:  host_refusal: `Host.creation_refusal()`: load, memory, disk or the nocreate file.
    Source:  spec policy 2.4.
    """
    if attempt is Attempt.ADMIN:
        return None
    if attempt in (Attempt.FIRST_LOGIN, Attempt.NEW):
        if settings.require_token:
            return CreationRefusal.TOKEN_REQUIRED
        is_open = settings.jit if attempt is Attempt.FIRST_LOGIN else settings.is_open
        if not is_open:
            return CreationRefusal.CLOSED
    return CreationRefusal.HOST if host_refusal is not None else None


def judge_name(local: str, settings: RegistrationSettings) -> CreationRefusal | None:
    """Say whether somebody may get this local part (already lower case).

    Source:  spec policy 2.1, 2.3.
    """
    if not settings.username_min <= len(local) <= settings.username_max:
        return CreationRefusal.NAME
    if not _NAME.match(local) or ".." in local:
        return CreationRefusal.NAME
    if local in RESERVED_NAMES or local in settings.blocked_localparts:
        return CreationRefusal.RESERVED
    return None


def judge_password(
    password: bytes, address: EmailAddress, settings: RegistrationSettings
) -> CreationRefusal | None:
    """Say whether an account may be created with this password. Length counts characters.

    Source:  spec policy 2.1.
    """
    if len(password) > MAX_PASSWORD_OCTETS:
        return CreationRefusal.PASSWORD
    try:
        text = password.decode("utf-8")
    except UnicodeDecodeError:
        return CreationRefusal.PASSWORD
    if len(text) < settings.password_min or len(set(text)) < MIN_DISTINCT_CHARACTERS:
        return CreationRefusal.PASSWORD
    if text.lower() in (address.local, str(address)):
        return CreationRefusal.PASSWORD
    return None


def draw_name(draw: Draw, settings: RegistrationSettings) -> str:
    """Draw a local part that may be registered. Source:  spec federation-web D3.6."""
    while True:
        name = draw(NAME_ALPHABET, settings.username_length)
        if name not in RESERVED_NAMES and name not in settings.blocked_localparts:
            return name


def draw_password(draw: Draw, settings: RegistrationSettings) -> str:
    """Draw a password that `judge_password` accepts."""
    length = max(settings.password_length, settings.password_min, MIN_DISTINCT_CHARACTERS)
    while True:
        password = draw(PASSWORD_ALPHABET, length)
        if len(set(password)) >= MIN_DISTINCT_CHARACTERS:
            return password


def normalise_login(login: str, identity: IdentitySettings) -> EmailAddress | None:
    """Return the address a login name means; None: none of ours.

    A name without `@` belongs to the primary domain. `%` is refused: it is URL-escaped junk.
    Source:  spec mail 2.1, policy 2.2.
    """
    if len(login) > MAX_LOGIN_OCTETS or "%" in login:
        return None
    # Spec mail 2.1: exactly one line end is forgiven, nothing else is trimmed.
    login = login.removesuffix("\r\n")
    text = login if "@" in login else f"{login}@{identity.mail_domain}"
    try:
        address = EmailAddress.parse(text)
    except AddressError:
        return None
    return address if address.domain in identity.local_domains else None


def new_address(local: str, identity: IdentitySettings) -> EmailAddress:
    """Return the address of a drawn name in the primary domain."""
    return EmailAddress(local, identity.mail_domain)
