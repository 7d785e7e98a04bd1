"""What a read brought, without the records that the mapping's filters drop."""

from __future__ import annotations

from anyio.lowlevel import checkpoint
from msgspec.structs import replace

from poller.mapping.tools import Tools
from poller.model.facts import RecordsFiltered
from poller.model.record import Page, Record

_AT_ONCE = 256
"""Records that are looked at before others have their turn: a page may hold 10,000."""


async def sift(tools: Tools, shard: str, page: Page) -> tuple[Page, tuple[Record, ...]]:
    """The page with the records to deliver, its cursor as it was; and the records to settle without."""
    filters = tools.policy.filters
    if filters is None or not page.records:
        return page, ()
    kept: list[Record] = []
    dropped: list[Record] = []
    for start in range(0, len(page.records), _AT_ONCE):
        some, others = filters.split(page.records[start : start + _AT_ONCE])
        kept += some
        dropped += others
        await checkpoint()
    if not dropped:
        return page, ()
    tools.observe(RecordsFiltered(mapping=tools.mapping, shard=shard, records=len(dropped)))
    return replace(page, records=tuple(kept)), tuple(dropped)
