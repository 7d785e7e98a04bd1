"""HTTP functions behind TLS with a private CA, requests that are signed, and the trace that is sent along."""

import asyncio
import hashlib
import hmac
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from poller.aws.session import AwsSettings, open_aws
from poller.model.errors import Denied
from poller.model.outcome import Outcome, Replied, Unavailable
from poller.model.trace import Trace
from poller.targets.http import HttpFunction, SigV4, signed_for
from tests.servers.authority import Authority, certified, named
from tests.servers.processes import Server

ROLE = "arn:aws:iam::111122223333:role/invoke"
ASSUMED = "arn:aws:sts::111122223333:assumed-role/invoke"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return certified(tmp_path)


@dataclass
class Seen:
    url: str
    requests: list[tuple[web.BaseRequest, bytes]] = field(default_factory=list)


@asynccontextmanager
async def serving(certificate: Path | None = None) -> AsyncIterator[Seen]:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        seen.requests.append((request, await request.content.read()))  # `read` has a limit of 1 MiB
        return web.Response(body=b'"ok"')

    tls = None
    if certificate is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)
    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    seen = Seen(f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}")
    try:
        yield seen
    finally:
        await runner.cleanup()


async def outcome_of(url: str, event: bytes = b"{}", trace: Trace | None = None, **more: Any) -> Outcome:
    function = HttpFunction(name="f", url=url, timeout=5.0, **more)
    async with open_aws(AwsSettings(region="eu-west-1")) as aws, function.open(aws, lambda fact: None) as target:
        if url.startswith("https") and "ca" in more:
            await target.check()
        return await target.invoke(event, "1", trace)


async def test_server_with_a_certificate_of_the_private_authority_is_trusted(authority: Authority, tmp_path: Path):
    async with serving(tmp_path / "server.pem") as seen:
        assert await outcome_of(f"{seen.url}/f", ca=str(tmp_path / "ca.pem")) == Replied(body=b'"ok"')


async def test_server_that_nobody_vouches_for_is_sent_nothing(authority: Authority, tmp_path: Path):
    async with serving(tmp_path / "server.pem") as seen:
        outcome = await outcome_of(f"{seen.url}/f")
        assert isinstance(outcome, Unavailable)
        where = seen.url.removeprefix("https://")
        assert outcome.reason.startswith(f'function "f": cannot connect to {where}: ')
        assert "certificate verify failed" in outcome.reason
        assert not outcome.lasting
        assert seen.requests == []


async def test_server_of_another_authority_is_denied(authority: Authority, tmp_path: Path):
    other = Authority(named("another authority"))
    (tmp_path / "other.pem").write_bytes(other.certificate(other.name, other.key, ca=True))
    async with serving(tmp_path / "server.pem") as seen:
        with pytest.raises(Denied, match="certificate verify failed"):
            await outcome_of(f"{seen.url}/f", ca=str(tmp_path / "other.pem"))
        assert seen.requests == []


@pytest.mark.parametrize("resets", [True, False], ids=["resets", "says nothing"])
async def test_check_does_not_depend_on_how_a_server_takes_leave(authority: Authority, tmp_path: Path, resets: bool):
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "server.pem")
    checked = threading.Event()

    def serve() -> None:
        with listener, suppress(ConnectionError):  # the handshake's end may be lost on one who has gone already
            plain, _ = listener.accept()
            with (
                plain,
                tls.wrap_socket(plain, server_side=True) as secure,
                socket.socket(fileno=secure.detach()) as line,
            ):
                if resets:
                    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                checked.wait(0.3 if resets else 10)

    listener = socket.create_server(("127.0.0.1", 0))
    url = f"https://127.0.0.1:{listener.getsockname()[1]}/f"
    function = HttpFunction(name="f", url=url, timeout=5.0, ca=str(tmp_path / "ca.pem"))
    server = asyncio.create_task(asyncio.to_thread(serve))
    async with open_aws(AwsSettings(region="eu-west-1")) as aws, function.open(aws, lambda fact: None) as target:
        async with asyncio.timeout(5):
            assert await target.check() == 5.0
    checked.set()
    await server


async def test_certificate_for_another_name_is_not_accepted(authority: Authority, tmp_path: Path):
    async with serving(tmp_path / "server.pem") as seen:
        with pytest.raises(Denied, match="certificate is not valid for 'localhost'"):
            await outcome_of(seen.url.replace("127.0.0.1", "localhost"), ca=str(tmp_path / "ca.pem"))


@pytest.mark.parametrize(
    ("text", "why"),
    [(None, "No such file or directory"), ("nonsense", "it holds no certificate in PEM form")],
    ids=["no file", "no certificate"],
)
async def test_ca_that_cannot_be_used_is_told_in_one_line(tmp_path: Path, text: str | None, why: str):
    file = tmp_path / "ca.pem"
    if text is not None:
        file.write_text(text)
    with pytest.raises(Denied) as raised:
        await outcome_of("https://127.0.0.1:1/", ca=str(file))
    assert str(raised.value) == f'function "f": ca: {file} cannot be used: {why}'


def expected_signature(request: web.BaseRequest, body: bytes, *, path: str, query: str) -> str:
    """Signature Version 4 as AWS's guide has it, written down anew."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    fields = dict(part.strip().split("=", 1) for part in headers["authorization"].split(" ", 1)[1].split(","))
    scope = fields["Credential"].split("/", 1)[1]
    signed = "".join(f"{name}:{headers[name]}\n" for name in fields["SignedHeaders"].split(";"))
    digest = hashlib.sha256(body).hexdigest()
    canonical = "\n".join(("POST", path, query, signed, fields["SignedHeaders"], digest))
    text = "\n".join(("AWS4-HMAC-SHA256", headers["x-amz-date"], scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = b"AWS4test"
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, text.encode(), "sha256").hexdigest()


@pytest.mark.parametrize("event", [b'{"Records":[]}', b"", b"x" * 6_000_000], ids=["small", "empty", "large"])
async def test_request_is_signed_as_aws_wants_it(event: bytes):
    async with serving() as seen:
        url = f"{seen.url}/a path/f?b=2&a=1"
        assert await outcome_of(url, event, sigv4=SigV4(), headers=(("X-More", "1"),)) == Replied(body=b'"ok"')
    ((request, body),) = seen.requests
    authorization = request.headers["Authorization"]
    assert body == event
    assert "/eu-west-1/lambda/aws4_request" in authorization
    assert "content-type;host;x-amz-date" in authorization
    wanted = expected_signature(request, body, path="/a%2520path/f", query="a=1&b=2")
    assert authorization.endswith(f"Signature={wanted}")


async def test_request_is_signed_for_the_service_and_region_of_the_configuration():
    async with serving() as seen:
        await outcome_of(seen.url, sigv4=SigV4(service="execute-api", region="us-west-2"))
    ((request, _),) = seen.requests
    assert "/us-west-2/execute-api/aws4_request" in request.headers["Authorization"]


async def test_request_is_signed_as_the_role_of_the_configuration(ministack: Server):
    # STS answers who signed a request: the function of this test is STS.
    url = f"{ministack.url}/?Action=GetCallerIdentity&Version=2011-06-15"
    settings = AwsSettings(region="eu-west-1", endpoint_url=ministack.url)
    for role, caller in ((None, "arn:aws:iam::000000000000:root"), (ROLE, f"{ASSUMED}/poller")):
        function = HttpFunction(name="f", url=url, sigv4=SigV4(service="sts", role_arn=role))
        async with open_aws(settings) as aws, function.open(aws, lambda fact: None) as target:
            await target.check()
            outcome = await target.invoke(b"", "1")
        assert isinstance(outcome, Replied), outcome
        assert f"<Arn>{caller}</Arn>" in outcome.body.decode()


async def test_role_that_may_not_be_assumed_is_told_and_nothing_is_sent(ministack: Server):
    settings = AwsSettings(region="eu-west-1", endpoint_url=ministack.url)
    async with serving() as seen, open_aws(settings) as aws:
        function = HttpFunction(name="f", url=seen.url, sigv4=SigV4(role_arn="arn:aws:iam::0:role/f"))
        async with function.open(aws, lambda fact: None) as target:
            outcome = await target.invoke(b"{}", "1")
    reason = 'function "f": sts AssumeRole: ValidationError: Invalid RoleArn: arn:aws:iam::0:role/f'
    assert outcome == Unavailable(reason=reason, lasting=True)
    assert seen.requests == []


async def test_without_a_region_nothing_is_signed_or_sent():
    function = HttpFunction(name="f", url="http://127.0.0.1:1/", sigv4=SigV4())
    async with open_aws(AwsSettings()) as aws, function.open(aws, lambda fact: None) as target:
        outcome = await target.invoke(b"{}", "1")
    reason = 'function "f": no AWS region to sign for: set aws.region'
    assert outcome == Unavailable(reason=reason, lasting=True)


@pytest.mark.parametrize(
    ("url", "signing"),
    [
        ("https://abc.lambda-url.us-east-2.on.aws/", SigV4(service="lambda", region="us-east-2")),
        ("https://abc.execute-api.eu-west-1.amazonaws.com/prod", SigV4(service="execute-api", region="eu-west-1")),
        ("https://orders.example/", SigV4(service="lambda", region=None)),
    ],
)
def test_what_a_url_of_aws_is_signed_for_stands_in_it(url: str, signing: SigV4):
    assert signed_for(url) == signing


async def test_trace_is_sent_along_in_both_spellings():
    trace = Trace(parent="00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01", state="a=b")
    async with serving() as seen:
        await outcome_of(seen.url, trace=trace)
        await outcome_of(seen.url)
    headers, bare = (request.headers for request, _ in seen.requests)
    xray = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    assert headers["X-Amzn-Trace-Id"] == headers["Lambda-Runtime-Trace-Id"] == xray
    assert (headers["traceparent"], headers["tracestate"]) == (trace.parent, trace.state)
    assert not {"X-Amzn-Trace-Id", "Lambda-Runtime-Trace-Id", "traceparent", "tracestate"} & set(bare)
