"""Facts in, Prometheus out. Takes the time from the clock handed in, and never waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias, get_args

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder

from poller import __version__
from poller.model.facts import (
    BatchInvoked,
    BatchSent,
    CheckpointWritten,
    DestinationFailed,
    Fact,
    FunctionPrinted,
    MappingMoved,
    MappingRemoved,
    MemberMoved,
    MessagesDeleted,
    RecordsDiverted,
    RecordsDropped,
    RecordsFiltered,
    Reloaded,
    RosterSeen,
    SelfFenced,
    ShardPassed,
    ShardStands,
    SourceListed,
    SourceRead,
    Stopping,
    StoreFailed,
    WishesSeen,
)
from poller.model.outcome import Failed, Partial, Replied, failed_records, label
from poller.model.ports import Clock
from poller.service.families import FAMILIES, Family
from poller.service.instruments import escaped, number
from poller.service.kept import Kept
from poller.service.series import Instruments, Series
from poller.service.standing import Standing, Standings
from poller.service.takers import Takers


class Metrics:
    """Every metric of the daemon. `standings`, which are told first, know how the shards of its mappings stand."""

    def __init__(self, clock: Clock, standings: Standings) -> None:
        self._clock = clock
        self._standings = standings
        self._instruments = Instruments()
        self._fleet = _Fleet(self._instruments)
        self._mappings = Kept(
            lambda mapping: Series(self._instruments, mapping), lambda mapping: Series(Instruments(), mapping)
        )
        self.takers: Takers = {kind: self._rare for kind in get_args(Fact) if kind is not ShardStands} | {
            SourceRead: self._read,
            BatchSent: self._sent,
            BatchInvoked: self._invoked,
            CheckpointWritten: self._checkpoint,
            MessagesDeleted: self._deleted,
        }
        self._instruments.gauges["poller_build_info"].labels(__version__).set(1)
        self._process = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)

    def scrape(self, accept: str = "", names: Sequence[str] = ()) -> tuple[bytes, str]:
        """Everything as it stands now, and its content type.

        Args:
            accept: the header of the request: Prometheus text, or OpenMetrics when that is asked for.
            names: the samples asked for (`name[]`); all when there are none.
        """
        encoder, content_type = choose_encoder(accept)
        openmetrics = content_type.startswith("application/openmetrics-text")
        wanted = [family for family in FAMILIES if not names or _samples(family) & set(names)]
        process = self._process.restricted_registry(list(names)) if names else self._process
        now = self._clock()
        text = "".join(part for family in wanted for part in self._family(family, now, openmetrics=openmetrics))
        return text.encode() + encoder(process), content_type

    def _family(self, family: Family, now: float, *, openmetrics: bool) -> Iterator[str]:
        """The lines of a family."""
        name = family.name.removesuffix("_total") if openmetrics else family.name
        yield f"# HELP {name} {family.help}\n# TYPE {name} {family.kind}\n"
        yield from self._computed(family, now) if family.at_scrape else self._instruments[family.name].text()

    def _computed(self, family: Family, now: float) -> Iterator[str]:
        """The lines that only this moment can tell."""
        if "mapping" not in family.labels:
            for (only,), value in self._fleet.compute(family.name, now):
                yield f'{family.name}{{{family.labels[0]}="{escaped(only)}"}} {number(value)}\n'
            return
        compute, (_, *others) = _AT_SCRAPE[family.name], family.labels
        between = f',{others[0]}="' if others else ""
        for mapping in self._mappings:
            start = f'{family.name}{{mapping="{escaped(mapping)}"{between}'
            values = compute(self._standings.of(mapping), now)
            if between:
                yield "".join([f'{start}{escaped(last)}"}} {number(value)}\n' for (last,), value in values])
            else:
                yield "".join([f"{start}}} {number(value)}\n" for _, value in values])

    def _read(self, fact: SourceRead) -> None:
        series = self._mappings[fact.mapping]
        series.polls[fact.outcome].value += 1
        series.polled.value += fact.records
        series.poll_duration.observe(fact.seconds)

    def _sent(self, fact: BatchSent) -> None:
        series = self._mappings[fact.mapping]
        series.batch.observe(fact.records)
        series.age.observe(max(0.0, fact.age))

    def _invoked(self, fact: BatchInvoked) -> None:
        series = self._mappings[fact.mapping]
        series.invocations[label(fact.outcome)].value += 1
        series.invoked.value += fact.records
        series.failed.value += failed_records(fact.outcome, fact.records)
        if isinstance(fact.outcome, _RAN):
            series.duration.observe(fact.seconds)

    def _checkpoint(self, fact: CheckpointWritten) -> None:
        self._mappings[fact.mapping].checkpoints[fact.outcome].value += 1

    def _deleted(self, fact: MessagesDeleted) -> None:
        series = self._mappings[fact.mapping]
        series.deleted.value += fact.deleted
        series.undeleted.value += fact.failed

    def _rare(self, fact: Fact) -> None:
        match fact:
            case Reloaded():
                self._instruments.gauges["poller_config_last_reload_successful"].labels().set(fact.successful)
                if fact.successful:
                    self._instruments.gauges["poller_config_last_reload_success_timestamp_seconds"].labels().set(
                        fact.at
                    )
            case MappingRemoved():
                self._mappings.remove(fact.mapping)
                self._instruments.remove(fact.mapping)
            case RosterSeen() | SelfFenced() | StoreFailed() | MemberMoved():
                self._fleet.observe(fact, self._clock())
            case FunctionPrinted() | Stopping():
                pass
            case MappingMoved():
                self._mappings.configured(fact.mapping)
                for state, gauge in self._mappings[fact.mapping].states.items():
                    gauge.set(state == fact.state)
            case _:
                self._of_mapping(fact, self._mappings[fact.mapping])

    def _of_mapping(self, fact: Fact, series: Series) -> None:
        match fact:
            case ShardPassed():
                series.moves[fact.how].value += 1
            case SourceListed():
                series.retention().set(fact.retention)
            case WishesSeen():
                series.paused.set(bool(fact.paused or fact.shards))
            case RecordsFiltered():
                series.filtered.value += fact.records
            case RecordsDropped():
                series.dropped[fact.condition].value += fact.records
                series.drops[fact.condition].value += 1
            case RecordsDiverted():
                series.diverted.value += fact.records
            case DestinationFailed():
                series.untold.value += 1
            case _:
                pass


class _Fleet:
    """What the replicas are seen to do."""

    def __init__(self, instruments: Instruments) -> None:
        self._fenced = instruments.gauges["poller_self_fenced"].labels()
        self._fences = instruments.counters["poller_fences_total"].labels()
        self._errors = instruments.counters["poller_store_errors_total"].labels()
        self._members: Mapping[str, tuple[str, float, str]] = {}
        self._seen_at = 0.0
        self._fenced.set(0)

    def observe(self, fact: RosterSeen | SelfFenced | StoreFailed | MemberMoved, now: float) -> None:
        """Count a fact."""
        match fact:
            case RosterSeen():
                self._members, self._seen_at = fact.members, now
            case SelfFenced():
                self._fenced.set(fact.seconds > 0.0)
            case StoreFailed():
                self._errors.value += 1
            case MemberMoved():
                self._fences.value += fact.fenced and fact.state == "gone"

    def compute(self, name: str, now: float) -> Iterator[tuple[tuple[str, ...], float]]:
        """The series of a family that only the moment of the scrape can tell."""
        states = [state for state, _, _ in self._members.values()]
        if name == "poller_members":
            yield from (((state,), states.count(state)) for state in ("up", "leaving"))
        else:
            for member, (state, age, _) in self._members.items():
                if state != "gone":
                    yield (member,), age + max(0.0, now - self._seen_at)


_RAN = (Replied, Partial, Failed)
"""What became of an invocation that reached the function."""
_Shards: TypeAlias = Mapping[str, Standing]
_Values: TypeAlias = Iterator[tuple[tuple[str, ...], float]]


def _iterator_age(shards: _Shards, now: float) -> _Values:
    for shard, standing in shards.items():
        age = standing.age(now)
        if age is not None:
            yield (shard,), age


def _behind_latest(shards: _Shards, now: float) -> _Values:  # noqa: ARG001  # one signature for all
    for shard, standing in shards.items():
        if standing.state == "owned" and standing.told_behind is not None:
            yield (shard,), standing.told_behind


def _read_age(shards: _Shards, now: float) -> _Values:
    for shard, standing in shards.items():
        if standing.state == "owned":
            yield (shard,), max(0.0, now - standing.fresh_at)


def _failed_attempts(shards: _Shards, now: float) -> _Values:  # noqa: ARG001  # one signature for all
    for shard, standing in shards.items():
        if standing.state == "owned" and standing.known:
            yield (shard,), standing.attempt


def _in_flight(shards: _Shards, now: float) -> _Values:  # noqa: ARG001  # one signature for all
    yield (), sum(standing.calls for standing in shards.values())


def _shards(shards: _Shards, now: float) -> _Values:  # noqa: ARG001  # one signature for all
    count = {"owned": 0, "blocked_on_parent": 0, "ended": 0, "released": 0, "elsewhere": 0}
    for standing in shards.values():
        if standing.state != "ended" or not standing.owner:  # else another replica counts it
            count[standing.state] += 1
    yield from (((state,), count[state]) for state in ("owned", "blocked_on_parent", "ended"))


_AT_SCRAPE: Mapping[str, Callable[[_Shards, float], _Values]] = {
    "poller_iterator_age_seconds": _iterator_age,
    "poller_behind_latest_seconds": _behind_latest,
    "poller_read_age_seconds": _read_age,
    "poller_shard_failed_attempts": _failed_attempts,
    "poller_invocations_in_flight": _in_flight,
    "poller_shards": _shards,
}


def _samples(family: Family) -> set[str]:
    """The names that stand in the lines of a family."""
    ends = ("_bucket", "_count", "_sum") if family.kind == "histogram" else ("",)
    return {family.name + end for end in ends}
