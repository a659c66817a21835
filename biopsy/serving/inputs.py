"""The images that a person names: files, folders, patterns, tables, archives. Nothing is read before its turn."""

import codecs
import glob
import os
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from biopsy.core.errors import DataError, some, warn
from biopsy.core.files import IMAGE_SUFFIXES, SLIDE_SUFFIXES, at_home, expand
from biopsy.core.folders import files_below, is_drawn, is_image
from biopsy.core.matching import NOT_READ, match_missing
from biopsy.core.rawcsv import read_records
from biopsy.core.text import count, is_missing, plain

NAMED = "Name image files, folders, patterns, a .zip, a .csv with a column 'path', or -."
MEMBERS = 100_000  # images of one archive
TOTAL = 2**36  # bytes of all of them, unpacked
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others unpack in steps that nothing bounds
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError)  # of an archive's bytes
GROUPS = {"case": ("case", "case id", "patient", "patient id"), "slide": ("slide", "slide id")}  # names of columns
PATHS = ("path", "path_to_image", "image", "file", "filename", "image_path")  # what tables call the image


@dataclass(frozen=True, slots=True)
class Found:
    """One image.

    Attributes
    ----------
    path
        The file of the image, or of the archive.
    case, slide
        As a table names them; empty where it does not.
    member, archive
        For an image in an archive, its entry and the open archive; else None.
    hint
        If a table names the file but it does not exist, what exists instead; else empty.
    """

    path: Path
    case: str = ""
    slide: str = ""
    member: zipfile.ZipInfo | None = None
    archive: zipfile.ZipFile | None = None
    hint: str = ""

    @property
    def name(self) -> str:
        """What to call it."""
        return f"{self.path}/{self.member.filename}" if self.member else str(self.path)

    def source(self, max_pixels: int) -> Path | bytes:
        """Return what `prepare` reads: the path, or the member's bytes.

        Raises
        ------
        DataError
            The member is damaged, encrypted, or has more bytes than an image of `max_pixels` (width x height) can have;
            or the file is not there, and another may be meant.
        """
        if self.hint:
            raise DataError(f"{self.name} does not exist ({self.hint})")
        if self.member is None or self.archive is None:
            return self.path
        if self.member.flag_bits & 1:
            raise DataError(f"{self.name} is encrypted. Unpack the archive, and name the folder.")
        if self.member.compress_type not in METHODS:
            raise DataError(
                f"{self.name} is packed in a way that is not read. Unpack the archive, and name the folder."
            )
        if self.member.file_size > 8 * max_pixels + 2**20:
            raise DataError(f"{self.name} has {self.member.file_size:,} bytes, too many for {max_pixels:,} pixels")
        try:
            return self.archive.read(self.member)
        except BROKEN as error:
            raise DataError(f"{self.name} is damaged ({error or 'it ends early'})") from None


def find_images(inputs: Sequence[str]) -> list[Found]:
    """List the images that inputs name, in order, each once.

    Parameters
    ----------
    inputs
        Image files, folders (all images below them), patterns such as `slides/**/*.png`, .zip archives, a .csv with a
        column `path` and, if known, `case` and `slide`, or `-` for a list of paths on the standard input.

    Raises
    ------
    DataError
        One names no image, cannot be read, or names an image of another case or slide than one before it.
    """
    found: dict[tuple[str, int], Found] = {}
    for given in inputs:
        none = True
        for image in _named_by(given):
            none = False
            key = (str(image.path.absolute()), image.member.header_offset if image.member else -1)
            known = found.setdefault(key, image)
            if (image.case or image.slide) and (known.case, known.slide) != (image.case, image.slide):
                if known.case or known.slide:
                    raise DataError(
                        f"{given} lists {image.name} twice, with two cases or slides. Keep one of the rows."
                    )
                found[key] = image
        if none:
            raise DataError(f"{given} has no images ({' '.join(IMAGE_SUFFIXES)}). {NAMED}")
    return list(found.values())


def _named_by(given: str) -> Iterator[Found]:
    """Yield the images of one input."""
    path = at_home(given)
    if given == "-":
        yield from (Found(at_home(line)) for line in _lines_of_input())
    elif path.exists():
        yield from _at(path)
    elif glob.has_magic(given):  # a pattern that no shell has expanded
        for match in expand(path):
            if match.is_dir() or match.suffix.lower() in (*IMAGE_SUFFIXES, ".zip"):
                yield from _at(match)
    else:
        raise DataError(f"{path} does not exist. {NAMED}")


def _lines_of_input() -> list[str]:
    """Read the paths on the standard input, one a line, or between zero bytes as `find -print0` writes them."""
    content = sys.stdin.buffer.read()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # PowerShell's
        content = content.decode("utf-16", "replace").encode()
    lines = os.fsdecode(content.removeprefix(codecs.BOM_UTF8)).replace("\0", "\n").split("\n")
    return [line.removesuffix("\r") for line in lines if line.strip()]


def _at(path: Path) -> Iterator[Found]:
    """Yield the images of a path that exists."""
    if path.is_dir():
        yield from map(Found, _images_in(path))
    elif path.suffix.lower() == ".csv":
        yield from _listed_in(path)
    elif path.suffix.lower() == ".zip":
        yield from _packed_in(path)
    else:
        yield Found(path)


def _images_in(folder: Path) -> list[Path]:
    """List the images below a folder; say what else there is that a person may take for one."""
    closed = list[Path]()  # each is a row whose error says why
    files = files_below(folder, closed)
    drawn = [path for path in files if is_drawn(path)]
    if drawn:
        warn(f"{folder} holds {count(len(drawn), 'picture')} that biopsy drew ({drawn[0].name}); left out.")
    _tell_unread(folder, [path.name for path in files if not path.name.lower().endswith(SLIDE_SUFFIXES)])
    return sorted([*closed, *(path for path in files if is_image(path.name) and path not in drawn)])


def _tell_unread(place: Path, names: Sequence[str]) -> None:
    """Warn of files that hold images and are not read."""
    if unread := [name for name in names if name.lower().endswith(NOT_READ)]:
        warn(f"{place} holds {count(len(unread), 'file')} of kinds that are not read ({some(unread, 3)}); left out.")


def _listed_in(path: Path) -> Iterator[Found]:
    """Read the columns of paths, cases and slides of a CSV; relative paths are relative to the CSV's folder."""
    records = read_records(path, [*PATHS, *GROUPS])
    header = [plain(column) for column in records.header]
    places = {name: _columns(header, names) for name, names in (GROUPS | {"path": PATHS}).items()}
    if len(places["path"]) != 1:
        raise DataError(
            f"{path} needs one column 'path' of image files; it has {some(records.header)}. Rename one to 'path'."
        )
    at = places["path"][0]
    files = {cells[at]: path.parent / at_home(cells[at]) for _, cells in records.rows if at < len(cells)}
    matches = match_missing(files, path.parent, lambda file: is_image(file.name))
    files |= {name: path.parent / file for name, file in matches.files.items()}
    for name in GROUPS:
        if len(places[name]) > 1:
            raise DataError(f"{path} has {len(places[name])} columns '{name}'. Keep one.")
    for line, cells in records.rows:
        filled = dict(enumerate(cells))
        name, *groups = ["".join(filled.get(i, "") for i in places[column]) for column in ("path", *GROUPS)]
        if not name:
            raise DataError(f"{path} row {line} has no path. Fill it in, or remove the row.")
        case, slide = ("" if is_missing(group) else group for group in groups)
        yield Found(files[name], case, slide, hint=matches.hints.get(name, ""))


def _columns(header: Sequence[str], names: Sequence[str]) -> list[int]:
    """Find the columns of the first of these names that there is."""
    found = ([i for i, column in enumerate(header) if column == plain(name)] for name in names)
    return next(filter(None, found), [])


def _packed_in(path: Path) -> Iterator[Found]:
    """List the images of an archive, which is read in place."""
    try:
        archive = zipfile.ZipFile(path)  # closed when the last of its images is forgotten
    except BROKEN:
        raise DataError(f"{path} is not a .zip archive, is truncated, or is not readable. Copy it again.") from None
    images = [member for member in archive.infolist() if is_image(Path(member.filename).name) and not member.is_dir()]
    _tell_unread(path, [member.filename for member in archive.infolist()])
    total = sum(member.file_size for member in images)
    if len(images) > MEMBERS or total > TOTAL:
        raise DataError(
            f"{path} holds {len(images):,} images of {total:,} bytes in all; an archive may have {MEMBERS:,} of "
            f"{TOTAL:,}. Unpack it, and name the folder."
        )
    for member in sorted(images, key=lambda m: m.filename):
        yield Found(path, member=member, archive=archive)
