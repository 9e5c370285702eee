"""The console script: arguments in, exit code out."""

from __future__ import annotations

import gc
import os
import sys

from chatmail.app.cli.parser import ServeOptions, parse


def main() -> None:
    """Run the command line; ends the process with the contract's exit code."""
    invocation = parse(sys.argv[1:])
    # Only now: the relay's libraries take a second to import, and help needs none of them.
    if isinstance(invocation, ServeOptions):
        gc.disable()  # nothing of this is garbage, and looking for some takes a sixth of the time
        from chatmail.app.serve import serve

        gc.enable()
        sys.exit(serve(invocation))
    from chatmail.app.cli.run import run

    sys.exit(run(invocation, os.environ))
