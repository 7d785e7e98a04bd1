"""Watches every call, fact and write of a story and keeps what must never happen as complaints."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from poller.mapping.row import ShardRow, decode_shard
from poller.model.facts import Fact, RecordsDiverted, RecordsDropped
from poller.model.record import After, At, From, Position, TrimHorizon
from tests.pipeline.algorithm import Expected, Flaw, Meaning, Rules, lane_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """A record as the story put it into its stream."""

    id: int
    shard: str
    key: str
    arrived: float
    flaw: Flaw


class Witness:
    """What is known of one story: what was put, what became of it, what is stored."""

    def __init__(self, rules: Rules, lanes: int, *, exact: bool) -> None:
        self.complaints: list[str] = []
        self.settled: set[int] = set()
        self.unwanted: set[int] = set()
        """What nobody has to deliver: put before the first sight under LATEST, or dropped before anybody looked."""
        self.put: dict[int, Put] = {}
        self.of_shard: dict[str, list[int]] = defaultdict(list)
        self.parents: dict[str, tuple[str, ...]] = {}
        self.closed: set[str] = set()
        self.trimmed: set[int] = set()
        self.stored: dict[str, ShardRow] = {}
        self.started = False
        """Where the mapping begins is stored."""
        self._rules = rules
        self._lanes = lanes
        self._widest = lanes
        self._exact = exact
        self._arrived: dict[int, float] = {}
        self._used: set[str] = set()
        self._expected: dict[tuple[str, int], Expected] = {}
        self._settled_now: set[int] = set()
        self._running: list[list[int]] = []
        self._failed: dict[tuple[int, int, int], list[int]] = {}

    def complain(self, text: str) -> None:
        self.complaints.append(text)

    def has_put(self, record: Put) -> None:
        self.put[record.id] = record
        self._arrived[record.id] = record.arrived
        self.of_shard[record.shard].append(record.id)

    def lives(self, lanes: int) -> None:
        """The mapping was started."""
        self._lanes, self._widest = lanes, max(self._widest, lanes)
        self._settled_now.clear()
        self._running.clear()
        for each in self._expected.values():
            each.restarts()

    def excuse(self, ids: Iterable[int]) -> None:
        """Nobody has to deliver these."""
        self.unwanted.update(ids)

    def settle(self, ids: Iterable[int]) -> None:
        ids = list(ids)
        self.settled.update(ids)
        self._settled_now.update(ids)

    def begins(self, at: float, request_id: str, ids: list[int]) -> None:
        """A call begins."""
        shard = self.put[ids[0]].shard
        if ids != sorted(ids) or {self.put[each].shard for each in ids} != {shard}:
            self.complain(f"{ids} is not in order, or of several shards")
        for each in ids:
            if each in self._settled_now:
                self.complain(f"{each} is sent though it was settled")
            if self._is_stored(each):
                self.complain(f"{each} is sent though a checkpoint covers it")
            if self._rules.record_age is not None and at - self.put[each].arrived >= self._rules.record_age:
                self.complain(f"{each} is sent though it is too old")
        self._follows(shard, ids)
        self._running.append(ids)
        if sum(self.put[each[0]].shard == shard for each in self._running) > self._lanes_at_once(shard):
            self.complain(f"{shard} has more calls in flight than lanes")
        if self._exact and not self.complaints:  # a broken promise makes foretelling pointless
            wrong = self._lane(ids[0]).begins(at, request_id, ids)
            if wrong:
                self.complain(wrong)

    def ends(self, at: float, ids: list[int], meant: Meaning) -> None:
        """A call ended."""
        self._running.remove(ids)
        if meant.kind == "success":
            self.settle(ids)
        self.settle(ids[: meant.settled])
        if meant.kind == "failure":
            rest = ids[meant.settled :]
            self._failed[rest[0], rest[-1], len(rest)] = rest
        if self._exact and not self.complaints:  # a broken promise makes foretelling pointless
            self._lane(ids[0]).ends(at, meant)

    def tells(self, now: float, fact: Fact) -> None:
        """The mapping told a fact."""
        if not isinstance(fact, RecordsDropped | RecordsDiverted):
            return
        if fact.condition == "Trimmed":
            self._lost(fact)
            return
        ids = self._given_up(fact)
        if not ids:
            self.complain(f"nobody knows what {fact} means")
            return
        limits = {"RecordAgeExceeded": self._rules.record_age, "Expired": self._rules.retention}
        limit = limits.get(fact.condition)
        if fact.condition in limits and (limit is None or now - self.put[ids[-1]].arrived < limit):
            self.complain(f"{ids} is given up before its time: {fact.condition}")
        if fact.condition == "RetryAttemptsExhausted" and self._rules.retries is None:
            self.complain(f"{ids} is given up though it may be retried for ever")
        self.settle(ids)
        if self._exact and not self.complaints:  # a broken promise makes foretelling pointless
            wrong = self._lane(ids[0]).gives_up(fact.condition, ids)
            if wrong:
                self.complain(wrong)

    def writes(self, shard: str, value: bytes) -> None:
        """A shard's row is about to be stored."""
        new, old = decode_shard(value), self.stored.get(shard)
        if old and _rank(new.position) < _rank(old.position):
            self.complain(f"the checkpoint of {shard} falls from {old.position} to {new.position}")
        if old and old.ended and not new.ended:
            self.complain(f"{shard} had ended and has not any more")
        self.stored[shard] = new
        covered = [each for each in self.of_shard[shard] if self._is_stored(each)]
        if new.ended:
            covered = self.of_shard[shard]
            if shard not in self.closed:
                self.complain(f"{shard} is stored as ended though it is open")
        passed = set(covered) - self.settled - self.unwanted
        if passed:
            self.complain(f"the checkpoint of {shard} passes {sorted(passed)}, which nobody settled")

    def forgets(self, shard: str) -> None:
        """A shard's row was removed."""
        if not self.stored.pop(shard).ended:
            self.complain(f"the row of {shard} is removed though it has not ended")

    def unsettled(self) -> set[int]:
        return self.put.keys() - self.settled - self.unwanted

    def not_stored(self) -> set[str]:
        """Shards whose rows do not say yet all that was settled."""
        return {
            shard
            for shard, ids in self.of_shard.items()
            if ids and shard in self.stored and not self.stored[shard].ended and not all(map(self._is_covered, ids))
        }

    def _is_covered(self, sequence: int) -> bool:
        return self._is_stored(sequence) or sequence in self.trimmed or sequence in self.unwanted

    def _is_stored(self, sequence: int) -> bool:
        record = self.put[sequence]
        row = self.stored.get(record.shard)
        if row is None:
            return False
        if row.ended or (isinstance(row.position, After) and sequence <= int(row.position.sequence)):
            return True
        if not row.lanes:
            return False
        done = row.lanes[lane_of(sequence, record.key, len(row.lanes))].done
        return bool(done) and sequence <= int(done)

    def _follows(self, shard: str, ids: list[int]) -> None:
        """All that must come before was settled: of the same key, of the same shard, of every ancestor."""
        keys, done = {self.put[each].key for each in ids}, self.settled | self.unwanted
        for each in self.of_shard[shard]:
            if each >= ids[-1]:
                break
            if each not in ids and each not in done and (self._widest == 1 or self.put[each].key in keys):
                self.complain(f"{ids} is sent before {each}")
        for ancestor in self._ancestors(shard):
            left = set(self.of_shard[ancestor]) - done
            if left or ancestor not in self.closed:
                self.complain(f"{ids} of {shard} is sent before {sorted(left)} of its parent {ancestor}")

    def _ancestors(self, shard: str) -> set[str]:
        parents = self.parents.get(shard, ())
        return set(parents).union(*(self._ancestors(parent) for parent in parents))

    def _lanes_at_once(self, shard: str) -> int:
        row = self.stored.get(shard)
        return max(self._lanes, len(row.lanes) if row else 0)

    def _lane(self, sequence: int) -> Expected:
        record = self.put[sequence]
        place = record.shard, lane_of(sequence, record.key, self._lanes)
        if place not in self._expected:
            self._expected[place] = Expected(self._rules, self._arrived, self._used)
        return self._expected[place]

    def _given_up(self, fact: RecordsDropped | RecordsDiverted) -> list[int]:
        first, last = int(fact.first), int(fact.last)
        if fact.condition == "RetryAttemptsExhausted":
            return self._failed.get((first, last, fact.records), [])
        row = self.stored.get(fact.shard)
        for lanes in (self._lanes, len(row.lanes) if row else 0):
            ids = [each for each in self.of_shard[fact.shard] if lanes and first <= each <= last]
            lane = lane_of(first, self.put[first].key, lanes or 1)
            ids = [each for each in ids if lane_of(each, self.put[each].key, lanes) == lane]
            if len(ids) == fact.records:
                return ids
        return []

    def _lost(self, fact: RecordsDropped | RecordsDiverted) -> None:
        ids = self.of_shard[fact.shard]
        lost = {each for each in ids if each in self.trimmed}
        if fact.last == "SHARD_END" and lost != set(ids):
            self.complain(f"{fact.shard} is called lost though the stream has it")
        if fact.first.isdigit():
            lost = {each for each in lost if each > int(fact.first)}
        self.settle(lost)


def _rank(position: Position) -> tuple[int, float]:
    match position:
        case TrimHorizon():
            return 0, 0
        case At(time=time):
            return 1, time
        case From(sequence=sequence):
            return 2, 2 * int(sequence)
        case After(sequence=sequence):
            return 2, 2 * int(sequence) + 1
