import re
from dataclasses import dataclass

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from poller import __version__
from poller.model.facts import (
    BatchInvoked,
    BatchSent,
    CheckpointWritten,
    DestinationFailed,
    Fact,
    FunctionPrinted,
    MappingMoved,
    MappingProblem,
    MappingRemoved,
    MessagesDeleted,
    ReadOutcome,
    RecordsDropped,
    RecordsFiltered,
    Reloaded,
    RosterSeen,
    ShardMoved,
    ShardStands,
    SourceListed,
    SourceRead,
    State,
    Stopping,
    WishesSeen,
)
from poller.model.outcome import Failed, Outcome, Refused, Replied, Unavailable
from poller.service.families import FAMILIES, PROCESS
from poller.service.metrics import Metrics
from poller.service.standing import Standings
from poller.service.takers import joined

CONTRACT = {
    ("poller_iterator_age_seconds", "gauge", ("mapping", "shard")),
    ("poller_invocation_iterator_age_seconds", "histogram", ("mapping",)),
    ("poller_behind_latest_seconds", "gauge", ("mapping", "shard")),
    ("poller_records_polled_total", "counter", ("mapping",)),
    ("poller_records_filtered_total", "counter", ("mapping",)),
    ("poller_records_invoked_total", "counter", ("mapping",)),
    ("poller_records_failed_total", "counter", ("mapping",)),
    ("poller_records_dropped_total", "counter", ("mapping", "condition")),
    ("poller_records_on_failure_delivered_total", "counter", ("mapping",)),
    ("poller_messages_deleted_total", "counter", ("mapping",)),
    ("poller_invocations_total", "counter", ("mapping", "outcome")),
    ("poller_invocation_duration_seconds", "histogram", ("mapping",)),
    ("poller_invocations_in_flight", "gauge", ("mapping",)),
    ("poller_batch_records", "histogram", ("mapping",)),
    ("poller_polls_total", "counter", ("mapping", "outcome")),
    ("poller_poll_duration_seconds", "histogram", ("mapping",)),
    ("poller_checkpoints_total", "counter", ("mapping", "outcome")),
    ("poller_shards", "gauge", ("mapping", "state")),
    ("poller_shard_moves_total", "counter", ("mapping", "kind")),
    ("poller_members", "gauge", ("state",)),
    ("poller_member_beat_age_seconds", "gauge", ("member",)),
    ("poller_fences_total", "counter", ()),
    ("poller_self_fenced", "gauge", ()),
    ("poller_store_errors_total", "counter", ()),
    ("poller_mapping_state", "gauge", ("mapping", "state")),
    ("poller_paused", "gauge", ("mapping",)),
    ("poller_config_last_reload_successful", "gauge", ()),
    ("poller_config_last_reload_success_timestamp_seconds", "gauge", ()),
    ("poller_build_info", "gauge", ("version",)),
    ("poller_retention_seconds", "gauge", ("mapping",)),
    ("poller_shard_failed_attempts", "gauge", ("mapping", "shard")),
    ("poller_read_age_seconds", "gauge", ("mapping", "shard")),
    ("poller_drops_total", "counter", ("mapping", "condition")),
    ("poller_destination_failures_total", "counter", ("mapping",)),
    ("poller_message_delete_failures_total", "counter", ("mapping",)),
}

OUTCOMES = ("success", "partial", "function_error", "timeout", "throttled", "service_error")


@dataclass
class Time:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Scraped:
    """Metrics, and the reading of them."""

    def __init__(self) -> None:
        self.time = Time()
        standings = Standings(self.time)
        self.metrics = Metrics(self.time, standings)
        self._observe = joined(standings.takers, self.metrics.takers)

    def observe(self, *facts: Fact) -> None:
        for fact in facts:
            self._observe(fact)

    def text(self, accept: str = "", *names: str) -> str:
        return self.metrics.scrape(accept, names)[0].decode()

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.text())
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        return self.samples().get((name, frozenset(labels.items())))

    def series(self, name: str = "poller_") -> set[tuple[str, tuple[tuple[str, str], ...]]]:
        return {(known, tuple(sorted(labels))) for known, labels in self.samples() if known.startswith(name)}

    def age(self, shard: str = "s1") -> float | None:
        return self.value("poller_iterator_age_seconds", mapping="m", shard=shard)


@pytest.fixture
def scraped() -> Scraped:
    return Scraped()


def enabled(mapping: str = "m", state: State = "Enabled") -> MappingMoved:
    return MappingMoved(mapping=mapping, state=state, reason="User action")


def owned(shard: str = "s1", mapping: str = "m") -> ShardMoved:
    return ShardMoved(mapping=mapping, shard=shard, to="owned")


def read(
    records: int = 0, behind: float | None = None, outcome: ReadOutcome | None = None, shard: str = "s1"
) -> SourceRead:
    told: ReadOutcome = outcome or ("records" if records else "empty")
    return SourceRead(mapping="m", shard=shard, outcome=told, records=records, seconds=0.02, behind=behind)


def listed(retention: float = 86400.0) -> SourceListed:
    return SourceListed(mapping="m", retention=retention)


def stands(
    oldest: float | None, *, behind: float = 0.0, shard: str = "s1", held: int = 1, attempt: int = 0
) -> ShardStands:
    return ShardStands(
        mapping="m",
        shard=shard,
        checkpoint="49",
        oldest=oldest,
        behind=behind,
        held=0 if oldest is None else held,
        attempt=attempt,
    )


def sent(records: int = 10, age: float = 0.4, shard: str = "s1") -> BatchSent:
    return BatchSent(mapping="m", shard=shard, records=records, age=age)


def invoked(outcome: Outcome, records: int = 10, shard: str = "s1") -> BatchInvoked:
    return BatchInvoked(
        mapping="m", shard=shard, records=records, outcome=outcome, seconds=0.3, request_id="r", attempt=1
    )


def test_table_of_metrics_is_the_contract_with_users():
    assert {(family.name, family.kind, family.labels) for family in FAMILIES} == CONTRACT
    assert len(FAMILIES) == len(CONTRACT)


def test_scrape_shows_the_names_types_and_labels_of_the_table_and_no_others(scraped: Scraped):
    scraped.observe(enabled(), owned(), read(1, behind=2.0), sent(), invoked(Replied()), listed())
    scraped.observe(RosterSeen(members={"a": ("up", 1.0, "")}))
    text = scraped.text()
    seen = set()
    for family in text_string_to_metric_families(text):
        if not family.name.startswith("poller_"):
            continue
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        seen.add((name, family.type, frozenset(labels)))
    assert seen == {(name, kind, frozenset(labels)) for name, kind, labels in CONTRACT}
    assert "_created" not in text


def test_process_and_platform_metrics_are_exported_too(scraped: Scraped):
    assert scraped.series("process_cpu_seconds_total")
    assert scraped.series("process_resident_memory_bytes")
    assert scraped.series("python_info")
    assert scraped.series("python_gc_collections_total")


def test_build_info_names_the_version(scraped: Scraped):
    assert scraped.value("poller_build_info", version=__version__) == 1


def test_closed_label_sets_exist_at_zero_from_the_first_state_on(scraped: Scraped):
    scraped.observe(enabled(state="Creating"))
    for outcome in OUTCOMES:
        assert scraped.value("poller_invocations_total", mapping="m", outcome=outcome) == 0
    for condition in ("RetryAttemptsExhausted", "RecordAgeExceeded", "Expired", "Trimmed"):
        assert scraped.value("poller_records_dropped_total", mapping="m", condition=condition) == 0
    for outcome in ("records", "empty", "throttled", "error"):
        assert scraped.value("poller_polls_total", mapping="m", outcome=outcome) == 0
    for outcome in ("written", "superseded", "error"):
        assert scraped.value("poller_checkpoints_total", mapping="m", outcome=outcome) == 0
    for state in ("owned", "blocked_on_parent", "ended"):
        assert scraped.value("poller_shards", mapping="m", state=state) == 0
    for name in ("polled", "filtered", "invoked", "failed", "on_failure_delivered"):
        assert scraped.value(f"poller_records_{name}_total", mapping="m") == 0
    assert scraped.value("poller_messages_deleted_total", mapping="m") == 0
    assert scraped.value("poller_invocations_in_flight", mapping="m") == 0
    assert scraped.value("poller_batch_records_count", mapping="m") == 0


def test_records_that_are_filtered_out_are_counted(scraped: Scraped):
    scraped.observe(enabled(), RecordsFiltered(mapping="m", shard="s", records=3))
    scraped.observe(RecordsFiltered(mapping="m", shard="t", records=4))
    assert scraped.value("poller_records_filtered_total", mapping="m") == 7


def test_present_state_is_one_and_the_others_are_zero(scraped: Scraped):
    scraped.observe(enabled(state="Creating"), enabled(state="Enabled"))
    states = {
        state: scraped.value("poller_mapping_state", mapping="m", state=state)
        for state in ("Creating", "Enabling", "Enabled", "Disabling", "Disabled", "Updating", "Deleting")
    }
    assert states == {state: float(state == "Enabled") for state in states}


def test_age_is_that_of_the_oldest_record_held_and_grows_while_it_is_held(scraped: Scraped):
    scraped.observe(enabled(), owned(), read(5), stands(oldest=990.0))
    assert scraped.age() == 10.0
    scraped.time.now += 3600
    assert scraped.age() == 3610.0


def test_age_is_zero_when_caught_up_whatever_time_passes(scraped: Scraped):
    scraped.observe(enabled(), owned(), read(0, behind=0.0), stands(oldest=None))
    scraped.time.now += 3600
    assert scraped.age() == 0.0


def test_age_of_a_shard_that_lags_with_nothing_held_counts_from_its_last_read(scraped: Scraped):
    scraped.observe(enabled(), owned(), read(0, behind=50.0))
    scraped.time.now += 5
    scraped.observe(stands(oldest=None, behind=50.0))
    scraped.time.now += 2
    assert scraped.age() == 57.0


def test_age_is_never_negative_though_clocks_differ(scraped: Scraped):
    scraped.observe(enabled(), owned(), read(1), stands(oldest=1003.0))
    assert scraped.age() == 0.0
    scraped.observe(read(0, behind=4.0), stands(oldest=None, behind=4.0))
    scraped.time.now -= 60
    assert scraped.age() == 4.0


def test_age_is_not_told_before_the_source_has_answered(scraped: Scraped):
    scraped.observe(enabled(), owned(), stands(oldest=None), read(outcome="error"))
    assert scraped.age() is None
    scraped.observe(read(0))
    assert scraped.age() == 0.0


def test_behind_latest_is_told_only_where_the_source_tells_it(scraped: Scraped):
    scraped.observe(enabled(), owned("s1"), owned("s2"), read(1, behind=7.5, shard="s1"), read(1, shard="s2"))
    scraped.observe(stands(oldest=None, behind=3.0, shard="s2"))
    assert scraped.value("poller_behind_latest_seconds", mapping="m", shard="s1") == 7.5
    assert scraped.value("poller_behind_latest_seconds", mapping="m", shard="s2") is None


@pytest.mark.parametrize("to", ["ended", "released"])
def test_series_of_a_shard_disappear_when_it_is_let_go_and_stay_away(scraped: Scraped, to: str):
    scraped.observe(enabled(), owned(), read(1, behind=3.0), stands(oldest=990.0), sent())
    assert {name for name, labels in scraped.series() if ("shard", "s1") in labels} == {
        "poller_iterator_age_seconds",
        "poller_behind_latest_seconds",
        "poller_shard_failed_attempts",
        "poller_read_age_seconds",
    }
    scraped.observe(ShardMoved(mapping="m", shard="s1", to="ended" if to == "ended" else "released"))
    scraped.observe(read(1, behind=3.0), stands(oldest=990.0), sent())
    assert not {name for name, labels in scraped.series() if ("shard", "s1") in labels}
    assert scraped.value("poller_invocations_in_flight", mapping="m") == 0
    scraped.observe(owned(), read(0, behind=0.0))
    assert scraped.age() == 0.0


def test_shards_are_counted_by_the_state_they_moved_to_last(scraped: Scraped):
    scraped.observe(enabled(), owned("a"), owned("b"), owned("d"))
    scraped.observe(
        ShardMoved(mapping="m", shard="c", to="blocked_on_parent"),
        ShardMoved(mapping="m", shard="a", to="ended"),
        ShardMoved(mapping="m", shard="d", to="released"),
    )
    counted = {
        state: scraped.value("poller_shards", mapping="m", state=state)
        for state in ("owned", "blocked_on_parent", "ended")
    }
    assert counted == {"owned": 1, "blocked_on_parent": 1, "ended": 1}


def test_a_shard_that_another_replica_has_ended_waits_no_more_and_is_counted_there(scraped: Scraped):
    scraped.observe(enabled(), ShardMoved(mapping="m", shard="s1", to="blocked_on_parent"))
    scraped.observe(ShardMoved(mapping="m", shard="s1", to="ended", owner="other"))
    assert scraped.value("poller_shards", mapping="m", state="blocked_on_parent") == 0
    assert scraped.value("poller_shards", mapping="m", state="ended") == 0
    scraped.observe(ShardMoved(mapping="m", shard="s2", to="ended"))
    assert scraped.value("poller_shards", mapping="m", state="ended") == 1


def test_all_series_of_a_removed_mapping_disappear_and_its_last_words_do_not_bring_them_back(scraped: Scraped):
    scraped.observe(enabled("m"), owned(), read(3, behind=1.0), sent(), invoked(Replied()))
    scraped.observe(enabled("other"))
    scraped.observe(MappingRemoved(mapping="m"))
    scraped.observe(sent(), invoked(Replied()), read(3), stands(oldest=1.0))
    mappings = {dict(labels).get("mapping") for _, labels in scraped.series()}
    assert mappings == {None, "other"}


def test_a_mapping_that_comes_back_counts_from_zero(scraped: Scraped):
    scraped.observe(enabled(), read(3), MappingRemoved(mapping="m"), enabled(), read(2))
    assert scraped.value("poller_records_polled_total", mapping="m") == 2


def test_reads_are_counted_by_outcome_with_their_records_and_durations(scraped: Scraped):
    scraped.observe(enabled(), read(7), read(5), read(0), read(outcome="throttled"), read(outcome="error"))
    assert scraped.value("poller_records_polled_total", mapping="m") == 12
    counted = {
        outcome: scraped.value("poller_polls_total", mapping="m", outcome=outcome)
        for outcome in ("records", "empty", "throttled", "error")
    }
    assert counted == {"records": 2, "empty": 1, "throttled": 1, "error": 1}
    assert scraped.value("poller_poll_duration_seconds_count", mapping="m") == 5
    assert scraped.value("poller_poll_duration_seconds_sum", mapping="m") == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("outcome", "counted_as", "failed", "ran"),
    [
        pytest.param(Replied(), "success", 0, 1, id="a reply is a success"),
        pytest.param(Failed(reason="Boom"), "function_error", 10, 1, id="an error of the function fails its records"),
        pytest.param(Failed(reason="slow", timeout=True), "timeout", 10, 1, id="a timeout fails its records"),
        pytest.param(Refused(reason="busy"), "throttled", 10, 0, id="a throttled call fails its records and never ran"),
        pytest.param(Unavailable(reason="down"), "service_error", 10, 0, id="an unreachable function never ran"),
    ],
)
def test_invocations_are_counted_by_outcome(scraped: Scraped, outcome: Outcome, counted_as: str, failed: int, ran: int):
    scraped.observe(enabled(), owned(), sent(), invoked(outcome))
    counted = {value: scraped.value("poller_invocations_total", mapping="m", outcome=value) for value in OUTCOMES}
    assert counted == {value: float(value == counted_as) for value in OUTCOMES}
    assert scraped.value("poller_records_invoked_total", mapping="m") == 10
    assert scraped.value("poller_records_failed_total", mapping="m") == failed
    assert scraped.value("poller_invocation_duration_seconds_count", mapping="m") == ran


def test_batches_under_way_are_counted_until_they_end(scraped: Scraped):
    scraped.observe(enabled(), owned(), sent(), sent())
    assert scraped.value("poller_invocations_in_flight", mapping="m") == 2
    scraped.observe(invoked(Replied()), invoked(Failed(reason="x")))
    assert scraped.value("poller_invocations_in_flight", mapping="m") == 0


def test_an_end_without_a_beginning_takes_nothing_from_what_is_under_way(scraped: Scraped):
    scraped.observe(enabled(), owned(), invoked(Replied()), sent())
    assert scraped.value("poller_invocations_in_flight", mapping="m") == 1


def test_every_sending_is_a_sample_of_iterator_age_and_batch_size_retries_included(scraped: Scraped):
    scraped.observe(enabled(), owned(), sent(100, age=0.4), sent(100, age=90.0), sent(3, age=-1.0))
    assert scraped.value("poller_batch_records_count", mapping="m") == 3
    assert scraped.value("poller_batch_records_sum", mapping="m") == 203
    assert scraped.value("poller_batch_records_bucket", mapping="m", le="100.0") == 3
    assert scraped.value("poller_batch_records_bucket", mapping="m", le="50.0") == 1
    assert scraped.value("poller_invocation_iterator_age_seconds_sum", mapping="m") == pytest.approx(90.4)
    assert scraped.value("poller_invocation_iterator_age_seconds_bucket", mapping="m", le="300.0") == 3


@pytest.mark.parametrize(
    ("name", "smallest", "largest"),
    [
        ("poller_invocation_iterator_age_seconds", 0.1, 7 * 86400),
        ("poller_invocation_duration_seconds", 0.005, 900),
        ("poller_batch_records", 1, 10000),
        ("poller_poll_duration_seconds", 0.005, 30),
    ],
)
def test_buckets_span_what_is_measured(name: str, smallest: float, largest: float):
    (buckets,) = [family.buckets for family in FAMILIES if family.name == name]
    assert buckets[0] == smallest
    assert buckets[-1] == largest
    assert list(buckets) == sorted(set(buckets))


def test_dropped_records_deleted_messages_and_checkpoints_are_counted(scraped: Scraped):
    scraped.observe(
        enabled(),
        RecordsDropped(mapping="m", shard="s1", condition="Expired", records=4, first="1", last="9"),
        RecordsDropped(mapping="m", shard="s1", condition="Trimmed", records=0, first="1", last="9"),
        MessagesDeleted(mapping="m", deleted=9, failed=1, reason="InternalError"),
        CheckpointWritten(mapping="m", shard="s1", outcome="superseded", position="9"),
    )
    assert scraped.value("poller_records_dropped_total", mapping="m", condition="Expired") == 4
    assert scraped.value("poller_records_dropped_total", mapping="m", condition="Trimmed") == 0
    assert scraped.value("poller_messages_deleted_total", mapping="m") == 9
    assert scraped.value("poller_message_delete_failures_total", mapping="m") == 1
    assert scraped.value("poller_checkpoints_total", mapping="m", outcome="superseded") == 1


def test_a_drop_is_counted_though_nobody_knows_how_many_records_it_took(scraped: Scraped):
    scraped.observe(enabled())
    assert scraped.value("poller_drops_total", mapping="m", condition="Trimmed") == 0
    scraped.observe(RecordsDropped(mapping="m", shard="s1", condition="Trimmed", records=0, first="1", last="9"))
    assert scraped.value("poller_drops_total", mapping="m", condition="Trimmed") == 1
    assert scraped.value("poller_drops_total", mapping="m", condition="Expired") == 0


def test_accounts_that_the_destination_did_not_take_are_counted(scraped: Scraped):
    scraped.observe(enabled(), DestinationFailed(mapping="m", shard="s1", records=5, reason="AccessDenied"))
    assert scraped.value("poller_destination_failures_total", mapping="m") == 1


def test_a_pause_of_the_mapping_or_of_a_shard_is_told_until_it_ends(scraped: Scraped):
    scraped.observe(enabled())
    assert scraped.value("poller_paused", mapping="m") == 0
    scraped.observe(WishesSeen(mapping="m", paused=("ann", 1.0), shards={}, seeks={}))
    assert scraped.value("poller_paused", mapping="m") == 1
    scraped.observe(WishesSeen(mapping="m", paused=None, shards={"s1": ("ann", 1.0)}, seeks={}))
    assert scraped.value("poller_paused", mapping="m") == 1
    scraped.observe(WishesSeen(mapping="m", paused=None, shards={}, seeks={}))
    assert scraped.value("poller_paused", mapping="m") == 0


@pytest.mark.parametrize("state", ["Enabling", "Disabled"])
def test_what_a_run_that_was_cut_short_left_behind_is_gone_when_the_mapping_begins_anew_or_is_turned_off(
    scraped: Scraped, state: State
):
    waits = ShardMoved(mapping="m", shard="s2", to="blocked_on_parent", position="s1")
    scraped.observe(enabled(), owned(), read(records=10), stands(900.0), sent(), waits)
    scraped.observe(enabled(state=state))  # nobody told how the call ended, nor that the shards were let go
    assert scraped.value("poller_invocations_in_flight", mapping="m") == 0
    assert scraped.age() is None
    assert scraped.value("poller_read_age_seconds", mapping="m", shard="s1") is None
    assert scraped.value("poller_shards", mapping="m", state="owned") == 0
    assert scraped.value("poller_shards", mapping="m", state="blocked_on_parent") == 0


def test_retention_is_not_told_before_the_source_was_asked_and_follows_it(scraped: Scraped):
    scraped.observe(enabled())
    assert scraped.value("poller_retention_seconds", mapping="m") is None, "an age against 0 would be endless"
    scraped.observe(listed(86400.0))
    assert scraped.value("poller_retention_seconds", mapping="m") == 86400
    scraped.observe(listed(7 * 86400.0))
    assert scraped.value("poller_retention_seconds", mapping="m") == 7 * 86400


def test_failed_attempts_of_a_shard_are_told_until_it_goes_on(scraped: Scraped):
    def attempts() -> float | None:
        return scraped.value("poller_shard_failed_attempts", mapping="m", shard="s1")

    scraped.observe(enabled(), owned())
    assert attempts() is None
    scraped.observe(read(1), stands(oldest=990.0, attempt=7))
    assert attempts() == 7
    scraped.observe(stands(oldest=None))
    assert attempts() == 0


def test_the_time_without_a_read_grows_from_the_opening_on_over_reads_that_fail_and_ends_with_one_that_succeeds(
    scraped: Scraped,
):
    def unread() -> float | None:
        return scraped.value("poller_read_age_seconds", mapping="m", shard="s1")

    scraped.observe(enabled(), owned())
    scraped.time.now += 30
    scraped.observe(read(outcome="error"), read(outcome="throttled"))
    assert unread() == 30
    scraped.observe(read(0))
    assert unread() == 0
    scraped.time.now += 5
    assert unread() == 5


def test_a_sample_on_a_bound_counts_in_its_bucket_and_in_all_larger_ones(scraped: Scraped):
    scraped.observe(enabled(), owned(), sent(1), sent(2), sent(3), sent(10_001))
    counted = [
        scraped.value("poller_batch_records_bucket", mapping="m", le=bound)
        for bound in ("1.0", "2.0", "5.0", "10000.0", "+Inf")
    ]
    assert counted == [1, 2, 3, 3, 4]


def test_openmetrics_tells_the_same_samples_as_the_text_format(scraped: Scraped):
    scraped.observe(
        enabled('a"b\\c\nd é'), enabled(), owned(), read(3, behind=2.0), sent(), invoked(Replied()), listed()
    )
    told = openmetrics_families(scraped.text("application/openmetrics-text; version=1.0.0"))  # type: ignore[no-untyped-call]  # it has no types
    samples = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in told
        for sample in family.samples
        if sample.name.startswith("poller_")
    }
    plain = {key: value for key, value in scraped.samples().items() if key[0].startswith("poller_")}
    assert samples == plain
    assert len(samples) > 100


def test_a_scrape_may_name_the_samples_it_wants(scraped: Scraped):
    scraped.observe(enabled(), sent())
    text = scraped.text("", "poller_batch_records_count", "process_open_fds")
    assert {family.name for family in text_string_to_metric_families(text)} == {
        "poller_batch_records",
        "process_open_fds",
    }


def test_what_is_exported_beside_the_table_is_told_in_the_table_of_the_process(scraped: Scraped):
    exported = {
        (family.name + ("_total" if family.type == "counter" else ""), family.type)
        for family in text_string_to_metric_families(scraped.text())
        if not family.name.startswith("poller_")
    }
    assert exported == {(family.name, family.kind) for family in PROCESS}


def test_a_name_stands_once_in_the_table():
    names = [family.name for family in (*FAMILIES, *PROCESS)]
    assert len(names) == len(set(names))


def test_a_failed_reload_keeps_the_moment_of_the_last_good_one(scraped: Scraped):
    def reload() -> tuple[float | None, float | None]:
        return (
            scraped.value("poller_config_last_reload_successful"),
            scraped.value("poller_config_last_reload_success_timestamp_seconds"),
        )

    assert reload() == (0, 0)
    scraped.observe(Reloaded(successful=True, at=1700.0))
    assert reload() == (1, 1700)
    scraped.observe(Reloaded(successful=False, at=1800.0, reason="line 3"))
    assert reload() == (0, 1700)


def test_facts_of_no_mapping_and_problems_leave_no_series_behind(scraped: Scraped):
    before = scraped.series()
    scraped.observe(FunctionPrinted(function="f", request_id="", line="hi"), Stopping(reason="SIGTERM", grace=30.0))
    assert scraped.series() == before
    scraped.observe(enabled(), MappingProblem(mapping="m", reason="no such stream", retry_in=30.0))
    assert scraped.value("poller_mapping_state", mapping="m", state="Enabled") == 1


def test_labels_of_any_spelling_survive_the_text_format(scraped: Scraped):
    name = 'a"b\\c\nd é'
    scraped.observe(MappingMoved(mapping=name, state="Enabled", reason=""))
    text = scraped.text()
    mappings = {
        sample.labels.get("mapping") for family in text_string_to_metric_families(text) for sample in family.samples
    }
    assert mappings == {None, name}
    assert not re.search(r"^d é", text, re.MULTILINE)
