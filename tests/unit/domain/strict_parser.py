"""A second, slow and simple parser of encrypted messages, to hold the gate against.

It works on the whole message, line by line and octet by octet, and shares no code with the gate.
`accepts()` says whether a message obeys P, H, M, A and O without the size limit and O-20.
"""

from __future__ import annotations

import string

from tests.unit.domain.strict_packets import Bad, need, read_armor, read_base64, read_packets

TOKEN = bytes(o for o in range(33, 127) if o not in b'()<>@,;:\\"/[]?=')
HEX = b"0123456789ABCDEFabcdef"


def accepts(message: bytes, *, inbound: bool) -> bool:
    """Say whether the message is well-formed and encrypted, for inbound or for our own doors."""
    try:
        read_message(message, inbound)
    except Bad:
        return False
    return True


def read_message(message: bytes, inbound: bool) -> None:
    lines = message.split(b"\r\n")
    for line in lines:
        need(not any(octet in line for octet in (b"\r", b"\n", b"\0")))
    need(b"" in lines[:-1])
    end = lines.index(b"")
    fields = read_header(lines[:end], inbound)
    kind, parameters = read_content_type(fields.get(b"content-type", b"text/plain"))
    need(fields.get(b"content-transfer-encoding", b"7bit").lower() in (b"7bit", b"8bit"))
    need(kind == b"multipart/encrypted")
    boundary = parameters.get(b"boundary", b"")
    allowed = (string.ascii_letters + string.digits + "'()+_,-./:=? ").encode()
    need(1 <= len(boundary) <= 70 and not boundary.endswith(b" "))
    need(all(octet in allowed for octet in boundary))
    need(
        parameters.get(b"protocol", b"application/pgp-encrypted").lower()
        == b"application/pgp-encrypted"
    )
    read_multipart(lines[end + 1 :], boundary, inbound)


def read_header(lines: list[bytes], inbound: bool) -> dict[bytes, bytes]:
    need(len(b"\r\n".join([*lines, b"", b""])) <= 65536)
    need(all(len(line) <= 998 for line in lines))
    raw = read_fields(lines)
    need(len(raw) <= 256)
    structured = b"""from sender reply-to to cc bcc date message-id in-reply-to references
        return-path delivered-to received mime-version content-type content-transfer-encoding
        content-disposition content-id autocrypt auto-submitted dkim-signature
        authentication-results secure-join secure-join-invitenumber secure-join-group
        autocrypt-setup-message""".split()
    once = b"""from sender content-type content-transfer-encoding mime-version date message-id
        secure-join secure-join-invitenumber autocrypt""".split()
    if not inbound:
        once += [b"subject", b"to", b"cc"]
    names = [name for name, _ in raw]
    for name in once:
        need(names.count(name) <= 1)
    for name, value in raw:
        need(len(name) + 1 + len(value) <= 32768)
        if any(octet >= 128 for octet in value):
            need(inbound and name not in structured and not name.startswith(b"resent-"))
    return {name: value.strip(b" \t") for name, value in reversed(raw)}


def read_fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    fields: list[tuple[bytes, bytes]] = []
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            need(fields)
            name, value = fields.pop()
            fields.append((name, value + line))
        else:
            name, colon, value = line.partition(b":")
            need(colon and name and all(33 <= octet <= 126 for octet in name))
            fields.append((name.lower(), value))
    return fields


def read_content_type(value: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    kind, value = take_token(value)
    need(value[:1] == b"/")
    subtype, value = take_token(value[1:])
    parameters: dict[bytes, bytes] = {}
    while value.strip(b" \t"):
        value = value.lstrip(b" \t")
        need(value[:1] == b";")
        value = value[1:].lstrip(b" \t")
        if not value:
            break
        name, value = take_token(value)
        name = name.lower()
        need(value[:1] == b"=" and b"*" not in name and name not in parameters)
        if value[1:2] == b'"':
            parameters[name], value = take_quoted(value[2:])
        else:
            parameters[name], value = take_token(value[1:])
    return (kind + b"/" + subtype).lower(), parameters


def take_token(value: bytes) -> tuple[bytes, bytes]:
    size = 0
    while size < len(value) and value[size] in TOKEN:
        size += 1
    need(size)
    return value[:size], value[size:]


def take_quoted(value: bytes) -> tuple[bytes, bytes]:
    text, at = b"", 0
    while True:
        need(at < len(value))
        octet = value[at : at + 1]
        if octet == b'"':
            return text, value[at + 1 :]
        if octet == b"\\":
            at += 1
            octet = value[at : at + 1]
        need(octet and (32 <= octet[0] <= 126 or octet == b"\t"))
        text += octet
        at += 1


def is_delimiter(line: bytes, boundary: bytes) -> str:
    if not line.startswith(b"--" + boundary):
        return ""
    rest = line[2 + len(boundary) :].rstrip(b" \t")
    lead = line[2 + len(boundary) :]
    lead = lead[2:] if lead.startswith(b"--") else lead
    need(len(line) - len(lead.lstrip(b" \t")) <= 998)
    return {b"": "next", b"--": "close"}.get(rest, "")


def read_multipart(lines: list[bytes], boundary: bytes, inbound: bool) -> None:
    groups: list[list[bytes]] = [[]]
    for at, line in enumerate(lines):
        kind = is_delimiter(line, boundary)
        if kind == "close":
            epilogue = b"\r\n".join(lines[at + 1 :])
            break
        if kind == "next":
            groups.append([])
        else:
            groups[-1].append(line)
    else:
        raise Bad
    preamble, *parts = groups
    need(len(preamble) <= 4 and not b"".join(preamble).strip(b" \t"))
    need(sum(map(len, preamble)) + 2 * len(preamble) <= 4000)
    need(len(parts) == 2)
    need(len(epilogue) <= 64 and not epilogue.strip(b" \t\r\n"))
    control = read_part(parts[0], b"application/pgp-encrypted", inbound, second=False)
    need(control.strip(b" \t\r\n") == b"Version: 1")
    read_packets(
        read_armor(read_part(parts[1], b"application/octet-stream", inbound, second=True), inbound)
    )


def read_part(lines: list[bytes], kind: bytes, inbound: bool, *, second: bool) -> bytes:
    need(b"" in lines)
    end = lines.index(b"")
    need(len(b"\r\n".join([*lines[:end], b"", b""])) <= 2048)
    raw = read_fields(lines[:end])
    need(len(raw) <= 8 and len({name for name, _ in raw}) == len(raw))
    usual = b"""content-type content-transfer-encoding content-description content-disposition
        content-id mime-version""".split()
    for line in lines[:end]:
        need(len(line) <= 998 and max(line, default=0) < 128)
    sizes = field_sizes(lines[:end])
    for (name, _), size in zip(raw, sizes, strict=True):
        need(name in usual or (inbound and size <= 256))
    fields = {name: value.strip(b" \t") for name, value in raw}
    need(read_content_type(fields.get(b"content-type", b"text/plain"))[0] == kind)
    encoding = fields.get(b"content-transfer-encoding", b"7bit").lower()
    body = lines[end + 1 :]
    if not second:
        need(len(b"\r\n".join(body)) <= 64)
    if encoding in (b"7bit", b"8bit"):
        return b"\r\n".join(body)
    need(inbound or not second)
    need(encoding in (b"base64", b"quoted-printable"))
    need(all(len(line) <= 998 for line in body))
    return read_base64(b"".join(body)) if encoding == b"base64" else read_quoted(body)


def field_sizes(lines: list[bytes]) -> list[int]:
    sizes: list[int] = []
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            sizes[-1] += len(line) + 2
        else:
            sizes.append(len(line) + 2)
    return sizes


def read_quoted(lines: list[bytes]) -> bytes:
    text = b""
    for at, line in enumerate(lines):
        line = line.rstrip(b" \t")
        out, position, soft = b"", 0, False
        while position < len(line):
            octet = line[position]
            if octet != ord("="):
                need(32 <= octet <= 126 or octet == 9)
                out += bytes([octet])
                position += 1
            elif position == len(line) - 1:
                need(line == lines[at] and at < len(lines) - 1)
                soft, position = True, position + 1
            else:
                pair = line[position + 1 : position + 3]
                need(len(pair) == 2 and all(digit in HEX for digit in pair))
                out += bytes([int(pair, 16)])
                position += 3
        text += out + (b"" if soft or at == len(lines) - 1 else b"\r\n")
    return text
