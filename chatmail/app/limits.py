"""Raises the limits of the process that a mail server must not run into."""

from __future__ import annotations

import contextlib
import resource


def raise_file_limit() -> None:
    """Allow as many open files as the machine lets us; every connection is one.

    The soft limit is 1024 for the sake of programs that use select(2) (systemd.exec(5)); we do not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # refused in some containers: the old holds
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
