"""What calls about a queue say and are answered, beside obvious second versions of both, of dictionaries."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from poller.aws.fast.bodies import batch_body, receive_body
from poller.model.errors import Transient
from poller.sources.sqs import failures

plain = st.text("AQEB+/=az09-_:. ", max_size=20)
texts = st.one_of(plain, st.text(max_size=12), st.text('"\\/\n\x00\x7f\u2028é🙂', max_size=6))


@given(url=texts, receipts=st.lists(texts, min_size=1, max_size=10), timeout=st.none() | st.integers(0, 43_200))
@example(url="u", receipts=['"'], timeout=None)
@example(url="u", receipts=["a", "\\"], timeout=0)
@example(url="ü", receipts=["a"] * 10, timeout=None)
@settings(max_examples=300)
def test_a_batch_says_each_receipt_as_it_is(url: str, receipts: list[str], timeout: int | None):
    told: dict[str, Any] = {} if timeout is None else {"VisibilityTimeout": timeout}
    entries = [{"Id": str(place), "ReceiptHandle": receipt} | told for place, receipt in enumerate(receipts)]
    written = json.dumps({"QueueUrl": url, "Entries": entries}, ensure_ascii=False, separators=(",", ":"))
    body = batch_body(url, receipts, timeout)
    assert json.loads(body) == json.loads(written)
    if all(character not in url + "".join(receipts) for character in "\b\f\x7f"):  # which JSON writes in several ways
        assert body == written.encode()


@pytest.mark.parametrize("visibility", [None, 0, 30])
def test_a_receive_says_what_it_asks_for_and_its_digest(visibility):
    body = receive_body("http://q/ü", 3, 0, visibility)
    assert json.loads(body.text) == {
        "QueueUrl": "http://q/ü",
        "MaxNumberOfMessages": 3,
        "WaitTimeSeconds": 0,
        "MessageSystemAttributeNames": ["All"],
        "MessageAttributeNames": ["All"],
        **({} if visibility is None else {"VisibilityTimeout": visibility}),
    }
    assert body.digest == sha256(body.text).hexdigest()


names = st.sampled_from([str(place) for place in range(12)] + ["", "00", "x"])
done = st.fixed_dictionaries({"Id": names})
failed = st.fixed_dictionaries(
    {"Id": names, "SenderFault": st.booleans()}, optional={"Code": st.text(max_size=5), "Message": st.text(max_size=5)}
)


@given(
    answers=st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "Successful": st.none() | st.lists(done, max_size=12),
                "Failed": st.none() | st.lists(failed, max_size=4),
                "Unheard": st.just({"of": [1]}),
            },
        ),
        max_size=4,
    ),
    counts=st.lists(st.integers(1, 10), min_size=2, max_size=2),
    padding=st.sampled_from(["", " " * 2000]),
)
@settings(max_examples=300)
def test_an_entry_is_settled_only_where_its_own_answer_says_so(answers: list[Any], counts: list[int], padding: str):
    whole = [{"Successful": [{"Id": str(place)} for place in range(count)], "Failed": []} for count in counts]
    for answer in [*answers, *whole, *answers]:  # and again: what was read before is read the same
        for count in counts:
            settled = {entry["Id"] for entry in answer.get("Successful") or []}
            why = {entry["Id"]: entry for entry in answer.get("Failed") or []}
            expected = [
                (place, why.get(str(place), {"SenderFault": False, "Code": "NoAnswer"}))
                for place in range(count)
                if str(place) not in settled
            ]
            read = failures((json.dumps(answer) + padding).encode(), count)
            assert [place for place, _ in read] == [place for place, _ in expected]
            for (_, fault), (_, told) in zip(read, expected, strict=True):
                assert (fault.SenderFault, fault.Code) == (told["SenderFault"], told.get("Code", ""))


@pytest.mark.parametrize("end", range(len(b'{"Successful":[{"Id":"0"}]}')))
def test_a_torn_answer_settles_nothing(end):
    torn = b'{"Successful":[{"Id":"0"}]}'[:end]
    for _ in range(2):
        with pytest.raises(Transient):
            failures(torn, 1)
