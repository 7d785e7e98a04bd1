"""From CONFIG to settings: read, check all of it, and only then answer or refuse."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from poller.aws.session import AwsSettings, Service
from poller.fleet.member import DEFAULT, FAST
from poller.model.errors import SettingsError
from poller.settings.checking import checked
from poller.settings.files import read
from poller.settings.functions import function_of
from poller.settings.mappings import Around, mapping_of, report_conflicts
from poller.settings.sections import FleetSettings, MappingSettings, ServerSettings, Settings
from poller.settings.shapes import AwsSection, FileShape
from poller.settings.stores import STORES, store
from poller.settings.tree import Mistake, Report, Tree, is_broken, plain, shown
from poller.sources.sqs import SqsQueue
from poller.stores import StoreSettings
from poller.stores.memory import MemoryStore

_SERVICES: tuple[Service, ...] = ("kinesis", "dynamodb", "dynamodbstreams", "sqs", "sns", "s3", "lambda", "sts")


def load(path: Path, environ: Mapping[str, str], *, now: float) -> Settings:
    """Read CONFIG, a file or a folder of files.

    Args:
        path: the file or folder.
        environ: what `${NAME}` is taken from.
        now: unix seconds; a StartingPositionTimestamp must not lie after it.

    Raises:
        SettingsError: its text has a line for every mistake, in the order of the files and their lines.
    """
    mistakes: list[Mistake] = []
    tree = read(path, environ, mistakes.append)
    settings = _settings(tree, now, mistakes.append) if tree is not None else None
    if mistakes or settings is None:
        mistakes.sort(key=lambda mistake: (mistake.place.file, mistake.place.line))
        raise SettingsError("\n".join(dict.fromkeys(map(str, mistakes))))
    return settings


def _settings(tree: Tree, now: float, report: Report) -> Settings | None:
    """Every section of the file. None only when something was reported."""
    sections = dict(tree.entries())
    functions, mappings = sections.pop("functions", None), sections.pop("mappings", None)
    outer = Tree(place=tree.place, value=sections)
    file = checked(FileShape, outer, report).shape or FileShape()
    aws = _aws(file.aws)
    around = Around(
        functions={name: function_of(name, block, report) for name, block in _named(functions, report).items()},
        poll_interval=file.poll_interval,
        aws=aws,
        most_filters=file.limits.filters,
        now=now,
    )
    if mappings is None:
        text = "is missing, needed: one mapping or more, each a name and a block with EventSourceArn and FunctionName"
        report(Mistake(place=tree.place.at("mappings"), text=text))
    blocks = _named(mappings, report)
    found = {name: mapping_of(name, block, around, report) for name, block in blocks.items()}
    right = {name: mapping for name, mapping in found.items() if mapping is not None}
    report_conflicts(right, {name: blocks[name].place for name in right}, report)
    return Settings(
        aws=aws,
        store=_store(file.store, outer, right, report),
        server=ServerSettings(host=file.server.host, port=file.server.port, token=file.server.token),
        fleet=FleetSettings(id=file.fleet.id, limits=FAST if file.fleet.profile == "fast" else DEFAULT),
        shutdown_grace=file.shutdown_grace,
        memory_bytes=file.memory,
        mappings=tuple(right.values()),
        functions={name: function for name, function in around.functions.items() if function is not None},
    )


def _named(section: Tree | None, report: Report) -> dict[str, Tree]:
    """The entries of `functions` or `mappings`."""
    if section is None or isinstance(section.value, dict) or is_broken(section):
        return section.entries() if section else {}
    given = "has no value" if section.value is None else f"is {shown(plain(section))}"
    text = f"{given}, allowed: a block of names, each with its own block of keys"
    report(Mistake(place=section.place, text=text))
    return {}


def _aws(section: AwsSection) -> AwsSettings:
    given = section.endpoints.model_dump(by_alias=True)
    return AwsSettings(
        region=section.region,
        profile=section.profile,
        endpoint_url=section.endpoint_url,
        endpoints=tuple((service, given[service]) for service in _SERVICES if given[service] is not None),
        client=section.client,
    )


def _store(address: str | None, tree: Tree, mappings: Mapping[str, MappingSettings], report: Report) -> StoreSettings:
    """The store; it may be left out while only queues are read, which keep no positions."""
    place = tree.find(("store",))
    if address is None:
        streams = [name for name, mapping in mappings.items() if not isinstance(mapping.source, SqsQueue)]
        if streams and "store" not in tree.entries():
            text = f"is missing, {streams[0]} reads a stream and keeps its position in it, allowed: {STORES}"
            report(Mistake(place=place, text=text))
        return MemoryStore()
    try:
        return store(address, str(Path(place.file).parent))
    except ValueError as error:
        report(Mistake(place=place, text=str(error)))
        return MemoryStore()
