"""YAML text into a tree with places: duplicate keys, `${NAME}` and unreadable values are reported here. No I/O, no clock."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from poller.settings.tree import Broken, Key, Mistake, Place, Report, Scalar, Tree, quoted

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_SUBSTITUTION = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|(?P<stray>\$\{)")
_DEEPEST = 40
_MOST_VALUES = 200_000
"""Values of one file, aliases written out: a few lines of aliases can stand for billions."""
_LARGEST = 2**63


def parse(text: str, *, file: str, environ: Mapping[str, str], report: Report) -> Tree | None:
    """The tree of one YAML document; None when it is empty, or when it is not YAML and that has been reported."""
    loader = yaml.SafeLoader("")
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        report(Mistake(place=Place(file=file, line=line), text="is not YAML: it holds a character that YAML forbids"))
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        if "flow" in what and "${" in "".join(text.splitlines()[mark.line : mark.line + 1] if mark else ()):
            what += ' (within { } and [ ], write "${NAME}" in quotes)'
        report(Mistake(place=Place(file=file, line=mark.line + 1 if mark else 1), text=f"is not YAML: {what}"))
        return None
    except RecursionError:
        report(Mistake(place=Place(file=file, line=loader.line + 1), text="is nested too deeply"))
        return None
    except (ValueError, OverflowError):  # PyYAML's scanner on "\UFFFFFFFF" and on endless version numbers
        report(Mistake(place=Place(file=file, line=loader.line + 1), text="is not YAML: a number is out of range"))
        return None
    finally:
        loader.dispose()
    if node is None:
        return None
    return _Converter(file=file, environ=environ, report=report).tree(node, Place(file=file, line=_line(node)))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


@dataclass(slots=True, kw_only=True)
class _Converter:
    """One walk over one document's nodes."""

    file: str
    environ: Mapping[str, str]
    report: Report
    values: int = 0

    def tree(self, node: yaml.Node, place: Place) -> Tree:
        self.values += 1
        if len(place.path) > _DEEPEST:
            return self._broken(place, "is nested too deeply (or holds itself)")
        if self.values > _MOST_VALUES:
            # Said once; the rest of the walk falls through here without a word.
            text = f"the file holds more than {_MOST_VALUES} values, aliases written out"
            return self._broken(place, text) if self.values == _MOST_VALUES + 1 else Tree(place=place, value=Broken())
        match node:
            case yaml.ScalarNode():
                return self._scalar(node, place)
            case yaml.SequenceNode() if node.tag == f"{_TAG}seq":
                return Tree(
                    place=place, value=[self.tree(item, self._at(place, i, item)) for i, item in enumerate(node.value)]
                )
            case yaml.MappingNode() if node.tag == f"{_TAG}map":
                return Tree(place=place, value=self._entries(node, place, depth=0))
            case _:
                return self._broken(place, f"the tag {_tag_text(node.tag)} is not understood, write the value itself")

    def _at(self, place: Place, key: Key, node: yaml.Node) -> Place:
        return Place(file=self.file, line=_line(node), path=(*place.path, key))

    def _broken(self, place: Place, text: str) -> Tree:
        self.report(Mistake(place=place, text=text))
        return Tree(place=place, value=Broken())

    def _entries(self, node: yaml.MappingNode, place: Place, *, depth: int) -> dict[str, Tree]:
        own: dict[str, Tree] = {}
        merged: dict[str, Tree] = {}
        for key, child in node.value:
            at = Place(file=self.file, line=_line(key), path=place.path)
            if not isinstance(key, yaml.ScalarNode):
                self._broken(at, "a key must be one word, not a list or a block")
            elif key.tag == _MERGE:
                for block in self._merged_blocks(child, at, depth=depth):
                    merged = block | merged
            elif key.value in own:
                first = own[key.value].place.line
                self._broken(at.at(key.value), f"is given twice, first on line {first}, allowed: once")
            else:
                own[key.value] = self.tree(child, at.at(key.value))
        return merged | own

    def _merged_blocks(self, node: yaml.Node, place: Place, *, depth: int) -> Iterator[dict[str, Tree]]:
        """What `<<:` brings in: the entries of a block, or of each block of a list."""
        blocks = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for block in blocks:
            self.values += 1
            if isinstance(block, yaml.MappingNode) and depth < _DEEPEST and self.values <= _MOST_VALUES:
                yield self._entries(block, place, depth=depth + 1)
            else:
                self._broken(place.at("<<"), "brings in something that is not a block of keys, or too much")

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Tree:
        is_plain = node.style is None
        if node.tag not in {_implicit(node.value, is_plain=is_plain), f"{_TAG}str"}:
            return self._broken(place, f"the tag {_tag_text(node.tag)} is not understood, write the value itself")
        text = self._substituted(node.value, place)
        if text is None:
            return Tree(place=place, value=Broken())
        try:
            if text == node.value:
                return Tree(place=place, value=_value(text, node.tag))
            text = text.strip() if is_plain else text
            return Tree(place=place, value=_value(text, _implicit(text, is_plain=is_plain)))
        except ValueError as error:
            return self._broken(place, str(error))

    def _substituted(self, text: str, place: Place) -> str | None:
        """The text with `${NAME}` replaced; None when that is not possible, which is then reported."""
        fine = True

        def replace(match: re.Match[str]) -> str:
            nonlocal fine
            name, default = match["name"], match["default"]
            if match["stray"]:
                fine = False
                self._broken(
                    place, "has a ${ that is not ${NAME} or ${NAME:-default}; write $${ for the characters themselves"
                )
            elif name is None:
                return "${"
            elif default is not None:
                return self.environ.get(name) or default
            elif name not in self.environ:
                fine = False
                self._broken(place, f"the environment has no {name}, set it or write ${{{name}:-default}}")
            else:
                return self.environ[name]
            return ""

        result = _SUBSTITUTION.sub(replace, text)
        return result if fine else None


def _tag_text(tag: str) -> str:
    return quoted(tag.replace(_TAG, "!!"))


def _implicit(text: str, *, is_plain: bool) -> str:
    """The tag that YAML gives to a scalar by its looks."""
    resolver: Any = yaml.resolver.Resolver()  # its stubs have no types
    return str(resolver.resolve(yaml.ScalarNode, text, (is_plain, not is_plain)))


def _value(text: str, tag: str) -> Scalar:
    """The value of a scalar. Raises `ValueError` with a line for people."""
    if tag.removeprefix(_TAG) not in {"null", "bool", "int", "float", "timestamp"}:
        return _text(text)
    try:
        value: Scalar = yaml.constructor.SafeConstructor().construct_object(yaml.ScalarNode(tag, text))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{quoted(text)} looks like a number or a date and is none, put it in quotes") from error
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{quoted(text)} is not a finite number")
    if isinstance(value, int) and abs(value) >= _LARGEST:
        raise ValueError("is too large a number")
    return value


def _text(text: str) -> str:
    """The text with the halves of escaped characters joined (JSON writes an emoji as two escapes)."""
    if "\0" in text:
        raise ValueError("holds a NUL character")
    if text.isascii():
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError as error:
        raise ValueError("holds half a character (a lone surrogate)") from error
