"""The address of a running daemon, as somebody wrote it on the command line. No I/O."""

from __future__ import annotations

from urllib.parse import urlsplit

from poller.model.errors import PollerError


def address_of(url: str) -> str:
    """The address with its scheme. Raises `PollerError`: it is none."""
    address = (url if "://" in url else f"http://{url}").rstrip("/")
    try:
        scheme = urlsplit(address).scheme
    except ValueError:  # a bracket without its other half
        scheme = ""
    if scheme not in ("http", "https"):
        raise PollerError(f"{url} is not an address; it looks like http://127.0.0.1:9464")
    return address
