"""What is measured, and what has to come of it: ratios to what runs beside, those that must hold and those we want.

The targets are of a machine without SHA instructions; on another the floor with SHA-256 moves, and with it the ratios.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Unit = Literal["us CPU per record", "us CPU per read", "ms from answer to invocation"]

PATTERN = '{"data":{"type":["order"],"customer":{"tier":["gold",{"prefix":"plat"}]},"total":[{"numeric":[">",100]}]}}'
"""On three keys; everything passes."""
FILTERS = {"Filters": [{"Pattern": PATTERN}]}


_FIFO = "arn:aws:sqs:eu-west-1:123456789012:load.fifo"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A ratio to another variant."""

    must: float
    want: float


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is measured."""

    name: str
    says: str
    source: str = "kinesis"
    shards: int = 8
    records: int = 0
    """In every shard, or the queue; 0 measures the reading of empty shards."""
    rate: int = 0
    """Records a second of every shard, whose delay is measured."""
    tls: bool = False
    groups: int = 0
    """Of messages; above 0 the daemon's queue is a FIFO queue."""
    spread: float = 0.0
    """Seconds over which the readers of shards begin, so that those of a loop do not meet for ever."""
    record_bytes: int = 1024
    batch_size: int = 100
    poll_interval: float = 1.0
    """Seconds between the daemon's reads of an empty shard; the loops have one."""
    seconds: float = 4.0
    """For how long empty shards are read, or records trickle."""
    variants: tuple[str, ...] = ("poller", "naive", "boto3", "floor", "floor_sha")
    peers: tuple[str, ...] = ()
    """Variants that have to be installed."""
    targets: dict[str, Target] = field(default_factory=dict)
    """By variant."""
    features: dict[str, dict[str, Any]] = field(default_factory=dict)
    """More variants of the daemon: keys of the mapping, or `store`, `replicas`, `traced` and `bare`."""
    filters: bool = False

    @property
    def mapping(self) -> dict[str, Any]:
        """Further keys of the mapping."""
        filters = {"FilterCriteria": FILTERS} if self.filters else {}
        fifo = {"EventSourceArn": _FIFO} if self.groups else {}
        return filters | fifo | ({"poll_interval": self.poll_interval} if self.poll_interval != 1.0 else {})

    @property
    def served(self) -> dict[str, Any]:
        """What its load double serves."""
        names = ("shards", "record_bytes", "tls", "groups", "spread")
        return {name: getattr(self, name) for name in names}

    @property
    def unit(self) -> Unit:
        if self.rate:
            return "ms from answer to invocation"
        return "us CPU per record" if self.records else "us CPU per read"


_ONE = {"MaximumRetryAttempts": 5, "BisectBatchOnFunctionError": True}
SCENARIOS = (
    Scenario(
        name="kin-b100-1k",
        says="Kinesis, batches of 100",
        records=12_000,
        peers=("localstack", "async_kinesis", "serverless_offline"),
        targets={
            "naive": Target(must=0.16, want=0.11),
            "floor_sha": Target(must=2.2, want=1.6),
            "localstack": Target(must=0.13, want=0.09),
        },
    ),
    Scenario(
        name="kin-b1000-1k",
        says="Kinesis, batches of 1,000",
        records=5000,
        batch_size=1000,
        targets={"naive": Target(must=0.24, want=0.17)},
    ),
    Scenario(
        name="kin-b1-1k",
        says="Kinesis, single records",
        records=150,
        batch_size=1,
        targets={"naive": Target(must=0.08, want=0.045)},
    ),
    Scenario(
        name="kin-b10-1k",
        says="Kinesis, batches of 10",
        records=1500,
        batch_size=10,
        variants=("poller", "naive", "floor_sha"),
    ),
    Scenario(
        name="tls-kin-b100",
        says="Kinesis, batches of 100, over TLS",
        records=12_000,
        tls=True,
        variants=("poller", "naive", "boto3"),
    ),
    Scenario(
        name="ddb-b100-1k",
        says="DynamoDB, batches of 100",
        source="dynamodb",
        records=8_000,
        peers=("localstack",),
        targets={"naive": Target(must=0.06, want=0.037), "localstack": Target(must=0.05, want=0.03)},
    ),
    Scenario(
        name="sqs-b10-1k",
        says="SQS, batches of 10, deleted",
        source="sqs",
        shards=1,
        records=8000,
        batch_size=10,
        peers=("localstack", "sqs_consumer", "serverless_offline"),
        targets={
            "naive": Target(must=0.10, want=0.06),
            "localstack": Target(must=0.08, want=0.05),
            "sqs_consumer": Target(must=0.12, want=0.08),
        },
    ),
    Scenario(
        name="sqs-fifo-b10",
        says="SQS FIFO, batches of 10 of different groups, deleted",
        source="sqs",
        shards=1,
        records=8000,
        batch_size=10,
        groups=1000,
        variants=("poller", "naive"),
    ),
    Scenario(
        name="idle-read",
        says="empty shards read all the time, by either as many as keep it busy",
        shards=1000,
        poll_interval=0.1,
        variants=("poller", "naive"),
        targets={"naive": Target(must=0.07, want=0.04)},
    ),
    Scenario(
        name="idle-200",
        says="200 empty shards, one read a second of each",
        shards=200,
        variants=("poller", "naive"),
    ),
    Scenario(
        name="idle-1000",
        says="1,000 empty shards; the ratio turned round is how many times N's shards a core holds",
        shards=1000,
        variants=("poller", "naive"),
        targets={"naive": Target(must=1 / 10, want=1 / 22)},
    ),
    Scenario(
        name="delay",
        says="20 shards of 2 records a second",
        shards=20,
        rate=2,
        spread=1.0,
        seconds=8.0,
        variants=("poller", "naive"),
        targets={"naive": Target(must=0.35, want=0.2)},
    ),
    Scenario(
        name="filter-b100-1k",
        says="Kinesis, batches of 100, a filter on three keys of the payload that all records pass",
        records=5000,
        filters=True,
        variants=("poller",),
        peers=("localstack",),
        targets={"localstack": Target(must=0.13, want=0.09)},
    ),
    Scenario(
        name="features-b100-1k",
        says="Kinesis, batches of 100, features turned on one by one; ratios are to the daemon without them",
        records=5000,
        variants=("poller",),
        features={
            "filter": {"FilterCriteria": FILTERS},
            "lanes": {"ParallelizationFactor": 10},
            "partial": {"FunctionResponseTypes": ["ReportBatchItemFailures"], **_ONE},
            "sqlite": {"store": "sqlite"},
            "sqlite-2-replicas": {"store": "sqlite", "replicas": 2},
            "dynamodb-2-replicas": {"store": "dynamodb", "replicas": 2},
            "postgres-2-replicas": {"store": "postgres", "replicas": 2},
            "traced": {"traced": True},
            "bare": {"bare": True},
        },
    ),
)
