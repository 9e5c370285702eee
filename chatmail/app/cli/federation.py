"""`federation`, `endpoint-cache`, `openrelay`: with whom mail is exchanged, and where it goes."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from typing import Any, Final

from chatmail.app.cli.command import ABORTED, Command, is_sure, positional
from chatmail.app.cli.context import Context
from chatmail.app.cli.output import CommandFailed, Exit, Reply, table
from chatmail.app.cli.queue import ago

SHOWN: Final = 50

_MEANING: Final = {
    "ACCEPT": "mail is exchanged with every relay that is not blocked",
    "REJECT": "mail is exchanged with allowed relays only",
}


# --- policy ---------------------------------------------------------------------------------------


def policy(context: Context, options: Namespace) -> Reply:
    """Change the policy or its rules, or show them."""
    if options.action in ("accept", "reject"):
        return _changed(context, {"policy": options.action})
    if options.action in ("list", "status"):
        return list_rules(context, options)
    if options.action == "flush":
        return flush(context, options)
    if not options.domain:
        raise CommandFailed(Exit.USAGE, f"{options.action} which domain?")
    return rule(context, options)


def switch_federation(context: Context, options: Namespace) -> Reply:
    """Exchange mail with other relays, or with none."""
    return _changed(context, {"enabled": options.action == "enable"})


def _changed(context: Context, params: Mapping[str, object]) -> Reply:
    found = context.call("federation.set", params)
    return Reply(lines=_policy_lines(found), data={**found, "reload_required": False})


def _policy_lines(found: Mapping[str, Any]) -> list[str]:
    if not found["enabled"]:
        return ["federation is off: mail goes to and comes from this relay's own people only"]
    return [f"policy {found['policy']}: {_MEANING.get(found['policy'], '')}"]


def list_rules(context: Context, options: Namespace) -> Reply:
    """Show the policy and its rules."""
    found = context.call("federation.get")
    rules = context.call("federation.rule.list")["rules"]
    rows = [(one["domain"], _says(one["action"], found["policy"])) for one in rules]
    lines = [*_policy_lines(found), *(table(rows) if rows else ["no rules"])]
    return Reply(lines=lines, data={**found, "rules": rules})


def _says(action: str, policy: str) -> str:
    if action == "listed":
        return "allow (listed)" if policy == "REJECT" else "block (listed)"
    return action


def rule(context: Context, options: Namespace) -> Reply:
    """Block or allow a domain, or remove its rule."""
    if options.action == "remove":
        result = context.call("federation.rule.remove", {"domain": options.domain})
        return Reply(lines=[f"{result['remaining']} rules are left"], data=result)
    params = {"domain": options.domain, "action": options.action}
    result = context.call("federation.rule.add", params)
    said = {"block": "is blocked, both ways", "allow": "is allowed, both ways"}[options.action]
    return Reply(lines=[f"{result['domain']} {said}"], data=result)


def flush(context: Context, options: Namespace) -> Reply:
    """Remove all rules."""
    if not is_sure(options, "Remove all rules of the federation policy?"):
        return ABORTED
    result = context.call("federation.rule.clear")
    return Reply(lines=[f"{result['removed']} rules were removed"], data=result)


# --- dismissal ------------------------------------------------------------------------------------


def dismiss(context: Context, options: Namespace) -> Reply:
    """Accept mail to a domain and discard it."""
    result = context.call("federation.dismiss.add", {"domain": options.domain})
    line = f"mail to {result['domain']} is accepted and discarded; its senders do not learn of it"
    return Reply(lines=[line], data=result)


def undismiss(context: Context, options: Namespace) -> Reply:
    """Deliver mail to a domain again."""
    result = context.call("federation.dismiss.remove", {"domain": options.domain})
    return Reply(lines=[f"mail to {options.domain} is delivered again"], data=result)


def list_dismissals(context: Context, options: Namespace) -> Reply:
    """Show to which domains mail is discarded."""
    result = context.call("federation.dismiss.list")
    lines = [one["domain"] for one in result["domains"]] or ["no mail is discarded"]
    return Reply(lines=lines, data=result)


def flush_dismissals(context: Context, options: Namespace) -> Reply:
    """Discard no mail any more."""
    if not is_sure(options, "Deliver mail to all these domains again?"):
        return ABORTED
    result = context.call("federation.dismiss.clear")
    return Reply(lines=[f"{result['removed']} domains were removed"], data=result)


# --- peers ----------------------------------------------------------------------------------------


def show_federation(context: Context, options: Namespace) -> Reply:
    """Show the policy and how the exchange with other relays goes."""
    found = context.call("federation.get")
    peers = context.call("federation.peers")["servers"]
    rules = context.call("federation.rule.list")["rules"]
    lines = [*_policy_lines(found), f"{len(rules)} rules"]
    if peers:
        rows: list[tuple[str, ...]] = [
            ("RELAY", "SENT", "FAILED", "RECEIVED", "WAITING", "LATENCY", "LAST ACTIVE")
        ]
        rows += [_peer_row(one) for one in peers[:SHOWN]]
        lines += table(rows)
        if len(peers) > SHOWN:
            lines.append(f"and {len(peers) - SHOWN} more (--json shows all)")
    traffic = [
        {
            "domain": one["domain"],
            "sent": one["successful_deliveries"],
            "failed": _failed(one),
            "latency_ms": one["mean_latency_ms"],
        }
        for one in peers
    ]
    return Reply(lines=lines, data={**found, "rules": rules, "traffic": traffic, "servers": peers})


def _failed(one: Mapping[str, Any]) -> int:
    failed: int = one["failed_https"] + one["failed_http"] + one["failed_smtp"]
    return failed


def _peer_row(one: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        one["domain"],
        str(one["successful_deliveries"]),
        str(_failed(one)),
        str(one["inbound_deliveries"]),
        str(one["queued_messages"]),
        f"{one['mean_latency_ms']:.0f} ms" if one["mean_latency_ms"] else "-",
        ago(one["last_active"]),
    )


def forget(context: Context, options: Namespace) -> Reply:
    """Forget what attempts taught about a domain."""
    result = context.call("federation.forget", {"domain": options.domain})
    known = "is forgotten" if result["was_known"] else "was not known"
    lines = [f"what was learned about {options.domain} {known}; what waits is tried now"]
    return Reply(lines=lines, data=result)


# --- overrides ------------------------------------------------------------------------------------


def list_endpoints(context: Context, options: Namespace) -> Reply:
    """Show for which domains mail goes another way."""
    result = context.call("endpoint.list")
    rows = [(one["lookup_key"], one["target_host"], one["comment"]) for one in result["entries"]]
    lines = table(rows) if rows else ["all mail goes its usual way"]
    return Reply(lines=lines, data=result)


def set_endpoint(context: Context, options: Namespace) -> Reply:
    """Send mail for a domain another way."""
    params = {
        "lookup_key": options.key,
        "target_host": options.host,
        "comment": options.comment,
        "smtp_fallback": not options.no_smtp,
    }
    result = context.call("endpoint.set", params)
    lines = [f"mail for {result['lookup_key']} goes to {result['target_host']}"]
    return Reply(lines=lines, data=result)


def get_endpoint(context: Context, options: Namespace) -> Reply:
    """Show where mail for a domain goes."""
    result = context.call("endpoint.get", {"lookup_key": options.key})
    return Reply(lines=[f"{result['lookup_key']} -> {result['target_host']}"], data=result)


def remove_endpoint(context: Context, options: Namespace) -> Reply:
    """Let mail for a domain go its usual way."""
    result = context.call("endpoint.remove", {"lookup_key": options.key})
    return Reply(lines=[f"mail for {options.key} goes its usual way"], data=result)


def openrelay(context: Context, options: Namespace) -> Reply:
    """Say that there is no open relay, whatever is stored (spec policy 7.3)."""
    key = "__ALLOW_INBOUND_REMOTE_RCPT__"
    if options.action != "status":
        value = options.action == "enable"
        context.call("setting.set", {"name": key, "value": value})
    one = context.call("setting.get", {"name": key})
    lines = ["this relay forwards no mail of strangers; the setting is stored without effect"]
    data = {
        "allowed": False,
        "file_default": False,
        "db_override": one["value"] or None,
        "reload_required": False,
    }
    return Reply(lines=lines, data=data)


def _policy_arguments(parser: ArgumentParser) -> None:
    words = ("accept", "reject", "block", "allow", "remove", "flush", "list", "status")
    parser.add_argument("action", choices=words, help="what to do")
    _optional_domain(parser)


def _endpoint_arguments(parser: ArgumentParser) -> None:
    _key(parser)
    parser.add_argument("host", metavar="HOST", help="a host, an address, or an http(s) URL")
    parser.add_argument("comment", metavar="COMMENT", nargs="?", default="", help="for you")
    parser.add_argument(
        "--no-smtp", action="store_true", help="never try SMTP when the URL does not answer"
    )


_pattern = positional("domain", "e.g. example.org, .example.org, *.example.org, 203.0.113.0/24")
_optional_domain = positional("domain", "for block, allow, remove", is_optional=True)
_key = positional("key", "the domain mail is addressed to")
_ENDPOINTS: Final = "endpoint-cache"
_OLD_ENDPOINTS: Final = "dns-cache"

FEDERATION_COMMANDS: Final[Sequence[Command]] = (
    Command(
        path=("federation", "status"),
        run=show_federation,
        help="policy, and how the exchange with other relays goes",
        is_default=True,
    ),
    Command(
        path=("federation", "policy"),
        run=policy,
        help="accept or reject by default; block, allow, remove, flush, list",
        arguments=_policy_arguments,
    ),
    *(
        Command(path=("federation", word), run=switch_federation, help=text)
        for word, text in {
            "enable": "exchange mail with other relays",
            "disable": "exchange mail with no other relay",
        }.items()
    ),
    *(
        Command(path=("federation", word), run=rule, help=text, arguments=_pattern)
        for word, text in {
            "block": "exchange no mail with a domain",
            "allow": "exchange mail with a domain, whatever the policy says",
            "remove": "remove the rule of a domain",
        }.items()
    ),
    Command(path=("federation", "list"), run=list_rules, help="policy and rules"),
    Command(path=("federation", "flush"), run=flush, help="remove all rules"),
    Command(
        path=("federation", "dismiss"),
        run=dismiss,
        help="accept mail to a domain and discard it silently",
        arguments=_pattern,
    ),
    Command(
        path=("federation", "undismiss"),
        run=undismiss,
        help="deliver mail to a domain again",
        arguments=_pattern,
    ),
    Command(
        path=("federation", "dismiss-list"),
        run=list_dismissals,
        help="to which domains mail is discarded",
    ),
    Command(
        path=("federation", "dismiss-flush"), run=flush_dismissals, help="discard no mail any more"
    ),
    Command(
        path=("federation", "forget"),
        run=forget,
        help="forget what attempts taught about a domain, and try again",
        arguments=_pattern,
    ),
    Command(
        path=(_ENDPOINTS, "list"),
        run=list_endpoints,
        help="for which domains mail goes another way",
        aliases=((_OLD_ENDPOINTS, "list"),),
    ),
    Command(
        path=(_ENDPOINTS, "set"),
        run=set_endpoint,
        help="send mail for a domain another way",
        about="No MX is looked up then, and MTA-STS does not count.",
        arguments=_endpoint_arguments,
        aliases=((_OLD_ENDPOINTS, "set"),),
    ),
    Command(
        path=(_ENDPOINTS, "get"),
        run=get_endpoint,
        help="where mail for a domain goes",
        arguments=_key,
        aliases=((_OLD_ENDPOINTS, "get"),),
    ),
    Command(
        path=(_ENDPOINTS, "remove"),
        run=remove_endpoint,
        help="let mail for a domain go its usual way",
        arguments=_key,
        aliases=((_OLD_ENDPOINTS, "remove"),),
    ),
    *(
        Command(path=("openrelay", word), run=openrelay, help=text)
        for word, text in {
            "status": "whether strangers' mail is forwarded: never",
            "enable": "stored without effect",
            "disable": "stored without effect",
        }.items()
    ),
)
