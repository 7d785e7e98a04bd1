"""What every mapping and shard is doing now, for the status page and the probes: facts in, a document out. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from poller.model.facts import (
    BatchInvoked,
    BatchSent,
    CheckpointWritten,
    Fact,
    FunctionPrinted,
    MappingMoved,
    MappingProblem,
    MappingRemoved,
    MemberMoved,
    MessagesDeleted,
    RecordsDiverted,
    RecordsDropped,
    Reloaded,
    RosterSeen,
    SelfFenced,
    ShardMoved,
    ShardPassed,
    ShardStands,
    SourceListed,
    SourceRead,
    Stopping,
    StoreFailed,
    WishesSeen,
)
from poller.model.outcome import Failed, Partial, Replied, label
from poller.model.ports import Clock
from poller.service.history import STEP, History
from poller.service.log_lines import one_line
from poller.service.retries import Retries, Retry, time_of
from poller.service.roster import Roster
from poller.service.standing import Standing, Standings

_PROBLEMS_KEPT = 10
_UNREADABLE_ANSWER = "PROBLEM: Sequence number in function response is invalid. Please check function implementation."
"""What Lambda itself says of an answer that names no record of its batch."""
_LONGEST_REASON = 2_000


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
        return str(self.configuration.get("EventSourceArn", "")).split(":")[2:3] == ["sqs"]


class Board:
    """The present state of every configured mapping. Facts of others are ignored: `configured` comes first."""

    def __init__(self, clock: Clock, *, owner: str = "this replica") -> None:
        self._clock = clock
        self._owner = owner
        self._views: dict[str, MappingView] | None = None
        self._states: dict[str, _MappingState] = {}
        self._standings = Standings()
        self._stopping = ""
        self._roster = Roster()
        self._history = History()

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
            self._forget(name)
        for view in mappings:
            self._states.setdefault(view.name, _MappingState(enabled=view.enabled, is_queue=view.is_queue))

    def observe(self, fact: Fact) -> None:
        """Take a fact. Never raises, never waits."""
        match fact:
            case SourceRead() | BatchSent() | BatchInvoked() | ShardStands() | CheckpointWritten() | MessagesDeleted():
                self._follow(fact, fact.mapping)  # nearly all that comes
            case Stopping():
                self._stopping = one_line(fact.reason) or "asked to stop"
            case Reloaded() | FunctionPrinted():
                pass
            case RosterSeen() | MemberMoved() | SelfFenced() | StoreFailed():
                self._roster.observe(fact, self._clock())
            case MappingRemoved():
                if self._views is not None:
                    self._views.pop(fact.mapping, None)
                self._forget(fact.mapping)
            case _:
                self._follow(fact, fact.mapping)

    def _follow(self, fact: Fact, mapping: str) -> None:
        state = self._states.get(mapping)
        if state is not None:
            now = self._clock()
            if isinstance(fact, ShardPassed):
                self._roster.observe(fact, now)
            self._standings.observe(fact, now)
            state.observe(fact, now)

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

    def _forget(self, mapping: str) -> None:
        self._states.pop(mapping, None)
        self._standings.observe(MappingRemoved(mapping=mapping), self._clock())

    def _mapping(self, view: MappingView, state: _MappingState) -> dict[str, Any]:
        now = self._clock()
        told: dict[str, Any] = {
            "name": view.name,
            "UUID": view.uuid,
            "State": state.state,
            "StateTransitionReason": state.transition,
        }
        if not view.is_queue:
            told["LastProcessingResult"] = state.last_result
        shards = self._standings.of(view.name)
        return told | {
            "enabled": view.enabled,
            "paused": state.wishes.paused and _by(*state.wishes.paused),
            "retention_seconds": state.retention,
            "configuration": dict(view.configuration),
            "shards": [
                self._shard(shard, standing, state.retries.of(shard), now) | _wished(state.wishes, shard)
                for shard, standing in sorted(shards.items())
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
            "owner": self._owner if standing.state == "owned" else standing.owner or None,
            "since": time_of(standing.since) if standing.since else None,
            "checkpoint": standing.checkpoint,
            "iterator_age_seconds": None if age is None else round(age, 3),
            "behind_latest_seconds": standing.told_behind,
            "retry": retry and retry.document(),
            "records_held": standing.held,
            "records_in_flight": standing.sent,
            "invocations_in_flight": standing.calls,
        }


@dataclass(slots=True, kw_only=True)
class _Problem:
    time: float
    shard: str
    reason: str
    times: int = 1

    def document(self) -> dict[str, Any]:
        return {
            "time": time_of(self.time),
            "shard": self.shard or None,
            "reason": self.reason,
            "times": self.times,
        }


@dataclass(slots=True)
class _MappingState:
    """What one mapping has said of itself."""

    enabled: bool
    is_queue: bool
    reported: bool = False
    """It has read its source once, or has said why it cannot."""
    state: str = ""
    transition: str = ""
    retention: float | None = None
    """Seconds after which the source drops a record; None before it was asked."""
    retries: Retries = field(default_factory=Retries)
    problems: deque[_Problem] = field(default_factory=lambda: deque(maxlen=_PROBLEMS_KEPT))
    wishes: WishesSeen = field(default_factory=lambda: WishesSeen(mapping="", paused=None, shards={}, seeks={}))
    """What operators wish of it."""
    _processed: str = "No records processed"
    _unreadable: dict[str, str] = field(default_factory=dict)
    """Why a shard, or "" the whole mapping, cannot be read at present."""

    def __post_init__(self) -> None:
        self.state = "Creating" if self.enabled else "Disabled"
        self.transition = "USER_INITIATED" if self.is_queue else "User action"

    @property
    def last_result(self) -> str:
        """AWS's LastProcessingResult; a source that cannot be read hides what became of the last batch."""
        for reason in self._unreadable.values():
            return f"PROBLEM: {reason}"
        return self._processed

    def observe(self, fact: Fact, now: float) -> None:
        """Take a fact of this mapping."""
        match fact:
            case SourceRead():
                self._read(fact, now)
            case BatchInvoked():
                self._invoked(fact, now)
            case ShardStands() | BatchSent():
                pass
            case MappingMoved() | MappingProblem() | WishesSeen() | SourceListed():
                self._whole(fact, now)
            case RecordsDiverted() | RecordsDropped():
                self._given_up(fact, now)
            case MessagesDeleted(failed=failed) if failed:
                self._problem("", f"{failed} messages could not be deleted: {fact.reason}", now)
            case CheckpointWritten(outcome="superseded"):
                self._problem(fact.shard, "another owner holds the shard", now)
            case CheckpointWritten(outcome="error"):
                self._problem(fact.shard, f"checkpoint could not be written: {fact.reason}", now)
            case ShardMoved():
                self.reported = self.reported or fact.to == "elsewhere"  # there may be nothing for us to read
                self.retries.forget(fact.shard)
                self._unreadable.pop(fact.shard, None)
            case _:
                pass

    def _whole(self, fact: MappingMoved | MappingProblem | WishesSeen | SourceListed, now: float) -> None:
        """What is so of the mapping as a whole."""
        match fact:
            case MappingMoved():
                self.state = fact.state
                self.transition = one_line(fact.reason) or self.transition
            case MappingProblem():
                self.reported = True
                self._unreadable[""] = self._problem("", fact.reason, now)
            case WishesSeen():
                self.wishes = fact
            case SourceListed():
                self.retention = fact.retention

    def _given_up(self, fact: RecordsDiverted | RecordsDropped, now: float) -> None:
        self.retries.given_up(fact)
        if isinstance(fact, RecordsDropped):
            count = f"{fact.records} records" if fact.records else "records"
            self._problem(fact.shard, f"{count} dropped, {fact.condition}: {fact.first} to {fact.last}", now)

    def _read(self, fact: SourceRead, now: float) -> None:
        self.reported = True
        match fact.outcome:
            case "records" | "empty":
                self._unreadable.pop(fact.shard, None)
                self._unreadable.pop("", None)
            case "throttled":
                self._problem(fact.shard, f"source throttles the read: {fact.reason}", now)
            case "error":
                reason = self._problem(fact.shard, f"source could not be read: {fact.reason}", now)
                self._unreadable[fact.shard] = reason

    def _invoked(self, fact: BatchInvoked, now: float) -> None:
        if isinstance(fact.outcome, Replied | Partial):
            self._processed = "OK"
            if self.is_queue:
                self.retries.forget(fact.shard)  # what was given back meanwhile is not told of each message
            else:
                self.retries.done(fact)
            return
        unread = isinstance(fact.outcome, Failed) and fact.outcome.error is None and fact.outcome.ran
        self._processed = _UNREADABLE_ANSWER if unread else "PROBLEM: Function call failed"
        reason = one_line(fact.outcome.reason, _LONGEST_REASON)
        self._problem(fact.shard, f"{label(fact.outcome)}: {reason}", now)
        self.retries.failed(fact, reason, now)

    def _problem(self, shard: str, reason: str, now: float) -> str:
        """Keep a problem among the last ones, the same one once; answers its reason as it may be shown."""
        reason = one_line(reason, _LONGEST_REASON)
        for known in self.problems:
            if known.shard == shard and known.reason == reason:
                self.problems.remove(known)
                self.problems.append(_Problem(time=now, shard=shard, reason=reason, times=known.times + 1))
                return reason
        self.problems.append(_Problem(time=now, shard=shard, reason=reason))
        return reason


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
