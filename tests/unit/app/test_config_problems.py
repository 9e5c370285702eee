"""Everything wrong with a configuration file is told at once, older names with a warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chatmail.app.config import load_config
from chatmail.app.config_choice import ConfigError
from tests.unit.app.config_files import MINIMAL, load, problems, with_domain


def test_every_problem_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    text = (
        '[server]\ndomain = "relay.example.org"\n'
        "[registration]\npassword_mim = 3\nusername_min = 12\n"
        '[limits]\nmax_message_size = "30 M"\nsend_rate_per_minute = "x"\n'
        '[federation]\npolicy = "ACEPT"\n'
        '[turn]\nrelay_ports = "9-3"\n'
    )
    assert problems(tmp_path, text) == [
        "chatmail.toml:4: registration.password_mim: unknown key"
        " (did you mean registration.password_min?)",
        'chatmail.toml:7: limits.max_message_size: "30 M": unknown unit " M" (use e.g. 30M)',
        'chatmail.toml:8: limits.send_rate_per_minute: "x": is not a whole number',
        'chatmail.toml:10: federation.policy: "ACEPT": is none of accept, reject'
        " (did you mean accept?)",
        "chatmail.toml:5: registration.username_min: is above registration.username_max (9)",
        "chatmail.toml:12: turn.relay_ports: 9 is above 3",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[foo]\nbar = 1\n", "foo.bar: unknown key"),
        ("[regstration]\n", "regstration: unknown key (did you mean registration?)"),
        ("[limits.max_message_size]\nx = 1\n", "limits.max_message_size.x: unknown key"),
        ('[retention]\npassword_min = "3d"\n', "did you mean registration.password_min?"),
    ],
)
def test_unknown_keys_and_tables_are_problems(tmp_path: Path, text: str, expected: str) -> None:
    assert any(expected in problem for problem in problems(tmp_path, with_domain(text)))


def test_unknown_keys_are_warnings_when_not_strict(tmp_path: Path) -> None:
    loaded = load(tmp_path, with_domain("strict = false\n[foo]\nbar = 1\n"))
    assert loaded.warnings == ("chatmail.toml:5: foo.bar: unknown key",)


def test_not_strict_still_refuses_bad_values(tmp_path: Path) -> None:
    text = with_domain('strict = false\n[limits]\nsend_burst = "x"\n')
    assert problems(tmp_path, text) == [
        'chatmail.toml:5: limits.send_burst: "x": is not a whole number'
    ]


def test_syntax_error_names_its_line(tmp_path: Path) -> None:
    (problem, *_) = problems(tmp_path, '[server]\ndomain = "a\n')
    assert problem.startswith("chatmail.toml:2: ")


def test_missing_and_undecodable_files_are_problems(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent.toml: cannot be read: No such file"):
        load_config(tmp_path / "absent.toml", {})
    (tmp_path / "bad.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "bad.toml", {})


@pytest.mark.parametrize(
    ("alias", "read", "expected"),
    [
        ('append_policy = "any"\n' + MINIMAL, lambda b: b.gate.append_policy, "any"),
        (with_domain('public_ip = "192.0.2.1"'), lambda b: len(b.server.public_ips), 1),
        (with_domain('local_domains = ["x.test"]'), lambda b: b.server.extra_domains, ("x.test",)),
        (with_domain('[acme]\nemail = "op@x.test"'), lambda b: b.tls.acme_email, "op@x.test"),
        (with_domain("[limits]\nmax_imap = 5"), lambda b: b.limits.max_imap_connections, 5),
        (with_domain('[storage]\nmailbox = "1G"'), lambda b: b.limits.max_mailbox_size, 1024**3),
        (
            with_domain("[retention]\ndelete_mails_after = 3"),
            lambda b: b.retention.messages,
            259200,
        ),
        ('delete_mails_after = "3h"\n' + MINIMAL, lambda b: b.retention.messages, 10800),
        ("federation_stats = false\n" + MINIMAL, lambda b: b.federation.stats, False),
        ('turn_server = "t.test"\n' + MINIMAL, lambda b: b.turn.host, "t.test"),
        (with_domain('[metrics]\nlisten = ["127.0.0.1:1"]'), lambda b: len(b.listen.metrics), 1),
        (with_domain('[web]\nadmin_path = "/a"'), lambda b: b.admin.path, "/a"),
    ],
)
def test_older_names_work_with_a_warning(
    tmp_path: Path, alias: str, read: Any, expected: Any
) -> None:
    loaded = load(tmp_path, alias)
    assert read(loaded.boot) == expected
    assert any("is an older name of" in warning for warning in loaded.warnings)


@pytest.mark.parametrize("order", [0, 1])
def test_older_and_newer_name_together_are_a_problem(tmp_path: Path, order: int) -> None:
    lines = ['delete_mails_after = "9d"', 'messages = "3d"']
    text = with_domain("[retention]\n" + "\n".join(lines[order:] + lines[:order]) + "\n")
    assert problems(tmp_path, text) == [
        "chatmail.toml:5: retention.messages: is given twice (chatmail.toml:4)"
    ]


def test_older_words_of_tls_mode_work_with_a_warning(tmp_path: Path) -> None:
    loaded = load(tmp_path, with_domain('[tls]\nmode = "self_signed"\n'))
    assert loaded.boot.tls.mode == "self-signed"
    assert "older name of self-signed" in loaded.warnings[0]


def test_driver_and_dsn_become_the_database_url(tmp_path: Path) -> None:
    text = with_domain('[database]\ndriver = "sqlite3"\ndsn = "/x/y.db"\n')
    assert load(tmp_path, text).boot.database.url == "sqlite:/x/y.db"


def test_secrets_are_never_repeated(tmp_path: Path) -> None:
    text = with_domain('[admin]\ntoken = 12345\n[turn]\nsecret = ["canary"]\n')
    assert problems(tmp_path, text) == [
        "chatmail.toml:4: admin.token: is not a text in quotes",
        "chatmail.toml:6: turn.secret: is not a text in quotes",
    ]
