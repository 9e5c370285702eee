"""A private internet on loopback: names, a certificate authority, relays and whoever else is there.

Every host has an address of its own in 127.0.1.0/24, and all of them use the same two port numbers
where the world uses 25 and 443. What users speak to (submission, IMAP) listens on 127.0.0.1 as in
all other tests, so their clients work with these relays as well.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import ipaddress
import itertools
import json
import random
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import dkim
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

from tests.e2e.configured import ConfiguredRelay, Table
from tests.e2e.dns_zone import DnsServer
from tests.e2e.relay import COMMAND, wait_until
from tests.patience import PATIENCE_S
from tests.ports import draw_port

SELECTOR = "opendkim"
VERDICT_WAIT, DEFAULT_WAIT = '"30s"', '"1s"'
"""`queue.reply_wait`: for a peer's verdict however busy the machine is, which is the reply then and
not a report; and what it is by default, for peers that say nothing."""
_SIGNED = [b"from", b"to", b"subject", b"date", b"message-id", b"mime-version", b"content-type"]

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class Authority:
    """A certificate authority that only the hosts of one test know."""

    def __init__(self, folder: Path, *, name: str = "e2e") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} authority")])
        self._numbers = itertools.count(1)
        root = self._builder(self._name, self._key.public_key())
        root = root.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        root = root.add_extension(_key_usage(signs_certificates=True), critical=True)
        self.certificate = folder / f"{name}-ca.pem"
        signed = root.sign(self._key, hashes.SHA256())
        self.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def _builder(
        self, subject: x509.Name, key: object, *, days: tuple[int, int] = (-2, 20)
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)  # type: ignore[arg-type]
            .serial_number(next(self._numbers) + random.getrandbits(63))
            .not_valid_before(now + datetime.timedelta(days=days[0]))
            .not_valid_after(now + datetime.timedelta(days=days[1]))
        )

    def issue(
        self, *names: str, kind: str = "p256", days: tuple[int, int] = (-1, 10)
    ) -> tuple[Path, Path]:
        """Return certificate and key files for names or IP addresses.

        Args:  kind: p256, p384, rsa or ed25519. days: from when to when it is valid, from now.
        """
        key = _private_key(kind)
        alternatives = [_general_name(name) for name in names]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
        builder = self._builder(subject, key.public_key(), days=days)
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
            critical=False,
        )
        signed = builder.sign(self._key, hashes.SHA256())
        base = f"{names[0].replace(':', '_')}-{next(self._numbers)}"
        certificate, private = self.folder / f"{base}.crt", self.folder / f"{base}.key"
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(_pem(key))
        private.chmod(0o600)
        return certificate, private

    def context(self, *names: str, kind: str = "p256") -> ssl.SSLContext:
        """Return a server's context with a certificate for names."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*self.issue(*names, kind=kind))
        return context


def _private_key(kind: str) -> PrivateKey:
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP384R1() if kind == "p384" else ec.SECP256R1())


def _general_name(name: str) -> x509.GeneralName:
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


# --- DKIM ----------------------------------------------------------------------------------------


class Signer:
    """Signs as a peer's mail server would, by a library that is not ours."""

    def __init__(self, domain: str, selector: str = "peer", *, pem: bytes = b"") -> None:
        self.domain, self.selector = domain, selector
        key = serialization.load_pem_private_key(pem, None) if pem else _private_key("rsa")
        assert isinstance(key, rsa.RSAPrivateKey)
        self._key = key

    @property
    def name(self) -> str:
        """Where the public key is looked for."""
        return f"{self.selector}._domainkey.{self.domain}"

    @property
    def record(self) -> str:
        """The public key as DNS shows it."""
        return dkim_record(_pem(self._key))

    def sign(
        self, octets: bytes, *, canonicalize: str = "relaxed/simple", **options: object
    ) -> bytes:
        """Return a message with its signature on top. `options`: of `dkim.sign`."""
        headers, body = canonicalize.encode().split(b"/")
        field: bytes = dkim.sign(
            octets,
            self.selector.encode(),
            self.domain.encode(),
            _pem(self._key),
            canonicalize=(headers, body),
            **{"include_headers": _SIGNED, **options},
        )
        return field + octets

    def sign_with(self, octets: bytes, *, body: bytes | None = None, **tags: str) -> bytes:
        """Return a message with a signature that is valid for its tags, whatever these say.

        Canonicalisation is relaxed/simple. Args:  body: what is hashed in place of the body.
        """
        head, _, own_body = octets.partition(b"\r\n\r\n")
        whole = re.sub(rb"(\r\n)*\Z", b"\r\n", own_body, count=1)  # RFC 6376 §3.4.3
        digest = hashlib.sha256(whole if body is None else body).digest()
        every = {"v": "1", "a": "rsa-sha256", "c": "relaxed/simple", "d": self.domain}
        every |= {"s": self.selector, "h": "from:to:subject:date:message-id", **tags}
        every |= {"bh": base64.b64encode(digest).decode(), "b": ""}
        field = "; ".join(f"{name}={value}" for name, value in every.items())
        fields = {line.partition(b":")[0].lower(): line for line in _unfolded(head)}
        signed = [
            fields[name.encode()] for name in every["h"].split(":") if name.encode() in fields
        ]
        data = b"".join(_relaxed(line) + b"\r\n" for line in signed)
        data += _relaxed(f"dkim-signature:{field}".encode())
        signature = self._key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        return (
            f"DKIM-Signature: {field}{base64.b64encode(signature).decode()}\r\n".encode() + octets
        )


def _unfolded(head: bytes) -> list[bytes]:
    return re.sub(rb"\r\n(?=[ \t])", b"", head).split(b"\r\n")


def _relaxed(line: bytes) -> bytes:
    """RFC 6376 §3.4.2."""
    name, _, value = line.partition(b":")
    return name.lower().strip() + b":" + re.sub(rb"[ \t]+", b" ", value).strip()


def dkim_record(pem: bytes) -> str:
    """Return the TXT record for a private key (RFC 6376 §3.6.1, SubjectPublicKeyInfo)."""
    key = serialization.load_pem_private_key(pem, None)
    octets = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return f"v=DKIM1;k=rsa;p={base64.b64encode(octets).decode()};s=email;t=s"


# --- relays --------------------------------------------------------------------------------------


@dataclass
class FederatedRelay(ConfiguredRelay):
    """A relay with an address of its own where its peers find it.

    `name`: its domain; empty for a relay that is an address. `ports` are those on 127.0.0.1.
    """

    name: str = ""
    address: str = "127.0.1.1"
    peer_ports: tuple[int, int] = (0, 0)

    @property
    def domain(self) -> str:
        return self.name or f"[{self.address}]"

    def write_config(self) -> None:
        super().write_config()
        text = self.config.read_text()
        text = re.sub(r'(?m)^(ip|hostname) = "127.0.0.1"\n', "", text)
        who = f'domain = "{self.name}"' if self.name else f'ip = "{self.address}"'
        text = text.replace("[server]\n", f"[server]\n{who}\n", 1)
        for face, port in zip(("smtp", "https"), self.peer_ports, strict=True):
            text = text.replace(f"\n{face} = [", f'\n{face} = ["{self.address}:{port}", ', 1)
        self.config.write_text(text)

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of the program on this relay's configuration."""
        command = [*COMMAND, *arguments, "--config", str(self.config)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_S, cwd=self.folder
        )
        assert not check or done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def ask(self, *arguments: str) -> object:
        """Run a command with `--json` and return what it says."""
        return json.loads(self.run(*arguments, "--json").stdout)

    @property
    def dkim_key(self) -> Path:
        return self.folder / "state" / "dkim" / f"{SELECTOR}.pem"


@dataclass
class Network:
    """Names, trust and port numbers that all hosts of a test share."""

    folder: Path
    dns: DnsServer = field(default_factory=DnsServer)
    relays: list[FederatedRelay] = field(default_factory=list)
    _last: int = 0

    def __post_init__(self) -> None:
        self.authority = Authority(self.folder / "ca")
        self.smtp_port, self.https_port = free_ports(2)

    def new_address(self) -> str:
        """Return a loopback address that no other host of this network has."""
        self._last += 1
        return f"127.0.1.{self._last}"

    def publish(self, name: str, address: str, *, mx: str | None = None) -> None:
        """Put a host into DNS: its address, and itself or `mx` as mail exchanger."""
        self.dns.zone.put(name, "A", address)
        self.dns.zone.put(name, "MX", f"10 {mx or name}.")

    def relay(self, name: str = "", *, starts: bool = True, **tables: Table) -> FederatedRelay:
        """Start a relay and, if it has a name, publish it with its DKIM key.

        Args:  name: of its domain; empty: the relay is its address, with its own certificate.
        """
        address = self.new_address()
        relay = FederatedRelay(
            self.folder / (name or address),
            name=name,
            address=address,
            peer_ports=(self.smtp_port, self.https_port),
            tables=self._tables(name, tables),
        )
        self.relays.append(relay)
        if name:
            self.publish(name, address)
        if starts:
            relay.start()
            self.publish_key(relay)
        return relay

    def _tables(self, name: str, tables: dict[str, Table]) -> dict[str, Table]:
        wanted: dict[str, Table] = {
            "dns": {"servers": f'["{self.dns.endpoint}"]'},
            "federation": {
                "smtp_port": str(self.smtp_port),
                "https_port": str(self.https_port),
                "ca_file": f'"{self.authority.certificate}"',
            },
            "queue": {"schedule": '["1s"]', "start_delay": '"0s"', "reply_wait": VERDICT_WAIT},
        }
        if name:
            certificate, key = self.authority.issue(name, f"mta-sts.{name}", f"www.{name}")
            files = {"mode": '"files"', "cert": f'"{certificate}"', "key": f'"{key}"'}
            wanted["tls"] = files
        for table, keys in tables.items():
            wanted[table] = {**wanted.get(table, {}), **keys}
        return wanted

    def publish_key(self, relay: FederatedRelay) -> None:
        """Put a relay's DKIM key into DNS; literals have none."""
        if relay.name:
            record = dkim_record(relay.dkim_key.read_bytes())
            self.dns.zone.put_txt(f"{SELECTOR}._domainkey.{relay.name}", record)

    def signer(self, domain: str, **options: str) -> Signer:
        """Return a signer of a domain whose key is in DNS."""
        signer = Signer(domain, **options)  # type: ignore[arg-type]
        self.dns.zone.put_txt(signer.name, signer.record)
        return signer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        codes = [_end(relay) for relay in self.relays]
        self.dns.close()
        if kind is None:
            assert codes == [0] * len(codes), [relay.errors[-20:] for relay in self.relays]
            crashes = [crash for relay in self.relays for crash in crashes_of(relay)]
            assert not crashes, "\n".join(crashes)


def _end(relay: FederatedRelay) -> int:
    try:
        return relay.stop()
    except subprocess.TimeoutExpired:
        return -1


def crashes_of(relay: FederatedRelay) -> list[str]:
    """Return what a relay logged of bugs in itself."""
    words = ("Traceback", "connection_failed", "job_failed", "job_crashed")
    return [line for line in relay.errors if any(word in line for word in words)]


def free_ports(count: int) -> Sequence[int]:
    """Return port numbers that are free on every address, and no outgoing connection takes."""
    found: list[int] = []
    while len(found) < count:
        port = draw_port()
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("0.0.0.0", port))
            if port not in found:
                found.append(port)
    return found


@contextlib.contextmanager
def network(folder: Path) -> Iterator[Network]:
    """A network for the tests of one module; its relays have to end well."""
    with Network(folder) as found:
        yield found


def queue_depth(relay: FederatedRelay) -> int:
    """Return how many deliveries wait, from the relay's database."""
    with relay.rows() as db:
        return int(db.execute("SELECT count(*) FROM outbound_recipients").fetchone()[0])


def await_empty_queue(relay: FederatedRelay, timeout_s: float = PATIENCE_S) -> None:
    """Wait until nothing is owed to other relays."""
    wait_until("the queue is empty", lambda: queue_depth(relay) == 0, timeout_s)
