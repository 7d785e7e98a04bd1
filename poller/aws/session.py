"""How AWS is reached: region, endpoints, credentials from the standard chain, clients opened once and shared."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioAssumeRoleCredentialFetcher, AioDeferredRefreshableCredentials
from aiobotocore.session import AioSession

from poller import __version__
from poller.aws.botocore_calls import AdmittingSession, BotocoreCalls, keepalive_socket
from poller.aws.calls import HotCalls
from poller.aws.errors import translated
from poller.aws.fast.calls import FastCalls
from poller.aws.fast.trust import trusting
from poller.aws.signing import Signer
from poller.model.errors import Denied

Service: TypeAlias = Literal["kinesis", "dynamodb", "dynamodbstreams", "sqs", "sns", "s3", "lambda", "sts"]
Client: TypeAlias = Literal["fast", "botocore"]

_USER_AGENT = f"poller/{__version__}"
_AWS_NAMES = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".amazonwebservices.com.cn")
"""Source: AWS General Reference, "Service endpoints", those of VPCs and with dual stack included."""
_CONNECT = 5.0
"""Seconds to reach a server."""
_READ = 60.0
"""Seconds without a byte before an answer is given up; a long poll of a queue is silent for 20."""
_CONNECTIONS = 500
_UNBOUNDED = 0
"""As aiohttp spells it."""
_PROMPT = 1.0
"""Seconds to connect, and without a byte, after which a call is given up that somebody's lease depends on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsSettings:
    """The `aws:` section. Credentials are never in it."""

    region: str | None = None
    profile: str | None = None
    endpoint_url: str | None = None
    """For every service without an entry in `endpoints`."""
    endpoints: tuple[tuple[Service, str], ...] = ()
    client: Client = "fast"
    """How the hot calls travel: over connections of our own, or through aiobotocore."""

    def endpoint(self, service: Service) -> str | None:
        """Where a service is reached; None for AWS itself."""
        return dict(self.endpoints).get(service, self.endpoint_url)

    def stands_in(self, service: Service) -> bool:
        """Whether an emulator is spoken to: AWS signs for its own names, and is reached under no other."""
        host = urlsplit(self.endpoint(service) or "").hostname
        return host is not None and not host.endswith(_AWS_NAMES)


class Aws:
    """AWS as the settings reach it. Every client is opened once and closed with the context that made this."""

    def __init__(self, settings: AwsSettings, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._lock = anyio.Lock()
        self._sessions: dict[str | None, AioSession] = {}
        self._clients: dict[tuple[Service, str | None, str | None, bool], Any] = {}
        self._calls: dict[tuple[str | None, str | None], HotCalls] = {}
        self._trusted: ssl.SSLContext | None = None

    @property
    def region(self) -> str | None:
        """The region of what has no ARN; None when nobody says it.

        Raises:
            Denied: no such profile.
        """
        with translated("sts", "open"):
            return self._region(self._base())

    async def client(self, service: Service, *, region: str | None = None, role_arn: str | None = None) -> Any:
        """An aiobotocore client for everything but the hot calls; it retries by itself. Shared: do not close it.

        Its calls stand in `with translated(service, operation):`.

        Raises:
            Denied: no region, no credentials, no such profile.
        """
        return await self._opened(service, region, role_arn, hot=False)

    @asynccontextmanager
    async def prompt_client(
        self, service: Service, *, region: str | None = None, endpoint_url: str | None = None
    ) -> AsyncIterator[Any]:
        """A client with connections of its own that sends once and does not wait for a silent server.

        Its calls stand in `with translated(service, operation):`.

        Args:
            service: whose.
            region: None: that of the settings.
            endpoint_url: None: that of the settings.

        Raises:
            Denied: no region, no credentials, no such profile, no such endpoint.
        """
        async with AsyncExitStack() as stack:
            with translated(service, "open"):
                session = await self._session(None)
                client = await self._create(stack, session, service, region, endpoint_url, _prompt_config())
            yield client

    async def calls(self, *, region: str | None = None, role_arn: str | None = None) -> HotCalls:
        """The hot calls to one region as one role. No network is used before the first of them."""
        key = (region, role_arn)
        if key not in self._calls:

            async def opened(service: Service) -> Any:
                return await self._opened(service, region, role_arn, hot=True)

            if self._settings.client == "botocore":
                self._calls[key] = BotocoreCalls(opened)
            else:
                self._calls[key] = self._fast(opened, role_arn)
        return self._calls[key]

    def _fast(self, opened: Callable[[Service], Awaitable[Any]], role_arn: str | None) -> HotCalls:
        async def credentials() -> Any:
            return await (await self._session(role_arn)).get_credentials()

        calls = FastCalls(opened, credentials, self._trust)
        self._stack.push_async_callback(calls.aclose)
        return calls

    async def _trust(self) -> ssl.SSLContext:
        """Whom TLS trusts; made once, off the loop: it reads hundreds of certificates."""
        if self._trusted is None:
            async with self._lock:
                if self._trusted is None:
                    bundle = self._base().get_config_variable("ca_bundle")
                    self._trusted = await anyio.to_thread.run_sync(trusting, bundle)
        return self._trusted

    async def signer(self, service: str, *, region: str | None = None, role_arn: str | None = None) -> Signer:
        """Signs requests that are sent by others, to a service behind HTTP.

        Raises:
            Denied: no region, no credentials, no such profile.
        """
        region = region or self.region
        if region is None:
            raise Denied("no AWS region to sign for: set aws.region")
        with translated("sts", "open"):
            session = await self._session(role_arn)
            return Signer(await session.get_credentials(), service, region)

    async def _opened(self, service: Service, region: str | None, role_arn: str | None, *, hot: bool) -> Any:
        key = (service, region, role_arn, hot)
        if key not in self._clients:
            async with self._lock:
                if key not in self._clients:
                    self._clients[key] = await self._open(service, region, role_arn, hot=hot)
        return self._clients[key]

    async def _open(self, service: Service, region: str | None, role_arn: str | None, *, hot: bool) -> Any:
        with translated(service, "open"):
            session = await self._session(role_arn)
            config = _hot_config(service) if hot else _config()
            return await self._create(self._stack, session, service, region, None, config)

    async def _create(
        self,
        stack: AsyncExitStack,
        session: AioSession,
        service: Service,
        region: str | None,
        endpoint_url: str | None,
        config: AioConfig,
    ) -> Any:
        try:
            return await stack.enter_async_context(
                session.create_client(
                    service,
                    region_name=region or self._region(session),
                    endpoint_url=endpoint_url or self._settings.endpoint(service),
                    config=config,
                )
            )
        except ValueError as error:  # botocore's way to refuse an endpoint
            raise Denied(f"aws: {service} cannot be reached: {error}") from error

    async def _session(self, role_arn: str | None) -> AioSession:
        if role_arn not in self._sessions:
            session = self._base() if role_arn is None else await self._assuming(role_arn)
            if await session.get_credentials() is None:
                raise Denied(
                    "no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role"
                )
            self._sessions[role_arn] = session
        return self._sessions[role_arn]

    def _base(self) -> AioSession:
        return AioSession(profile=self._settings.profile)

    def _region(self, session: AioSession) -> str | None:
        """The standard chain, and AWS_REGION, which containers are given and botocore alone does not look at."""
        found: str | None = (
            self._settings.region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
        )
        return found

    async def _assuming(self, role_arn: str) -> AioSession:
        """A session whose credentials are those of a role, asked for at the first call and renewed before they end."""
        base = await self._session(None)

        def sts(service: Service, **credentials: Any) -> Any:
            return base.create_client(
                service,
                region_name=self._region(base),
                endpoint_url=self._settings.endpoint(service),
                config=_config(),
                **credentials,
            )

        fetcher = AioAssumeRoleCredentialFetcher(
            sts, await base.get_credentials(), role_arn, extra_args={"RoleSessionName": "poller"}
        )
        session = AioSession(profile=self._settings.profile)
        # The loaded models and endpoints are 9 MB and 100 ms; roles share them.
        session.register_component("data_loader", base.get_component("data_loader"))
        session.register_component("credential_provider", _Provider(fetcher))
        return session


class _Provider:
    """Gives a session the credentials of one role."""

    def __init__(self, fetcher: AioAssumeRoleCredentialFetcher) -> None:
        self._fetcher = fetcher

    async def load_credentials(self) -> AioDeferredRefreshableCredentials:
        return AioDeferredRefreshableCredentials(self._fetcher.fetch_credentials, "assume-role")


def _config() -> AioConfig:
    return AioConfig(
        user_agent=_USER_AGENT,
        parameter_validation=False,  # the service knows what it takes; emulators have ids of their own shapes
        connect_timeout=_CONNECT,
        read_timeout=_READ,
        max_pool_connections=_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": 4},
    )


def _prompt_config() -> AioConfig:
    """No second try behind our back: a write that is repeated has to know that it is."""
    return AioConfig(
        user_agent=_USER_AGENT,
        parameter_validation=False,
        connect_timeout=_PROMPT,
        read_timeout=_PROMPT,
        max_pool_connections=_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": 1},
    )


def _hot_config(service: Service) -> AioConfig:
    """No second try behind our back: a repeated Invoke is a duplicate, and the readers pace their own."""
    calls_functions = service == "lambda"
    return AioConfig(
        user_agent=_USER_AGENT,
        parameter_validation=False,
        connect_timeout=_CONNECT,
        read_timeout=None if calls_functions else _READ,  # a function has the time its caller gives it
        max_pool_connections=_UNBOUNDED if calls_functions else _CONNECTIONS,  # and no other waits for it
        retries={"mode": "standard", "total_max_attempts": 1},
        http_session_cls=AdmittingSession,
        connector_args={"socket_factory": keepalive_socket},
    )


@asynccontextmanager
async def open_aws(settings: AwsSettings) -> AsyncIterator[Aws]:
    """Reach AWS as the settings say, for as long as the context lasts. Opens nothing before it is needed."""
    async with AsyncExitStack() as stack:
        yield Aws(settings, stack)
