"""The console script: arguments in, exit code out."""

from __future__ import annotations

import sys

from chatmail.app.cli.parser import parse


def main() -> None:
    """Run the command line; ends the process with the contract's exit code."""
    options = parse(sys.argv[1:])
    # Only now: the relay's libraries take a second to import, and help needs none of them.
    from chatmail.app.serve import serve

    sys.exit(serve(options))
