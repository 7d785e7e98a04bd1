"""Watches every write and every call of a fleet and keeps what must never happen as complaints."""

from __future__ import annotations

from collections import Counter, defaultdict

from poller.fleet import member, quota
from poller.fleet.member import FOLDER, Member
from poller.mapping.row import ShardRow, decode_shard
from poller.model.record import After, At, From, Position, TrimHorizon
from tests.pipeline.algorithm import lane_of


class Witness:
    """What is known of one story."""

    def __init__(self, limit: int, *, calm: bool) -> None:
        self.complaints: list[str] = []
        self.members: dict[str, Member] = {}
        self.rows: dict[tuple[str, str], ShardRow] = {}
        """By mapping and shard."""
        self.began: set[str] = set()
        """Mappings that know where they begin."""
        self.parents: dict[tuple[str, str], tuple[str, ...]] = {}
        self.excused: set[tuple[str, int]] = set()
        """Records that nobody has to deliver."""
        self.doubtful: set[tuple[str, str]] = set()
        """Shards whose row somebody removed by hand: they may begin again."""
        self.unwanted: set[tuple[str, str]] = set()
        """Shards that were closed before anybody looked, under LATEST."""
        self.done: Counter[tuple[str, int]] = Counter()
        self.of_shard: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
        """Records by mapping and shard: sequence number and key."""
        self.vanished: set[tuple[str, str]] = set()
        self.moves = 0
        self._limit = limit
        self._calm = calm
        self._freed: set[tuple[str, str]] = set()
        self.streams: dict[tuple[str, str], str] = {}
        """The key under which a shard's stream lies."""

    def complain(self, text: str) -> None:
        self.complaints.append(text)

    # ---------------------------------------------------------------- the store

    def writes(self, writer: str, epoch: int, key: str, value: bytes) -> None:
        """A row was stored."""
        folder, _, rest = key.partition("/")
        if f"{folder}/" == FOLDER:
            self._member(rest, member.decode(value))
        elif folder == "@shares":
            self._share(quota.decode(value))
        elif "/" in rest:
            self._shard(writer, epoch, (folder, rest.partition("/")[2]), key.rpartition("/")[0], decode_shard(value))
        else:
            self.began.add(folder)

    def removes(self, key: str, *, by_hand: bool = False) -> None:
        folder, _, rest = key.partition("/")
        if f"{folder}/" == FOLDER:
            self.members.pop(rest)
            return
        place = folder, rest.partition("/")[2]
        row = self.rows.pop(place)
        if by_hand:
            self.doubtful.add(place)
        elif not row.ended:
            self.complain(f"the row of {place} is removed though it has not ended")

    def _member(self, name: str, new: Member) -> None:
        old = self.members.get(name)
        if old and new.epoch < old.epoch:
            self.complain(f"the epoch of {name} falls from {old.epoch} to {new.epoch}")
        self.members[name] = new
        for place, row in self.rows.items():
            if row.owner == name and not self.held(place):
                self._freed.add(place)

    def _share(self, grants: quota.Grants) -> None:
        good = {
            name: grant.part
            for name, grant in grants.parts.items()
            if name in self.members and self.members[name].state != "gone" and grant.epoch >= self.members[name].epoch
        }
        if sum(good.values()) > self._limit:
            self.complain(f"{good} together exceed {self._limit}")

    def _shard(self, writer: str, epoch: int, place: tuple[str, str], stream: str, new: ShardRow) -> None:
        self.streams[place] = stream
        old = self.rows.get(place)
        if old and place not in self.doubtful:  # it may have the version that it had before it was removed
            if _rank(new.position) < _rank(old.position):
                self.complain(f"the checkpoint of {place} falls from {old.position} to {new.position}")
            if old.ended and not new.ended:
                self.complain(f"{place} had ended and has not any more")
            if old.owner not in ("", writer) and self.held(place) and place not in self._freed:
                self.complain(f"{writer} writes {place}, which {old.owner} has")
            if old.owner == writer and epoch < old.epoch:
                self.complain(f"{writer} writes {place}, which a later life of it has")
        if new.owner and new.owner != (old.owner if old else ""):
            self.moves += 1
        self._freed.discard(place)
        self.rows[place] = new

    def held(self, place: tuple[str, str]) -> str:
        """The live member that has a shard, by what is stored; "" for nobody."""
        row = self.rows.get(place)
        owner = self.members.get(row.owner) if row else None
        if row is None or owner is None or owner.state == "gone" or row.epoch < owner.epoch:
            return ""
        return row.owner if self.streams[place] in owner.serves else ""

    # ---------------------------------------------------------------- the function and the source

    def reads(self, reader: str, place: tuple[str, str]) -> None:
        """A shard is read."""
        for parent in self.parents.get(place, ()):
            above = place[0], parent
            row = self.rows.get(above)
            if not (row and row.ended) and above not in self.vanished | self.doubtful | self.unwanted:
                self.complain(f"{reader} reads {place} though its parent {parent} has not ended")

    def begins(self, caller: str, place: tuple[str, str], ids: list[int], *, unheard_for: float, fence: float) -> None:
        """An invocation begins.

        Args:
            unheard_for: seconds since the last acknowledged beat was sent, on the caller's own clock.
        """
        if unheard_for > fence:
            self.complain(f"{caller} invokes {unheard_for:.2f} s after its last beat")
        for each, key in self.of_shard[place]:
            if each in ids and place not in self.doubtful and self.covered(place, each, key):
                self.complain(f"{caller} sends {each} of {place} though it is stored as settled")

    def ends(self, place: tuple[str, str], ids: list[int]) -> None:
        """An invocation succeeded."""
        for each in ids:
            self.done[place[0], each] += 1
            if self._calm and self.done[place[0], each] > 1:
                self.complain(f"{each} of {place} is delivered twice though nothing failed")

    def covered(self, place: tuple[str, str], sequence: int, key: str) -> bool:
        """Whether what is stored says that a record is settled."""
        row = self.rows.get(place)
        if row is None:
            return False
        if row.ended or (isinstance(row.position, After) and sequence <= int(row.position.sequence)):
            return True
        done = row.lanes[lane_of(sequence, key, len(row.lanes))].done if row.lanes else ""
        return bool(done) and sequence <= int(done)

    def left(self) -> list[str]:
        """Records that nobody has delivered, and those of which nobody has stored it."""
        return [
            f"{each} of {place} is never {'stored' if self.done[place[0], each] else 'delivered'}"
            for place, records in self.of_shard.items()
            for each, key in records
            if (place[0], each) not in self.excused
            and not (self.done[place[0], each] and self.covered(place, each, key))
        ]

    def runnable(self) -> set[tuple[str, str]]:
        """Shards that may be processed now."""
        return {
            place
            for place, parents in self.parents.items()
            if place not in self.vanished
            and not (place in self.rows and self.rows[place].ended)
            and all((row := self.rows.get((place[0], parent))) is not None and row.ended for parent in parents)
        }


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
