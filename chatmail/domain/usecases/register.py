"""Answering `POST /new`: credentials for somebody who wants an address.

While a first login creates its account, nothing is stored here (spec federation-web D3.5).
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

import attrs

from chatmail.domain.model.account import NewAccount
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.policy import throttle
from chatmail.domain.policy.registration import (
    Attempt,
    CreationRefusal,
    draw_name,
    draw_password,
    is_jit_effective,
    judge_attempt,
    new_address,
)
from chatmail.domain.policy.throttle import ClientPrefix, Rate
from chatmail.domain.ports.accounts import AccountStore
from chatmail.domain.ports.system import Budgets, Clock, Entropy, Host, Log, PasswordHasher

NAME_DRAWS: Final = 16


class RegistrationProblem(enum.Enum):
    """Why there are no credentials; the values are the texts people read."""

    TOKEN_REQUIRED = "Registration token is required"  # noqa: S105 - a text
    TOKEN_UNKNOWN = "registration token not found"  # noqa: S105 - a text
    CLOSED = "Registration is closed"
    TOO_MANY = "Too many new accounts, try again later"
    SYSTEM_LIMIT = "No new accounts at the moment, try again later"
    TEMPORARY = "Temporary server problem, try again later"


@attrs.frozen(kw_only=True)
class Registered:
    """Fresh credentials. `is_stored`: the account exists already, else its first login makes it."""

    address: EmailAddress
    password: str = attrs.field(repr=False)
    is_stored: bool


_PROBLEMS: Final = {
    CreationRefusal.CLOSED: RegistrationProblem.CLOSED,
    CreationRefusal.TOKEN_REQUIRED: RegistrationProblem.TOKEN_REQUIRED,
    CreationRefusal.HOST: RegistrationProblem.SYSTEM_LIMIT,
}


@attrs.frozen(kw_only=True)
class Register:
    """The decision and the draw behind `/new`."""

    accounts: AccountStore
    hasher: PasswordHasher
    budgets: Budgets
    host: Host
    clock: Clock
    entropy: Entropy
    settings: Callable[[], SettingsSnapshot]
    log: Log

    async def __call__(
        self, source: str, token: str | None = None
    ) -> Registered | RegistrationProblem:
        """Draw an address and a password, and create the account unless its first login will.

        Args:  source: the client's address as text. token: what the client sent, if anything.
        Source:  spec policy 2.4, 2.5; federation-web D3.
        """
        settings = self.settings()
        prefix = throttle.client_prefix(source, settings.trusted_proxies)
        problem = self._judge(prefix, token, settings)
        if problem is not None:
            self.log.info("registration_refused", cause=problem.name.lower())
            return problem
        try:
            return await self._register(prefix, settings)
        except TransientFailure:
            self.log.warning("registration_failed")
            return RegistrationProblem.TEMPORARY

    def _judge(
        self, prefix: ClientPrefix, token: str | None, settings: SettingsSnapshot
    ) -> RegistrationProblem | None:
        if not self._take(throttle.NEW_REQUESTS, prefix):
            return RegistrationProblem.TOO_MANY
        if token:
            # No token can have been issued yet, so every one is unknown.
            is_allowed = self._take(throttle.TOKEN_FAILURES, prefix)
            return RegistrationProblem.TOKEN_UNKNOWN if is_allowed else RegistrationProblem.TOO_MANY
        refusal = judge_attempt(Attempt.NEW, settings.registration, self.host.creation_refusal())
        return None if refusal is None else _PROBLEMS[refusal]

    async def _register(
        self, prefix: ClientPrefix, settings: SettingsSnapshot
    ) -> Registered | RegistrationProblem:
        registration = settings.registration
        address = await self._draw_free_address(settings)
        if address is None:
            return RegistrationProblem.TEMPORARY
        password = draw_password(self.entropy.text, registration)
        if is_jit_effective(registration):
            return Registered(address=address, password=password, is_stored=False)
        secret = await self.hasher.hash(password.encode())
        rate = throttle.creations_per_prefix(registration.rate_per_ip_hour)
        if not self._take(throttle.CREATIONS, prefix) or not (
            rate is None or self._take(rate, prefix)
        ):
            return RegistrationProblem.TOO_MANY
        new = NewAccount(
            address=address,
            secret=secret,
            created_s=int(self.clock.now_s()),
            first_login_day=None,
        )
        account, is_ours = await self.accounts.create(new)
        if not is_ours:
            return RegistrationProblem.TEMPORARY
        self.hasher.remember(account.id, account.secret, password.encode())
        self.log.info("account_created", account=address, way=Attempt.NEW)
        return Registered(address=address, password=password, is_stored=True)

    async def _draw_free_address(self, settings: SettingsSnapshot) -> EmailAddress | None:
        """Draw a name nobody has, had lately, or may not have; None: none was found."""
        now_s = self.clock.now_s()
        for _ in range(NAME_DRAWS):
            local = draw_name(self.entropy.text, settings.registration)
            address = new_address(local, settings.identity)
            if (
                await self.accounts.get(address) is None
                and not await self.accounts.is_barred(address)
                and await self.accounts.tombstone(address, now_s) is None
            ):
                return address
        return None

    def _take(self, rate: Rate, prefix: ClientPrefix) -> bool:
        if prefix.is_exempt:
            return True
        # One bucket for everybody has no key.
        key = "" if rate is throttle.CREATIONS else prefix.key
        return self.budgets.take(rate.kind, key, per_s=rate.per_s, burst=rate.burst)
