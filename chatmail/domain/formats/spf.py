"""SPF, as far as a relay's own record needs it: does it pass our addresses?

Source:  RFC 7208 §4.6, §5; spec federation-web C2.1.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from typing import Final

import attrs

MAX_DEPTH: Final = 10  # RFC 7208 §4.6.4: terms that cost a look-up


def passes_all(
    text: str,
    domain: str,
    addresses: Collection[str],
    own_names: Collection[str],
    included: Mapping[str, str],
) -> bool:
    """Say whether a policy passes every one of our addresses.

    Args:  domain: whose policy it is. own_names: names whose `a` and `mx` lead to us.
        included: policies of other domains; one that is not there passes nothing.
    """
    # Without known addresses there is one question left: does it pass this very name?
    asked = addresses or ("",)
    return all(
        _Question(address=address, own_names=own_names, included=included).passes(text, domain)
        for address in asked
    )


def referred(text: str) -> tuple[str, ...]:
    """Return the domains whose policies this one refers to."""
    terms = [term.lower().lstrip("+-~?") for term in text.split()]
    return tuple(
        term.partition(mark)[2]
        for term in terms
        for mark in ("include:", "redirect=")
        if term.startswith(mark)
    )


@attrs.frozen(kw_only=True)
class _Question:
    """Does a policy pass `address`?"""

    address: str
    own_names: Collection[str]
    included: Mapping[str, str]

    def passes(self, text: str, domain: str, depth: int = 0) -> bool:
        if depth > MAX_DEPTH:
            return False
        redirect = ""
        for word in text.split()[1:]:
            term = word.lower()
            if term.startswith("redirect="):
                redirect = term.partition("=")[2]
            qualifier, bare = (term[0], term[1:]) if term[0] in "+-~?" else ("+", term)
            if "=" not in bare and self._matches(bare, domain, depth):
                return qualifier == "+"
        return redirect in self.included and self.passes(
            self.included[redirect], redirect, depth + 1
        )

    def _matches(self, term: str, domain: str, depth: int) -> bool:
        name, _, argument = term.partition(":")
        match name.partition("/")[0]:
            case "all":
                return True
            case "ip4" | "ip6":
                return _is_in(self.address, argument)
            case "a" | "mx":
                return (argument.partition("/")[0] or domain) in self.own_names
            case "include":
                return self.passes(self.included.get(argument, ""), argument, depth + 1)
        return False


def _is_in(address: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)
    except (ValueError, TypeError):
        return False
