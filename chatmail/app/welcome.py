"""What `serve --demo` says before it is ready: where the page is and how to log in."""

from __future__ import annotations

from chatmail.app.terminal_qr import terminal_qr
from chatmail.domain.formats.account_links import (
    Endpoint,
    RelayFacts,
    dclogin_link,
    imap_endpoints,
    mail_host,
    page_url,
    submission_endpoints,
)


def welcome_text(
    facts: RelayFacts, address: str, password: str, *, state_dir: str, is_terminal: bool
) -> str:
    """Build the demo's welcome.

    Args:  facts: the listeners really bound. address, password: one account to start with; each
        visit of the page makes more. state_dir: where the demo keeps its data, as shown.
        is_terminal: draw the link as a QR code and use colours.
    Returns:  text of whole lines, the last one empty.
    """
    link = dclogin_link(facts, address, password)
    parts = [_page(facts), _invite(link)]
    if is_terminal:
        parts.append(terminal_qr(link))
    parts += [_desktop(), _by_hand(facts, address, password), _rest(state_dir)]
    return "\n".join(parts) + "\n"


def _page(facts: RelayFacts) -> str:
    url = page_url(facts)
    where = f"Web page, makes an account per press:\n  {url}/\n" if url else ""
    return f"A chatmail relay for {facts.mail_domain}, for this computer only.\n\n{where}"


def _invite(link: str) -> str:
    return f"Invite link, one account (make another for the second person):\n  {link}\n"


def _desktop() -> str:
    return (
        "In Delta Chat Desktop on this computer:\n"
        "  1. Create New Profile, type a name.\n"
        "  2. Instead of the preset server choose Use Other Server, Scan QR Code, and paste the\n"
        "     invite link there (Paste from Clipboard). Or press the button on the web page.\n"
        "  3. Add a second profile with another account and write to yourself.\n"
    )


def _by_hand(facts: RelayFacts, address: str, password: str) -> str:
    host = mail_host(facts)
    lines = [
        "By hand (Manual Account Setup):",
        f"  Address   {address}",
        f"  Password  {password}",
        _server_line("IMAP", host, imap_endpoints(facts)),
        _server_line("SMTP", host, submission_endpoints(facts)),
    ]
    if not facts.has_ca_certificate:
        lines.append("  Certificate checks: accept invalid certificates (it is self-signed)")
    return "\n".join(line for line in lines if line) + "\n"


def _server_line(name: str, host: str, ways: tuple[Endpoint, ...]) -> str:
    if not ways:
        return ""
    security = "SSL/TLS" if ways[0].security == "ssl" else "STARTTLS"
    return f"  {name}      {host}, port {ways[0].port}, {security}"


def _rest(state_dir: str) -> str:
    return f"Everything is kept in {state_dir} between runs. Ctrl+C stops the relay.\n"
