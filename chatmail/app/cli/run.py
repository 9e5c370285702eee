"""Runs one command and turns its outcome into output and exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from chatmail.app.cli.context import Context
from chatmail.app.cli.output import CommandFailed, Exit, show_failure, show_reply
from chatmail.app.cli.parser import Invocation


def run(invocation: Invocation, environ: Mapping[str, str]) -> int:
    """Run a command; returns the exit code."""
    context = Context(
        environ=environ,
        config=invocation.config,
        state_dir=invocation.state_dir,
        is_offline=invocation.is_offline,
    )
    try:
        reply = invocation.command.run(context, invocation.options)
        return show_reply(
            invocation.command.name,
            reply,
            is_json=invocation.is_json,
            is_quiet=invocation.is_quiet,
        )
    except CommandFailed as failed:
        return show_failure(failed, is_json=invocation.is_json)
    except BrokenPipeError:
        # Whoever read our output has left; the interpreter must not try again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.FAILURE)
    except KeyboardInterrupt:
        return int(Exit.INTERRUPTED)
