"""NOTIFY: what a session asked to be told of, and what that makes of a change.

Nothing is queued. A watch holds the counters the client was last told of, at most those of all
mailboxes of the account, and compares them with what is true when it may speak: events that come
faster than they can be told become one line.
Source:  RFC 5465.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from chatmail.domain.model.mailbox import DELIMITER, INBOX, MailboxId, MailboxInfo, Modseq
from chatmail.domain.wire.imap.commands import NotifyGroup
from chatmail.domain.wire.imap.listing import Named, hierarchy, named_among, true_attributes
from chatmail.domain.wire.imap.responses import listed, status

MESSAGE_EVENTS: Final = frozenset(("MESSAGENEW", "MESSAGEEXPUNGE", "FLAGCHANGE"))
_NO_EVENTS: Final[frozenset[str]] = frozenset()


def _holds(group: NotifyGroup, name: str, is_subscribed: bool) -> bool:
    """Say whether a group is about a mailbox (RFC 5465 §6)."""
    match group.mailboxes:
        case "PERSONAL":
            return True
        case "INBOXES":  # only INBOX has mail delivered into it
            return name == INBOX
        case "SUBSCRIBED":
            return is_subscribed
        case "SUBTREE":
            return any(name == top or name.startswith(top + DELIMITER) for top in group.names)
        case "MAILBOXES":
            return name in group.names
        case _:  # SELECTED and SELECTED-DELAYED are not about other mailboxes
            return False


class MailboxWatch:
    """The mailboxes of one account as one session knows them. Sync; knows no port."""

    __slots__ = ("_groups", "_known", "_own")

    def __init__(self, groups: Sequence[NotifyGroup], infos: Iterable[MailboxInfo]) -> None:
        self._groups = groups
        self._known = {info.id: info for info in infos}
        self._own: set[str] = set()

    def mailboxes(self) -> Iterable[MailboxId]:
        """Return the ids of all mailboxes known."""
        return self._known.keys()

    def events(self, name: str, *, is_subscribed: bool = False) -> frozenset[str]:
        """Return what is to be told of a mailbox, in capitals."""
        held = (group.events for group in self._groups if _holds(group, name, is_subscribed))
        return _NO_EVENTS.union(*held)

    def own_change(self, *names: str) -> None:
        """Note names this session is changing itself: they are no news (RFC 5465 §5)."""
        self._own.update(names)

    def own_arrivals(self, info: MailboxInfo, count: int, steps: int) -> None:
        """Note messages this session has put into a mailbox that is not selected.

        They are no news (RFC 5465 §5), unless somebody else changed the mailbox meanwhile: then
        one line tells of both.

        Args:  info: the mailbox afterwards. steps: by how much they have raised its MODSEQ.
        """
        before = self._known.get(info.id)
        if (
            before is not None
            and info.uid_next - before.uid_next == count
            and info.messages - before.messages == count
            and info.highest_modseq - before.highest_modseq <= steps
        ):
            self._known[info.id] = info

    def left(self, info: MailboxInfo, told: Modseq) -> None:
        """Note how a mailbox is that was selected, if the client knows all about it."""
        if info.id in self._known and info.highest_modseq <= told:
            self._known[info.id] = info

    def statuses(self, selected: MailboxId | None, *, with_modseq: bool, is_utf8: bool) -> bytes:
        """Return the STATUS lines that `NOTIFY SET STATUS` asks for (RFC 5465 §3.1)."""
        return b"".join(
            status(info, items, 0, is_utf8=is_utf8)
            for info in self._known.values()
            if info.id != selected and (items := self._first_items(info, with_modseq))
        )

    def _first_items(self, info: MailboxInfo, with_modseq: bool) -> list[str]:
        events = self.events(info.name, is_subscribed=info.is_subscribed)
        items = ["MESSAGES", "UIDNEXT", "UIDVALIDITY"] if "MESSAGENEW" in events else []
        # The server has CONDSTORE, enabled or not.
        is_modseq = "FLAGCHANGE" in events or (with_modseq and bool(items))
        return [*items, "HIGHESTMODSEQ"] if is_modseq else items

    def update(
        self,
        infos: Sequence[MailboxInfo],
        selected: MailboxId | None,
        *,
        with_modseq: bool,
        is_utf8: bool,
    ) -> bytes:
        """Take over how things are and return what tells the client, b"" for no news.

        Args:  selected: its messages are the business of SELECTED alone (RFC 5465 §3.1).
        """
        before, self._known = self._known, {info.id: info for info in infos}
        own, self._own = self._own, set()
        known = hierarchy(infos)
        lines = [
            listed(
                b"LIST",
                true_attributes(named_among(name, known)),
                name,
                old_name=old_name,
                is_utf8=is_utf8,
            )
            for name, old_name in self._names(before, own, known).items()
        ]
        lines.extend(
            status(info, items, 0, is_utf8=is_utf8)
            for info in infos
            if info.id != selected
            and (items := self._items(before.get(info.id), info, with_modseq))
        )
        return b"".join(lines)

    # --- names -------------------------------------------------------------------------------

    def _names(
        self, before: Mapping[MailboxId, MailboxInfo], own: set[str], known: Mapping[str, Named]
    ) -> dict[str, str | None]:
        """Return the names to tell, with the old name of those that were renamed."""
        told: dict[str, str | None] = {}
        for name, old_name, event in _changes(before, self._known):
            if name in own or old_name in own:
                continue
            if self._wants(event, name, known) or (
                old_name is not None and self._wants(event, old_name, known)
            ):
                told[name] = old_name
            parent = name.rpartition(DELIMITER)[0]
            # RFC 5465 §5.4: a parent is affected by what comes and goes below it.
            is_affected = event == "MAILBOXNAME" and old_name is None and parent
            if is_affected and self._wants(event, parent, known):
                told.setdefault(parent, None)
        return told

    def _wants(self, event: str, name: str, known: Mapping[str, Named]) -> bool:
        is_subscribed = named_among(name, known).is_subscribed
        return event in self.events(name, is_subscribed=is_subscribed)

    # --- messages ----------------------------------------------------------------------------

    def _items(
        self, old: MailboxInfo | None, info: MailboxInfo, with_modseq: bool
    ) -> list[str] | None:
        """Return the STATUS items to tell of one mailbox."""
        if old is not None and old.highest_modseq == info.highest_modseq:
            return None
        events = self.events(info.name, is_subscribed=info.is_subscribed)
        if MESSAGE_EVENTS.isdisjoint(events):
            return None
        if old is None:  # a new life of a name: all numbers anew, unless there are none
            return self._first_items(info, with_modseq) if info.messages else None
        arrived = info.uid_next - old.uid_next
        has_gone = info.messages != old.messages + arrived
        items = ["MESSAGES", "UIDNEXT"] if arrived or has_gone else []
        if "FLAGCHANGE" in events and (with_modseq or info.unseen != old.unseen):
            items += ["UIDVALIDITY", "UNSEEN"]
        return [*items, "HIGHESTMODSEQ"] if items and with_modseq else items


def _changes(
    before: Mapping[MailboxId, MailboxInfo], after: Mapping[MailboxId, MailboxInfo]
) -> Iterator[tuple[str, str | None, str]]:
    """Yield (name, old name, event) of each name that changed."""
    renamed = {
        old.name: after[id].name
        for id, old in before.items()
        if id in after and after[id].name != old.name
    }
    for id, old in before.items():
        if id not in after:
            yield old.name, None, "MAILBOXNAME"
        elif old.name in renamed and not _follows(old.name, renamed):
            yield renamed[old.name], old.name, "MAILBOXNAME"
        elif old.is_subscribed != after[id].is_subscribed:
            yield after[id].name, None, "SUBSCRIPTIONCHANGE"
    for id, info in after.items():
        if id not in before:
            yield info.name, None, "MAILBOXNAME"


def _follows(old: str, renamed: Mapping[str, str]) -> bool:
    """Say whether a name changed only because one above it did (RFC 5465 §5.4)."""
    return any(
        old.startswith(top + DELIMITER) and renamed[old] == new + old[len(top) :]
        for top, new in renamed.items()
    )
