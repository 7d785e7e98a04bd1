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
    State,
    Stopping,
    StoreFailed,
    WishesSeen,
)
from poller.model.outcome import Failed, Partial, Replied, failed_records, label
from poller.model.ports import Clock
from poller.service.families import FAMILIES, Family
from poller.service.instruments import Counter, Gauge, Histogram, Instrument, escaped, number
from poller.service.standing import Standing, Standings


class Metrics:
    """Every metric of the daemon."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._standings = Standings()
        self._instruments = _Instruments()
        self._fleet = _Fleet(self._instruments)
        self._mappings: dict[str, _Series] = {}
        self._removed: set[str] = set()
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

    def observe(self, fact: Fact) -> None:
        """Count a fact. Never raises, never waits."""
        match fact:
            case SourceRead() | BatchSent() | BatchInvoked() | ShardStands() | CheckpointWritten() | MessagesDeleted():
                self._count(
                    fact, fact.mapping, configured=False
                )  # nearly all that comes, so that it is asked for first
            case Reloaded():
                self._instruments.gauges["poller_config_last_reload_successful"].labels().set(fact.successful)
                if fact.successful:
                    self._instruments.gauges["poller_config_last_reload_success_timestamp_seconds"].labels().set(
                        fact.at
                    )
            case MappingRemoved():
                self._removed.add(fact.mapping)
                self._mappings.pop(fact.mapping, None)
                self._standings.observe(fact, self._clock())
                self._instruments.remove(fact.mapping)
            case RosterSeen() | SelfFenced() | StoreFailed() | MemberMoved():
                self._fleet.observe(fact, self._clock())
            case FunctionPrinted() | Stopping():
                pass
            case _:
                self._count(fact, fact.mapping, configured=isinstance(fact, MappingMoved))

    def _count(self, fact: Fact, mapping: str, *, configured: bool) -> None:
        series = self._mappings.get(mapping) or self._series(mapping, configured=configured)
        if series is not None:
            self._standings.observe(fact, self._clock())
            series.observe(fact)

    def _series(self, mapping: str, *, configured: bool) -> _Series | None:
        """The series of a mapping; None for the last words of one that was removed."""
        series = self._mappings.get(mapping)
        if series is None:
            if mapping in self._removed and not configured:
                return None
            series = self._mappings[mapping] = _Series(self._instruments, mapping)
        return series


class _Fleet:
    """What the replicas are seen to do."""

    def __init__(self, instruments: _Instruments) -> None:
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
                self._errors.inc()
            case MemberMoved():
                self._fences.inc(fact.fenced and fact.state == "gone")

    def compute(self, name: str, now: float) -> Iterator[tuple[tuple[str, ...], float]]:
        """The series of a family that only the moment of the scrape can tell."""
        states = [state for state, _, _ in self._members.values()]
        if name == "poller_members":
            yield from (((state,), states.count(state)) for state in ("up", "leaving"))
        else:
            for member, (state, age, _) in self._members.items():
                if state != "gone":
                    yield (member,), age + max(0.0, now - self._seen_at)


class _Instruments:
    """What is counted when a fact comes, by name."""

    def __init__(self) -> None:
        self.counters: dict[str, Instrument[Counter]] = {}
        self.gauges: dict[str, Instrument[Gauge]] = {}
        self.histograms: dict[str, Instrument[Histogram]] = {}
        for family in FAMILIES:
            if family.at_scrape:
                continue
            match family.kind:
                case "counter":
                    self.counters[family.name] = Instrument(family, Counter)
                case "gauge":
                    self.gauges[family.name] = Instrument(family, Gauge)
                case "histogram":
                    self.histograms[family.name] = Instrument(family, Histogram)

    def __getitem__(self, name: str) -> Instrument[Counter] | Instrument[Gauge] | Instrument[Histogram]:
        return self.counters.get(name) or self.gauges.get(name) or self.histograms[name]

    def remove(self, mapping: str) -> None:
        """Forget all series of a mapping."""
        for family in FAMILIES:
            if "mapping" in family.labels and not family.at_scrape:
                self[family.name].remove_by_labels({"mapping": mapping})


class _Series:
    """The series of one mapping, looked up once: a fact costs no search for its labels."""

    def __init__(self, instruments: _Instruments, mapping: str) -> None:
        closed = {family.name: family.values for family in FAMILIES}

        def counter(name: str) -> Counter:
            return instruments.counters[name].labels(mapping)

        def counters(name: str) -> dict[str, Counter]:
            return {value: instruments.counters[name].labels(mapping, value) for value in closed[name]}

        def histogram(name: str) -> Histogram:
            return instruments.histograms[name].labels(mapping)

        state = instruments.gauges["poller_mapping_state"]
        self._mapping = mapping
        self._retention = instruments.gauges["poller_retention_seconds"]
        self._paused = instruments.gauges["poller_paused"].labels(mapping)
        self._states = {value: state.labels(mapping, value) for value in get_args(State)}
        self._age = histogram("poller_invocation_iterator_age_seconds")
        self._polled = counter("poller_records_polled_total")
        self._invoked = counter("poller_records_invoked_total")
        self._failed = counter("poller_records_failed_total")
        self._filtered = counter("poller_records_filtered_total")
        self._diverted = counter("poller_records_on_failure_delivered_total")
        self._dropped = counters("poller_records_dropped_total")
        self._drops = counters("poller_drops_total")
        self._untold = counter("poller_destination_failures_total")
        self._undeleted = counter("poller_message_delete_failures_total")
        self._deleted = counter("poller_messages_deleted_total")
        self._invocations = counters("poller_invocations_total")
        self._duration = histogram("poller_invocation_duration_seconds")
        self._batch = histogram("poller_batch_records")
        self._polls = counters("poller_polls_total")
        self._poll_duration = histogram("poller_poll_duration_seconds")
        self._checkpoints = counters("poller_checkpoints_total")
        self._moves = counters("poller_shard_moves_total")

    def observe(self, fact: Fact) -> None:
        """Count a fact of this mapping."""
        match fact:
            case SourceRead():
                self._polls[fact.outcome].inc()
                self._polled.inc(fact.records)
                self._poll_duration.observe(fact.seconds)
            case ShardStands():
                pass
            case BatchSent():
                self._batch.observe(fact.records)
                self._age.observe(max(0.0, fact.age))
            case BatchInvoked():
                self._ended(fact)
            case CheckpointWritten():
                self._checkpoints[fact.outcome].inc()
            case SourceListed() | WishesSeen():
                self._whole(fact)
            case RecordsFiltered() | RecordsDropped() | RecordsDiverted() | DestinationFailed():
                self._settled_without(fact)
            case MessagesDeleted():
                self._deleted.inc(fact.deleted)
                self._undeleted.inc(fact.failed)
            case ShardPassed():
                self._moves[fact.how].inc()
            case MappingMoved():
                for state, gauge in self._states.items():
                    gauge.set(state == fact.state)
            case _:
                pass

    def _whole(self, fact: SourceListed | WishesSeen) -> None:
        if isinstance(fact, SourceListed):
            self._retention.labels(self._mapping).set(fact.retention)
        else:
            self._paused.set(bool(fact.paused or fact.shards))

    def _settled_without(self, fact: RecordsFiltered | RecordsDropped | RecordsDiverted | DestinationFailed) -> None:
        match fact:
            case RecordsFiltered():
                self._filtered.inc(fact.records)
            case RecordsDropped():
                self._dropped[fact.condition].inc(fact.records)
                self._drops[fact.condition].inc()
            case RecordsDiverted():
                self._diverted.inc(fact.records)
            case DestinationFailed():
                self._untold.inc()

    def _ended(self, fact: BatchInvoked) -> None:
        self._invocations[label(fact.outcome)].inc()
        self._invoked.inc(fact.records)
        self._failed.inc(failed_records(fact.outcome, fact.records))
        if isinstance(fact.outcome, Replied | Partial | Failed):
            self._duration.observe(fact.seconds)


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
