"""`segments`: files of mail that the database has never known."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from chatmail.app.cli.command import ABORTED, Command, is_sure
from chatmail.app.cli.context import Context
from chatmail.app.cli.output import CommandFailed, Exit, Reply, table
from chatmail.domain.formats.amounts import show_size

if TYPE_CHECKING:
    from chatmail.adapters.storage.unknown_segments import UnknownSegment

_NONE: Final = "the database knows every file of mail"


def list_unknown(context: Context, options: Namespace) -> Reply:
    """Show the files."""
    found = _find(context, remove=False)
    return Reply(lines=_lines(found), data={"segments": _data(found), "removed": 0})


def discard_unknown(context: Context, options: Namespace) -> Reply:
    """Remove the files, after a question that names them."""
    found = _find(context, remove=False)
    if not found:
        return Reply(lines=[_NONE], data={"segments": [], "removed": 0})
    names = ", ".join(one.path.name for one in found)
    if not is_sure(options, f"Remove {names} for ever? Mail in them cannot be had back."):
        return ABORTED
    found = _find(context, remove=True)
    return Reply(
        lines=[f"removed {one.path}" for one in found],
        data={"segments": _data(found), "removed": len(found)},
    )


def _find(context: Context, *, remove: bool) -> Sequence[UnknownSegment]:
    # Only now: the store takes half a second to import.
    from chatmail.app.cli.offline import Refused, unknown_segments

    outcome = unknown_segments(context.load(), remove=remove)
    if isinstance(outcome, Refused):
        raise CommandFailed(Exit.FAILURE, *outcome.reasons)
    return outcome


def _lines(found: Sequence[UnknownSegment]) -> list[str]:
    if not found:
        return [_NONE]
    rows = [("FILE", "SIZE", "LAST WRITTEN")]
    rows += [(one.path.name, show_size(one.octets), _moment(one.changed_s)) for one in found]
    return [
        *table(rows),
        "They belong to a database that was lost or replaced, or a crash left them behind.",
        "Put that database back, or remove them: chatmail segments discard-unknown",
    ]


def _data(found: Sequence[UnknownSegment]) -> list[dict[str, object]]:
    return [
        {"file": str(one.path), "octets": one.octets, "changed_at": _moment(one.changed_s)}
        for one in found
    ]


def _moment(time_s: float) -> str:
    return datetime.fromtimestamp(int(time_s), UTC).isoformat().replace("+00:00", "Z")


SEGMENT_COMMANDS: Final = (
    Command(
        path=("segments", "unknown"),
        run=list_unknown,
        help="files the database has never known; the server must be stopped",
        is_default=True,
    ),
    Command(
        path=("segments", "discard-unknown"),
        run=discard_unknown,
        help="remove them",
        about="For files a crash left behind. Never after a database was lost or replaced.",
    ),
)
