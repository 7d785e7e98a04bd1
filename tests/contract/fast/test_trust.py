"""The fast form behind TLS: whom it trusts, and whom not; on both event loops."""

from __future__ import annotations

import ssl

import pytest
from botocore.exceptions import EndpointConnectionError, SSLError

from poller.model.errors import Denied
from tests.contract.fast.talking import FINE, Line, answering, exchange_with, talking
from tests.contract.reading import admitted
from tests.servers.authority import certified


@pytest.fixture
def tls(tmp_path) -> ssl.SSLContext:
    """A server that a private authority vouches for, whose certificate is in `ca.pem`."""
    certified(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.pem")
    return context


async def test_a_server_of_the_private_authority_is_spoken_to(tls, tmp_path):
    body = b"{" + b" " * 3_000_000 + b"}"

    async def talk(line: Line) -> None:
        while True:
            _, got = await line.request()
            await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(got) + got)

    async with talking(talk, tls) as seen, exchange_with(seen.url, ca=tmp_path / "ca.pem") as exchange:
        for sent in (b"{}", body, b"{}"):
            assert (await exchange.send(sent, admit=admitted)).body == sent
        assert seen.connections == 1


async def test_a_server_that_nobody_vouches_for_is_sent_nothing(tls):
    async with talking(answering, tls) as seen, exchange_with(seen.url) as exchange:
        with pytest.raises(SSLError, match="certificate verify failed"):
            await exchange.send(b"{}")


async def test_a_certificate_for_another_name_is_not_accepted(tls, tmp_path):
    async with talking(answering, tls) as seen:
        other = seen.url.replace("127.0.0.1", "localhost")
        async with exchange_with(other, ca=tmp_path / "ca.pem") as exchange:
            with pytest.raises(SSLError, match="certificate is not valid for 'localhost'"):
                await exchange.send(b"{}")


async def test_a_server_that_speaks_no_tls_is_an_error(tmp_path):
    certified(tmp_path)

    async def talk(line: Line) -> None:
        await line.say(FINE)
        await line.reader.read()

    async with talking(talk) as seen:
        secure = seen.url.replace("http:", "https:")
        async with exchange_with(secure, ca=tmp_path / "ca.pem") as exchange:
            with pytest.raises((SSLError, EndpointConnectionError)):
                await exchange.send(b"{}")


async def test_certificates_that_cannot_be_used_are_told_in_one_line(tmp_path):
    (tmp_path / "ca.pem").write_text("nonsense")
    for name, why in (("ca.pem", "it holds no certificate in PEM form"), ("none.pem", "No such file or directory")):
        async with exchange_with("https://127.0.0.1:1", ca=tmp_path / name) as exchange:
            with pytest.raises(Denied, match=rf"^aws: the certificates of [^\n]*{name} [^\n]*: {why}$"):
                await exchange.send(b"{}")
