"""One event source mapping, from its source's first listing until the stop."""

from __future__ import annotations

from poller.mapping.gate import Gate
from poller.mapping.stream import Stream
from poller.mapping.tools import Tools
from poller.model.facts import SourceListed


async def run_mapping(tools: Tools) -> None:
    """Process a mapping until its stop is set; what is in flight is finished first.

    Once the source has been listed, failures of reads, calls and writes are waited out here.

    Raises:
        Transient, Denied: the source cannot be listed, or the store not be read, at the start.
    """
    topology = await tools.unless_stopped(tools.source.topology)
    if topology is None:
        return
    tools.observe(SourceListed(mapping=tools.mapping, retention=topology.retention))
    if tools.source.redelivers:
        await Gate(tools, topology).run()
    else:
        await Stream(tools, topology).run()
