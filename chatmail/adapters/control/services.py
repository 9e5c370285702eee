"""What the control face calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import attrs

from chatmail.domain.formats.zone import ZoneFacts
from chatmail.domain.ports.mail_auth import KeyRing
from chatmail.domain.ports.zone import ZoneReader
from chatmail.domain.usecases.change_settings import ChangeSettings
from chatmail.domain.usecases.check_dns import CheckDns
from chatmail.domain.usecases.manage_accounts import ManageAccounts
from chatmail.domain.usecases.manage_exchangers import ManageExchangers
from chatmail.domain.usecases.manage_federation import ManageFederation
from chatmail.domain.usecases.manage_queue import ManageQueue


class Tasks(Protocol):
    """The maintenance tasks, by the names operators use."""

    def names(self) -> Sequence[str]:
        """Return the names of all tasks."""

    def expiring(self) -> Sequence[str]:
        """Return the names of those that remove what is too old."""

    async def run(
        self, name: str, *, is_dry_run: bool, retention_s: int | None
    ) -> Mapping[str, object] | None:
        """Run one task and return its report as JSON; None: there is no such task.

        Raises:  TransientFailure: the store could not serve it.
        """


class Operation(Protocol):
    """What only a running relay can do."""

    def status(self) -> Mapping[str, object]:
        """Return how the relay is, as JSON. Sync."""

    async def reload(self) -> Sequence[str]:
        """Follow the changed file; returns its problems, one line each. Empty: all was done."""


@attrs.define
class LastCheck:
    """How the last check of DNS ended. `at_s` 0: there was none."""

    at_s: int = 0
    missing: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class DnsDesk:
    """What stands behind `dns` and `dkim`.

    `keys` None: nothing is signed. `reader` gives DNS by another resolver, named by its address.
    `last`: how the last check ended, for `status`.
    """

    describe: Callable[[], Awaitable[ZoneFacts]]
    check: CheckDns
    keys: KeyRing | None = None
    reader: Callable[[str], ZoneReader] | None = None
    clock: Callable[[], float] = lambda: 0.0
    last: LastCheck = attrs.field(factory=LastCheck)


@attrs.frozen(kw_only=True)
class AccountDesk:
    """What stands behind `accounts`. `link` makes a login link of address and password."""

    manage: ManageAccounts
    state_dir: str = ""
    database: str = ""
    link: Callable[[str, str], str] | None = None


@attrs.frozen(kw_only=True)
class ControlServices:
    """Use cases behind the control socket. `operation` is None in a program that serves nobody."""

    settings: ChangeSettings
    tasks: Tasks | None = None
    operation: Operation | None = None
    queue: ManageQueue | None = None
    federation: ManageFederation | None = None
    exchangers: ManageExchangers | None = None
    dns: DnsDesk | None = None
    accounts: AccountDesk | None = None
