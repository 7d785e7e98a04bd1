"""AWS Signature Version 4 for requests that do not go through a client: function URLs, API Gateway."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from poller.aws.errors import translated

_AT_ONCE_BYTES = 1_048_576


class Signer:
    """Signs for one service of one region, with credentials that renew themselves."""

    def __init__(self, credentials: Any, service: str, region: str) -> None:
        self._credentials = credentials
        self._service = service
        self._region = region

    async def sign(self, url: str, body: bytes, *, content_type: str) -> dict[str, str]:
        """The headers that sign a POST: Authorization, X-Amz-Date, X-Amz-Security-Token, Content-Type.

        What is signed is the method, the host, the path and query, these headers and the body: others may be added.

        Args:
            url: exactly as it is sent.
            body: all of it.
            content_type: of the body; signed, so it has to be sent as it is.

        Raises:
            Denied: the credentials cannot be had.
            Transient: the same, for now.
        """
        with translated("sts", "open"):
            frozen = await self._credentials.get_frozen_credentials()
        request = AWSRequest(method="POST", url=url, data=body, headers={"Content-Type": content_type})
        sign = SigV4Auth(frozen, self._service, self._region).add_auth
        if len(body) > _AT_ONCE_BYTES:
            await anyio.to_thread.run_sync(sign, request)  # the digest of 6 MiB takes longer than others should wait
        else:
            sign(request)
        return dict(request.headers.items())
