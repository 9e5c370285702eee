"""`uidvalidity`: after an older copy of the database was put back."""

from __future__ import annotations

from argparse import Namespace
from typing import Final

from chatmail.app.cli.command import ABORTED, Command, is_sure
from chatmail.app.cli.context import Context
from chatmail.app.cli.output import CommandFailed, Exit, Reply

_QUESTION: Final = (
    "Give every mailbox a new UIDVALIDITY? Clients then never fetch mail they have not fetched yet."
)


def renew(context: Context, options: Namespace) -> Reply:
    """Renew all of them, after a question that says what it costs."""
    if not is_sure(options, _QUESTION):
        return ABORTED
    # Only now: the store takes half a second to import.
    from chatmail.app.cli.offline import Refused, renew_uid_validity

    outcome = renew_uid_validity(context.load())
    if isinstance(outcome, Refused):
        raise CommandFailed(Exit.FAILURE, *outcome.reasons)
    return Reply(lines=[f"{outcome} mailboxes have a new UIDVALIDITY"], data={"mailboxes": outcome})


UIDVALIDITY_COMMANDS: Final = (
    Command(
        path=("uidvalidity", "renew"),
        run=renew,
        help="new ones for all mailboxes; the server must be stopped",
        about="After an older copy of the database was put back, and mail has come since it was "
        "made: its UIDs would be given out again, and clients would not fetch what has them.",
    ),
)
