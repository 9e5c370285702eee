from __future__ import annotations

import os
from pathlib import Path

import pytest

from chatmail.adapters.outbound.resolver import TrioResolver
from chatmail.adapters.outbound.system_dns import SystemDns
from chatmail.domain.ports.remote import DnsFault
from tests.unit.fakes.system import FakeClock


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    resolv_conf, hosts = tmp_path / "resolv.conf", tmp_path / "hosts"
    resolv_conf.write_text("nameserver 192.0.2.53\nsearch example\n")
    hosts.write_text("192.0.2.1 Relay.test relay  # ours\n::1 relay.test\n\n# x\nbroken\n")
    return resolv_conf, hosts


def test_servers_and_hosts(files: tuple[Path, Path]) -> None:
    system = SystemDns(FakeClock(), *files)
    resolver = system.resolver()
    assert resolver is not None
    assert list(map(str, resolver.nameservers)) == ["Do53:192.0.2.53@53"]
    assert system.addresses("relay.test") == ("192.0.2.1", "::1")
    assert system.addresses("relay") == ("192.0.2.1",)
    assert system.addresses("other.test") == ()


def test_changed_files_are_read_anew(files: tuple[Path, Path]) -> None:
    clock = FakeClock()
    system = SystemDns(clock, *files)
    before = system.resolver()
    files[0].write_text("nameserver 192.0.2.54\n")
    os.utime(files[0], (1, 1))
    assert system.resolver() is before
    clock.advance(11)
    resolver = system.resolver()
    assert resolver is not None
    assert list(map(str, resolver.nameservers)) == ["Do53:192.0.2.54@53"]
    clock.advance(11)
    assert system.resolver() is resolver


@pytest.mark.parametrize("text", [None, "", "nameserver nonsense\n", "search x\n"])
async def test_no_servers_are_no_reason_to_fail(
    text: str | None, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A demo without a network starts all the same."""
    if text is None:
        files[0].unlink()
        files[1].unlink()
    else:
        files[0].write_text(text)
    system = SystemDns(FakeClock(), *files)
    assert system.resolver() is None
    monkeypatch.setattr(
        "chatmail.adapters.outbound.resolver.SystemDns", lambda clock: SystemDns(clock, *files)
    )
    resolver = TrioResolver((), FakeClock(), ipv6=True, prefers_ipv6=lambda: False)
    assert await resolver.mx("a.example") is DnsFault.SERVFAIL
    expected = DnsFault.SERVFAIL if text is None else ("192.0.2.1", "::1")
    assert await resolver.addresses("relay.test") == expected
