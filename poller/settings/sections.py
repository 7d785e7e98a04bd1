"""What the file says, as frozen values: the face of this package to the rest of the house."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from poller.aws.session import AwsSettings
from poller.destinations import DestinationSettings
from poller.fleet.member import Limits
from poller.model.policy import Policy
from poller.sources import SourceSettings
from poller.stores import StoreSettings
from poller.targets import TargetSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Where metrics, health and the status page are served."""

    host: str
    port: int
    token: str | None = field(default=None, repr=False)
    """What operators' orders have to be sent with; None: they are off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """This replica among those that share its store."""

    id: str | None
    """Its name; None: that of the machine."""
    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingSettings:
    """One event source mapping. Two that are equal need no restart."""

    name: str
    uuid: str
    """Version 5 of the name: the same after every restart."""
    enabled: bool
    source: SourceSettings
    target: TargetSettings
    destination: DestinationSettings | None
    """Where the account of given-up records goes; None: nowhere."""
    policy: Policy
    document: str = field(compare=False)
    """The configuration as compact JSON under AWS's names, defaults filled in as AWS echoes them. For display."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration."""

    aws: AwsSettings
    store: StoreSettings
    server: ServerSettings
    fleet: FleetSettings
    shutdown_grace: float
    """Seconds given to work in flight after a stop."""
    memory_bytes: int
    """Ceiling for records held, all mappings together."""
    mappings: tuple[MappingSettings, ...]
    functions: Mapping[str, TargetSettings] = field(default_factory=dict, compare=False)
    """All of the section, also what no mapping names. A change of one is a change of the mappings that name it."""
