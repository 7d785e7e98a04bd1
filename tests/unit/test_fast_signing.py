"""Signatures of the fast form are botocore's, to the letter."""

from __future__ import annotations

import calendar
from hashlib import sha256

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from poller.aws.fast.signing import Form, Heads, Keys

MOMENT = calendar.timegm((2026, 2, 28, 23, 59, 59))
KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
TOKENED = Keys("ASIAEXAMPLE", "secret/+=", "FwoGZXIvYXdzE//////////wEaDH+/=" * 20)
ARN = "arn%3Aaws%3Alambda%3Aeu-west-1%3A111122223333%3Afunction%3Aorders%3A%24LATEST"
CORPUS = {
    "kinesis": Form(
        method="POST",
        url="https://kinesis.eu-west-1.amazonaws.com/",
        headers={
            "X-Amz-Target": "Kinesis_20131202.GetRecords",
            "Content-Type": "application/x-amz-json-1.1",
            "User-Agent": "poller/1",
        },
        region="eu-west-1",
        service="kinesis",
    ),
    "a queue, a port, no path": Form(
        method="POST",
        url="http://LocalHost:4566",
        headers={"X-Amz-Target": "AmazonSQS.ReceiveMessage", "x-amzn-query-mode": "true"},
        region="us-east-1",
        service="sqs",
    ),
    "an ARN in the path, escaped twice": Form(
        method="POST",
        url=f"https://lambda.eu-west-1.amazonaws.com/2015-03-31/functions/{ARN}/invocations",
        headers={"X-Amz-Invocation-Type": "RequestResponse", "X-Amz-Log-Type": "Tail"},
        region="eu-west-1",
        service="lambda",
    ),
    "dots, slashes and a query": Form(
        method="POST",
        url="https://[::1]:8443/a//b/../c%20d/~e/é%C3%A9?b=2&a=%20&a=1&c",
        headers={},
        region="eu-west-1",
        service="execute-api",
    ),
    "spaces in a header": Form(
        method="GET",
        url="https://example.com:443/x",
        headers={"X-Note": "  two   words\there ", "TraceParent": "00-1-2-00", "X-Amzn-Trace-Id": "Root=1"},
        region="cn-north-1",
        service="kinesis",
    ),
}


class DatedSigner(SigV4Auth):  # type: ignore[misc]  # botocore carries no types
    """botocore's, at a moment of our choice: `add_auth` looks at the clock and does nothing else but this."""

    def header(self, request: AWSRequest, date: str) -> str:
        request.context["timestamp"] = date
        self._modify_request_before_signing(request)
        to_sign = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(to_sign, request))
        found: str = request.headers["Authorization"]
        return found


def of_botocore(form: Form, body: bytes, keys: Keys, date: str) -> str:
    credentials = Credentials(keys.access_key, keys.secret_key, keys.token).get_frozen_credentials()
    request = AWSRequest(method=form.method, url=form.url, data=body, headers=dict(form.headers))
    return DatedSigner(credentials, form.service, form.region).header(request, date)


def of_head(head: bytes) -> dict[str, str]:
    lines = head.decode().removesuffix("\r\n\r\n").split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def signature(heads: Heads, body: bytes, keys: Keys, moment: int) -> tuple[str, str]:
    """Authorization and date."""
    sent = of_head(heads.head(sha256(body).hexdigest(), len(body), keys, moment))
    return sent["authorization"], sent["x-amz-date"]


@pytest.mark.parametrize("form", CORPUS.values(), ids=CORPUS.keys())
@pytest.mark.parametrize("keys", [KEYS, TOKENED], ids=["key", "session token"])
@pytest.mark.parametrize("body", [b"", b'{"ShardIterator":"\xc3\xa9"}', b"\0" * 70_000], ids=len)
def test_a_signature_is_the_one_botocore_makes(form, keys, body):
    ours, date = signature(Heads(form), body, keys, MOMENT)
    assert ours == of_botocore(form, body, keys, date)


def test_a_new_second_a_new_day_and_new_keys_are_signed_anew():
    heads = Heads(CORPUS["kinesis"])
    for body, keys, moment in [
        (b"1", KEYS, MOMENT),
        (b"2", KEYS, MOMENT),
        (b"2", KEYS, MOMENT + 1),  # the next day
        (b"2", TOKENED, MOMENT + 1),
        (b"2", KEYS, MOMENT + 1),
        (b"2", KEYS, MOMENT),
    ]:
        ours, date = signature(heads, body, keys, moment)
        assert ours == of_botocore(CORPUS["kinesis"], body, keys, date)
        assert date == ("20260228T235959Z" if moment == MOMENT else "20260301T000000Z")


@given(
    asked=st.lists(
        st.tuples(
            st.booleans(),
            st.sampled_from([b"", b"1", b"{}"]),
            st.sampled_from([KEYS, TOKENED]),
            st.sampled_from([MOMENT, MOMENT + 1]),
            st.sampled_from(["", "X-Amzn-Trace-Id: Root=1\r\n"]),
        ),
        max_size=12,
    )
)
def test_a_request_that_is_made_again_is_the_one_that_would_be_made_anew(asked):
    heads = Heads(CORPUS["kinesis"])
    for again, body, keys, moment, more in asked:
        digest = sha256(body).hexdigest()
        made = (heads.again if again else heads.head)(digest, len(body), keys, moment, more=more)
        assert made == Heads(CORPUS["kinesis"]).head(digest, len(body), keys, moment, more=more)


def test_a_head_is_whole_and_says_each_thing_once():
    heads = Heads(CORPUS["an ARN in the path, escaped twice"])
    head = heads.head("0" * 64, 17, TOKENED, MOMENT, more="X-Amzn-Trace-Id: Root=1\r\n")
    first, *lines = head.decode().split("\r\n")
    assert first == f"POST /2015-03-31/functions/{ARN}/invocations HTTP/1.1"
    assert lines[-2:] == ["", ""]
    names = [line.partition(":")[0].lower() for line in lines[:-2]]
    assert sorted(names) == sorted(set(names))
    sent = of_head(head)
    assert sent["host"] == "lambda.eu-west-1.amazonaws.com"
    assert sent["content-length"] == "17"
    assert sent["x-amzn-trace-id"] == "Root=1"
    assert sent["x-amz-security-token"] == TOKENED.token
    assert "x-amzn-trace-id" not in sent["authorization"]


words = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S", "Zs")), max_size=30)
paths = st.text(st.sampled_from("abc/.%3A$~é :+&=-_"), max_size=40)
names = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,15}", fullmatch=True)


@settings(max_examples=200, deadline=None)
@given(
    path=paths,
    query=st.text(st.sampled_from("abz=&%20"), max_size=20),
    headers=st.dictionaries(names, words, max_size=4),
    body=st.binary(max_size=100),
    keys=st.builds(Keys, words, st.text(max_size=120), st.none() | words.filter(bool)),
    moment=st.integers(0, 4_000_000_000),
)
def test_whatever_is_asked_for_is_signed_as_botocore_does(path, query, headers, body, keys, moment):
    lowered = {name.lower() for name in headers}
    assume(len(lowered) == len(headers))
    assume(not lowered & {"host", "date", "authorization", "x-amz-date", "x-amz-content-sha256"})
    form = Form(
        method="POST",
        url=f"https://host.example/{path}" + (f"?{query}" if query else ""),
        headers=headers,
        region="eu-west-1",
        service="lambda",
    )
    ours, date = signature(Heads(form), body, keys, moment)
    assert ours == of_botocore(form, body, keys, date)
