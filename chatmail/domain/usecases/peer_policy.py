"""What the operator says of other relays, asked for one domain at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

import attrs

from chatmail.domain.model.federation import Dismissal, PeerRule
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.policy.peer_rules import RuleBook
from chatmail.domain.ports.federation import PeerDirectory

_Entry = TypeVar("_Entry")


class _Compiled(Generic[_Entry]):
    """A rule book that is made anew when the list it was made from is another one."""

    def __init__(self, compile: Callable[[Iterable[_Entry]], RuleBook]) -> None:
        self._compile = compile
        self._source: Sequence[_Entry] | None = None
        self._book = compile(())

    def of(self, source: Sequence[_Entry]) -> RuleBook:
        if source is not self._source:
            self._book, self._source = self._compile(source), source
        return self._book


@attrs.frozen(kw_only=True)
class PeerPolicy:
    """The federation policy in force. Sync, in memory; never asked for local domains."""

    directory: PeerDirectory
    settings: Callable[[], SettingsSnapshot]
    _rules: _Compiled[PeerRule] = attrs.field(
        init=False, factory=lambda: _Compiled(RuleBook.of_rules)
    )
    _dismissals: _Compiled[Dismissal] = attrs.field(
        init=False, factory=lambda: _Compiled(RuleBook.of_dismissals)
    )

    def allows(self, domain: str) -> bool:
        """Say whether mail may be exchanged with a normalised domain (spec policy 7.1)."""
        federation = self.settings().federation
        return federation.is_enabled and self._rules.of(self.directory.rules()).allows(
            domain, rejects_by_default=federation.rejects_by_default
        )

    def dismisses(self, domain: str) -> bool:
        """Say whether mail to a domain is accepted and discarded (7.2); asked after `allows`."""
        return self._dismissals.of(self.directory.dismissals()).lists(domain)
