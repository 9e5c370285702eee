"""A configuration file: a checked configuration, or problems of one line each."""

from __future__ import annotations

import functools
import tempfile
import tomllib
from pathlib import Path

from chatmail.app.config import ConfigError, LoadedConfig, load_config
from chatmail.app.config_identity import to_settings
from chatmail.app.config_keys import FIELDS
from chatmail.app.config_lines import key_lines
from tests.unit.app.config_files import CONTRACT_FILE, MINIMAL

WORDS = (
    *(b"[server]\n", b"[listen]\n", b"[tls]\n", b"[limits]\n", b"[database]\n", b'domain = "'),
    *(b'"x.example"\n', b"= [", b"]\n", b'"127.0.0.1:0"', b"true\n", b"0\n", b"-1\n", b"1e999\n"),
    *(b'"500M"', b'"1h30m"', b'"75%"', b'"auto"', b"${ENV:HOME}", b"'''", b'"""', b"[[x]]\n", b"#"),
    *(b"1979-05-27T07:32:00Z\n", b"{a = 1}\n", b"0x7fffffffffffffffff\n", b"inf\n", b"nan\n"),
    *(name.rpartition(".")[2].encode() + b" = " for name in sorted(FIELDS)),
)
_MAX_TEXT = 3000


def check(data: bytes) -> None:
    """No file raises anything but ConfigError, and the same file always says the same."""
    text = data[:_MAX_TEXT].replace(b"${FILE:", b"${file:")
    first, again = _load(text), _load(text)
    if isinstance(first, tuple):
        assert first == again
        assert first
        for problem in first:
            assert problem.strip()
            assert problem.isprintable(), problem
        return
    assert isinstance(again, LoadedConfig)
    assert first == again
    assert _is_toml(text)
    to_settings(first.boot)
    assert all(warning.isprintable() for warning in first.warnings)
    assert set(first.origins.values()) <= {"file"}
    lines = key_lines(text.decode())
    assert all(0 < line <= text.count(b"\n") + 1 for line in lines.values())


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


def _load(text: bytes) -> LoadedConfig | tuple[str, ...]:
    file = Path(_folder().name) / "chatmail.toml"
    file.write_bytes(text)
    try:
        return load_config(file, {})
    except ConfigError as error:
        return error.problems


def _is_toml(text: bytes) -> bool:
    try:
        tomllib.loads(text.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        return False
    return True


VECTORS = (
    MINIMAL.encode(),
    CONTRACT_FILE.encode(),
    b'[server]\nip = "127.0.0.1"\n[limits]\nmax_message_size = "30M"\nmax_mailbox_size = "x"\n',
    b'[server]\ndomian = "x"\n[nonsense]\na.b = [1, {c = 2}]\n',
    b'server.domain = "relay.example"\nserver.defaults = "madmail"\n',
    b'[database]\ndriver = "sqlite3"\ndsn = "x.db"\n[server]\ndomain = "relay.example"\n',
    b'[log]\nlevel = "DEBUG"\ntarget = "${ENV:NOPE}"\n',
    b"[server\n",
    b"\xff\xfe",
)
