"""What several replicas of one machine tell of mappings, of the fleet and of themselves, made one. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from poller.service.board import reads_queue
from poller.service.history import STEP

Document: TypeAlias = dict[str, Any]

_PROBLEMS_KEPT = 10
_MOVES_KEPT = 30
_RANKS = ("owned", "ended", "blocked_on_parent", "elsewhere")
"""Whose word on a shard counts: that of its owner, then of who knows more."""
_UNDER_WAY = ("Deleting", "Disabling", "Creating", "Enabling", "Updating", "Disabled", "Enabled")
"""A mapping is in the first of these states in which one of its replicas is: it is not enabled before all are."""


def mappings(told: Sequence[Sequence[Document]]) -> list[Document]:
    """All mappings in the order of their names, each shard once.

    Args:
        told: the answers of /api/mappings.
    """
    by_name: dict[str, list[Document]] = {}
    for document in told:
        for mapping in document:
            by_name.setdefault(mapping["name"], []).append(mapping)
    return [_mapping(by_name[name]) for name in sorted(by_name)]


def _mapping(told: Sequence[Document]) -> Document:
    leading = min(told, key=lambda each: _rank(_UNDER_WAY, each["State"]))
    one = dict(leading)
    results = [each["LastProcessingResult"] for each in told]
    problems = [result for result in results if result.startswith("PROBLEM")]
    one["LastProcessingResult"] = (problems or [result for result in results if result == "OK"] or results)[0]
    of_shard: dict[str, list[Document]] = {}
    for each in told:
        for shard in each["shards"]:
            of_shard.setdefault(shard["id"], []).append(shard)
    join = _queue if reads_queue(one["configuration"]) else _shard
    one["shards"] = [join(of_shard[id_]) for id_ in sorted(of_shard)]
    everything = [problem for each in told for problem in each["problems"]]
    one["problems"] = sorted(everything, key=lambda problem: str(problem["time"]), reverse=True)[:_PROBLEMS_KEPT]
    return one


def _shard(told: Sequence[Document]) -> Document:
    """What its owner says of it; of two that claim it, the one that got it last: the other has not noticed yet."""
    latest = sorted(told, key=lambda shard: shard["since"] or "", reverse=True)
    return min(latest, key=lambda shard: _rank(_RANKS, shard["state"]))


def _queue(told: Sequence[Document]) -> Document:
    """All read it at the same time."""
    reading = [shard for shard in told if shard["state"] == "owned"] or list(told)
    sums = ("records_held", "records_in_flight", "invocations_in_flight")
    ages = [shard["iterator_age_seconds"] for shard in reading if shard["iterator_age_seconds"] is not None]
    return dict(reading[0]) | {
        "owner": ", ".join(sorted(shard["owner"] for shard in reading if shard["owner"])) or None,
        "iterator_age_seconds": max(ages, default=None),
        "retry": next((shard["retry"] for shard in reading if shard["retry"]), None),
        **{name: sum(shard[name] for shard in reading) for name in sums},
    }


def _rank(order: Sequence[str], state: str) -> int:
    return order.index(state) if state in order else len(order)


def fleet(told: Sequence[Document], name: str) -> Document:
    """All members, each as the replica saw it that saw its last beat latest; its own word on what it did.

    Args:
        told: the answers of /api/fleet.
        name: of all who answered together.
    """
    members: dict[str, Document] = {}
    counts: dict[str, Document] = {}
    for view in told:
        for member in view["members"]:
            known = members.get(member["name"])
            if known is None or member["beat_age_seconds"] < known["beat_age_seconds"]:
                members[member["name"]] = member
            if member["name"] == view["name"]:
                counts[member["name"]] = {key: member[key] for key in ("moves", "fences")}
    together = [dict(member) | counts.get(name, {}) for name, member in sorted(members.items())]
    moves = [move for view in told for move in view["moves"]]
    fenced = [view["fenced_since"] for view in told if view["fenced_since"]]
    return {
        "name": name,
        "here": sorted(view["name"] for view in told),
        "members": together,
        "fenced_since": min(fenced, default=None),
        "store_problem": next((view["store_problem"] for view in told if view["store_problem"]), None),
        "moves": sorted(moves, key=lambda move: str(move["time"]), reverse=True)[:_MOVES_KEPT],
    }


def history(told: Sequence[Document]) -> Document:
    """The plots of all: at each point the highest age that one of them knows.

    Args:
        told: the answers of /api/history.
    """
    ages: dict[str, list[float | None]] = {}
    for document in told:
        for name, points in document["ages"].items():
            known = ages.get(name)
            ages[name] = points if known is None else [_higher(*pair) for pair in zip(known, points, strict=True)]
    return {"step_seconds": told[0]["step_seconds"], "ages": ages} if told else {"step_seconds": STEP, "ages": {}}


def _higher(one: float | None, other: float | None) -> float | None:
    return max((age for age in (one, other) if age is not None), default=None)


def readiness(told: Mapping[int, Document | None], stopping: str) -> tuple[bool, Document]:
    """Whether all replicas are ready; and the same as JSON.

    Args:
        told: the answers of /readyz by the replica's number; None: it did not answer.
        stopping: why all of them are; "": they are not.
    """
    if stopping:
        return False, {"ready": False, "reason": f"stopping: {stopping}"}
    reasons = {
        number: answer.get("reason", "not ready") if answer else "does not answer"
        for number, answer in sorted(told.items())
        if not answer or not answer["ready"]
    }
    if not reasons:
        return True, {"ready": True}
    document: Document = {"ready": False, "reason": "; ".join(f"replica {n}: {why}" for n, why in reasons.items())}
    waiting = sorted({mapping for answer in told.values() if answer for mapping in answer.get("waiting", ())})
    return False, document | ({"waiting": waiting} if waiting else {})
