"""What every mapping and shard is doing now, for the status page and the probes: facts in, a document out. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from poller.model.facts import (
    BatchInvoked,
    BatchSent,
    CheckpointWritten,
    Fact,
    FunctionPrinted,
    MappingRemoved,
    MemberMoved,
    MessagesDeleted,
    Reloaded,
    RosterSeen,
    SelfFenced,
    ShardPassed,
    ShardStands,
    SourceRead,
    Stopping,
    StoreFailed,
    WishesSeen,
)
from poller.model.ports import Clock
from poller.service.history import STEP, History
from poller.service.log_lines import one_line
from poller.service.mapping_state import MappingState
from poller.service.retries import Retry, time_of
from poller.service.roster import Roster
from poller.service.standing import Standing, Standings
from poller.service.takers import Takers

_TOLD_BY_STANDINGS = (ShardStands, BatchSent)


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingView:
    """A mapping as it is configured."""

    name: str
    uuid: str
    configuration: Mapping[str, Any]
    """Under AWS's names, as GetEventSourceMapping would answer; shown to whoever can reach the server."""
    enabled: bool

    @property
    def is_queue(self) -> bool:
        """Its source is an SQS queue."""
        return reads_queue(self.configuration)


def reads_queue(configuration: Mapping[str, Any]) -> bool:
    """Whether a mapping that is so configured has a queue as its source."""
    return str(configuration.get("EventSourceArn", "")).split(":")[2:3] == ["sqs"]


class Board:
    """The present state of every configured mapping. Facts of others are ignored: `configured` comes first."""

    def __init__(self, clock: Clock, standings: Standings, *, owner: str = "this replica") -> None:
        self._clock = clock
        self._standings = standings
        self._owner = owner
        self._views: dict[str, MappingView] | None = None
        self._states: dict[str, MappingState] = {}
        self._stopping = ""
        self._roster = Roster()
        self._history = History()
        self.takers: Takers = {kind: self._rare for kind in get_args(Fact) if kind not in _TOLD_BY_STANDINGS} | {
            SourceRead: self._read,
            BatchInvoked: self._invoked,
            CheckpointWritten: self._checkpoint,
            MessagesDeleted: self._deleted,
        }

    def named(self, owner: str) -> None:
        """Take the name of this replica."""
        self._owner = owner

    def fleet(self) -> dict[str, Any]:
        """All replicas that share the store, ready for JSON."""
        return self._roster.document(self._owner, self._clock())

    def look(self, at: float) -> None:
        """Remember the ages of this moment, `at` seconds on a clock that never goes back. Called every `history.LOOK`."""
        now = self._clock()
        self._history.look({name: self._standings.ages(name, now) for name in self._views or {}}, at)

    def history(self, mapping: str = "", shards: Sequence[str] = ()) -> dict[str, Any]:
        """The ages of the last quarter of an hour, ready for JSON: of each mapping's oldest shard, or of these shards."""
        return {
            "step_seconds": STEP,
            "ages": self._history.of_shards(mapping, shards) if mapping else self._history.of_mappings(),
        }

    def configured(self, mappings: Sequence[MappingView]) -> None:
        """Take the mappings that are configured from now on; what is known of those that stay is kept."""
        self._views = {view.name: view for view in mappings}
        for name in self._states.keys() - self._views.keys():
            del self._states[name]
        for view in mappings:
            self._states.setdefault(view.name, MappingState(enabled=view.enabled, is_queue=view.is_queue))

    def _read(self, fact: SourceRead) -> None:
        state = self._states.get(fact.mapping)
        if state is not None:
            state.read(fact, self._clock)

    def _invoked(self, fact: BatchInvoked) -> None:
        state = self._states.get(fact.mapping)
        if state is not None:
            state.invoked(fact, self._clock)

    def _checkpoint(self, fact: CheckpointWritten) -> None:
        if fact.outcome != "written":
            self._rare(fact)

    def _deleted(self, fact: MessagesDeleted) -> None:
        if fact.failed:
            self._rare(fact)

    def _rare(self, fact: Fact) -> None:
        match fact:
            case Stopping():
                self._stopping = one_line(fact.reason) or "asked to stop"
            case Reloaded() | FunctionPrinted():
                pass
            case RosterSeen() | MemberMoved() | SelfFenced() | StoreFailed():
                self._roster.observe(fact, self._clock())
            case MappingRemoved():
                if self._views is not None:
                    self._views.pop(fact.mapping, None)
                self._states.pop(fact.mapping, None)
            case _ if fact.mapping in self._states:
                if isinstance(fact, ShardPassed):
                    self._roster.observe(fact, self._clock())
                self._states[fact.mapping].observe(fact, self._clock())
            case _:
                pass

    def document(self) -> list[dict[str, Any]]:
        """All mappings in the order of their names, ready for JSON."""
        views = self._views or {}
        return [self._mapping(views[name], self._states[name]) for name in sorted(views)]

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Whether every enabled mapping has read its source or has said why it cannot; and the same as JSON."""
        if self._stopping:
            return False, {"ready": False, "reason": f"stopping: {self._stopping}"}
        if self._views is None:
            return False, {"ready": False, "reason": "starting"}
        enabled = [name for name, view in self._views.items() if view.enabled]
        waiting = sorted(name for name in enabled if not self._states[name].reported)
        if waiting:
            reason = f"waiting for the first read of {', '.join(waiting)}"
            return False, {"ready": False, "reason": reason, "waiting": waiting}
        return True, {"ready": True}

    def _mapping(self, view: MappingView, state: MappingState) -> dict[str, Any]:
        now = self._clock()
        return {
            "name": view.name,
            "UUID": view.uuid,
            "State": state.state,
            "StateTransitionReason": state.transition,
            "LastProcessingResult": state.last_result,
            "enabled": view.enabled,
            "paused": state.wishes.paused and _by(*state.wishes.paused),
            "retention_seconds": state.retention,
            "configuration": dict(view.configuration),
            "shards": [
                self._shard(shard, standing, state.retries.of(shard), now) | _wished(state.wishes, shard)
                for shard, standing in sorted(self._standings.of(view.name).items())
                if standing.state != "released"
            ],
            "problems": [problem.document() for problem in reversed(state.problems)],
        }

    def _shard(self, shard: str, standing: Standing, retry: Retry | None, now: float) -> dict[str, Any]:
        age = standing.age(now)
        if retry is None and standing.attempt:
            # The tries were counted before this process began: it knows how many, not why.
            retry = Retry(attempt=standing.attempt)
        return {
            "id": shard,
            "state": standing.state,
            "owner": {"owned": self._owner, "elsewhere": standing.owner}.get(standing.state),
            "since": time_of(standing.since) if standing.since else None,
            "checkpoint": standing.checkpoint,
            "iterator_age_seconds": None if age is None else round(age, 3),
            "behind_latest_seconds": standing.told_behind,
            "retry": retry and retry.document(),
            "records_held": standing.held,
            "records_in_flight": standing.sent,
            "invocations_in_flight": standing.calls,
        }


def _by(who: str, at: float) -> dict[str, Any]:
    return {"by": who, "since": time_of(at)}


def _wished(wishes: WishesSeen, shard: str) -> dict[str, Any]:
    """What operators wish of one shard; a pause of the mapping is told there."""
    told: dict[str, Any] = {"paused": None, "seek": None}
    if shard in wishes.shards:
        told["paused"] = _by(*wishes.shards[shard])
    if shard in wishes.seeks:
        asked, who, at = wishes.seeks[shard]
        told["seek"] = {"to": asked} | _by(who, at)
    return told
