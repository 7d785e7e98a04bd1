"""What a queue's scaling and visibility become."""

from pathlib import Path

import pytest

from poller.model.policy import Scaling
from poller.sources.sqs import SqsQueue
from tests.unit.settings_file import QUEUE, mapping, settings

_HTTP = "functions: {f: {url: 'http://a', timeout: 60}}\n"
_LOCAL = "functions: {f: {command: [a], timeout: 60, concurrency: 4}}\n"
_LAMBDA = "functions: {f: {lambda: f, timeout: 60}}\n"
_WINDOW = "MaximumBatchingWindowInSeconds: 5"


@pytest.mark.parametrize(
    ("functions", "more", "expected"),
    [
        ("", [], Scaling()),
        ("", ["ScalingConfig: {MaximumConcurrency: 2}"], Scaling(least=2, start=2, most=2, total=2)),
        ("", ["ScalingConfig: {MaximumConcurrency: 1000}"], Scaling(most=1000, total=1000)),
        ("", ["ProvisionedPollerConfig: {MinimumPollers: 3}"], Scaling(least=30, start=30, most=2000, per_minute=1000)),
        ("", ["ProvisionedPollerConfig: {MaximumPollers: 4}"], Scaling(least=20, start=20, most=40, per_minute=1000)),
        (_LOCAL, [], Scaling(least=2, start=4, most=4)),
    ],
    ids=[
        "AWS's",
        "two at the most",
        "a thousand",
        "ten for each poller",
        "two pollers at least",
        "a command's processes",
    ],
)
def test_the_bounds_of_a_queues_concurrency(tmp_path: Path, functions: str, more: list[str], expected: Scaling):
    (found,) = settings(tmp_path, mapping(QUEUE, *more) + functions).mappings
    assert found.policy.scaling == expected


@pytest.mark.parametrize(
    ("functions", "more", "expected"),
    [
        (_HTTP, [_WINDOW], 95),
        (_LAMBDA, [_WINDOW], 95),
        ("", [_WINDOW], 0),
        (_HTTP, [], 0),
        (_HTTP, [_WINDOW, "extend_visibility: true"], 0),
    ],
    ids=["window + timeout + 30", "a Lambda's stated timeout", "not stated", "no window", "renewed instead"],
)
def test_how_long_messages_are_received_for(tmp_path: Path, functions: str, more: list[str], expected: int):
    (found,) = settings(tmp_path, mapping(QUEUE, *more) + functions).mappings
    assert isinstance(found.source, SqsQueue)
    assert found.source.hold == expected
    assert found.policy.extend_visibility == ("extend_visibility: true" in more)
