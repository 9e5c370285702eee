"""What a command says: text for people, one line of JSON for programs.

Source:  spec admin 4.1.
"""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import attrs


class Exit(enum.IntEnum):
    """Exit codes of every command."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_RUNNING = 3
    NOT_FOUND = 4
    PERMISSION = 5
    CHECK_FAILED = 6
    INTERRUPTED = 130


class CommandFailed(Exception):
    """A command could not do what was asked. `lines` are for the operator."""

    def __init__(self, code: Exit, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.code = code
        self.lines = lines


@attrs.frozen(kw_only=True)
class Reply:
    """What a command found or did: `lines` for people, `data` for programs."""

    lines: Sequence[str]
    data: Mapping[str, Any] = attrs.field(factory=dict)
    message: str = ""
    code: Exit = Exit.OK


def show_reply(name: str, reply: Reply, *, is_json: bool, is_quiet: bool) -> int:
    """Write the outcome to stdout; returns the exit code."""
    if is_json:
        document: dict[str, Any] = {"ok": reply.code is Exit.OK, "command": name}
        if reply.message:
            document["message"] = reply.message
        sys.stdout.write(json.dumps({**document, "data": dict(reply.data)}) + "\n")
    elif not is_quiet:
        sys.stdout.writelines(line + "\n" for line in reply.lines)
    sys.stdout.flush()
    return int(reply.code)


def show_failure(failed: CommandFailed, *, is_json: bool) -> int:
    """Write the problem to stderr; returns the exit code."""
    if is_json:
        document = {"ok": False, "error": "\n".join(failed.lines), "code": int(failed.code)}
        sys.stderr.write(json.dumps(document) + "\n")
    else:
        sys.stderr.writelines(f"Error: {line}\n" for line in failed.lines)
    return int(failed.code)


def refuse_usage(message: str, usage: str, *, is_json: bool) -> NoReturn:
    """End the process for a wrong command line."""
    if is_json:
        show_failure(CommandFailed(Exit.USAGE, message), is_json=True)
    else:
        sys.stderr.write(f"{usage}Error: {message}\n")
    sys.exit(int(Exit.USAGE))


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
