# ruff: noqa: RUF009  (`_part` wraps attrs.field: nothing mutable is shared)
"""The whole configuration file: its sections, all keys, their older names."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from chatmail.app.config_sections import (
    DatabaseSection,
    DkimSection,
    DnsSection,
    FederationSection,
    GateSection,
    HttpSection,
    ImapSection,
    LimitsSection,
    ListenSection,
    QueueSection,
    RegistrationSection,
    RetentionSection,
    ServerSection,
    StorageSection,
    TlsSection,
)
from chatmail.app.config_services import (
    AdminSection,
    AlertsSection,
    BackupSection,
    IrohSection,
    LogSection,
    MetricsSection,
    PushSection,
    ShadowsocksSection,
    TurnSection,
    WebimapSection,
    WebmailSection,
    WebSection,
    WebsmtpSection,
)

T = TypeVar("T")


def _part(section_class: type[T]) -> T:
    field: T = attrs.field(factory=section_class)
    return field


@attrs.frozen(kw_only=True)
class BootConfig:
    """The whole file, frozen."""

    server: ServerSection = _part(ServerSection)
    tls: TlsSection = _part(TlsSection)
    listen: ListenSection = _part(ListenSection)
    http: HttpSection = _part(HttpSection)
    dns: DnsSection = _part(DnsSection)
    registration: RegistrationSection = _part(RegistrationSection)
    limits: LimitsSection = _part(LimitsSection)
    gate: GateSection = _part(GateSection)
    imap: ImapSection = _part(ImapSection)
    retention: RetentionSection = _part(RetentionSection)
    storage: StorageSection = _part(StorageSection)
    database: DatabaseSection = _part(DatabaseSection)
    federation: FederationSection = _part(FederationSection)
    queue: QueueSection = _part(QueueSection)
    dkim: DkimSection = _part(DkimSection)
    admin: AdminSection = _part(AdminSection)
    web: WebSection = _part(WebSection)
    webimap: WebimapSection = _part(WebimapSection)
    websmtp: WebsmtpSection = _part(WebsmtpSection)
    webmail: WebmailSection = _part(WebmailSection)
    push: PushSection = _part(PushSection)
    turn: TurnSection = _part(TurnSection)
    iroh: IrohSection = _part(IrohSection)
    shadowsocks: ShadowsocksSection = _part(ShadowsocksSection)
    log: LogSection = _part(LogSection)
    metrics: MetricsSection = _part(MetricsSection)
    backup: BackupSection = _part(BackupSection)
    alerts: AlertsSection = _part(AlertsSection)

    @property
    def state_dir(self) -> Path:
        """Where everything durable lives."""
        return self.server.state_dir or Path("/var/lib/chatmail")

    @property
    def runtime_dir(self) -> Path:
        """Where the control socket lives."""
        return self.server.runtime_dir or self.state_dir / "run"

    @property
    def nocreate_file(self) -> Path:
        """The file whose presence stops new accounts."""
        return self.registration.nocreate_file or self.state_dir / "nocreate"

    @property
    def dkim_dir(self) -> Path:
        """Where signing keys live."""
        return self.dkim.key_dir or self.state_dir / "dkim"

    @property
    def backup_dir(self) -> Path:
        """Where backups go."""
        return self.backup.dir or self.state_dir / "backup"


def _fields() -> dict[str, attrs.Attribute[Any]]:
    return {
        f"{part.name}.{field.name}": field
        for part in attrs.fields(BootConfig)
        for field in attrs.fields(SECTIONS[part.name])
    }


SECTIONS: Final[dict[str, type[Any]]] = {
    name: type(value) for name, value in attrs.asdict(BootConfig(), recurse=False).items()
}
FIELDS: Final = _fields()
PATHS: Final = frozenset(n for n, field in FIELDS.items() if str(field.type) == "Path | None")


def _aliases() -> dict[str, str]:
    found: dict[str, str] = {}
    for name, field in FIELDS.items():
        for alias in field.metadata.get("aliases", ()):
            found[alias] = name
            if "." not in alias:
                found.setdefault(f"{name.partition('.')[0]}.{alias}", name)
    return {alias: name for alias, name in found.items() if alias not in FIELDS}


ALIASES: Final = _aliases()
