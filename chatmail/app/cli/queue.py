"""`queue`: what waits for other relays, and why."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from chatmail.app.cli.command import (
    ABORTED,
    Command,
    is_sure,
    option,
    positional,
    takes,
)
from chatmail.app.cli.context import Context
from chatmail.app.cli.output import CommandFailed, Exit, Reply, table
from chatmail.domain.formats.amounts import show_duration

Entry = Mapping[str, Any]

SHOWN: Final = 200


def ago(unix: int | None) -> str:
    """Say how long ago something was."""
    return "never" if not unix else f"{show_duration(max(0, int(time.time() - unix)))} ago"


def ahead(unix: int | None) -> str:
    """Say when something will be."""
    if unix is None:
        return "-"
    left_s = int(unix - time.time())
    return f"in {show_duration(left_s)}" if left_s > 0 else "now"


def show_queue(context: Context, options: Namespace) -> Reply:
    """Show how full the queue is, by destination."""
    state = context.call("queue.status")
    lines = [f"{state['count']} deliveries wait, {state['held']} of them held back"]
    if state["count"]:
        lines.append(f"the oldest came {ago(state['oldest_unix'])}")
        rows: list[tuple[str, ...]] = [("DESTINATION", "WAITING", "HELD", "OLDEST", "NEXT ATTEMPT")]
        rows += [_destination_row(one) for one in state["destinations"][:SHOWN]]
        lines += table(rows)
        lines.append("`chatmail queue why DOMAIN` says what the other side answered")
    return Reply(lines=lines, data=state)


def _destination_row(one: Entry) -> tuple[str, ...]:
    backoff = one["backoff_until_unix"]
    following = f"{ahead(backoff)} (unreachable)" if backoff else ahead(one["next_due_unix"])
    return (
        one["domain"],
        str(one["entries"]),
        str(one["held"]),
        ago(one["oldest_unix"]),
        following,
    )


def list_queue(context: Context, options: Namespace) -> Reply:
    """Show the entries of the queue."""
    params = {**_wanted(options), "limit": options.limit}
    page = context.call("queue.list", params)
    rows: list[tuple[str, ...]] = [("ID", "FROM", "TO", "TRIES", "QUEUED", "NEXT", "LAST ANSWER")]
    rows += [_entry_row(one) for one in page["entries"]]
    lines = table(rows) if page["entries"] else ["the queue is empty"]
    if page["cursor"]:
        lines.append("there are more (--limit)")
    return Reply(lines=lines, data=page)


def _entry_row(one: Entry) -> tuple[str, ...]:
    return (
        one["id"],
        one["mail_from"] or "<>",
        one["rcpt_to"],
        str(one["tries_count"]),
        ago(one["queued_at_unix"]),
        "held" if one["held"] else ahead(one["next_attempt_unix"]),
        one["last_error"],
    )


def show_message(context: Context, options: Namespace) -> Reply:
    """Show one message of the queue, without its content."""
    found = context.call("queue.get", {"id": options.id})
    kind = "delivery report" if found["is_report"] else "message"
    queued = ago(found["queued_at_unix"])
    lines = [
        f"{kind} {found['id']}, {found['size_bytes']} octets, queued {queued}",
        f"from {found['mail_from'] or '<>'}",
    ]
    for one in found["recipients"]:
        state = "held back" if one["held"] else f"next attempt {ahead(one['next_attempt_unix'])}"
        lines.append(f"to {one['rcpt_to']}: {one['tries_count']} attempts, {state}")
        if one["last_error"]:
            way = _way(one["last_transport"], one["last_host"])
            when = ago(one["last_attempt_unix"])
            lines.append(f"   {when}, {way}: {one['last_error']}")
    return Reply(lines=lines, data=found)


def explain(context: Context, options: Namespace) -> Reply:
    """Say why mail for a domain waits."""
    found = context.call("queue.why", {"domain": options.domain})
    return Reply(lines=list(_why(found)), data=found)


def _why(found: Entry) -> Iterator[str]:
    yield f"{found['entries']} deliveries wait for {found['domain']}"
    if found["held"]:
        yield f"{found['held']} of them are held back (chatmail queue release does)"
    if found["entries"]:
        yield f"the oldest came {ago(found['oldest_unix'])}"
    if found["override"]:
        yield f"mail for it goes to {found['override']} (chatmail endpoint-cache list)"
    yield from _prospects(found)
    worked = [f"{way} {ago(unix)}" for way, unix in found["last_ok"].items() if unix]
    yield f"last delivered: {', '.join(worked) or 'never'}"
    for one in found["diagnostics"]:
        yield f"{one['entries']} × {_answer(one)}"
    if not found["diagnostics"] and found["last_error"]:
        yield f"last failure: {found['last_error']}"


def _prospects(found: Entry) -> Iterator[str]:
    backoff, https_again = found["backoff_until_unix"], found["https_skipped_until_unix"]
    if found["unreachable_since_unix"]:
        since, times = found["unreachable_since_unix"], found["failed_connects"]
        yield f"no server there was ready for mail, first {ago(since)} ({times} attempts in a row)"
    if backoff and backoff > time.time():
        yield f"one delivery is tried {ahead(backoff)}; the others wait for how that goes"
    elif found["next_due_unix"] is not None:
        yield f"the next attempt is {ahead(found['next_due_unix'])}"
    if https_again and https_again > time.time():
        yield f"HTTPS did not work there, so SMTP comes first; HTTPS again {ahead(https_again)}"


def _answer(one: Entry) -> str:
    if not one["reply"]:
        return "not tried yet"
    way = _way(one["transport"], one["host"])
    return f"{one['reply']} ({way}, {ago(one['last_unix'])})"


def _way(transport: str, host: str) -> str:
    return " ".join(part for part in (transport, host) if part) or "no connection"


# --- acting ---------------------------------------------------------------------------------------


def retry(context: Context, options: Namespace) -> Reply:
    """Try again now."""
    result = context.call("queue.retry", _wanted(options))
    return Reply(lines=[f"{result['retried']} deliveries are tried now"], data=result)


def hold(context: Context, options: Namespace) -> Reply:
    """Hold back."""
    result = context.call("queue.hold", _something(options))
    return Reply(lines=[f"{result['held']} deliveries are held back"], data=result)


def release(context: Context, options: Namespace) -> Reply:
    """Let go what is held back."""
    result = context.call("queue.release", _wanted(options))
    return Reply(lines=[f"{result['released']} deliveries go on"], data=result)


def remove(context: Context, options: Namespace) -> Reply:
    """Forget a message."""
    wanted = _something(options)
    if not is_sure(options, "Its senders will not be told. Remove from the queue?"):
        return ABORTED
    result = context.call("queue.delete", wanted)
    return Reply(lines=[f"{result['removed']} deliveries were removed"], data=result)


def purge(context: Context, options: Namespace) -> Reply:
    """Forget everything, or what is of one sender, recipient or domain."""
    wanted = _wanted(options)
    user = options.user
    whose = " of this kind" if wanted or user else ""
    if not is_sure(options, f"Senders will not be told. Remove every delivery{whose}?"):
        return ABORTED
    if not user:
        result = context.call("queue.purge", wanted)
    else:
        # As madmail 1 had it: an address alone means what it sent, unless a flag says otherwise.
        sides = [name for name in ("sender", "recipient") if name in options.side] or ["sender"]
        counts = [context.call("queue.purge", {**wanted, side: user})["removed"] for side in sides]
        result = {"removed": sum(counts)}
    return Reply(lines=[f"{result['removed']} deliveries were removed"], data=result)


def _wanted(options: Namespace) -> dict[str, object]:
    """Return which entries are meant: an id, or a domain, sender, recipient."""
    wanted: dict[str, object] = {}
    which = getattr(options, "which", "")
    if which:
        # Ids have letters and digits only; a bare IPv6 address has colons.
        wanted["domain" if set(which) & set(".:[") else "id"] = which
    for name in ("domain", "sender", "recipient"):
        if getattr(options, name, ""):
            wanted[name] = getattr(options, name)
    return wanted


def _something(options: Namespace) -> dict[str, object]:
    wanted = _wanted(options)
    if not wanted:
        raise CommandFailed(Exit.USAGE, "say which: an ID, --domain, --sender or --recipient")
    return wanted


def _limit(parser: ArgumentParser) -> None:
    parser.add_argument("--limit", type=int, default=SHOWN, metavar="N", help="at most so many")


def _sides(parser: ArgumentParser) -> None:
    parser.set_defaults(side=[])
    for side in ("sender", "recipient"):
        parser.add_argument(
            f"--{side}",
            dest="side",
            action="append_const",
            const=side,
            help=f"USER is the {side}",
        )


_domain = option("--domain", "DOMAIN", "only mail for this domain")
_filters = takes(
    _domain,
    option("--sender", "ADDRESS", "only mail of this sender"),
    option("--recipient", "ADDRESS", "only mail for this recipient"),
)
_which = positional("which", "a queue id or a domain", is_optional=True)

QUEUE_COMMANDS: Final[Sequence[Command]] = (
    Command(
        path=("queue", "status"),
        run=show_queue,
        help="how much waits for which relay",
        is_default=True,
    ),
    Command(
        path=("queue", "list"),
        run=list_queue,
        help="what waits; no content",
        arguments=takes(_filters, _limit),
    ),
    Command(
        path=("queue", "show"),
        run=show_message,
        help="one message and what its recipients' relays said; no content",
        arguments=positional("id", "see: queue list"),
    ),
    Command(
        path=("queue", "why"),
        run=explain,
        help="why mail for a domain waits",
        arguments=positional("domain", "e.g. example.org"),
    ),
    Command(
        path=("queue", "retry"),
        run=retry,
        help="try again now: a message, a domain, or everything",
        arguments=takes(_which, _filters),
    ),
    Command(
        path=("queue", "hold"),
        run=hold,
        help="hold mail back until it is released",
        arguments=takes(_which, _filters),
    ),
    Command(
        path=("queue", "release"),
        run=release,
        help="let go what is held back",
        arguments=takes(_which, _filters),
    ),
    Command(
        path=("queue", "remove"),
        run=remove,
        help="forget a message; its sender is not told",
        arguments=takes(_which, _filters),
    ),
    Command(
        path=("queue", "purge"),
        run=purge,
        help="forget everything that waits; nobody is told",
        arguments=takes(
            positional("user", "only mail of this address", is_optional=True), _domain, _sides
        ),
    ),
)
