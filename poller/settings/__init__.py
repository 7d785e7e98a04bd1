"""The configuration file: YAML and environment into frozen settings, every mistake in one report."""

from poller.settings.loading import load
from poller.settings.schema import schema
from poller.settings.sections import MappingSettings, ServerSettings, Settings

__all__ = ["MappingSettings", "ServerSettings", "Settings", "load", "schema"]
