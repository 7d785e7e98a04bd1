"""`poller check --connect`: asks each source, function and destination whether it exists and may be used."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import anyio

from poller.aws.session import open_aws
from poller.model.errors import PollerError, told
from poller.model.facts import Fact
from poller.model.ports import Destination, Source, Target
from poller.settings import Settings

_PATIENCE = 30.0
"""Seconds that one answer may take."""


async def connect(settings: Settings) -> AsyncIterator[str]:
    """Ask all mappings' sources, functions and destinations, one line for each that cannot be used."""
    async with open_aws(settings.aws) as aws:
        for mapping in settings.mappings:
            asks: list[tuple[str, AbstractAsyncContextManager[Source | Target | Destination]]] = [
                ("EventSourceArn", mapping.source.open(aws, time.time)),
                ("FunctionName", mapping.target.open(aws, _ignore)),
            ]
            if mapping.destination is not None:
                asks.append(("DestinationConfig.OnFailure.Destination", mapping.destination.open(aws)))
            for key, asked in asks:
                if error := await _ask(asked):
                    yield f"mappings.{mapping.name}.{key}: {error}"


async def _ask(opening: AbstractAsyncContextManager[Source | Target | Destination]) -> str:
    """Why it cannot be used, one line; "" when it can."""
    found: list[str] = []
    try:
        with anyio.fail_after(_PATIENCE):
            async with opening as asked:
                await asked.check()
    except* PollerError as group:
        found.append(told(group))
    except* TimeoutError:
        found.append(f"no answer within {_PATIENCE:g} s")
    return "; ".join(found)


def _ignore(fact: Fact) -> None:
    """Nothing is run here, so there is nothing to tell."""
