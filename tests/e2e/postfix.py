"""A remote mail server that is not ours: Postfix and OpenDKIM of Debian, run privately.

Configuration, queue and mailboxes lie in a temporary folder, the ports are its own, and nothing of
the system's installation is read or changed. Postfix's master insists on root, its other processes
and OpenDKIM run unprivileged.
"""

from __future__ import annotations

import contextlib
import email
import email.message
import os
import shutil
import smtplib
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.e2e.federation import FederatedRelay, Network, dkim_record, free_ports
from tests.e2e.relay import wait_until
from tests.patience import PATIENCE_S

DOMAIN = "post.test"
HOST = "mx.post.test"
SELECTOR = "debian"
KNOWN, LATE, UNKNOWN = f"known@{DOMAIN}", f"late@{DOMAIN}", f"nobody@{DOMAIN}"
"""A mailbox; an address that is accepted and bounces; one that is refused."""

_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file_prefixes = {folder}
maillog_file = {folder}/mail.log
myhostname = {host}
mydomain = {domain}
myorigin = {domain}
mydestination =
inet_interfaces = all
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_peername_lookup = no
smtpd_banner = $myhostname ESMTP
alias_maps =
alias_database =
local_recipient_maps =
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = inline:{{ {known}=known/ }}
virtual_alias_maps = inline:{{ {late}=somebody@gone.test }}
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
transport_maps = texthash:{folder}/transport
smtp_dns_support_level = disabled
smtp_tls_security_level = encrypt
smtp_tls_policy_maps = texthash:{folder}/tls_policy
smtp_tls_CAfile = {ca}
smtp_tls_loglevel = 1
smtpd_tls_security_level = encrypt
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_loglevel = 1
tls_random_source = dev:/dev/urandom
message_size_limit = 31457280
mailbox_size_limit = 0
internal_mail_filter_classes = bounce
non_smtpd_milters = inet:127.0.0.1:{signer}
milter_default_action = tempfail
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
smtp_destination_concurrency_failed_cohort_limit = 100
"""

_MASTER = """\
{address}:{port} inet n - n - - smtpd
  -o smtpd_relay_restrictions=reject_unauth_destination
  -o smtpd_milters=inet:127.0.0.1:{verifier}
127.0.0.1:{submission} inet n - n - - smtpd
  -o smtpd_relay_restrictions=permit_mynetworks,reject
  -o smtpd_tls_security_level=none
  -o smtpd_milters=inet:127.0.0.1:{signer}
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
verify    unix  -       -       n       -       1       verify
proxymap  unix  -       -       n       -       -       proxymap
smtp      unix  -       -       n       -       -       smtp
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
virtual   unix  -       n       n       -       -       virtual
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
"""

_UNBOUND = """\
server:
  do-not-query-localhost: no
  do-ip6: no
  use-syslog: no
  local-zone: "test." nodefault
forward-zone:
  name: "."
  forward-addr: {dns}
"""

_OPENDKIM = """\
Background no
Syslog no
Domain {domain}
Selector {selector}
KeyFile {folder}/dkim.pem
RequireSafeKeys no
Canonicalization relaxed/simple
OversignHeaders From
ResolverConfiguration {folder}/unbound.conf
AuthservID {host}
AlwaysAddARHeader yes
UMask 022
"""

_SIGNER = "Mode s\nInternalHosts 127.0.0.1\n"
_VERIFIER = """\
Mode v
InternalHosts 192.0.2.1
On-NoSignature reject
On-BadSignature reject
On-KeyNotFound reject
On-DNSError tempfail
"""


def missing() -> str | None:
    """Say why there can be no such server here; None: there can."""
    for program in ("postfix", "opendkim"):
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            return f"{program} is not installed"
    return None if os.geteuid() == 0 else "Postfix wants to be started by root"


class Postfix:
    """The server, running, and in DNS with its DKIM key."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.folder, self.network = folder, network
        self.address = network.new_address()
        self.submission, self.signer, self.verifier = free_ports(3)
        self._processes: list[subprocess.Popen[bytes]] = []
        zone = network.dns.zone
        zone.put(DOMAIN, "MX", f"10 {HOST}.")
        zone.put(HOST, "A", self.address)

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o644)
        return path

    def _facts(self) -> dict[str, object]:
        certificate, key = self.network.authority.issue(HOST, kind="rsa")
        for name, source in (("cert.pem", certificate), ("key.pem", key)):
            shutil.copyfile(source, self.folder / name)
        shutil.copyfile(self.network.authority.certificate, self.folder / "ca.pem")
        return {
            "folder": self.folder,
            "address": self.address,
            "port": self.network.smtp_port,
            "submission": self.submission,
            "signer": self.signer,
            "verifier": self.verifier,
            "host": HOST,
            "domain": DOMAIN,
            "known": KNOWN,
            "late": LATE,
            "selector": SELECTOR,
            "ca": self.folder / "ca.pem",
            "certificate": self.folder / "cert.pem",
            "key": self.folder / "key.pem",
            "dns": self.network.dns.endpoint.replace(":", "@"),
        }

    def start(self) -> None:
        """Write the configuration and start everything."""
        facts = self._facts()
        (self.folder / "queue").mkdir()
        for name, owner in (("data", "postfix"), ("mail", "nobody")):
            (self.folder / name).mkdir()
            shutil.chown(self.folder / name, owner)
        self._make_key()
        self._write("conf/main.cf", _MAIN.format(**facts))
        self._write("conf/master.cf", _MASTER.format(**facts))
        self._write("transport", "gone.test error:5.1.1 mailbox is gone\n")
        self._write("tls_policy", "")
        self._write("unbound.conf", _UNBOUND.format(**facts))
        for name, mode, port in (
            ("signer", _SIGNER, self.signer),
            ("verifier", _VERIFIER, self.verifier),
        ):
            own = f"Socket inet:{port}@127.0.0.1\n"
            config = self._write(f"{name}.conf", _OPENDKIM.format(**facts) + mode + own)
            self._spawn("opendkim", "-x", str(config), user="nobody")
        self._spawn("postfix", "-c", str(self.folder / "conf"), "start-fg")
        for address, port in (
            ("127.0.0.1", self.signer),
            ("127.0.0.1", self.verifier),
            ("127.0.0.1", self.submission),
            (self.address, self.network.smtp_port),
        ):
            wait_until(f"port {port} is open", lambda a=address, p=port: _is_open(a, p))

    def _make_key(self) -> None:
        key = rsa.generate_private_key(65537, 2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        self._write("dkim.pem", pem.decode())
        self.network.dns.zone.put_txt(f"{SELECTOR}._domainkey.{DOMAIN}", dkim_record(pem))

    def _spawn(self, program: str, *arguments: str, user: str | None = None) -> None:
        with (self.folder / f"{program}.out").open("ab") as output:
            process = subprocess.Popen(
                [f"/usr/sbin/{program}", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                user=user,
            )
        self._processes.append(process)

    def stop(self) -> None:
        """End every process."""
        config = str(self.folder / "conf")
        stop = ["/usr/sbin/postfix", "-c", config, "stop"]
        subprocess.run(stop, capture_output=True, check=False)
        for process in self._processes:
            process.kill()  # OpenDKIM, which has no state, takes seconds over a polite end
            process.wait(PATIENCE_S)

    # --- for tests ------------------------------------------------------------------------------

    def knows(self, relay: FederatedRelay) -> None:
        """Tell Postfix where a relay is, and that its certificate has to be the relay's own."""
        hop = f"[{relay.address}]:{self.network.smtp_port}"
        transport = self.folder / "transport"
        self._write("transport", f"{transport.read_text()}{relay.domain} smtp:{hop}\n")
        self._write("tls_policy", f"{hop} secure match={relay.domain}\n")
        subprocess.run(
            ["/usr/sbin/postfix", "-c", str(self.folder / "conf"), "reload"],
            capture_output=True,
            check=True,
        )

    def send(self, sender: str, recipient: str, octets: bytes) -> None:
        """Hand in a message as a user of this server does; it is signed and relayed."""
        with smtplib.SMTP("127.0.0.1", self.submission, timeout=PATIENCE_S) as client:
            client.sendmail(sender, [recipient], octets)

    def mailbox(self) -> list[email.message.Message]:
        """Return the messages of the one mailbox."""
        new = self.folder / "mail" / "known" / "new"
        if not new.exists():
            return []
        return [email.message_from_bytes(path.read_bytes()) for path in sorted(new.iterdir())]

    def await_mail(self, message_id: str) -> email.message.Message:
        """Wait until a message has arrived; returns it."""
        wait_until(f"{message_id} arrived", lambda: self._find(message_id) is not None)
        found = self._find(message_id)
        assert found is not None
        return found

    def _find(self, message_id: str) -> email.message.Message | None:
        return next((m for m in self.mailbox() if m["Message-ID"] == message_id), None)

    @property
    def log(self) -> str:
        """What Postfix has logged."""
        path = self.folder / "mail.log"
        return path.read_text(errors="replace") if path.exists() else ""


def _is_open(address: str, port: int) -> bool:
    with socket.create_connection((address, port), 1):
        return True


@contextlib.contextmanager
def running(network: Network) -> Iterator[Postfix]:
    """A server of its own for the tests of one module."""
    # Not below pytest's folder: that one is closed to the users the processes run as.
    folder = Path(tempfile.mkdtemp(prefix="chatmail-postfix-"))
    folder.chmod(0o755)
    server = Postfix(network, folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
