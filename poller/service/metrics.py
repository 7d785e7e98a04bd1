"""Facts in, Prometheus out. Takes the time from the clock handed in, and never waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from poller import __version__
from poller.model.facts import (
    BatchInvoked,
    BatchSent,
    CheckpointWritten,
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
    SourceRead,
    State,
    Stopping,
    StoreFailed,
)
from poller.model.outcome import Failed, Partial, Replied, failed_records, label
from poller.model.ports import Clock
from poller.service.families import FAMILIES, Family
from poller.service.standing import Standing, Standings


class Metrics:
    """Every metric of the daemon."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        self._clock = clock
        self._standings = Standings()
        self._instruments = _Instruments()
        self._fleet = _Fleet(self._instruments)
        self._mappings: dict[str, _Series] = {}
        self._removed: set[str] = set()
        self._instruments.gauges["poller_build_info"].labels(__version__).set(1)
        registry.register(_Exposition(self._instruments, self._standings, self._mappings, self._fleet, clock))
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def observe(self, fact: Fact) -> None:
        """Count a fact. Never raises, never waits."""
        match fact:
            case Reloaded():
                self._instruments.gauges["poller_config_last_reload_successful"].set(fact.successful)
                if fact.successful:
                    self._instruments.gauges["poller_config_last_reload_success_timestamp_seconds"].set(fact.at)
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
                series = self._series(fact.mapping, configured=isinstance(fact, MappingMoved))
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
        self._fenced = instruments.gauges["poller_self_fenced"]
        self._fences = instruments.counters["poller_fences_total"]
        self._errors = instruments.counters["poller_store_errors_total"]
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
        self.counters: dict[str, Counter] = {}
        self.gauges: dict[str, Gauge] = {}
        self.histograms: dict[str, Histogram] = {}
        for family in FAMILIES:
            name, text, labels = family.name, family.help, family.labels
            if family.at_scrape:
                continue
            if family.kind == "counter":
                self.counters[name] = Counter(name, text, labels, registry=None)
            elif family.kind == "gauge":
                self.gauges[name] = Gauge(name, text, labels, registry=None)
            else:
                self.histograms[name] = Histogram(name, text, labels, registry=None, buckets=family.buckets)

    def __getitem__(self, name: str) -> Counter | Gauge | Histogram:
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
        self._states = {value: state.labels(mapping, value) for value in get_args(State)}
        self._age = histogram("poller_invocation_iterator_age_seconds")
        self._polled = counter("poller_records_polled_total")
        self._invoked = counter("poller_records_invoked_total")
        self._failed = counter("poller_records_failed_total")
        self._filtered = counter("poller_records_filtered_total")
        self._diverted = counter("poller_records_on_failure_delivered_total")
        self._dropped = counters("poller_records_dropped_total")
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
            case BatchSent():
                self._batch.observe(fact.records)
                self._age.observe(max(0.0, fact.age))
            case BatchInvoked():
                self._ended(fact)
            case RecordsDropped():
                self._dropped[fact.condition].inc(fact.records)
            case RecordsFiltered():
                self._filtered.inc(fact.records)
            case RecordsDiverted():
                self._diverted.inc(fact.records)
            case MessagesDeleted():
                self._deleted.inc(fact.deleted)
            case CheckpointWritten():
                self._checkpoints[fact.outcome].inc()
            case ShardPassed():
                self._moves[fact.how].inc()
            case MappingMoved():
                for state, gauge in self._states.items():
                    gauge.set(state == fact.state)
            case _:
                pass

    def _ended(self, fact: BatchInvoked) -> None:
        self._invocations[label(fact.outcome)].inc()
        self._invoked.inc(fact.records)
        self._failed.inc(failed_records(fact.outcome, fact.records))
        if isinstance(fact.outcome, Replied | Partial | Failed):
            self._duration.observe(fact.seconds)


class _Exposition(Collector):
    """What a scrape sees: the table's families in order, counted before or computed now."""

    def __init__(
        self,
        instruments: _Instruments,
        standings: Standings,
        mappings: Mapping[str, _Series],
        fleet: _Fleet,
        clock: Clock,
    ) -> None:
        self._instruments = instruments
        self._standings = standings
        self._mappings = mappings
        self._fleet = fleet
        self._clock = clock

    def describe(self) -> Iterator[Metric]:
        """The families without their series: the registry asks for names."""
        for family in FAMILIES:
            if family.at_scrape:
                yield GaugeMetricFamily(family.name, family.help, labels=family.labels)
            else:
                yield from self._instruments[family.name].describe()

    def collect(self) -> Iterator[Metric]:
        """All families with their series, as they stand now."""
        now = self._clock()
        for family in FAMILIES:
            if family.at_scrape:
                yield self._computed(family, now)
            else:
                for metric in self._instruments[family.name].collect():
                    # The time of creation doubles the series, and nobody may rely on it: it is not in the table.
                    metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
                    yield metric

    def _computed(self, family: Family, now: float) -> Metric:
        metric = GaugeMetricFamily(family.name, family.help, labels=family.labels)
        if "mapping" not in family.labels:
            for labels, value in self._fleet.compute(family.name, now):
                metric.add_metric(labels, value)
            return metric
        compute = _AT_SCRAPE[family.name]
        for mapping in self._mappings:
            for last, value in compute(self._standings.of(mapping), now):
                metric.add_metric((mapping, *last), value)
        return metric


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
    "poller_invocations_in_flight": _in_flight,
    "poller_shards": _shards,
}
