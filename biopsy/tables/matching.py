"""Files that a table names in another spelling than the folder does: found where one file alone can be meant."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple
from unicodedata import normalize

from biopsy.core.errors import some
from biopsy.core.files import IMAGE_SUFFIXES
from biopsy.core.text import QUOTES, fold, seen


@dataclass(frozen=True)
class Matches:
    """What became of the paths that no file has exactly, by the path as the table writes it.

    Attributes
    ----------
    files
        The file that is meant.
    reasons
        In what the two differ; the same keys.
    hints
        Of paths without a match: what is there instead, and why it was not taken.
    """

    files: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    hints: dict[str, str] = field(default_factory=dict)


class _Found(NamedTuple):
    """The files that a path may mean, in what they differ from it, and the folders that were dropped from its front."""

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

    def find(self, path: str) -> _Found | None:
        """Look a relative path up: as it is, folded, and without an ending where it has none of an image."""
        if path in self.exact:
            return _Found([path], "")
        if files := self.folded.get(fold(path)):
            one, other = (normalize("NFC", text) for text in (path, files[0]))
            same = "invisible characters" if seen(one) == seen(other) else "letter case"
            return _Found(files, "Unicode form" if one == other else same)
        if not _is_image(path) and (files := self.stems.get(fold(path))):
            return _Found(files, "ending left out")
        return None

    def find_below(self, path: str) -> _Found | None:
        """Look for files in any folder whose paths end in `path`."""
        names = self.names if _is_image(path) else self.name_stems
        ending = f"/{fold(path)}"
        files = names.get(fold(PurePosixPath(path).name), [])
        files = [file for file in files if fold(file if _is_image(path) else _stem(file)).endswith(ending)]
        return _Found(files, "folder left out") if files else None


def match_files(paths: Iterable[str], files: Iterable[str]) -> Matches:
    """Find the files that a table's paths mean.

    A path matches a file that differs from it in letter case, in Unicode form, in an ending that it leaves out, in
    backslashes, in quotes around it or characters that nobody sees, in folders that it leaves out, or in folders that
    stand before it (`../data/`, `/home/me/images/`, `https://host/`): if it is the only such file, if no other path
    names it, and if the folders before all such paths are the same.

    Parameters
    ----------
    paths
        As the table writes them.
    files
        Paths with `/`, relative to the folder of images.
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
        other = index.stems.get(fold(_stem(path)), [])
        if path not in found and path not in exact and other:
            matches.hints[path] = f"{other[0]} is there, with another ending"
    return matches


def _find(path: str, index: _Index) -> _Found | None:
    """Look a path up whole, then without its first folders, the longest rest first, then below other folders."""
    parts = PurePosixPath(_bare(path)).parts
    ups = next((i for i, part in enumerate(parts) if part not in ("..", "/")), len(parts))
    if ".." in parts[ups:]:
        return None  # leads nobody knows where
    for start in range(ups, len(parts)):
        found = index.find("/".join(parts[start:]))
        if found and start:
            return found._replace(prefix="/".join(parts[:start]).replace("//", "/") + "/")
        if found:
            return found
    return None if _outside(path) else index.find_below("/".join(parts))


def _outside(path: str) -> bool:
    """Tell whether a path leads out of the folder of images, so that it cannot be meant as it stands."""
    bare = _bare(path)
    return bare.startswith("/") or bare[1:2] == ":" or bare.split("/")[0] == ".."


def _bare(path: str) -> str:
    """Write a path with `/` alone, none of them twice, and without quotes around it or a mark before it."""
    path = path.strip(QUOTES)
    return PurePosixPath((seen(path[:1]) + path[1:]).replace("\\", "/")).as_posix()


def _is_image(path: str) -> bool:
    return path.lower().endswith(tuple(IMAGE_SUFFIXES))


def _stem(path: str) -> str:
    """Take an image's ending away."""
    return path[: path.rindex(".")] if _is_image(path) else path


def _group(files: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for file in sorted(files):
        groups[key(file)].append(file)
    return groups
