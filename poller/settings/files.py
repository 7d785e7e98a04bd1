"""CONFIG, a file or a folder of files, read and merged into one tree."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

from poller.settings.reading import parse
from poller.settings.tree import Broken, Mistake, Place, Report, Tree, shown

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_BY_NAME = ("functions", "mappings")
"""Sections whose entries may be spread over the files of a folder."""
_NEEDED = ("store", "mappings")
_EMPTY = "is empty, needed at the least: mappings, with one mapping that has EventSourceArn and FunctionName"


def read(path: Path, environ: Mapping[str, str], report: Report) -> Tree | None:
    """The merged tree of CONFIG; None when there is nothing to go on with, which is then reported."""
    whole = Place(file=str(path), line=0)
    try:
        is_folder = path.is_dir()
        files = _files_of(path) if is_folder else [path]
    except (OSError, ValueError) as error:
        report(Mistake(place=whole, text=_why(error)))
        return None
    if not files:
        report(Mistake(place=whole, text="is a folder without *.yaml, *.yml or *.json files, needed: at least one"))
        return None
    trees: list[Tree] = []
    is_whole = True
    for file in files:
        found: list[Mistake] = []
        tree = _read_file(file, environ, found.append, may_be_empty=is_folder)
        for mistake in found:
            report(mistake)
        if tree is not None:
            trees.append(tree)
        elif found:
            is_whole = False
    if not is_folder:
        return trees[0] if trees else None
    merged = _merged(trees, whole, report)
    return merged if is_whole else _without_gaps(merged)


def _files_of(folder: Path) -> list[Path]:
    """In the order of their names; hidden ones are an editor's or Kubernetes' own."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix in _SUFFIXES and not file.name.startswith(".") and not file.is_dir()
    )


def _read_file(file: Path, environ: Mapping[str, str], report: Report, *, may_be_empty: bool) -> Tree | None:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        report(Mistake(place=Place(file=str(file), line=line), text="is not UTF-8 text"))
        return None
    except (OSError, ValueError) as error:
        report(Mistake(place=Place(file=str(file), line=0), text=_why(error)))
        return None
    if file.suffix == ".json":
        text = text.replace("\t", " ")  # JSON may be indented by tabs, YAML may not
    before: list[Mistake] = []
    tree = parse(text, file=str(file), environ=environ, report=before.append)
    for mistake in before:
        report(mistake)
    if tree is None or tree.value is None:
        if not before and not may_be_empty:
            report(Mistake(place=Place(file=str(file), line=1), text=_EMPTY))
        return None
    if not isinstance(tree.value, dict):
        if not before:
            text = f"is {shown(tree.value)}, allowed: a block of keys such as store, functions and mappings"
            report(Mistake(place=tree.place, text=text))
        return None
    return tree


def _why(error: OSError | ValueError) -> str:
    match getattr(error, "errno", None):
        case errno.ENOENT | errno.ENOTDIR:
            return "does not exist, needed: a configuration file or a folder of them"
        case errno.EACCES | errno.EPERM:
            return "may not be read by this user"
        case None:
            return "is not a path"
        case _:
            return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def _merged(trees: list[Tree], whole: Place, report: Report) -> Tree:
    """One tree of several files. A name that two of them define is a mistake."""
    sections: dict[str, Tree] = {}
    for tree in trees:
        for key, section in tree.entries().items():
            known = sections.get(key)
            if known is None:
                sections[key] = section
            elif key in _BY_NAME and isinstance(known.value, dict) and isinstance(section.value, dict):
                sections[key] = Tree(place=known.place, value=_united(known.value, section.value, report))
            else:
                _twice(section.place, known.place, report)
    return Tree(place=whole, value=sections)


def _without_gaps(tree: Tree) -> Tree:
    """The same where a file could not be read: what has to be there may be in that one, and is not reported missing."""
    unknown = {key: Tree(place=tree.place.at(key), value=Broken()) for key in _NEEDED}
    return Tree(place=tree.place, value=unknown | tree.entries())


def _united(known: dict[str, Tree], more: dict[str, Tree], report: Report) -> dict[str, Tree]:
    for name, tree in more.items():
        if name in known:
            _twice(tree.place, known[name].place, report)
    return known | {name: tree for name, tree in more.items() if name not in known}


def _twice(second: Place, first: Place, report: Report) -> None:
    report(Mistake(place=second, text=f"is given twice, first at {first}, allowed: once"))
