"""The table of every metric that `poller` exports: names, types and labels are a contract with dashboards and alerts.

docs/metrics.md and deploy/grafana/poller.json are made from it: `make monitoring` after a change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from poller.model.facts import Condition, ReadOutcome, State

Topic: TypeAlias = Literal[
    "age and backlog", "throughput", "failures", "functions", "polls", "store", "replicas", "process"
]
"""What a metric tells of: a row of the dashboard, a section of the documentation."""

_AGES = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 43200, 86400, 259200, 604800)
_CALLS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
_POLLS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30)
_RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    topic: Topic
    labels: tuple[str, ...] = ("mapping",)
    help: str
    values: tuple[str, ...] = ()
    """All values of the last label, where they are a closed set: such series exist at 0 from the start."""
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram."""
    at_scrape: bool = False
    """Only the moment of the scrape can tell it."""
    together: Literal["sum", "max", "min"] = "sum"
    """What one number of a gauge of several replicas is made by."""


FAMILIES = (
    Family(
        name="poller_iterator_age_seconds",
        kind="gauge",
        topic="age and backlog",
        labels=("mapping", "shard"),
        help="Now minus the arrival of the oldest record of this shard that is read or readable but not yet settled.",
        at_scrape=True,
        together="max",
    ),
    Family(
        name="poller_retention_seconds",
        kind="gauge",
        topic="age and backlog",
        help="After what time the source drops a record, as it was last asked.",
        together="max",
    ),
    Family(
        name="poller_behind_latest_seconds",
        kind="gauge",
        topic="age and backlog",
        labels=("mapping", "shard"),
        help="How far the last read was behind the newest record, as the source told it.",
        at_scrape=True,
        together="max",
    ),
    Family(
        name="poller_invocation_iterator_age_seconds",
        kind="histogram",
        topic="age and backlog",
        help="Age of the last record of the batch when the batch is sent (IteratorAge), retries included.",
        buckets=_AGES,
    ),
    Family(
        name="poller_records_polled_total",
        kind="counter",
        topic="throughput",
        help="Records read (PolledEventCount).",
    ),
    Family(
        name="poller_records_filtered_total",
        kind="counter",
        topic="throughput",
        help="Records filtered out (FilteredOutEventCount).",
    ),
    Family(
        name="poller_records_invoked_total",
        kind="counter",
        topic="throughput",
        help="Records sent to the function, again on every retry (InvokedEventCount).",
    ),
    Family(
        name="poller_messages_deleted_total",
        kind="counter",
        topic="throughput",
        help="Messages deleted (DeletedEventCount).",
    ),
    Family(
        name="poller_batch_records",
        kind="histogram",
        topic="throughput",
        help="Records per invocation.",
        buckets=_RECORDS,
    ),
    Family(
        name="poller_shard_failed_attempts",
        kind="gauge",
        topic="failures",
        labels=("mapping", "shard"),
        help="How often in a row the batch at the head of this shard has failed; 0 when it did not.",
        at_scrape=True,
        together="max",
    ),
    Family(
        name="poller_records_failed_total",
        kind="counter",
        topic="failures",
        help="Records of invocations that failed or did not reach the function (FailedInvokeEventCount).",
    ),
    Family(
        name="poller_records_dropped_total",
        kind="counter",
        topic="failures",
        labels=("mapping", "condition"),
        help="Records given up without a destination (DroppedEventCount), and records that the source dropped.",
        values=get_args(Condition),
    ),
    Family(
        name="poller_drops_total",
        kind="counter",
        topic="failures",
        labels=("mapping", "condition"),
        help="How often records were dropped, also when nobody can say how many: those trimmed before they were read.",
        values=get_args(Condition),
    ),
    Family(
        name="poller_records_on_failure_delivered_total",
        kind="counter",
        topic="failures",
        help="Records whose account reached the destination (OnFailureDestinationDeliveredEventCount).",
    ),
    Family(
        name="poller_destination_failures_total",
        kind="counter",
        topic="failures",
        help="Accounts of given-up records that could not be delivered to the destination.",
    ),
    Family(
        name="poller_message_delete_failures_total",
        kind="counter",
        topic="failures",
        help="Messages that could not be deleted: the queue hands them out again.",
    ),
    Family(
        name="poller_invocations_total",
        kind="counter",
        topic="functions",
        labels=("mapping", "outcome"),
        help="Calls of the function.",
        values=("success", "partial", "function_error", "timeout", "throttled", "service_error"),
    ),
    Family(
        name="poller_invocation_duration_seconds",
        kind="histogram",
        topic="functions",
        help="How long the function ran, as seen from here; calls that did not reach it are not in it.",
        buckets=_CALLS,
    ),
    Family(
        name="poller_invocations_in_flight",
        kind="gauge",
        topic="functions",
        help="Calls under way (ConcurrentExecutions).",
        at_scrape=True,
    ),
    Family(
        name="poller_polls_total",
        kind="counter",
        topic="polls",
        labels=("mapping", "outcome"),
        help="Reads of the source.",
        values=get_args(ReadOutcome),
    ),
    Family(
        name="poller_read_age_seconds",
        kind="gauge",
        topic="polls",
        labels=("mapping", "shard"),
        help="Time since this shard was last read successfully, or was opened.",
        at_scrape=True,
        together="max",
    ),
    Family(
        name="poller_poll_duration_seconds",
        kind="histogram",
        topic="polls",
        help="How long a read took.",
        buckets=_POLLS,
    ),
    Family(
        name="poller_checkpoints_total",
        kind="counter",
        topic="store",
        labels=("mapping", "outcome"),
        help="Writes of a shard's checkpoint.",
        values=("written", "superseded", "error"),
    ),
    Family(
        name="poller_shards",
        kind="gauge",
        topic="replicas",
        labels=("mapping", "state"),
        help="Shards of this replica by state.",
        values=("owned", "blocked_on_parent", "ended"),
        at_scrape=True,
    ),
    Family(
        name="poller_shard_moves_total",
        kind="counter",
        topic="replicas",
        labels=("mapping", "kind"),
        help="Shards that changed hands: taken, found in ours, put into another replica's, taken from us.",
        values=("claimed", "adopted", "handed_over", "lost"),
    ),
    Family(
        name="poller_members",
        kind="gauge",
        topic="replicas",
        together="max",
        labels=("state",),
        help="Replicas that share the store, as this one sees them.",
        values=("up", "leaving"),
        at_scrape=True,
    ),
    Family(
        name="poller_member_beat_age_seconds",
        kind="gauge",
        topic="replicas",
        together="max",
        labels=("member",),
        help="Seconds since a replica's last beat was seen.",
        at_scrape=True,
    ),
    Family(
        name="poller_fences_total",
        kind="counter",
        topic="replicas",
        labels=(),
        help="Replicas that this one has declared dead.",
    ),
    Family(
        name="poller_self_fenced",
        kind="gauge",
        topic="replicas",
        labels=(),
        help="1 while this replica begins no invocation, because it cannot beat and others may have its shards.",
        together="max",
    ),
    Family(
        name="poller_store_errors_total",
        kind="counter",
        topic="store",
        labels=(),
        help="Failed calls of the store by which replicas find one another.",
    ),
    Family(
        name="poller_mapping_state",
        kind="gauge",
        topic="replicas",
        labels=("mapping", "state"),
        help="1 for the present state, 0 for the others.",
        values=get_args(State),
        together="max",
    ),
    Family(
        name="poller_paused",
        kind="gauge",
        topic="replicas",
        help="1 while an operator has paused the mapping or one of its shards.",
        together="max",
    ),
    Family(
        name="poller_config_last_reload_successful",
        kind="gauge",
        topic="process",
        labels=(),
        help="Whether the last reading of the configuration succeeded.",
        together="min",
    ),
    Family(
        name="poller_config_last_reload_success_timestamp_seconds",
        kind="gauge",
        topic="process",
        labels=(),
        help="When the configuration was last read successfully.",
        together="min",
    ),
    Family(
        name="poller_build_info",
        kind="gauge",
        topic="process",
        labels=("version",),
        help="1, labelled with what runs here.",
        together="max",
    ),
)
"""What is exported, in this order."""

PROCESS = (
    Family(
        name="process_cpu_seconds_total",
        kind="counter",
        topic="process",
        labels=(),
        help="Processor time, user and system.",
    ),
    Family(name="process_resident_memory_bytes", kind="gauge", topic="process", labels=(), help="Resident memory."),
    Family(name="process_virtual_memory_bytes", kind="gauge", topic="process", labels=(), help="Virtual memory."),
    Family(name="process_open_fds", kind="gauge", topic="process", labels=(), help="Open file descriptors."),
    Family(name="process_max_fds", kind="gauge", topic="process", labels=(), help="File descriptors that may be open."),
    Family(
        name="process_start_time_seconds",
        kind="gauge",
        topic="process",
        labels=(),
        help="When the process began, unix seconds.",
        together="min",
    ),
    Family(
        name="python_gc_collections_total",
        kind="counter",
        topic="process",
        labels=("generation",),
        help="How often the garbage collector ran.",
    ),
    Family(
        name="python_gc_objects_collected_total",
        kind="counter",
        topic="process",
        labels=("generation",),
        help="Objects that it freed.",
    ),
    Family(
        name="python_gc_objects_uncollectable_total",
        kind="counter",
        topic="process",
        labels=("generation",),
        help="Objects that it could not free.",
    ),
    Family(
        name="python_info",
        kind="gauge",
        topic="process",
        labels=("implementation", "major", "minor", "patchlevel", "version"),
        help="1, labelled with the interpreter.",
        together="max",
    ),
)
"""What the client library tells of the process (of Linux, the `process_` ones)."""
