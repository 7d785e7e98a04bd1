"""What a request looks like, and where it goes: botocore is asked once, in a rehearsal that sends nothing.

So endpoints, FIPS and dual stack, signing names, escaping and headers are what botocore makes of them. Left out are
the `amz-sdk-*` headers, which tell a service of an SDK's own retries.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from botocore.utils import get_environ_proxies

from poller.aws.fast.signing import Form
from poller.model.errors import Denied

Client: TypeAlias = Any
"""An aiobotocore client; botocore carries no types."""

_FORM = "PollerForm"


def rehearse(client: Client) -> None:
    """Let every call of this client answer what it would have sent, see `form_of`."""
    client.meta.events.register_last("before-call", _kept, unique_id="poller-rehearsal")


async def form_of(client: Client, method: str, parameters: Mapping[str, object]) -> Form:
    """The form of a call's requests.

    Args:
        client: one that rehearses.
        method: of the client: "get_records".
        parameters: by their API names, all those given of which path and place depend.

    Raises:
        Denied: it takes a proxy, or another signature than Version 4.
    """
    form: Form = (await getattr(client, method)(**parameters))[_FORM]
    proxy = get_environ_proxies(form.url).get(urlsplit(form.url).scheme)
    if proxy:
        raise Denied(
            f"{form.host} is reached through a proxy (HTTP_PROXY, HTTPS_PROXY), which aws.client: fast does not do: "
            f"set aws.client: botocore, or NO_PROXY={urlsplit(form.url).hostname}"
        )
    return form


def _kept(params: Mapping[str, Any], request_signer: Any, **_: Any) -> tuple[SimpleNamespace, dict[str, Form]]:
    """Answer in the server's place."""
    context = params["context"]
    way = context.get("auth_type") or request_signer.signature_version
    if way != "v4":
        raise Denied(f"requests are to be signed with {way}, which aws.client: fast does not do: set it to botocore")
    signing = context.get("signing", {})
    form = Form(
        method=params["method"],
        url=params["url"],
        headers={**{name: _text(value) for name, value in params["headers"].items()}, "Accept-Encoding": "identity"},
        region=signing.get("region") or request_signer.region_name,
        service=signing.get("signing_name") or request_signer.signing_name,
    )
    return SimpleNamespace(status_code=200), {_FORM: form}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
