"""How many batches of a queue are in flight, and how many receives under way. No I/O, no clock, no chance.

Batches grow while receives come back full and all batches allowed are in flight, as fast as AWS lets them; they shrink
when the queue is empty, and when the function fails or is throttled. How far they shrink on AWS is not published: here
a throttle halves them and a failure takes a tenth, once a second at the most, and they grow only while most calls
succeed. So a few failures among many successes do not stop the growth, and a function that is down is left alone. Source: Lambda guide, "Scaling for Amazon SQS event source mappings".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from poller.model.outcome import Failed, Outcome, Partial, Refused, Replied, Unavailable
from poller.model.policy import Policy, Scaling

RECEIVE_MOST = 10
"""Messages that SQS hands out at once."""
_RECEIVES_MOST = 16
"""Receives under way at once: 160 messages in a round trip."""
_SHRINK_EVERY = 1.0
"""Seconds between two steps down."""
_HEALTHY = 0.5
"""Least health to grow with."""
_WEIGHT = 0.1
"""Of the newest call in the health."""
_SAVED = 1.0
"""Seconds of growth that may be caught up on."""
_GOOD = (Replied, Partial)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What a queue may do at once."""

    limit: int
    """Batches in flight."""
    receives: int = 1
    """Receives under way: one while they come back with less than was asked for."""
    hungry: bool = False
    """The last receive came back full."""
    grown: float
    """When the limit grew for the last time; seconds of any one monotonic clock."""
    shrunk: float = -math.inf
    """When the function's failures made it shrink for the last time."""
    health: float = 1.0
    """Of the last calls, how many succeeded: 0 to 1."""


def beginning(rule: Scaling, now: float) -> Scale:
    """Before the first receive."""
    return Scale(limit=rule.start, grown=now)


def within(scale: Scale, part: int) -> Scale:
    """As it is while no more than a part of the limit is ours."""
    return scale if scale.limit <= part else replace(scale, limit=part)


def may_receive(scale: Scale, policy: Policy, *, batches: int, held: int, receives: int, asked: int) -> int:
    """How many messages may be received now, so that all of them could be sent at once; 0: none.

    Args:
        batches: in flight, or waiting to be.
        held: messages being gathered.
        receives: under way.
        asked: messages that these receives may bring.
    """
    if receives >= scale.receives:
        return 0
    free = scale.limit - batches
    if policy.window:
        return max(0, min(RECEIVE_MOST, free * policy.batch_size - held - asked))
    return min(RECEIVE_MOST, policy.batch_size) if free > receives else 0


def after_receive(scale: Scale, rule: Scaling, *, records: int, full: bool, now: float) -> Scale:
    """A receive ended."""
    if full:
        if scale.hungry and scale.receives == _RECEIVES_MOST:
            return scale
        grown = scale.grown if scale.hungry else now
        return replace(scale, receives=min(_RECEIVES_MOST, scale.receives * 2), hungry=True, grown=grown)
    limit = scale.limit if records else max(min(scale.limit, rule.start), scale.limit // 2)
    if scale.receives == 1 and not scale.hungry and scale.limit == limit:
        return scale
    return replace(scale, receives=1, hungry=False, limit=limit)


def after_call(scale: Scale, policy: Policy, outcome: Outcome, *, now: float) -> Scale:
    """An invocation ended. Under ReportBatchItemFailures a function's error is no sign of overload."""
    rule = policy.scaling
    good = isinstance(outcome, _GOOD) or (policy.partial and isinstance(outcome, Failed))
    health = scale.health + _WEIGHT * (good - scale.health)
    if health != scale.health:
        scale = replace(scale, health=health)
    match outcome:
        case Replied() | Partial():
            recovers = scale.limit < rule.start and now >= max(scale.shrunk, scale.grown) + _SHRINK_EVERY
            return replace(scale, limit=scale.limit + 1, grown=now) if recovers else scale
        case Failed() if policy.partial:
            return scale
        case Refused():
            smaller = scale.limit // 2
        case Failed() | Unavailable():
            smaller = scale.limit - max(1, scale.limit // 10)
    if now < scale.shrunk + _SHRINK_EVERY:
        return scale
    return replace(scale, limit=min(scale.limit, max(rule.least, smaller)), shrunk=now, grown=now)


def grow(scale: Scale, rule: Scaling, *, batches: int, now: float) -> Scale:
    """Let the limit grow by what the time since its last growth allows, if all batches allowed are there and more wait."""
    if scale.limit > batches or not _wants_more(scale, rule):
        return scale
    per_second = rule.per_minute / 60
    more = math.floor(min(now - scale.grown, _SAVED) * per_second + 1e-6)
    return replace(scale, limit=min(rule.most, scale.limit + more), grown=now) if more else scale


def looks_at(scale: Scale, rule: Scaling, *, now: float) -> float:
    """When to ask `grow` again; inf while nothing will grow, however many batches there are.

    It does not depend on the batches, which come and go thousands of times a second.
    """
    if not _wants_more(scale, rule):
        return math.inf
    each = 60 / rule.per_minute
    return scale.grown + each if scale.grown + each > now else now + each


def _wants_more(scale: Scale, rule: Scaling) -> bool:
    return scale.hungry and scale.health >= _HEALTHY and scale.limit < rule.most
