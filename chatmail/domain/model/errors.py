"""The error tree. Expected refusals are values (`verdict.Refuse`); exceptions are for the rest.

ChatmailError
├── LocalProtocolError      our own bug: a machine was driven against its rules
├── RemoteProtocolError     the peer broke the protocol; the connection cannot go on
├── TransientFailure        try later: 451, NO [UNAVAILABLE], 503. Nothing was stored.
│   └── Overloaded          a bounded queue is full: 452
├── PermanentFailure        trying again will not help
└── MailboxGone             the mailbox was deleted under a session that has it selected
"""

from __future__ import annotations


class ChatmailError(Exception):
    """Root of the tree."""


class LocalProtocolError(ChatmailError):
    """A state machine was asked for something its state forbids."""


class RemoteProtocolError(ChatmailError):
    """The peer broke the protocol beyond repair."""


class TransientFailure(ChatmailError):
    """Nothing was stored; the same request may succeed later."""


class Overloaded(TransientFailure):
    """A bounded queue is full; nothing was stored."""


class PermanentFailure(ChatmailError):
    """The request can never succeed."""


class MailboxGone(ChatmailError):
    """The mailbox that this handle names no longer exists."""
