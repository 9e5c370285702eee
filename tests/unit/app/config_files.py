"""Configuration files: the smallest, that of the contract, and reading one from a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chatmail.app.config import LoadedConfig, load_config
from chatmail.app.config_choice import ConfigError

MINIMAL = '[server]\ndomain = "relay.example.org"\n'

CONTRACT_FILE = """
[server]
ip = "127.0.0.1"
hostname = "127.0.0.1"
state_dir = "state"
[listen]
smtp = ["127.0.0.1:0"]
submission = ["127.0.0.1:0"]
submissions = ["127.0.0.1:0"]
imap = ["127.0.0.1:0"]
imaps = ["127.0.0.1:0"]
http = ["127.0.0.1:0"]
https = ["127.0.0.1:0"]
turn = ["127.0.0.1:0"]
metrics = ["127.0.0.1:0"]
[tls]
mode = "self-signed"
[database]
url = "sqlite"
[dns]
servers = ["127.0.0.1:5353"]
[federation]
smtp_port = 25
https_port = 443
ca_file = ""
[log]
target = "stderr"
"""


def load(
    tmp_path: Path, text: str = MINIMAL, environ: dict[str, str] | None = None, **more: Any
) -> LoadedConfig:
    file = tmp_path / "chatmail.toml"
    file.write_text(text)
    file.chmod(0o600)
    return load_config(file, environ or {}, **more)


def problems(
    tmp_path: Path, text: str, environ: dict[str, str] | None = None, **more: Any
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, environ, **more)
    return list(caught.value.problems)


def with_domain(text: str) -> str:
    return MINIMAL + text
