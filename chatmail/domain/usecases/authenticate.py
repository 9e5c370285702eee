"""Logging in: verify a password, or create the account at its first login.

A login that cannot succeed looks and lasts the same whatever the cause, and a failure at one
source never delays another one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from chatmail.domain.model.account import Account, Credentials, NewAccount, day_of
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import Overloaded, TransientFailure
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.model.verdict import RefusalReason
from chatmail.domain.policy import throttle
from chatmail.domain.policy.registration import (
    MAX_LOGIN_OCTETS,
    Attempt,
    CreationRefusal,
    judge_attempt,
    judge_name,
    judge_password,
    normalise_login,
)
from chatmail.domain.policy.stored_secret import needs_upgrade
from chatmail.domain.policy.throttle import ClientPrefix, Rate
from chatmail.domain.ports.accounts import AccountStore
from chatmail.domain.ports.system import Budgets, Clock, Host, Log, NameLocks, PasswordHasher


@attrs.frozen
class LoginRefusal:
    """No login. The face waits `delay_s` before it answers.

    `reason` is BAD_CREDENTIALS or LOGIN_UNAVAILABLE (spec mail 2.6, first two rows).
    """

    reason: RefusalReason
    delay_s: float


UNAVAILABLE: Final = LoginRefusal(RefusalReason.LOGIN_UNAVAILABLE, throttle.UNAVAILABLE_DELAY_S)


@attrs.frozen(kw_only=True)
class _Try:
    """One login on its way; `address` None: no address of ours."""

    address: EmailAddress | None
    name: str = attrs.field(repr=False)
    password: bytes = attrs.field(repr=False)
    prefix: ClientPrefix
    settings: SettingsSnapshot

    @property
    def pair(self) -> str:
        """The key of what this source does to this account."""
        return f"{self.prefix.key} {self.name}"


@attrs.frozen(kw_only=True)
class Authenticate:
    """The one way to become an authenticated account, at every face."""

    accounts: AccountStore
    hasher: PasswordHasher
    budgets: Budgets
    locks: NameLocks
    host: Host
    clock: Clock
    settings: Callable[[], SettingsSnapshot]
    log: Log

    async def __call__(self, credentials: Credentials, source: str) -> Account | LoginRefusal:
        """Return the account these credentials open, created now if it may be.

        Args:  source: address of the peer as text; empty for a unix socket.
        Cost:  a password verified within the last hour costs microseconds and no thread.
        Source:  spec mail 2.1-2.7, policy 2.4-2.10.
        """
        settings = self.settings()
        address = normalise_login(credentials.login, settings.identity)
        try:
            return await self._decide(address, credentials, source, settings)
        except TransientFailure as failure:
            cause = "overloaded" if isinstance(failure, Overloaded) else "store"
            self.log.warning("login_unavailable", cause=cause, account=address)
            return UNAVAILABLE

    async def touch_daily(self, account: Account) -> Account:
        """Record that a session of this account is still alive today.

        For sessions that stay connected: call it now and then, it writes once per UTC day.

        Returns:  the account with its new day, to be passed to the next call.
        """
        today = day_of(self.clock.now_s())
        if account.last_login_day == today:
            return account
        try:
            await self.accounts.touch(account.id, today)
        except TransientFailure:
            # Being let in matters more than the date; the next login writes it.
            self.log.warning("login_day_not_stored")
            return account
        return attrs.evolve(account, last_login_day=today)

    async def _decide(
        self,
        address: EmailAddress | None,
        credentials: Credentials,
        source: str,
        settings: SettingsSnapshot,
    ) -> Account | LoginRefusal:
        account = None
        may_exist = address is not None and not await self.accounts.is_barred(address)
        if address is not None and may_exist:
            account = await self.accounts.get(address)
            # Before any throttle: an attacker cannot lock the owner out (spec policy 2.9).
            if account is not None and self._is_known(account, credentials.password):
                return await self.touch_daily(account)
        attempt = _Try(
            address=address,
            name=str(address) if address else credentials.login[:MAX_LOGIN_OCTETS].lower(),
            password=credentials.password,
            prefix=throttle.client_prefix(source, settings.trusted_proxies),
            settings=settings,
        )
        # One at a time per source and name: otherwise many guesses at once would all be weighed
        # before the first failure counts.
        async with self.locks.hold(attempt.pair):
            if address is not None and may_exist and account is None:
                account = await self.accounts.get(address)
            if account is not None and self._is_known(account, attempt.password):
                return await self.touch_daily(account)
            return await self._weigh(attempt, account, may_exist=may_exist)

    async def _weigh(
        self, attempt: _Try, account: Account | None, *, may_exist: bool
    ) -> Account | LoginRefusal:
        if not self._may_try(attempt):
            self.log.info("login_throttled", account=attempt.address)
            return UNAVAILABLE
        if account is not None:
            return await self._log_in(attempt, account)
        if attempt.address is not None and may_exist:
            return await self._first_login(attempt, attempt.address)
        return await self._fail_slowly(attempt, "barred" if attempt.address else "no_address")

    def _is_known(self, account: Account, password: bytes) -> bool:
        return not account.is_blocked and self.hasher.is_verified(
            account.id, account.secret, password
        )

    async def _log_in(self, attempt: _Try, account: Account) -> Account | LoginRefusal:
        if account.is_blocked:
            return await self._fail_slowly(attempt, "blocked")
        # The cache may have learnt this password while we waited for the lock of the name.
        if self._is_known(account, attempt.password):
            return await self.touch_daily(account)
        if not await self.hasher.verify(account.id, account.secret, attempt.password):
            return self._fail(attempt, "password")
        self.budgets.reset(throttle.FAILURES_PER_PAIR.kind, attempt.pair)
        if needs_upgrade(account.secret):
            account = await self._upgrade(account, attempt.password)
        return await self.touch_daily(account)

    async def _upgrade(self, account: Account, password: bytes) -> Account:
        try:
            secret = await self.hasher.hash(password)
            await self.accounts.set_secret(account.id, secret)
        except TransientFailure:
            self.log.warning("password_hash_not_upgraded")
            return account
        self.hasher.remember(account.id, secret, password)
        return attrs.evolve(account, secret=secret)

    async def _first_login(self, attempt: _Try, address: EmailAddress) -> Account | LoginRefusal:
        tombstone = await self.accounts.tombstone(address, self.clock.now_s())
        if tombstone is not None and not await self.hasher.verify(
            None, tombstone.secret, attempt.password
        ):
            return self._fail(attempt, "tombstone")
        old_secret = tombstone.secret if tombstone else None
        refusal = self._judge_creation(attempt, address, is_returning=old_secret is not None)
        if refusal is not None:
            return await self._fail_slowly(attempt, refusal.value)
        async with self.locks.hold(str(address)):
            account = await self.accounts.get(address)
            if account is None:
                created = await self._create(attempt, address, old_secret)
                if created is not None:
                    return created
                account = await self.accounts.get(address)
        if account is None:
            return await self._fail_slowly(attempt, CreationRefusal.RATE.value)
        # Somebody else won the race: the winner's hash decides (spec mail 2.2.3).
        return await self._log_in(attempt, account)

    def _judge_creation(
        self, attempt: _Try, address: EmailAddress, *, is_returning: bool
    ) -> CreationRefusal | None:
        """Say why this account may not be created by its first login.

        An owner who returns with the old password registers nothing new (contract 3): only the
        state of the machine and the rates can stop that.
        """
        settings = attempt.settings.registration
        way = Attempt.ADMIN if is_returning else Attempt.FIRST_LOGIN
        host_refusal = self.host.creation_refusal()
        if host_refusal is not None:
            self.log.warning("creation_refused_by_host", cause=host_refusal)
            return CreationRefusal.HOST
        refusal = judge_attempt(way, settings, host_refusal)
        if refusal is None and not is_returning:
            refusal = judge_name(address.local, settings) or judge_password(
                attempt.password, address, settings
            )
        if refusal is None and not self._may_create(attempt):
            refusal = CreationRefusal.RATE
        return refusal

    async def _create(
        self, attempt: _Try, address: EmailAddress, old_secret: str | None
    ) -> Account | None:
        """Create the account; None: it was not we who did, or the rate is used up."""
        secret = old_secret or await self.hasher.hash(attempt.password)
        # Taken only now: what counts is accounts really created (spec federation-web D3.8).
        if not self._take_creation(attempt):
            return None
        now_s = self.clock.now_s()
        new = NewAccount(
            address=address, secret=secret, created_s=int(now_s), first_login_day=day_of(now_s)
        )
        account, is_ours = await self.accounts.create(new)
        if not is_ours:
            return None
        self.hasher.remember(account.id, account.secret, attempt.password)
        self.log.info("account_created", account=address, way=Attempt.FIRST_LOGIN)
        return await self.touch_daily(account)

    def _may_create(self, attempt: _Try) -> bool:
        """Say whether this source may still create; a busy server is not the source's fault.

        Raises:  Overloaded: all sources together create too fast.
        """
        if attempt.prefix.is_exempt:
            return True
        if not self._peek(throttle.CREATIONS, ""):
            raise Overloaded("too many new accounts")
        rate = throttle.creations_per_prefix(attempt.settings.registration.rate_per_ip_hour)
        return rate is None or self._peek(rate, attempt.prefix.key)

    def _take_creation(self, attempt: _Try) -> bool:
        if not self._may_create(attempt):
            return False
        rate = throttle.creations_per_prefix(attempt.settings.registration.rate_per_ip_hour)
        if not attempt.prefix.is_exempt:
            self._take(throttle.CREATIONS, "")
            if rate is not None:
                self._take(rate, attempt.prefix.key)
        return True

    def _may_try(self, attempt: _Try) -> bool:
        if not self._peek(throttle.FAILURES_PER_PAIR, attempt.pair):
            return False
        prefix = attempt.prefix
        return prefix.is_exempt or self._peek(throttle.FAILURES_PER_PREFIX, prefix.key)

    async def _fail_slowly(self, attempt: _Try, cause: str) -> LoginRefusal:
        await self.hasher.verify_nothing(attempt.password)
        return self._fail(attempt, cause)

    def _fail(self, attempt: _Try, cause: str) -> LoginRefusal:
        pair = throttle.FAILURES_PER_PAIR
        self._take(pair, attempt.pair)
        if not attempt.prefix.is_exempt:
            self._take(throttle.FAILURES_PER_PREFIX, attempt.prefix.key)
        self.log.info("login_refused", cause=cause, account=attempt.address)
        used = self.budgets.used(pair.kind, attempt.pair, per_s=pair.per_s, burst=pair.burst)
        return LoginRefusal(RefusalReason.BAD_CREDENTIALS, throttle.failure_delay_s(used))

    def _peek(self, rate: Rate, key: str) -> bool:
        return self.budgets.peek(rate.kind, key, per_s=rate.per_s, burst=rate.burst)

    def _take(self, rate: Rate, key: str) -> bool:
        return self.budgets.take(rate.kind, key, per_s=rate.per_s, burst=rate.burst)
