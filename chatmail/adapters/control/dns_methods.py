"""Methods about DNS: the zone to publish, the check of what is there, the keys of DKIM."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import attrs

from chatmail.adapters.control.params import (
    Method,
    Params,
    Result,
    domain,
    flag,
    invalid,
    missing,
    only,
    optional_text,
)
from chatmail.adapters.control.services import ControlServices, DnsDesk
from chatmail.domain.formats.zone import (
    RecordType,
    Role,
    ZoneForm,
    ZoneRecord,
    described,
    needed_records,
    quoted,
    rdata,
    show_zone,
)
from chatmail.domain.formats.zone_compare import Standing
from chatmail.domain.ports.mail_auth import DkimRecord, KeyRing
from chatmail.domain.usecases.check_dns import CheckDns, CheckedRecord, ZoneReport, records_of
from chatmail.domain.wire.jsonrpc import ErrorCode, RpcError


def _desk(services: ControlServices) -> DnsDesk:
    if services.dns is None:
        raise missing("this version knows nothing of DNS")
    return services.dns


def _keys(services: ControlServices) -> KeyRing:
    keys = _desk(services).keys
    if keys is None:
        raise missing("this version does not sign")
    return keys


# --- the zone -------------------------------------------------------------------------------------


async def _zone(services: ControlServices, params: Params) -> Result:
    only(params, "format", "domain")
    form, wanted = _form(params), _wanted_domain(params)
    facts = await _desk(services).describe()
    records = records_of(wanted, needed_records(facts))
    return {
        "needed": bool(records),
        "addresses_known": bool(facts.addresses),
        "records": [described(record) for record in records],
        "text": "\n".join(show_zone(records, form)) if records else "",
    }


def _form(params: Params) -> ZoneForm:
    word = optional_text(params, "format") or ZoneForm.BIND.value
    try:
        return ZoneForm(word)
    except ValueError:
        known = ", ".join(ZoneForm)
        raise RpcError(
            ErrorCode.INVALID_PARAMS, f"format: is none of {known}", field="format"
        ) from None


async def _check(services: ControlServices, params: Params) -> Result:
    only(params, "probes", "outbound", "domain", "resolver")
    desk = _desk(services)
    report = await _check_by(desk, params)(
        domain=_wanted_domain(params),
        with_probes=flag(params, "probes", default=True),
        outbound_host=optional_text(params, "outbound"),
    )
    desk.last.at_s = int(desk.clock())
    desk.last.missing = tuple(
        f"{one.record.name} {one.record.type}"
        for one in report.records
        if one.record.is_required and one.standing is not Standing.OK
    )
    return _report_shown(report)


def _check_by(desk: DnsDesk, params: Params) -> CheckDns:
    resolver = optional_text(params, "resolver").strip("[]")
    if not resolver:
        return desk.check
    try:
        ipaddress.ip_address(resolver)
    except ValueError:
        raise invalid("resolver", "is no IP address") from None
    if desk.reader is None:
        raise missing("this version asks the configured resolver only")
    return attrs.evolve(desk.check, zone=desk.reader(resolver))


def _wanted_domain(params: Params) -> str:
    return domain(params, "domain") if params.get("domain") else ""


def _report_shown(report: ZoneReport) -> dict[str, object]:
    return {
        "needed": report.is_needed,
        "required_ok": report.has_required,
        "all_ok": report.is_perfect,
        "records": [_checked_shown(one) for one in report.records],
        "probes": [
            {"name": one.name, "ok": one.is_ok, "detail": one.detail} for one in report.probes
        ],
    }


def _checked_shown(one: CheckedRecord) -> dict[str, object]:
    return {
        "name": one.record.name,
        "type": str(one.record.type),
        "required": one.record.is_required,
        "status": one.standing.value,
        "expected": rdata(one.record) if one.record.data else "",
        "found": list(one.found),
    }


# --- keys -----------------------------------------------------------------------------------------


async def _show_keys(services: ControlServices, params: Params) -> Result:
    only(params)
    keys = _keys(services)
    return {
        "keys": [_key_shown(one, keys) for one in keys.records()],
        "retired": [{"name": one.name, "until": one.until_s} for one in keys.retired()],
    }


async def _check_keys(services: ControlServices, params: Params) -> Result:
    only(params)
    return await _keys_checked(services, _keys(services).records())


async def _keys_checked(
    services: ControlServices, records: Iterable[DkimRecord]
) -> dict[str, object]:
    wanted = {one.name for one in records}
    report = await _desk(services).check.dkim()
    checked = [one for one in report.records if one.record.name in wanted]
    return {
        "needed": bool(wanted) and report.is_needed,
        "required_ok": all(one.standing is Standing.OK for one in checked),
        "records": [_checked_shown(one) for one in checked],
    }


async def _rotate(services: ControlServices, params: Params) -> Result:
    """Make the next key, or sign with it once DNS shows it everywhere (A11.5)."""
    only(params, "force")
    keys = _keys(services)
    if not keys.to_come():
        return _rotation("made", keys.rotate(), keys)
    checked = await _keys_checked(services, keys.to_come())
    if checked["required_ok"] or flag(params, "force"):
        return _rotation("switched", keys.activate(), keys)
    return _rotation("waiting", keys.to_come(), keys)


def _rotation(state: str, records: Sequence[DkimRecord], keys: KeyRing) -> Result:
    return {"state": state, "keys": [_key_shown(one, keys) for one in records]}


def _key_shown(one: DkimRecord, keys: KeyRing) -> dict[str, object]:
    record = ZoneRecord(name=one.name, type=RecordType.TXT, data=one.text, role=Role.DKIM)
    return {
        **described(record),
        "selector": one.selector,
        "algorithm": one.algorithm,
        "rdata": quoted(one.text),
        "in_use": one.name not in {coming.name for coming in keys.to_come()},
    }


DNS_METHODS: Final[Mapping[str, Method]] = {
    "domain.zone": _zone,
    "domain.checkDns": _check,
    "dkim.list": _show_keys,
    "dkim.check": _check_keys,
    "dkim.rotate": _rotate,
}
