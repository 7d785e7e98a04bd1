"""The address of a store → the store. Nothing is opened here.

Every function raises `ValueError` whose text is what follows `store: ` in a mistake. An address may hold a password
and is not repeated.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import parse_qsl, unquote, urlsplit

from poller.settings.keys import unknown
from poller.settings.tree import listed, quoted
from poller.settings.values import absolute, url
from poller.stores import StoreSettings
from poller.stores.dynamodb import DynamoStore
from poller.stores.memory import MemoryStore
from poller.stores.postgres import PostgresStore
from poller.stores.sqlite import SqliteStore

STORES = (
    "memory://, sqlite:///ABSOLUTE/PATH, sqlite://./RELATIVE/PATH, dynamodb://TABLE"
    " or postgresql://USER:PASSWORD@HOST/DATABASE"
)
_TABLE = re.compile(r"[a-zA-Z0-9_.-]{3,255}")
_REGION = re.compile(r"[a-z0-9-]{1,32}")
_DYNAMODB = ("region", "endpoint_url", "create")
_POSTGRES = (
    *("application_name", "dbname", "gsslib", "host", "krbsrvname", "options", "passfile", "password", "port"),
    *("search_path", "service", "sslcert", "sslcrl", "sslkey", "sslmode", "sslnegotiation", "sslpassword"),
    *("sslrootcert", "ssl_max_protocol_version", "ssl_min_protocol_version", "target_session_attrs", "user"),
)
"""What libpq calls them."""
_SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_WRITABLE = ("read-write", "primary")
"""A standby lags behind what is acknowledged."""
_HOST = re.compile(r"(?:\[[0-9a-fA-F:.%]+\]|[^\s:/\[\]@]+)(?::(?P<port>[0-9]{1,5}))?")


def store(text: str, folder: str) -> StoreSettings:
    """The store that an address names.

    Args:
        text: the address.
        folder: where a relative path starts.
    """
    scheme, found, rest = text.partition("://")
    match scheme:
        case "memory" if found and not rest:
            return MemoryStore()
        case "sqlite" if found and ":memory:" in rest:
            raise ValueError("is a store that forgets, allowed for that: memory://")
        case "sqlite" if found and rest.startswith(("/", "./", "../")) and not rest.endswith("/") and "?" not in rest:
            rest = "/" + rest.lstrip("/") if rest.startswith("/") else rest
            return SqliteStore(path=absolute(rest, folder))
        case "sqlite":
            raise ValueError("does not name a file, allowed: sqlite:///ABSOLUTE/PATH or sqlite://./RELATIVE/PATH")
        case "dynamodb" if found:
            return _dynamodb(rest)
        case "postgresql" | "postgres" if found:
            return _postgres(text)
        case _:
            raise ValueError(f"is not a store, allowed: {STORES}")


def _dynamodb(rest: str) -> DynamoStore:
    table, _, query = rest.partition("?")
    if not _TABLE.fullmatch(table):
        allowed = "allowed: dynamodb://TABLE, a name of 3 to 255 letters, digits, -, _ and ."
        raise ValueError(f"{quoted(table)} is not the name of a table, {allowed}")
    given = _parameters(query, _DYNAMODB)
    region, endpoint, create = (given.get(key) for key in _DYNAMODB)
    if region is not None and not _REGION.fullmatch(region):
        raise ValueError(f"region={quoted(region)} has the wrong form, allowed: a region such as eu-west-1")
    if create not in {None, "true", "false"}:
        raise ValueError(f"create={quoted(create or '')} has the wrong form, allowed: true or false")
    return DynamoStore(
        table=table,
        region=region,
        endpoint_url=None if endpoint is None else url(endpoint),
        create=create == "true",
    )


def _postgres(text: str) -> PostgresStore:
    allowed = "allowed: postgresql://USER:PASSWORD@HOST[:PORT]/DATABASE"
    try:
        parts = urlsplit(text)
    except ValueError:  # its own words repeat the address
        raise ValueError(f"is not an address, {allowed}") from None
    if parts.fragment:
        raise ValueError(f"has a # that is not written as %23, {allowed}")
    given = _parameters(parts.query, _POSTGRES)
    hosts = parts.netloc.rpartition("@")[2]
    for host in hosts.split(",") if hosts else ():
        match = _HOST.fullmatch(host)
        if not match or int(match["port"] or 1) not in range(1, 65_536):
            raise ValueError(f"{quoted(host)} is not HOST or HOST:PORT, {allowed}")
    service = "service" in given
    if not (hosts or given.get("host") or service):
        raise ValueError(f"does not name a host, {allowed}")
    if not (unquote(parts.path).strip("/") or given.get("dbname") or service):
        raise ValueError(f"does not name a database, {allowed}")
    for key, choices in (("sslmode", _SSLMODES), ("target_session_attrs", _WRITABLE)):
        if given.get(key, choices[0]) not in choices:
            raise ValueError(f"{key}={quoted(given[key])} is not one of the choices, allowed: {listed(choices)}")
    return PostgresStore(address=text)


def _parameters(query: str, known: Collection[str]) -> dict[str, str]:
    """What stands behind the "?", each once."""
    given: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in known:
            raise ValueError(f"{quoted(key)}, after the ?, {unknown(key, {name: name for name in known}, {})}")
        if key in given:
            raise ValueError(f"{key} is given twice after the ?, allowed: once")
        if not value:
            raise ValueError(f"{key}, after the ?, has no value, give one or leave it out")
        given[key] = value
    return given
