"""GETMETADATA, SETMETADATA, and the quota commands.

Each reply leaves in one write with its tagged OK (spec mail 1.6): the server loop sends what a
handler returns together with what it queued.
Source:  RFC 5464, RFC 9208; spec mail 4.2 items 9 and 10, 4.4.
"""

from __future__ import annotations

from typing import Final

from chatmail.adapters.imap.replies import METADATA_REFUSALS, NO_SUCH_MAILBOX, Reply
from chatmail.adapters.imap.session import Session
from chatmail.domain.model.mailbox import INBOX
from chatmail.domain.usecases.service_metadata import SERVER, MetadataRefusal
from chatmail.domain.wire.imap.commands import (
    GetMetadata,
    GetQuota,
    GetQuotaRoot,
    SetMetadata,
    SetQuota,
)
from chatmail.domain.wire.imap.responses import metadata, ok, quota, quota_root

ROOT: Final = "User quota"
_NO_ROOT: Final = Reply("NONEXISTENT", "No such quota root")
_NO_SETQUOTA: Final = Reply("NOPERM", "Quotas cannot be changed here")


async def get_metadata(session: Session, tag: bytes, command: GetMetadata) -> bytes:
    """GETMETADATA."""
    if not await _exists(session, command.mailbox):
        return NO_SUCH_MAILBOX.to(tag)
    answer = await session.services.metadata.get(
        session.account.id,
        command.mailbox,
        command.entries,
        max_size=command.max_size,
        depth=command.depth,
    )
    told = b""
    if answer.entries:
        told = metadata(command.mailbox, answer.entries, is_utf8=session.machine.is_utf8)
    longest = answer.longest_left_out
    code = f"METADATA LONGENTRIES {longest}" if longest else ""
    return told + ok(tag, "Getmetadata completed", code)


async def set_metadata(session: Session, tag: bytes, command: SetMetadata) -> bytes:
    """SETMETADATA: a push token of this device.

    The mailbox's MODSEQ stays: it counts changes of messages (RFC 7162 §3.1), RFC 5464 knows none,
    and raising it would send every QRESYNC client looking for changes that are not there. Who wants
    to know asks by NOTIFY (MailboxMetadataChange).
    """
    if not await _exists(session, command.mailbox):
        return NO_SUCH_MAILBOX.to(tag)
    outcome = await session.services.metadata.set(
        session.account.id, command.mailbox, command.entries, session.token
    )
    if isinstance(outcome, MetadataRefusal):
        return METADATA_REFUSALS[outcome].to(tag)
    session.token = outcome
    if session.notifier is not None:
        await session.notifier.own_metadata()
    session.announce()
    return ok(tag, "Setmetadata completed")


async def _exists(session: Session, mailbox: str) -> bool:
    if mailbox in (SERVER, INBOX):
        return True
    return await session.services.store.info(session.account.id, mailbox) is not None


async def get_quota_root(session: Session, tag: bytes, command: GetQuotaRoot) -> bytes:
    """GETQUOTAROOT: the root and its numbers together (trap T18)."""
    if not await _exists(session, command.mailbox):
        return NO_SUCH_MAILBOX.to(tag)
    root = quota_root(command.mailbox, ROOT, is_utf8=session.machine.is_utf8)
    told = root + await _usage(session)
    return told + ok(tag, "Getquotaroot completed")


async def get_quota(session: Session, tag: bytes, command: GetQuota) -> bytes:
    """GETQUOTA."""
    if command.root != ROOT:
        return _NO_ROOT.to(tag)
    return await _usage(session) + ok(tag, "Getquota completed")


async def set_quota(session: Session, tag: bytes, command: SetQuota) -> bytes:
    """SETQUOTA: never."""
    return _NO_SETQUOTA.to(tag)


async def _usage(session: Session) -> bytes:
    used = await session.services.store.usage(session.account.id)
    return quota(ROOT, used, session.services.settings().limits.max_mailbox_bytes)
