"""AWS Signature Version 4 for requests that differ in their bodies alone. No I/O, no clock.

What a second's requests of one kind share is made once: the signing key, the digest of the canonical request up to the
body's, and the head up to the signature. What is left for each is two short digests, and the body's own, which
`hashlib` makes of the whole at once: there is nothing to gain by handing it over in pieces.
Source: IAM guide, "Create a signed AWS API request".
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit

from botocore.auth import SIGNED_HEADERS_BLACKLIST
from botocore.utils import normalize_url_path

if TYPE_CHECKING:
    from hashlib import _Hash

_UNSIGNED = frozenset(SIGNED_HEADERS_BLACKLIST)
"""Names, in lower case, that proxies may change, and that no signature covers."""
_DEFAULT_PORTS = {"http": 80, "https": 443}
_BLOCK_BYTES = 64
_INNER, _OUTER = bytes(byte ^ 0x36 for byte in range(256)), bytes(byte ^ 0x5C for byte in range(256))


class Keys(NamedTuple):
    """Credentials as they are at one moment."""

    access_key: str
    secret_key: str
    token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """All of a request but its body, its moment and who signs it."""

    method: str
    url: str
    """As it is sent, path escaped."""
    headers: Mapping[str, str]
    """Sent and, but for those that no signature covers, signed; Host need not be among them."""
    region: str
    service: str
    """The name that is signed for: "kinesis"."""

    @property
    def host(self) -> str:
        """The Host header: in lower case, with its port where that is not the scheme's own."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        return host if parts.port in {None, _DEFAULT_PORTS.get(parts.scheme)} else f"{host}:{parts.port}"

    @property
    def target(self) -> str:
        """What the request line asks for."""
        parts = urlsplit(self.url)
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _begun(key: bytes, begin: bytes) -> tuple[_Hash, _Hash]:
    """HMAC-SHA-256 with a key of 32 bytes and a text that begins so: the inner digest as far as that, and the outer."""
    block = key.ljust(_BLOCK_BYTES, b"\0")
    return sha256(block.translate(_INNER) + begin), sha256(block.translate(_OUTER))


class Heads:
    """Makes the heads of the requests of one form. Keeps what the requests of one second have in common."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._moment = -1
        self._keys: Keys | None = None
        self._day = ""
        self._key = b""
        self._canonical = self._inner = self._outer = sha256()
        self._head = ""
        self._again: dict[tuple[str, str], bytes] = {}

    def again(self, digest: str, length: int, keys: Keys, moment: int, *, more: str = "") -> bytes:
        """The same as `head`, for one of the few requests that are sent again and again: within a second, it is made once."""
        if moment != self._moment or keys != self._keys:
            self._begin(keys, moment)
        head = self._again.get((digest, more))
        if head is None:
            head = self._again[digest, more] = self.head(digest, length, keys, moment, more=more)
        return head

    def head(self, digest: str, length: int, keys: Keys, moment: int, *, more: str = "") -> bytes:
        """The head of one request, to its empty line.

        Args:
            digest: of the body, SHA-256 in hexadecimal.
            length: of the body, in bytes.
            keys: who signs.
            moment: unix seconds that the signature is of; the server refuses one that is minutes off.
            more: further headers, each ending in CRLF, that are not signed.
        """
        if moment != self._moment or keys != self._keys:
            self._begin(keys, moment)
        canonical, inner, outer = self._canonical.copy(), self._inner.copy(), self._outer.copy()
        canonical.update(digest.encode())
        inner.update(canonical.hexdigest().encode())
        outer.update(inner.digest())
        return f"{self._head}{outer.hexdigest()}\r\nContent-Length: {length}\r\n{more}\r\n".encode()

    def _begin(self, keys: Keys, moment: int) -> None:
        form = self._form
        date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(moment))
        day = date[:8]
        if day != self._day or keys != self._keys:
            self._key = _signing_key(keys.secret_key, day, form.region, form.service)
            self._day = day
        scope = f"{day}/{form.region}/{form.service}/aws4_request"
        headers = {"Host": form.host, **form.headers, "X-Amz-Date": date}
        if keys.token:
            headers["X-Amz-Security-Token"] = keys.token
        canonical = {name.lower(): _trimmed(value) for name, value in headers.items()}
        signed = sorted(canonical.keys() - _UNSIGNED)
        names = ";".join(signed)
        lines = "".join(f"{name}:{canonical[name]}\n" for name in signed)
        self._canonical = sha256(f"{_asked(form)}{lines}\n{names}\n".encode())
        self._inner, self._outer = _begun(self._key, f"AWS4-HMAC-SHA256\n{date}\n{scope}\n".encode())
        sent = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._head = (
            f"{form.method} {form.target} HTTP/1.1\r\n{sent}"
            f"Authorization: AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature="
        )
        self._again.clear()
        self._keys, self._moment = keys, moment


def _signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _asked(form: Form) -> str:
    """The first three lines of a canonical request: the path, escaped once more than it is sent, and the query."""
    parts = urlsplit(form.url)
    pairs = sorted(pair.partition("=")[::2] for pair in parts.query.split("&")) if parts.query else []
    query = "&".join(f"{name}={value}" for name, value in pairs)
    return f"{form.method}\n{quote(normalize_url_path(parts.path), safe='/~')}\n{query}\n"


def _trimmed(value: str) -> str:
    """Without space around it, and single spaces within."""
    return " ".join(value.split())
