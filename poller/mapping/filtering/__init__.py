"""FilterCriteria: patterns are compiled once, records are looked at once, and handed on as they are. No I/O, no clock."""

from poller.mapping.filtering.filters import Filters, mistakes_for
from poller.mapping.filtering.look import Kind
from poller.mapping.filtering.operators import PatternError
from poller.mapping.filtering.pattern import LONGEST_PATTERN, compile_pattern, parse_pattern

__all__ = ["LONGEST_PATTERN", "Filters", "Kind", "PatternError", "compile_pattern", "mistakes_for", "parse_pattern"]
