"""Which configuration file a command means: flags, environment, usual places.

Light on purpose: commands that only talk to the server need no more than this.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

USUAL_FILES: Final = (Path("data/chatmail.toml"), Path("/etc/chatmail/chatmail.toml"))


class ConfigError(Exception):
    """The configuration cannot be used. `problems` holds one line each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ConfigUnreadable(ConfigError):
    """The configuration file is somebody else's."""


def config_file(environ: Mapping[str, str]) -> Path | None:
    """Return the file to read when none was named: `CHATMAIL_CONFIG`, else a usual place.

    None: there is no file, so the environment has to say everything.
    Source:  spec admin 4.1: `./data/chatmail.toml`, then `/etc/chatmail/chatmail.toml`.
    """
    if environ.get("CHATMAIL_CONFIG"):
        return Path(environ["CHATMAIL_CONFIG"])
    return next((file for file in USUAL_FILES if file.exists()), None)


def chosen_file(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the file to read; None: there is no file.

    Raises:  ConfigError: one was named that is not there. ConfigUnreadable: it may not be read.
    """
    try:
        file = config or config_file(environ)
        is_there = file is None or file.is_file()
    except PermissionError as error:
        raise ConfigUnreadable((f"{error.filename}: permission denied",)) from None
    if not is_there:
        raise ConfigError((f"{file}: no such configuration file",))
    if file is not None and not os.access(file, os.R_OK):
        raise ConfigUnreadable((f"{file}: permission denied",))
    return file


def state_override(state_dir: Path | None) -> dict[str, object]:
    """Return what `--state-dir` sets in the configuration."""
    return {} if state_dir is None else {"server.state_dir": str(state_dir.absolute())}
