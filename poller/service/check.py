"""`poller check --connect`: asks each source and function whether it exists and may be used."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import anyio

from poller.aws.session import Aws, open_aws
from poller.model.errors import PollerError
from poller.model.facts import Fact
from poller.settings import MappingSettings, Settings

_PATIENCE = 30.0
"""Seconds that one answer may take."""


async def connect(settings: Settings) -> AsyncIterator[str]:
    """Ask all mappings' sources and functions, one line for each that cannot be used."""
    async with open_aws(settings.aws) as aws:
        for mapping in settings.mappings:
            for key, error in [
                ("EventSourceArn", await _ask_source(mapping, aws)),
                ("FunctionName", await _ask_function(mapping, aws)),
            ]:
                if error:
                    yield f"mappings.{mapping.name}.{key}: {error}"


async def _ask_source(mapping: MappingSettings, aws: Aws) -> str:
    try:
        with anyio.fail_after(_PATIENCE):
            async with mapping.source.open(aws, time.time) as source:
                await source.check()
    except (PollerError, TimeoutError) as error:
        return _line(error)
    return ""


async def _ask_function(mapping: MappingSettings, aws: Aws) -> str:
    try:
        with anyio.fail_after(_PATIENCE):
            async with mapping.target.open(aws, _ignore) as target:
                await target.check()
    except (PollerError, TimeoutError) as error:
        return _line(error)
    return ""


def _line(error: PollerError | TimeoutError) -> str:
    return str(error) if isinstance(error, PollerError) else f"no answer within {_PATIENCE:g} s"


def _ignore(fact: Fact) -> None:
    """Nothing is run here, so there is nothing to tell."""
