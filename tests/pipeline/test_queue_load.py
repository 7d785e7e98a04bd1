"""A hundred thousand messages: all processed, none stuck, every duplicate explained. In virtual time."""

import json
import random
from collections import Counter

import pytest

from poller.model.facts import BatchInvoked, LeaseEnded, MessagesDeleted
from poller.model.outcome import Failed, Outcome, Refused, Replied
from tests.pipeline.doubles import Call, FakeFunction, FakeQueue, World, until, virtual, world

_MESSAGES = 100_000


def explained(mapping: World) -> int:
    """Deliveries more than once for which a fact gives the reason."""
    failed = sum(f.records for f in mapping.told(BatchInvoked) if not isinstance(f.outcome, Replied))
    return (
        failed
        + sum(fact.failed for fact in mapping.told(MessagesDeleted))
        + sum(fact.messages for fact in mapping.told(LeaseEnded))
    )


@pytest.mark.timeout(240)
@virtual
async def test_a_thousand_groups_with_failures_are_all_processed_in_order():
    dice = random.Random(1)
    queue = FakeQueue(visibility=30, fifo=True)

    def behave(call: Call) -> Outcome:
        return Failed(reason="Boom") if dice.random() < 0.05 else Replied()

    function = FakeFunction(behave, seconds=0.1)
    for number in range(_MESSAGES):
        queue.put(1, key=f"g{number % 1000}")
    async with world(queue, function, batch_size=10) as mapping:
        await until(lambda: not queue.messages, within=6 * 3600)
    assert Counter(function.succeeded) == Counter(range(1, _MESSAGES + 1)), "each succeeded once"
    last: dict[int, int] = {}
    for each in function.succeeded:
        assert last.get(each % 1000, 0) < each
        last[each % 1000] = each
    deliveries = sum(len(call.sequences) for call in function.calls)
    assert deliveries - _MESSAGES == explained(mapping)
    assert function.most_running > 20


@pytest.mark.timeout(240)
@virtual
async def test_a_throttled_standard_queue_is_all_processed():
    dice = random.Random(2)
    queue, function = FakeQueue(visibility=30), FakeFunction(seconds=0.1)

    def behave(call: Call) -> Outcome:
        return Refused(reason="429") if function.running > 40 or dice.random() < 0.02 else Replied()

    function.behave = behave
    queue.put(_MESSAGES, data=json.dumps({"order": 1}))
    async with world(queue, function, batch_size=10) as mapping:
        await until(lambda: not queue.messages, within=6 * 3600)
    assert Counter(function.succeeded) == Counter(range(1, _MESSAGES + 1)), "each succeeded once"
    assert sum(len(call.sequences) for call in function.calls) - _MESSAGES == explained(mapping)
    assert any(isinstance(fact.outcome, Refused) for fact in mapping.told(BatchInvoked))
