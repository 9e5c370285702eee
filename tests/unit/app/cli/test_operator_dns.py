"""Commands about DNS, keys, exchangers and the state of all that, through the real parser."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest
import trio

from chatmail.app.cli.output import Exit
from chatmail.domain.formats.zone import RecordType, needed_records
from chatmail.domain.ports.remote import DnsFault
from tests.unit.app.cli.test_commands import STATUS
from tests.unit.app.cli.tool import ANN, Tool
from tests.unit.fakes.operator import Operator


def publish(tool: Tool) -> None:
    facts = trio.run(tool.world.describe_zone())
    tool.world.zone.publish(needed_records(facts))


def test_the_zone_is_printed_or_written(tool: Tool, tmp_path: Path) -> None:
    printed = tool.text("dns zone")
    assert printed.startswith("; Required\nchat.example. 3600 IN A 192.0.2.1\n")
    assert tool.text("dns records") == printed
    path = tmp_path / "zone"
    assert str(path) in tool.text("dns", "zone", "--zonefile", str(path))
    assert path.read_text() == printed
    assert tool.text("dns zone --format deploy-shell").startswith("#!/bin/sh")
    assert tool("dns", "zone", "--zonefile", str(tmp_path / "no" / "zone"))[0] == Exit.FAILURE
    tool.world.addresses = ()
    assert "set server.public_ips" in tool.text("dns zone")


def test_a_check_ends_with_6_when_a_required_record_is_missing(tool: Tool) -> None:
    code, out, _ = tool("dns")
    assert code == Exit.CHECK_FAILED
    assert "MISSING  chat.example MX" in out
    assert "expected: 10 chat.example." in out
    publish(tool)
    assert "everything is as it should be" in tool.text("dns check")
    tool.world.zone.found["_dmarc.chat.example", RecordType.TXT] = ()
    assert tool("dns check")[0] == 0
    code, out, _ = tool("dns check --strict --no-probes --json")
    assert code == Exit.CHECK_FAILED
    assert json.loads(out)["ok"] is False
    tool.world.zone.found["chat.example", RecordType.MX] = ("10 old.example",)
    code, out, _ = tool("dns check --outbound mx.far.example")
    assert code == Exit.CHECK_FAILED
    assert "found:    10 old.example" in out
    assert tool.world.probes.outbound[-1] == "mx.far.example"
    tool.world.zone.found["chat.example", RecordType.MX] = DnsFault.TIMEOUT
    code, out, _ = tool("dns check")
    assert code == Exit.CHECK_FAILED
    assert "unknown  chat.example MX" in out
    assert "name servers did not answer" in out


def test_status_shows_what_waits_and_the_last_look_at_dns(
    tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Relay:
        def status(self) -> Mapping[str, object]:
            return STATUS

        async def reload(self) -> tuple[str, ...]:
            return ()

    tool.services = attrs.evolve(tool.services, operation=Relay())
    tool.world.queue_mail(ANN, "b@peer.example", age_s=7200)
    shown = tool.text("status")
    assert "queue: 1 deliveries wait, oldest 2h ago" in shown
    assert "dns" not in shown
    tool("dns check --domain chat.example")
    assert "missing or wrong: chat.example A" in tool.text("status")
    publish(tool)
    tool("dns check")
    assert "all required records are there" in tool.text("status")


def test_a_literal_relay_is_told_that_it_needs_nothing(
    tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool.services = Operator("[192.0.2.1]").services()
    for line in ("dns", "dns zone", "dkim check"):
        assert "no records needed" in tool.text(line)


def test_exchangers_are_named_switched_and_asked(tool: Tool) -> None:
    assert "no exchanger" in tool.text("exchanger")
    assert "asked every 90 s" in tool.text("exchanger add hub https://hub.test --interval 90")
    line = tool.text("exchanger list")
    assert "https://hub.test" in line
    assert "never" in line
    assert tool("exchanger add bad http://hub.test")[0] == Exit.FAILURE
    assert "not asked any more" in tool.text("exchanger disable hub")
    assert "off" in tool.text("exchanger list")
    assert "asked again" in tool.text("exchanger enable hub")
    assert tool("exchanger enable other")[0] == Exit.NOT_FOUND
    assert tool("exchanger poll hub")[0] != Exit.OK
    assert "was removed" in tool.text("exchanger remove hub")
    assert tool("exchanger remove hub")[0] == Exit.NOT_FOUND


def test_keys_are_shown_checked_and_rotated(tool: Tool) -> None:
    shown = tool.text("dkim show")
    assert '_domainkey.chat.example. 3600 IN TXT "v=DKIM1;k=rsa;p=AAAA;s=email;t=s"' in shown
    assert "\nv=DKIM1;k=rsa;p=AAAA;s=email;t=s\n" in shown
    assert tool("dkim check")[0] == Exit.CHECK_FAILED
    publish(tool)
    assert tool("dkim check")[0] == 0
    assert "a new key was made" in tool.text("dkim rotate")
    assert "to come" in tool.text("dkim show")
    assert "does not show the new key yet" in tool.text("dkim rotate")
    assert "signed with the new key" in tool.text("dkim rotate --force")
