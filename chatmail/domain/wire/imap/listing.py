"""The hierarchy of mailbox names, and the attributes that LIST responses tell.

Source:  RFC 3501 §7.2.2, RFC 5258, RFC 6154, RFC 9051 §7.3.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs

from chatmail.domain.model.mailbox import DELIMITER, MailboxInfo


@attrs.frozen
class Named:
    """A name that LIST may show; `info` None: only mailboxes below it exist."""

    name: str
    info: MailboxInfo | None
    has_children: bool

    @property
    def is_subscribed(self) -> bool:
        """Say whether there is a mailbox and it is subscribed."""
        return self.info is not None and self.info.is_subscribed

    @property
    def special_use(self) -> str | None:
        """Return the special use of the mailbox (RFC 6154)."""
        return None if self.info is None else self.info.special_use


def hierarchy(infos: Sequence[MailboxInfo]) -> dict[str, Named]:
    """Return all names, those included that exist only as parents."""
    by_name = {info.name: info for info in infos}
    above = {parent for name in by_name for parent in parents(name)}
    return {name: Named(name, by_name.get(name), name in above) for name in by_name.keys() | above}


def parents(name: str) -> Iterator[str]:
    """Yield the names above a name, the nearest first."""
    while DELIMITER in name:
        name = name.rpartition(DELIMITER)[0]
        yield name


def true_attributes(named: Named) -> list[str]:
    """Return every attribute of a name, as an unsolicited LIST response tells them."""
    attributes = [] if named.info is not None else ["\\Noselect", "\\NonExistent"]
    attributes.append("\\HasChildren" if named.has_children else "\\HasNoChildren")
    if named.is_subscribed:
        attributes.append("\\Subscribed")
    if named.special_use is not None:
        attributes.append(named.special_use)
    return attributes


def named_among(name: str, known: Mapping[str, Named]) -> Named:
    """Return a name of the hierarchy; one that is gone is told as such."""
    return known.get(name) or Named(name, None, has_children=False)
