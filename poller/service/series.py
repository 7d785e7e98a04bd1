"""The series of one mapping, and all instruments that they belong to. No I/O, no clock."""

from __future__ import annotations

from functools import partial
from typing import get_args

from poller.model.facts import State
from poller.service.families import FAMILIES
from poller.service.instruments import Counter, Gauge, Histogram, Instrument


class Instruments:
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


class Series:
    """The series of one mapping, looked up once: a fact costs no search for its labels."""

    def __init__(self, instruments: Instruments, mapping: str) -> None:
        closed = {family.name: family.values for family in FAMILIES}

        def counter(name: str) -> Counter:
            return instruments.counters[name].labels(mapping)

        def counters(name: str) -> dict[str, Counter]:
            return {value: instruments.counters[name].labels(mapping, value) for value in closed[name]}

        def histogram(name: str) -> Histogram:
            return instruments.histograms[name].labels(mapping)

        state = instruments.gauges["poller_mapping_state"]
        self.retention = partial(
            instruments.gauges["poller_retention_seconds"].labels, mapping
        )  # none before it is told
        self.paused = instruments.gauges["poller_paused"].labels(mapping)
        self.states = {value: state.labels(mapping, value) for value in get_args(State)}
        self.age = histogram("poller_invocation_iterator_age_seconds")
        self.polled = counter("poller_records_polled_total")
        self.invoked = counter("poller_records_invoked_total")
        self.failed = counter("poller_records_failed_total")
        self.filtered = counter("poller_records_filtered_total")
        self.diverted = counter("poller_records_on_failure_delivered_total")
        self.dropped = counters("poller_records_dropped_total")
        self.drops = counters("poller_drops_total")
        self.untold = counter("poller_destination_failures_total")
        self.undeleted = counter("poller_message_delete_failures_total")
        self.deleted = counter("poller_messages_deleted_total")
        self.invocations = counters("poller_invocations_total")
        self.duration = histogram("poller_invocation_duration_seconds")
        self.batch = histogram("poller_batch_records")
        self.polls = counters("poller_polls_total")
        self.poll_duration = histogram("poller_poll_duration_seconds")
        self.checkpoints = counters("poller_checkpoints_total")
        self.moves = counters("poller_shard_moves_total")
