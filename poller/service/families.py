"""The table of every metric that `poller` exports: names, types and labels are a contract with dashboards and alerts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from poller.model.facts import Condition, ReadOutcome, State

_AGES = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 43200, 86400, 259200, 604800)
_CALLS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
_POLLS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30)
_RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...] = ("mapping",)
    help: str
    values: tuple[str, ...] = ()
    """All values of the last label, where they are a closed set: such series exist at 0 from the start."""
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram."""
    at_scrape: bool = False
    """Only the moment of the scrape can tell it."""


FAMILIES = (
    Family(
        name="poller_iterator_age_seconds",
        kind="gauge",
        labels=("mapping", "shard"),
        help="Now minus the arrival of the oldest record of this shard that is read or readable but not yet settled.",
        at_scrape=True,
    ),
    Family(
        name="poller_invocation_iterator_age_seconds",
        kind="histogram",
        help="Age of the last record of the batch when the batch is sent (IteratorAge), retries included.",
        buckets=_AGES,
    ),
    Family(
        name="poller_behind_latest_seconds",
        kind="gauge",
        labels=("mapping", "shard"),
        help="How far the last read was behind the newest record, as the source told it.",
        at_scrape=True,
    ),
    Family(name="poller_records_polled_total", kind="counter", help="Records read (PolledEventCount)."),
    Family(name="poller_records_filtered_total", kind="counter", help="Records filtered out (FilteredOutEventCount)."),
    Family(
        name="poller_records_invoked_total",
        kind="counter",
        help="Records sent to the function, again on every retry (InvokedEventCount).",
    ),
    Family(
        name="poller_records_failed_total",
        kind="counter",
        help="Records of invocations that failed or did not reach the function (FailedInvokeEventCount).",
    ),
    Family(
        name="poller_records_dropped_total",
        kind="counter",
        labels=("mapping", "condition"),
        help="Records given up without a destination (DroppedEventCount), and records that the source dropped.",
        values=get_args(Condition),
    ),
    Family(
        name="poller_records_on_failure_delivered_total",
        kind="counter",
        help="Records whose account reached the destination (OnFailureDestinationDeliveredEventCount).",
    ),
    Family(name="poller_messages_deleted_total", kind="counter", help="Messages deleted (DeletedEventCount)."),
    Family(
        name="poller_invocations_total",
        kind="counter",
        labels=("mapping", "outcome"),
        help="Calls of the function.",
        values=("success", "partial", "function_error", "timeout", "throttled", "service_error"),
    ),
    Family(
        name="poller_invocation_duration_seconds",
        kind="histogram",
        help="How long the function ran, as seen from here; calls that did not reach it are not in it.",
        buckets=_CALLS,
    ),
    Family(
        name="poller_invocations_in_flight",
        kind="gauge",
        help="Calls under way (ConcurrentExecutions).",
        at_scrape=True,
    ),
    Family(name="poller_batch_records", kind="histogram", help="Records per invocation.", buckets=_RECORDS),
    Family(
        name="poller_polls_total",
        kind="counter",
        labels=("mapping", "outcome"),
        help="Reads of the source.",
        values=get_args(ReadOutcome),
    ),
    Family(name="poller_poll_duration_seconds", kind="histogram", help="How long a read took.", buckets=_POLLS),
    Family(
        name="poller_checkpoints_total",
        kind="counter",
        labels=("mapping", "outcome"),
        help="Writes of a shard's checkpoint.",
        values=("written", "superseded", "error"),
    ),
    Family(
        name="poller_shards",
        kind="gauge",
        labels=("mapping", "state"),
        help="Shards of this replica by state.",
        values=("owned", "blocked_on_parent", "ended"),
        at_scrape=True,
    ),
    Family(
        name="poller_shard_moves_total",
        kind="counter",
        labels=("mapping", "kind"),
        help="Shards that changed hands: taken, found in ours, put into another replica's, taken from us.",
        values=("claimed", "adopted", "handed_over", "lost"),
    ),
    Family(
        name="poller_members",
        kind="gauge",
        labels=("state",),
        help="Replicas that share the store, as this one sees them.",
        values=("up", "leaving"),
        at_scrape=True,
    ),
    Family(
        name="poller_member_beat_age_seconds",
        kind="gauge",
        labels=("member",),
        help="Seconds since a replica's last beat was seen.",
        at_scrape=True,
    ),
    Family(name="poller_fences_total", kind="counter", labels=(), help="Replicas that this one has declared dead."),
    Family(
        name="poller_self_fenced",
        kind="gauge",
        labels=(),
        help="1 while this replica begins no invocation, because it cannot beat and others may have its shards.",
    ),
    Family(
        name="poller_store_errors_total",
        kind="counter",
        labels=(),
        help="Failed calls of the store by which replicas find one another.",
    ),
    Family(
        name="poller_mapping_state",
        kind="gauge",
        labels=("mapping", "state"),
        help="1 for the present state, 0 for the others.",
        values=get_args(State),
    ),
    Family(
        name="poller_config_last_reload_successful",
        kind="gauge",
        labels=(),
        help="Whether the last reading of the configuration succeeded.",
    ),
    Family(
        name="poller_config_last_reload_success_timestamp_seconds",
        kind="gauge",
        labels=(),
        help="When the configuration was last read successfully.",
    ),
    Family(name="poller_build_info", kind="gauge", labels=("version",), help="1, labelled with what runs here."),
)
