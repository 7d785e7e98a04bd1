"""Thousands of drawn stories in virtual time: whatever happens, nothing is lost, overtaken or tried too often.

The same stories every time; others with POLLER_STORIES_SEED=n, more of them with POLLER_STORIES=n.
"""

import os

import pytest
from hypothesis import HealthCheck, given, note, seed, settings

from tests.pipeline.play import play
from tests.pipeline.stories import Story, stories

SEED = int(os.environ.get("POLLER_STORIES_SEED", "0"))
STORIES = int(os.environ.get("POLLER_STORIES", "400"))
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


@pytest.mark.timeout(600)
@seed(SEED)
@settings(max_examples=STORIES, deadline=None, database=None, suppress_health_check=QUIET)
@given(story=stories())
def test_whatever_happens_the_promises_of_a_stream_are_kept(story: Story):
    note(f"again: POLLER_STORIES_SEED={SEED} POLLER_STORIES={STORIES}")
    assert play(story) == []
