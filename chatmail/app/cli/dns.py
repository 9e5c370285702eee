"""`dns` and `dkim`: what to publish, and whether it is there."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from chatmail.app.cli.command import Command, option, switch, takes
from chatmail.app.cli.context import Context
from chatmail.app.cli.output import CommandFailed, Exit, Reply
from chatmail.domain.formats.zone import ZoneForm

Record = Mapping[str, Any]

NO_NEED: Final = "no records needed: this relay's addresses have an IP address instead of a name"
_SIGNS: Final = {"ok": "ok", "missing": "MISSING", "differs": "DIFFERS", "unknown": "unknown"}


def show_zone(context: Context, options: Namespace) -> Reply:
    """Print the records to publish."""
    zone = context.call("domain.zone", {"format": options.format, "domain": options.domain})
    if not zone["needed"]:
        return Reply(lines=[NO_NEED], data=zone)
    lines = zone["text"].split("\n")
    if options.zonefile:
        _write(Path(options.zonefile), lines)
        return Reply(lines=[f"written to {options.zonefile}"], data=zone)
    if not zone["addresses_known"] and options.format == ZoneForm.BIND:
        lines.insert(0, "; A and AAAA are not known here: set server.public_ips")
    return Reply(lines=lines, data=zone)


def _write(path: Path, lines: Iterable[str]) -> None:
    try:
        path.write_text("".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise CommandFailed(Exit.FAILURE, f"{path}: {error.strerror}") from None


def check(context: Context, options: Namespace) -> Reply:
    """Compare what is published, and look at the relay from outside."""
    params = {
        "probes": not options.no_probes,
        "outbound": options.outbound,
        "domain": options.domain,
        "resolver": options.resolver,
    }
    report = context.call("domain.checkDns", params)
    if not report["needed"]:
        return Reply(lines=[NO_NEED], data=report)
    lines: list[str] = []
    for title, is_required in (("Required", True), ("Recommended", False)):
        lines.append(title)
        lines += _records(one for one in report["records"] if one["required"] is is_required)
    if report["probes"]:
        lines.append("Seen from here")
        lines += [_probe(one) for one in report["probes"]]
    is_well = report["required_ok"] and (report["all_ok"] or not options.strict)
    lines.append(_verdict(report))
    return Reply(lines=lines, data=report, code=Exit.OK if is_well else Exit.CHECK_FAILED)


def _verdict(report: Record) -> str:
    required = [one["status"] for one in report["records"] if one["required"]]
    if "unknown" in required and not {"missing", "differs"} & set(required):
        return "name servers did not answer, so nothing is known of some required records"
    if not report["required_ok"]:
        return "required records are missing or wrong: other relays or clients will not find you"
    if not report["all_ok"]:
        return "all required records are there; see above for what would be better"
    return "everything is as it should be"


def _records(records: Iterable[Record]) -> Iterable[str]:
    for one in records:
        yield f"  {_SIGNS[one['status']]:8} {one['name']} {one['type']}"
        if one["status"] == "ok":
            continue
        yield f"           expected: {one['expected'] or 'nothing'}"
        found = one["found"]
        if found:
            yield f"           found:    {', '.join(found)}"


def _probe(one: Record) -> str:
    sign = {True: "ok", False: "FAILED", None: "info"}[one["ok"]]
    return f"  {sign:8} {one['name']}{': ' + one['detail'] if one['detail'] else ''}"


# --- dkim -----------------------------------------------------------------------------------------


def show_keys(context: Context, options: Namespace) -> Reply:
    """Print the public keys as DNS has to show them."""
    found = context.call("dkim.list")
    lines = list(_keys(found["keys"])) or ["nothing is signed: no key"]
    for one in found["retired"]:
        day = datetime.fromtimestamp(one["until"], UTC).date()
        lines.append(f"; {one['name']}: retired; leave its record in DNS until {day}")
    return Reply(lines=lines, data=found)


def _keys(keys: Sequence[Record]) -> Iterable[str]:
    for one in keys:
        state = "in use" if one["in_use"] else "to come: signed with once DNS shows it"
        yield f"; {one['algorithm']}, {state}"
        yield f"{one['name']}. {one['ttl']} IN TXT {one['rdata']}"
        yield "; the same in one piece, for web forms:"
        yield one["value"]


def check_keys(context: Context, options: Namespace) -> Reply:
    """Compare the published keys with ours."""
    report = context.call("dkim.check")
    if not report["needed"]:
        return Reply(lines=[NO_NEED], data=report)
    code = Exit.OK if report["required_ok"] else Exit.CHECK_FAILED
    return Reply(lines=list(_records(report["records"])), data=report, code=code)


def rotate(context: Context, options: Namespace) -> Reply:
    """Make the next key, or switch to it once DNS shows it."""
    result = context.call("dkim.rotate", {"force": options.force})
    lines = {
        "made": [
            "a new key was made; publish this; it is used once DNS has shown it for an hour,"
            " or at once when you say `chatmail dkim rotate` again:"
        ],
        "waiting": ["DNS does not show the new key yet; publish this and try again later:"],
        "switched": [
            "mail is signed with the new key from now on; leave the old record in DNS"
            " for a week, mail that is on its way needs it"
        ],
    }[result["state"]]
    if result["state"] != "switched":
        lines += _keys(result["keys"])
    return Reply(lines=lines, data=result)


def _format(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        choices=[str(form) for form in ZoneForm],
        default=str(ZoneForm.BIND),
        help="bind (zone file), json, cloudflare (import), deploy-shell (nsupdate script)",
    )


_domain = option("--domain", "D", "only records of this domain")
_zone = takes(
    _format, _domain, option("--zonefile", "FILE", "write there instead of to the screen")
)
_check = takes(
    switch("--strict", "recommended records and what is seen from here count, too"),
    switch("--no-probes", "compare records only"),
    _domain,
    option("--resolver", "IP", "ask this name server for the zone's servers"),
    option("--outbound", "HOST", "see whether port 25 of this mail host can be reached"),
)

DNS_COMMANDS: Final[Sequence[Command]] = (
    Command(
        path=("dns", "check"),
        run=check,
        help="whether DNS and the relay are as other relays need them",
        about="Exit code 6: a required record is missing or wrong.",
        arguments=_check,
        is_default=True,
    ),
    Command(
        path=("dns", "zone"),
        run=show_zone,
        help="the records to publish",
        arguments=_zone,
        aliases=(("dns", "records"),),
    ),
    Command(path=("dkim", "show"), run=show_keys, help="the public keys to publish"),
    Command(
        path=("dkim", "check"),
        run=check_keys,
        help="whether DNS shows our keys",
        about="Exit code 6: it does not.",
    ),
    Command(
        path=("dkim", "rotate"),
        run=rotate,
        help="make a new key; said again once DNS shows it: sign with it",
        arguments=switch("--force", "sign with it without looking at DNS"),
    ),
)
