"""Facts in, log lines out: WARN when nothing is lost, ERROR when data is dropped or somebody must act. Never a payload."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, Literal, TextIO, TypeAlias, get_args

from poller.model.errors import SettingsError
from poller.model.facts import (
    BatchInvoked,
    BatchSent,
    CheckpointWritten,
    DestinationFailed,
    Fact,
    FunctionPrinted,
    LeaseEnded,
    MappingMoved,
    MappingProblem,
    MappingRemoved,
    MemberMoved,
    MessagesDeleted,
    MessagesReleased,
    OrderTaken,
    RecordsDiverted,
    RecordsDropped,
    RecordsFiltered,
    Reloaded,
    RosterSeen,
    SelfFenced,
    ShardMoved,
    ShardPassed,
    ShardSought,
    ShardStands,
    SourceListed,
    SourceRead,
    Stopping,
    StoreFailed,
    WishesSeen,
)
from poller.model.outcome import Failed, Partial, Refused, Replied, Unavailable, label
from poller.model.ports import Clock
from poller.service.log_lines import ConsoleFormatter, JsonFormatter, one_line
from poller.service.problems import Problems, Where
from poller.service.takers import Takers

Format: TypeAlias = Literal["json", "console"]

_LONGEST_REASON = 2_000

_SHARD_MOVED = {
    "owned": "shard opened",
    "blocked_on_parent": "shard waits for its parents",
    "ended": "shard ended",
    "released": "shard let go",
    "forgotten": "shard left the stream",
    "elsewhere": "shard is another replica's",
}
_SHARD_PASSED = {
    "claimed": "shard taken, nobody had it",
    "adopted": "shard received",
    "handed_over": "shard handed over",
    "lost": "shard lost, another replica has it",
}
_SILENT = (ShardStands, RosterSeen, SourceListed, WishesSeen)
"""The metrics and the board tell of these: where a shard stands changes with every batch."""


def configure(level: str, format: Format, stream: TextIO, *, replica: int = 0) -> None:  # noqa: A002  # as the option is called
    """Send the logs of this process to `stream`.

    Args:
        level: of our own loggers: debug, info, warn or error. Libraries speak from WARN on, whatever it is: at DEBUG
            the AWS SDK would log payloads and credentials.
        format: how a line looks.
        stream: standard error, in a daemon.
        replica: its number, which each line tells; 0: it is alone.

    Raises:
        SettingsError: there is no such level.
    """
    threshold = {"DEBUG": 10, "INFO": 20, "WARN": 30, "WARNING": 30, "ERROR": 40}.get(level.upper())
    if threshold is None:
        raise SettingsError(f"log level {level!r} is unknown, allowed: debug, info, warn, error")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if format == "json" else ConsoleFormatter())
    if replica:
        handler.addFilter(partial(_mark, replica))
    logging.basicConfig(level=max(threshold, logging.WARNING), handlers=[handler], force=True)
    logging.getLogger("poller").setLevel(threshold)
    for sdk in ("aiobotocore", "botocore"):  # what it logs with a traceback it also raises, and that we tell
        logging.getLogger(sdk).setLevel(logging.CRITICAL)
    logging.captureWarnings(capture=True)


def _mark(replica: int, record: logging.LogRecord) -> bool:
    record.__dict__["fields"] = {"replica": replica, **record.__dict__.get("fields", {})}
    return True


class LogFacts:
    """Says what happened, and does not repeat itself. Whether anybody debugs it asks once: `configure` comes first."""

    def __init__(self, clock: Clock) -> None:
        self._problems = Problems(clock)
        self._process = logging.getLogger("poller")
        self._mapping = logging.getLogger("poller.mapping")
        self._function = logging.getLogger("poller.function")
        self._debugs = self._mapping.isEnabledFor(logging.DEBUG)
        silent = _SILENT if self._debugs else (*_SILENT, BatchSent)
        self.takers: Takers = {kind: self._tell for kind in get_args(Fact) if kind not in silent} | {
            SourceRead: self._read,
            BatchInvoked: self._invoked,
            CheckpointWritten: self._checkpoint,
            MessagesDeleted: self._deleted,
        }

    def _tell(self, fact: Fact) -> None:
        match fact:
            case BatchSent():
                where = Where(fact.mapping, fact.shard)
                self._say(logging.DEBUG, "batch sent", where, records=fact.records, age=fact.age)
            case MessagesReleased() | LeaseEnded():
                self._came_back(fact)
            case RecordsDropped() | RecordsDiverted() | DestinationFailed() | RecordsFiltered():
                self._given_up(fact)
            case ShardMoved() | ShardPassed() | OrderTaken() | ShardSought():
                self._shard(fact)
            case MappingMoved() | MappingProblem() | MappingRemoved():
                self._moved(fact)
            case Reloaded() | Stopping() | FunctionPrinted():
                self._happened(fact)
            case MemberMoved() | SelfFenced() | StoreFailed():
                self._replica(fact)
            case _:
                pass

    def _shard(self, fact: ShardMoved | ShardPassed | OrderTaken | ShardSought) -> None:
        where = Where(fact.mapping, fact.shard)
        if isinstance(fact, OrderTaken | ShardSought):
            self._order(fact)
            return
        if isinstance(fact, ShardPassed):
            self._say(logging.INFO, _SHARD_PASSED[fact.how], where, member=fact.member or None)
            return
        self._say(logging.INFO, _SHARD_MOVED[fact.to], where, position=fact.position, owner=fact.owner or None)
        if fact.to in ("ended", "released", "forgotten", "elsewhere"):
            self._problems.forget(fact.mapping, fact.shard)

    def _order(self, fact: OrderTaken | ShardSought) -> None:
        where = Where(fact.mapping, fact.shard)
        if isinstance(fact, OrderTaken):
            self._say(logging.WARNING, f"operator's order: {fact.verb}", where, to=fact.asked or None, who=fact.who)
            return
        said = {"asked": fact.asked, "who": fact.who, "ordered": fact.at, "first": fact.before, "last": fact.after}
        if fact.before == fact.after:
            self._say(logging.INFO, "position kept, there was nothing to pass over", where, **said)
        else:
            self._say(logging.ERROR, "position moved by an operator", where, **said)

    # These come with every batch. What goes as ever is told to who debugs, or was told of a problem that may be over.

    def _read(self, fact: SourceRead) -> None:
        if fact.outcome in ("records", "empty") and not self._problems.unsolved and not self._debugs:
            return
        where = Where(fact.mapping, fact.shard, "read")
        match fact.outcome:
            case "records" | "empty":
                self._solved("source is read again", where)
                self._solved("mapping goes on", Where(fact.mapping, "", "mapping"))
                self._say(logging.DEBUG, "source read", where, records=fact.records, seconds=fact.seconds)
            case "throttled":
                self._problem(logging.WARNING, "source throttles the read", where, reason=fact.reason)
            case "error":
                self._problem(logging.WARNING, "source could not be read", where, reason=fact.reason)

    def _invoked(self, fact: BatchInvoked) -> None:
        if isinstance(fact.outcome, Replied) and not self._problems.unsolved and not self._debugs:
            return
        where = Where(fact.mapping, fact.shard, "invoke")
        said = {"records": fact.records, "attempt": fact.attempt, "request_id": fact.request_id}
        match fact.outcome:
            case Replied():
                self._solved("function succeeds again", where)
                self._say(logging.DEBUG, "function succeeded", where, seconds=fact.seconds, **said)
            case Partial(failed=failed):
                message = "function reported failed records"
                self._problem(
                    logging.WARNING, message, where, reason=f"{len(failed)} records, the first {failed[0]}", **said
                )
            case Failed() | Refused() | Unavailable():
                level, message = _failure(fact.outcome)
                outcome, reason = label(fact.outcome), fact.outcome.reason
                self._problem(level, message, where, outcome=outcome, reason=reason, retry_in=fact.retry_in, **said)

    def _checkpoint(self, fact: CheckpointWritten) -> None:
        if fact.outcome == "written" and not self._problems.unsolved and not self._debugs:
            return
        where = Where(fact.mapping, fact.shard, "checkpoint")
        said = {"position": fact.position}
        match fact.outcome:
            case "written":
                self._solved("checkpoints are written again", where)
                self._say(logging.DEBUG, "checkpoint written", where, **said)
            case "superseded":
                message = "another owner holds the shard, nothing was written"
                self._problem(logging.WARNING, message, where, reason=fact.reason, **said)
            case "error":
                message = "checkpoint could not be written"
                self._problem(logging.WARNING, message, where, reason=fact.reason, **said)

    def _deleted(self, fact: MessagesDeleted) -> None:
        if not fact.failed and not self._problems.unsolved and not self._debugs:
            return
        where = Where(fact.mapping, "", "delete")
        said = {"deleted": fact.deleted, "failed": fact.failed or None}
        if fact.failed:
            message = "messages could not be deleted and will come back"
            self._problem(logging.WARNING, message, where, reason=fact.reason, **said)
        else:
            self._solved("messages are deleted again", where)
            self._say(logging.DEBUG, "messages deleted", where, **said)

    def _came_back(self, fact: MessagesReleased | LeaseEnded) -> None:
        match fact:
            case MessagesReleased():
                self._released(fact)
            case LeaseEnded():
                message = "messages were not settled while they were hidden and may be delivered again"
                where = Where(fact.mapping, "", "lease")
                self._problem(logging.WARNING, message, where, reason=fact.reason, messages=fact.messages)

    def _given_up(self, fact: RecordsDropped | RecordsDiverted | DestinationFailed | RecordsFiltered) -> None:
        where = Where(fact.mapping, fact.shard)
        match fact:
            case RecordsDropped():
                self._dropped(fact)
            case RecordsDiverted():
                said = {"condition": fact.condition, "records": fact.records, "first": fact.first, "last": fact.last}
                self._say(logging.WARNING, "records given up, the destination was told", where, **said)
            case DestinationFailed():
                message = "the on-failure destination could not be told"
                self._say(logging.ERROR, message, where, records=fact.records, reason=fact.reason)
            case RecordsFiltered():
                self._say(logging.DEBUG, "records filtered out", where, records=fact.records)

    def _released(self, fact: MessagesReleased) -> None:
        where = Where(fact.mapping, "", "release")
        if fact.failed:
            message = "unsent messages could not be given back, they return when their visibility ends"
            self._problem(logging.WARNING, message, where, reason=fact.reason, failed=fact.failed)
        else:
            self._say(
                logging.INFO, "unsent messages given back", where, released=fact.released, reason=fact.reason or None
            )

    def _dropped(self, fact: RecordsDropped) -> None:
        # Every loss has its line, however often: it is here that an operator learns which records are gone.
        trimmed = fact.condition == "Trimmed"
        self._say(
            logging.ERROR,
            "records left the source before they were read" if trimmed else "records dropped",
            Where(fact.mapping, fact.shard),
            condition=fact.condition,
            records=fact.records or None,
            first=fact.first,
            last=fact.last,
        )

    def _moved(self, fact: MappingMoved | MappingProblem | MappingRemoved) -> None:
        where = Where(fact.mapping, "", "mapping")
        match fact:
            case MappingMoved():
                self._say(logging.INFO, "mapping changed its state", where, state=fact.state, reason=fact.reason)
            case MappingProblem():
                message = "mapping cannot go on, but tries again"
                self._problem(logging.ERROR, message, where, reason=fact.reason, retry_in=fact.retry_in)
            case MappingRemoved():
                self._problems.forget(fact.mapping)
                self._say(logging.INFO, "mapping removed", where)

    def _happened(self, fact: Reloaded | Stopping | FunctionPrinted) -> None:
        match fact:
            case Reloaded(successful=True):
                _log(self._process, logging.INFO, "configuration read", {})
            case Reloaded():
                message = "configuration refused, what ran before goes on"
                for mistake in fact.reason.splitlines() or [""]:
                    _log(self._process, logging.ERROR, message, {"reason": mistake})
            case Stopping():
                _log(self._process, logging.INFO, "stopping", {"reason": fact.reason, "grace": fact.grace})
            case FunctionPrinted():
                fields = {"function": fact.function, "request_id": fact.request_id}
                _log(self._function, logging.INFO, fact.line, fields)

    def _replica(self, fact: MemberMoved | SelfFenced | StoreFailed) -> None:
        where = Where("", "", "store")
        match fact:
            case MemberMoved(state="gone", fenced=True):
                _log(self._process, logging.WARNING, "silent replica declared dead", {"member": fact.member})
            case MemberMoved(fenced=True):
                message = "this replica was declared dead while it could not beat, it begins anew"
                _log(self._process, logging.WARNING, message, {"member": fact.member})
            case MemberMoved():
                _log(self._process, logging.INFO, f"replica is {fact.state}", {"member": fact.member})
            case SelfFenced(seconds=0.0):
                _log(self._process, logging.INFO, "this replica beats again and invokes again", {})
            case SelfFenced():
                message = "no invocations: this replica cannot beat, others may have its shards"
                _log(self._process, logging.ERROR, message, {"seconds": fact.seconds})
            case StoreFailed():
                self._problem(logging.WARNING, "store could not be used", where, reason=fact.reason)

    def _problem(self, level: int, message: str, where: Where, *, reason: str, **fields: Any) -> None:
        left_out = self._problems.tell(where, message)
        if left_out is not None:
            reason = one_line(reason, _LONGEST_REASON)
            self._say(level, message, where, reason=reason, **fields, left_out=left_out or None)

    def _solved(self, message: str, where: Where) -> None:
        left_out = self._problems.solve(where)
        if left_out is not None:
            self._say(logging.INFO, message, where, left_out=left_out or None)

    def _say(self, level: int, message: str, where: Where, **fields: Any) -> None:
        if self._mapping.isEnabledFor(level):
            _log(self._mapping, level, message, {"mapping": where.mapping, "shard": where.shard, **fields})


def _failure(outcome: Failed | Refused | Unavailable) -> tuple[int, str]:
    match outcome:
        case Failed(timeout=True):
            return logging.WARNING, "function ran out of time"
        case Failed():
            return logging.WARNING, "function failed"
        case Refused():
            return logging.WARNING, "function is throttled"
        case Unavailable(lasting=True):
            return logging.ERROR, "function cannot be invoked"
        case Unavailable():
            return logging.WARNING, "function was not reached"


def _log(logger: logging.Logger, level: int, message: str, fields: dict[str, Any]) -> None:
    logger.log(level, "%s", message, extra={"fields": fields})
