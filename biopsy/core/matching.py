"""Find files that a table spells differently from the folder, where only one file can be meant."""

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from unicodedata import normalize
from urllib.parse import unquote

from biopsy.core.errors import some
from biopsy.core.files import IMAGE_SUFFIXES, LISTED
from biopsy.core.folders import is_file, names_below
from biopsy.core.text import QUOTES, fold, seen

NOT_READ = (  # endings of files that hold images and are not read as such
    ".avif", ".heic", ".heif", ".jp2", ".j2k", ".jxl", ".dcm", ".svs", ".ndpi", ".mrxs", ".czi", ".npy", ".npz", ".h5",
    ".hdf5", ".pt", ".psd", ".ppm", ".svg", ".pdf", ".zip",
)  # fmt: skip
LOOSE, BEGINNING = "blanks, percent signs or zeros of a number", "end of the name left out"


@dataclass(frozen=True)
class Matches:
    """Results for the paths that no file has exactly, by the path as the table writes it.

    Attributes
    ----------
    files
        The file that is meant.
    reasons
        How the two differ; the same keys.
    hints
        For paths without a match: what is there instead, and why it was not taken.
    """

    files: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    hints: dict[str, str] = field(default_factory=dict)

    def count(self, rows: Iterable[tuple[int, str]]) -> dict[str, Any]:
        """Count the rows, each with its path, that name a file in another spelling, by reason, and list the first."""
        found = [(row, path) for row, path in rows if path in self.files]
        by_reason = Counter(self.reasons[path] for _, path in found)
        listed = [f"row {row}: {path} is {self.files[path]}" for row, path in found[:LISTED]]
        return {"count": len(found), "by_reason": dict(sorted(by_reason.items())), "listed": listed}


class _Found(NamedTuple):
    """The files that a path may mean, how they differ from it, and the folders that were dropped from its front."""

    files: list[str]
    reason: str
    prefix: str = ""


class _Index:
    """The files of a folder, by several spellings of their paths."""

    def __init__(self, files: Iterable[str]) -> None:
        self.exact = set(files)
        self.folded = _group(self.exact, fold)
        self.stems = _group(self.exact, lambda file: fold(_stem(file)))
        self.names = _group(self.exact, lambda file: fold(PurePosixPath(file).name))
        self.name_stems = _group(self.exact, lambda file: fold(PurePosixPath(_stem(file)).name))

    @cached_property
    def loose(self) -> dict[str, list[str]]:
        """By `loose_name`."""
        return _group(self.exact, loose_name)

    @cached_property
    def beginnings(self) -> dict[str, list[str]]:
        """By what stands before the first dot of the name."""
        return _group(self.exact, lambda file: fold(_beginning(file)))

    @cached_property
    def loose_names(self) -> dict[str, list[str]]:
        """By `loose_name` of the name alone."""
        return _group(self.exact, lambda file: loose_name(PurePosixPath(file).name))

    @cached_property
    def sorted_names(self) -> list[tuple[str, str]]:
        """Return the folded names with their files, sorted, so that equal beginnings stand together."""
        return sorted((fold(PurePosixPath(file).name), file) for file in self.exact)

    def longer(self, name: str) -> str:
        """Return the first file whose name continues this one after `-`, `_`, a blank or `(`; empty where none does."""
        for beginning in (fold(name) + mark for mark in "-_ ("):
            at = bisect_left(self.sorted_names, (beginning, ""))
            if at < len(self.sorted_names) and self.sorted_names[at][0].startswith(beginning):
                return self.sorted_names[at][1]
        return ""

    @cached_property
    def beginnings_below(self) -> dict[str, list[str]]:
        """By what stands before the first dot of the name, whatever the folder."""
        return _group(self.exact, lambda file: fold(_beginning(PurePosixPath(file).name)))

    def find(self, path: str) -> _Found | None:
        """Look a relative path up: exactly, folded, without the ending if it has no image's, then loosely."""
        if path in self.exact:
            return _Found([path], "")
        if files := self.folded.get(fold(path)):
            one, other = (normalize("NFC", text) for text in (path, files[0]))
            same = "invisible characters" if seen(one) == seen(other) else "letter case"
            return _Found(files, "Unicode form" if one == other else same)
        if not _is_image(path) and (files := self.stems.get(fold(path))):
            return _Found(files, "ending left out")
        if files := self.loose.get(loose_name(path)):
            files = [file for file in files if _may_end(path, file)]
            return _Found(files, LOOSE) if files else None
        if not _after_dot(path) and (files := self.beginnings.get(fold(path))):
            return _Found(files, BEGINNING)
        return None

    def find_below(self, path: str) -> _Found | None:
        """Look for files in any folder whose paths end in `path`."""
        names = self.names if _is_image(path) else self.name_stems
        ending = f"/{fold(path)}"
        files = names.get(fold(PurePosixPath(path).name), [])
        files = [file for file in files if fold(file if _is_image(path) else _stem(file)).endswith(ending)]
        if files:
            return _Found(files, "folder left out")
        files = self.loose_names.get(loose_name(PurePosixPath(path).name), [])
        ending = f"/{loose_name(path)}"
        if files := [file for file in files if loose_name(file).endswith(ending) and _may_end(path, file)]:
            return _Found(files, f"folder left out and {LOOSE}")
        files = [] if "/" in path or _after_dot(path) else self.beginnings_below.get(fold(path), [])
        return _Found(files, f"folder left out and {BEGINNING}") if files else None


def match_missing(
    files: Mapping[str, Path], folder: Path, is_kind: Callable[[Path], bool], not_read: Sequence[str] = NOT_READ
) -> Matches:
    """Match the paths whose file is not there with the files below a folder; see `match_files`.

    A path whose file exists is not matched with another one.

    Parameters
    ----------
    files
        By the path as the table writes it, the file that it names.
    folder
        The folder that the paths are relative to.
    is_kind
        Says whether a file below it can be meant.
    not_read
        See `match_files`.
    """
    there = [path for path, file in files.items() if is_file(file)]
    if len(there) == len(files):
        return Matches()
    return match_files(files, [*there, *names_below(folder, is_kind)], not_read)


def match_files(paths: Iterable[str], files: Iterable[str], not_read: Sequence[str] = NOT_READ) -> Matches:
    """Find the files that a table's paths mean.

    A path matches a file in spite of differences in letter case, Unicode form, backslashes, quotes around the path,
    invisible characters, blanks or percent signs (`%20`), zeros that a spreadsheet removes from a number or adds to it,
    an ending or folders that the path leaves out, what follows the first dot of a name (GDC adds a UUID), or folders
    before the path (`../data/`, `/home/me/images/`, `https://host/`). It must be the only such file, no other path may
    name it, and the folders before all such paths must be the same.

    Parameters
    ----------
    paths
        As the table writes them.
    files
        Paths with `/`, relative to the folder of images.
    not_read
        Endings of files that hold images and are not read.
    """
    index, wanted = _Index(files), [path for path in dict.fromkeys(paths) if path]
    exact = {path for path in wanted if PurePosixPath(path).as_posix() in index.exact}
    found = {path: match for path in wanted if path not in exact and (match := _find(path, index))}
    claims = Counter(match.files[0] for match in found.values() if len(match.files) == 1)
    claims.update(PurePosixPath(path).as_posix() for path in exact)
    prefixes = sorted({match.prefix for match in found.values() if match.prefix})
    matches = Matches()
    for path, match in found.items():
        file = match.files[0]
        if len(match.files) > 1:
            matches.hints[path] = f"{len(match.files)} files fit: {some(match.files, 2)}"
        elif claims[file] > 1:
            matches.hints[path] = f"{file} fits, and another row names it too"
        elif match.prefix and len(prefixes) > 1:
            matches.hints[path] = f"{file} fits without '{match.prefix}', but other rows begin otherwise"
        elif match.prefix and not _outside(path) and not all(_bare(other).startswith(match.prefix) for other in wanted):
            matches.hints[path] = f"{file} is there, without '{match.prefix}'"
        else:
            matches.files[path] = file
            reasons = [match.reason, "folders before it" * bool(match.prefix), "backslash" * ("\\" in path)]
            reasons.append("quotes" * (path != path.strip(QUOTES)))
            matches.reasons[path] = " and ".join(filter(None, reasons))
    for path in wanted:
        if path not in found and path not in exact and (hint := _hint(path, index, not_read)):
            matches.hints[path] = hint
    return matches


def _hint(path: str, index: _Index, not_read: Sequence[str]) -> str:
    """Say which file a path without a match may mean by mistake; empty where there is none."""
    name = PurePosixPath(_bare(path)).name
    if other := index.stems.get(fold(_stem(path)), []):
        return f"{other[0]} is there, with another ending"
    if PurePosixPath(path).suffix.lower() in not_read:
        return "files of this kind are not read; make it a PNG"
    named = index.names.get(fold(name)) or index.name_stems.get(fold(name), [])
    if named and "/../" not in path.lstrip("./"):
        return f"{named[0]} is there, in another folder"
    longer = index.longer(name) if name and not _is_image(name) else ""
    return f"{longer} is there, whose name is longer" if longer else ""


def loose_name(path: str) -> str:
    """Reduce a path so that blanks, percent signs, an image's ending and zeros around a number do not count.

    `im%20 7.0` equals `im7.0.png`, and `x/007.png` equals `x/7.0`, but `x7` does not equal `x07`: a spreadsheet changes
    numbers only.
    """
    folder, slash, name = re.sub(r"\s+", "", fold(unquote(_stem(path.replace("\\", "/"))))).rpartition("/")
    number = re.fullmatch(r"0*(\d+?)(\.0+)?", name)
    return f"{folder}{slash}{number[1] if number else name}"


def _find(path: str, index: _Index) -> _Found | None:
    """Look a path up whole, then without its first folders, the longest rest first, then below other folders."""
    parts = PurePosixPath(_bare(path)).parts
    ups = next((i for i, part in enumerate(parts) if part not in ("..", "/")), len(parts))
    if ".." in parts[ups:]:
        return None  # leads outside
    for start in range(ups, len(parts)):
        found = index.find("/".join(parts[start:]))
        if found and start:
            return found._replace(prefix="/".join(parts[:start]).replace("//", "/") + "/")
        if found:
            return found
    return None if _outside(path) else index.find_below("/".join(parts))


def _outside(path: str) -> bool:
    """Tell whether a path leads out of the folder of images, so that it cannot be meant literally."""
    bare = _bare(path)
    return bare.startswith("/") or bare[1:2] == ":" or bare.split("/")[0] == ".."


def _bare(path: str) -> str:
    """Write a path with single `/`, without quotes around it or an invisible mark before it."""
    path = path.strip(QUOTES)
    return PurePosixPath((seen(path[:1]) + path[1:]).replace("\\", "/")).as_posix()


def _is_image(path: str) -> bool:
    return path.lower().endswith(tuple(IMAGE_SUFFIXES))


def _may_end(path: str, file: str) -> bool:
    """Tell whether a file has the ending that a path has, where that is one of an image."""
    return not _is_image(path) or PurePosixPath(file).suffix.lower() == PurePosixPath(path).suffix.lower()


def _beginning(path: str) -> str:
    return path[: len(path) - len(_after_dot(path))]


def _after_dot(path: str) -> str:
    """Return a path's end, from the first dot of its name on; empty where there is none."""
    name = path.rpartition("/")[2]
    return name[name.index(".", 1) :] if "." in name[1:] else ""


def _stem(path: str) -> str:
    """Take an image's ending away."""
    return path[: path.rindex(".")] if _is_image(path) else path


def _group(files: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for file in sorted(files):
        groups[key(file)].append(file)
    return groups
