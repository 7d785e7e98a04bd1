"""Which fact goes where: one look at its kind, and it is handed to those whom it concerns. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, get_args

from poller.model.facts import Fact
from poller.model.ports import Observe

Takers: TypeAlias = Mapping[type, Callable[[Any], None]]
"""What an observer does with facts, by their kind: it never raises, never waits. A kind that is not there does not concern it.

Asking each fact for its class in a chain of patterns costs more than all that is then done with it.
"""


def joined(*observers: Takers) -> Observe:
    """Hand each fact to all of these that it concerns, in their order."""
    by_kind = {kind: tuple(takers[kind] for takers in observers if kind in takers) for kind in get_args(Fact)}

    def observe(fact: Fact) -> None:
        for take in by_kind[type(fact)]:
            take(fact)

    return observe
