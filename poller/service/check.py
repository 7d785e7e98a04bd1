"""`poller check --connect`: asks the store, and each source, function and destination, whether it may be used."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, replace

import anyio

from poller.aws.session import Aws, open_aws
from poller.model.errors import PollerError, Superseded, told
from poller.model.facts import Fact
from poller.model.ports import Destination, Source, Store, Target
from poller.settings import MappingSettings, Settings
from poller.sources.sqs import SqsQueue
from poller.stores import StoreSettings

_PATIENCE = 30.0
"""Seconds that one answer may take."""
_NO_VERSION = 2**62
"""Of a row: none was written so often."""


async def connect(settings: Settings) -> AsyncIterator[str]:
    """Ask the store, all sources, destinations and functions, one line for each that cannot be used."""
    async with open_aws(settings.aws) as aws:
        if error := (await _ask(_used(settings.store, aws))).error:
            yield f"store: {error.removeprefix('store: ')}"
        for mapping in settings.mappings:
            asks: list[tuple[str, AbstractAsyncContextManager[Source | Target | Destination]]] = [
                ("EventSourceArn", mapping.source.open(aws, time.time)),
                ("FunctionName", mapping.target.open(aws, _ignore)),
            ]
            if mapping.destination is not None:
                asks.append(("DestinationConfig.OnFailure.Destination", mapping.destination.open(aws)))
            answers = [await _ask(asked) for _, asked in asks]
            for (key, _), answer in zip(asks, answers, strict=True):
                if answer.error:
                    yield f"mappings.{mapping.name}.{key}: {answer.error}"
            if not answers[0].error and (text := await _too_slow(mapping, answers[1].timeout, aws)):
                yield f"mappings.{mapping.name}.EventSourceArn: {text}"
        named = {mapping.target.name for mapping in settings.mappings}
        for name, function in settings.functions.items():
            if name not in named and (error := (await _ask(function.open(aws, _ignore))).error):
                yield f"functions.{name}: {error}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What an asked one said."""

    error: str = ""
    """Why it cannot be used, one line; "" when it can."""
    timeout: float | None = None
    """Of a function, where it is known."""


class _Usable:
    """A store that is asked whether it would do what it is to do; nothing is written."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def check(self) -> None:
        """Read, and make writes whose condition fails, since there is no such row."""
        async for _ in self._store.scan("@check/"):
            pass
        await self._store.get("@check/row")
        for write in (self._store.put("@check/row", b"", _NO_VERSION), self._store.delete("@check/row", _NO_VERSION)):
            with suppress(Superseded):
                await write


@asynccontextmanager
async def _used(settings: StoreSettings, aws: Aws) -> AsyncIterator[_Usable]:
    async with settings.open(aws) as store:
        yield _Usable(store)


async def _ask(opening: AbstractAsyncContextManager[Source | Target | Destination | _Usable]) -> _Asked:
    found: list[str] = []
    timeout: float | None = None
    try:
        with anyio.fail_after(_PATIENCE):
            async with opening as asked:
                timeout = await asked.check()
    except* PollerError as group:
        found.append(told(group))
    except* TimeoutError:
        found.append(f"no answer within {_PATIENCE:g} s")
    return _Asked(error="; ".join(found), timeout=timeout)


async def _too_slow(mapping: MappingSettings, timeout: float | None, aws: Aws) -> str:
    """What AWS says when a queue hands out a message again before its function has to have ended, and the remedies."""
    if not isinstance(mapping.source, SqsQueue) or mapping.policy.extend_visibility or timeout is None:
        return ""
    try:
        with anyio.fail_after(_PATIENCE):
            async with replace(mapping.source, hold=0).open(aws, time.time) as source:
                visibility = (await source.topology()).lease
    except (PollerError, TimeoutError) as error:
        return str(error) or f"no answer within {_PATIENCE:g} s"
    if timeout <= visibility:
        return ""
    return (
        f"Queue visibility timeout: {visibility:g} seconds is less than Function timeout: {timeout:g} seconds;"
        f" set the queue's to {6 * timeout + mapping.policy.window:g}, or the mapping's extend_visibility to true"
    )


def _ignore(fact: Fact) -> None:
    """Nothing is run here, so there is nothing to tell."""
