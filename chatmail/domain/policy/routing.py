"""Where recipients live: ours or another relay's."""

from __future__ import annotations

from collections.abc import Iterable

from chatmail.domain.model.address import EmailAddress


def split(
    recipients: Iterable[EmailAddress], local_domains: frozenset[str]
) -> tuple[list[EmailAddress], list[EmailAddress]]:
    """Return (local, remote) recipients, each in the order given."""
    local: list[EmailAddress] = []
    remote: list[EmailAddress] = []
    for recipient in recipients:
        (local if recipient.domain in local_domains else remote).append(recipient)
    return local, remote
