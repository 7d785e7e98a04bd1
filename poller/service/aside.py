"""Work beside the daemon that uses its pipeline: `poller run --dry-run` and `poller replay`. It joins no fleet."""

from __future__ import annotations

import hashlib
import logging
import random
import signal
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import click
import orjson

from poller.aws.session import Aws, open_aws
from poller.destinations import DestinationSettings
from poller.fleet.fleet import Fleet, Identity, Time
from poller.mapping.budget import Budget
from poller.mapping.retry import backoff
from poller.mapping.row import decode_shard, prefix
from poller.mapping.run import run_mapping
from poller.mapping.stop import Stop
from poller.mapping.tools import Tools
from poller.model.account import Account
from poller.model.errors import Denied, PollerError, SettingsError, Transient, told
from poller.model.facts import BatchInvoked, Fact, MappingProblem, RecordsDiverted, RecordsDropped, ShardMoved
from poller.model.outcome import Outcome, Partial, Replied
from poller.model.ports import Destination, Observe, Source, Store, Target
from poller.model.record import At
from poller.model.trace import Trace
from poller.service import signals
from poller.service.log_lines import one_line
from poller.service.logs import LogFacts
from poller.service.steering import Refused, moment
from poller.service.takers import joined
from poller.settings import MappingSettings, Settings, load
from poller.sources.around import Range, Untouched
from poller.sources.dynamodb import DynamoDBStream
from poller.sources.sqs import SqsQueue
from poller.stores.overlay import Apart, ReadOnly
from poller.targets import TargetSettings
from poller.targets.aws_lambda import LambdaFunction

_log = logging.getLogger("poller.mapping")
_WOULD = Replied(body=b'{"batchItemFailures":[],"state":{}}')
"""What nobody was asked for: success, in all the ways that a mapping may want it told."""
_FIRST_PAUSE = 5.0
_MOST_SAID = 10
"""Ids of records that one line says, at the most."""
_chance: Callable[[], float] = random.Random().random  # noqa: S311  # jitter


# ---------------------------------------------------------------- dry run


class _Unsent:
    """A function that is not invoked: a line says what it would have been sent."""

    def __init__(self, mapping: str, function: str) -> None:
        self._mapping = mapping
        self._function = function

    async def invoke(self, event: bytes, request_id: str, trace: Trace | None = None) -> Outcome:  # noqa: ARG002
        _log.info("would have sent", extra={"fields": _described(self._mapping, self._function, event)})
        return _WOULD

    async def check(self) -> float | None:
        return None


class _Untold:
    """A destination that is not told."""

    def __init__(self, mapping: str) -> None:
        self._mapping = mapping

    async def send(self, account: Account) -> None:  # noqa: ARG002
        _log.info("would have told the on-failure destination", extra={"fields": {"mapping": self._mapping}})

    async def check(self) -> None:
        pass


def _described(mapping: str, function: str, event: bytes) -> dict[str, Any]:
    records: list[dict[str, Any]] = orjson.loads(event).get("Records", [])
    ids = [_id(each) for each in records]
    return {
        "mapping": mapping,
        "function": function,
        "records": len(records),
        "size_bytes": len(event),
        "first": ids[0] if ids else None,
        "last": ids[-1] if ids else None,
        "ids": " ".join(ids[:_MOST_SAID]) + (" ..." if len(ids) > _MOST_SAID else ""),
    }


def _id(record: Mapping[str, Any]) -> str:
    inner = record.get("kinesis") or record.get("dynamodb") or {}
    found = inner.get("sequenceNumber") or inner.get("SequenceNumber") or record.get("messageId") or ""
    return str(found)


async def dry_run(config: Path, environ: Mapping[str, str]) -> int:
    """Poll, filter and batch all mappings until SIGTERM or SIGINT; invoke nothing and store nothing.

    Raises:
        SettingsError: the configuration cannot be used.
    """
    settings = load(config, environ, now=time.time())
    observe = joined(LogFacts(time.time).takers)
    stop = Stop()
    async with open_aws(settings.aws) as aws, settings.store.open(aws) as stored, anyio.create_task_group() as around:
        await around.start(_stop_at_signal, stop)
        store, budget = ReadOnly(stored), Budget(settings.memory_bytes)
        async with anyio.create_task_group() as tasks:
            for mapping in settings.mappings:
                if mapping.enabled:
                    tasks.start_soon(_dry, mapping, aws, store, budget, observe, stop)
        around.cancel_scope.cancel()
    return 0


async def _dry(mapping: MappingSettings, aws: Aws, store: Store, budget: Budget, observe: Observe, stop: Stop) -> None:
    if isinstance(mapping.source, SqsQueue):
        _log.warning(
            "a dry run receives the queue's messages: each is hidden for its visibility timeout or until this ends,"
            " and each receive counts towards maxReceiveCount",
            extra={"fields": {"mapping": mapping.name}},
        )

    async def once() -> None:
        async with mapping.source.open(aws, time.time) as source:
            untouched = Untouched(source)
            await run_mapping(
                _tools(
                    mapping,
                    source=untouched,
                    target=_Unsent(mapping.name, mapping.target.name),
                    destination=_Untold(mapping.name) if mapping.destination else None,
                    store=store,
                    budget=budget,
                    observe=observe,
                    stop=stop,
                )
            )
            await _give_back(mapping.name, untouched)

    await _again_and_again(mapping.name, once, observe, stop)


async def _give_back(mapping: str, source: Untouched) -> None:
    with anyio.CancelScope(shield=True, deadline=anyio.current_time() + 5):
        try:
            await source.give_back()
        except PollerError as error:
            _log.warning(
                "messages could not be given back, they return by themselves",
                extra={"fields": {"mapping": mapping, "reason": str(error)}},
            )


# ---------------------------------------------------------------- replay


class _Count:
    """What became of a replay, and when it is over."""

    def __init__(self, observe: Observe, source: Range, ended: set[str], stop: Stop) -> None:
        self._observe = observe
        self._source = source
        self._stop = stop
        self.ended = ended
        self.records = self.invocations = self.given_up = 0

    def observe(self, fact: Fact) -> None:
        self._observe(fact)
        match fact:
            case BatchInvoked():
                self.invocations += 1
                if isinstance(fact.outcome, Replied):
                    self.records += fact.records
                elif isinstance(fact.outcome, Partial):
                    self.records += fact.records - len(fact.outcome.failed)
            case RecordsDropped() | RecordsDiverted():
                self.given_up += fact.records
            case ShardMoved(to="ended"):
                self.ended.add(fact.shard)
                self.look()
            case _:
                pass

    def look(self) -> None:
        """Stop when every shard has been read to the end of the span."""
        if self._source.shards and self._source.shards <= self.ended:
            self._stop.set()


async def replay(
    config: Path,
    environ: Mapping[str, str],
    *,
    mapping: str,
    since: str,
    until: str,
    function: str | None,
) -> int:
    """Deliver a past range of a stream again, without touching the mapping's checkpoint.

    Its progress is stored apart, so that the same command goes on after a crash; it is removed at the end.

    Returns:
        0 when all was delivered, or given up by the mapping's own rules; 1 when it was stopped before.

    Raises:
        SettingsError: the configuration or the range cannot be used.
    """
    settings = load(config, environ, now=time.time())
    chosen, target = _chosen(settings, mapping, function)
    try:
        return await _replayed(settings, chosen, target, _span(since, until))
    except* SettingsError:
        raise
    except* PollerError as group:
        raise SettingsError(f"{mapping}: {one_line(told(group))}") from group


async def _replayed(
    settings: Settings, chosen: MappingSettings, target: TargetSettings, span: tuple[float, float]
) -> int:
    """The replay of a mapping to a function, as `replay` answers it."""
    stop = Stop()
    log = joined(LogFacts(time.time).takers)
    async with (
        open_aws(settings.aws) as aws,
        settings.store.open(aws) as store,
        chosen.source.open(aws, time.time) as opened,
        target.open(aws, log) as invoked,
        anyio.create_task_group() as around,
    ):
        await around.start(_stop_at_signal, stop)
        source = Range(opened, since=span[0], until=span[1])
        apart = Apart(store, _folder(chosen, target, span))
        count = _Count(log, source, set(), stop)
        count.ended |= await _ended(chosen, source, apart)
        resumed = len(count.ended)
        count.look()
        async with _opened(chosen.destination, aws) as destination:
            tools = _tools(
                chosen,
                source=source,
                target=invoked,
                destination=destination,
                store=apart,
                budget=Budget(settings.memory_bytes),
                observe=count.observe,
                stop=stop,
            )
            name = target.function if isinstance(target, LambdaFunction) else target.name
            tools = replace(tools, function_name=name, policy=replace(tools.policy, start=At(span[0])))
            await _again_and_again(chosen.name, partial(run_mapping, tools), log, stop)
        done = source.shards <= count.ended
        if done:
            await apart.clear()
        around.cancel_scope.cancel()
    said = f"{count.records} records delivered in {count.invocations} invocations, {count.given_up} given up"
    more = f" ({resumed} shards were done before)" if resumed else ""
    if not done:
        click.echo(f"poller replay: stopped: {said}; the same command goes on from here", err=True)
        return 1
    click.echo(f"{chosen.name}: {said}, {len(source.shards)} shards{more}")
    return 0


def _chosen(settings: Settings, name: str, function: str | None) -> tuple[MappingSettings, TargetSettings]:
    found = next((each for each in settings.mappings if each.name == name), None)
    if found is None:
        names = ", ".join(sorted(each.name for each in settings.mappings))
        raise SettingsError(f"there is no mapping {name}; there are {names}")
    if isinstance(found.source, SqsQueue):
        raise SettingsError(f"{name} reads a queue, which forgets what was deleted: only streams can be replayed")
    if function is None:
        return found, found.target
    if function not in settings.functions:
        raise SettingsError(f"there is no function {function}; there are {', '.join(sorted(settings.functions))}")
    return found, settings.functions[function]


def _span(since: str, until: str) -> tuple[float, float]:
    """Both ends, unix seconds. Raises `SettingsError`."""
    now = time.time()
    try:
        span = moment(since, now=now), moment(until, now=now)
    except Refused as refused:
        raise SettingsError(f"--from and --to are times in the past: {refused}") from None
    if span[0] >= span[1]:
        raise SettingsError(f"--from {since} has to lie before --to {until}")
    return span


def _folder(mapping: MappingSettings, target: TargetSettings, span: tuple[float, float]) -> str:
    """Where the rows of a replay lie: the same command finds them again."""
    what = f"{mapping.name} {mapping.source.arn} {target.name} {span[0]} {span[1]}"
    return f"@replay/{hashlib.sha256(what.encode()).hexdigest()[:16]}/"


async def _ended(mapping: MappingSettings, source: Range, store: Store) -> set[str]:
    """Shards that an earlier try of this replay has done."""
    rows = f"{prefix(mapping.name, mapping.source.arn, (await source.topology()).identity)}/"
    return {key.removeprefix(rows) async for key, row in store.scan(rows) if decode_shard(row.value).ended}


# ---------------------------------------------------------------- both


def _tools(
    mapping: MappingSettings,
    *,
    source: Source,
    target: Target,
    destination: Destination | None,
    store: Store,
    budget: Budget,
    observe: Observe,
    stop: Stop,
) -> Tools:
    clocks = Time(clock=time.time, elapsed=time.monotonic, chance=_chance)
    who = Identity(name=f"beside {uuid.uuid4()}", boot=str(uuid.uuid4()))
    return Tools(
        mapping=mapping.name,
        uuid=mapping.uuid,
        source_name=mapping.source.arn,
        family="dynamodb" if isinstance(mapping.source, DynamoDBStream) else "kinesis",
        function_name=mapping.target.name,
        policy=mapping.policy,
        source=source,
        target=target,
        destination=destination,
        store=store,
        fleet=Fleet(store, who, clocks, observe),
        budget=budget,
        observe=observe,
        clock=time.time,
        chance=_chance,
        new_id=lambda: str(uuid.uuid4()),
        stop=stop,
    )


async def _again_and_again(mapping: str, work: Callable[[], Awaitable[None]], observe: Observe, stop: Stop) -> None:
    """Run a mapping until its stop, again if it fails in passing."""
    failures = 0
    while not stop.is_set():
        try:
            await work()
        except* (Transient, Denied) as group:
            failures += 1
            seconds = backoff(failures, _chance(), base=_FIRST_PAUSE)
            observe(MappingProblem(mapping=mapping, reason=one_line(told(group)), retry_in=seconds))
            with anyio.move_on_after(seconds):
                await stop.wait()


def _opened(
    destination: DestinationSettings | None, aws: Aws
) -> AbstractAsyncContextManager[Destination] | AbstractAsyncContextManager[None]:
    return nullcontext() if destination is None else destination.open(aws)


async def _stop_at_signal(stop: Stop, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        signals.let_come()
        task_status.started()
        async for _ in received:
            stop.set()
