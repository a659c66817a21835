"""The table against the files: every image decoded, hashed and measured; whatever is dropped is counted."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from biopsy.core.errors import DataError, some
from biopsy.core.files import IMAGE_SUFFIXES, LISTED
from biopsy.core.sections.data import Ingest
from biopsy.core.text import as_text, count
from biopsy.images.decode import NOT_READ
from biopsy.tables.duplicates import resolve, slides_under_two_labels
from biopsy.tables.measure import Facts, Failure, measure_all
from biopsy.tables.metadata import Metadata
from biopsy.tables.names import fill, image_ids, read_names, whole_slides

SHARE = 0.05  # of the images: a size that fewer have is an exception
FACTOR = 1.5  # between the sides of two sizes: more is hardly one scale
SAME_SHAPE = 0.02  # difference of aspect ratios: images with less were scaled, not cropped
MEASURED = ["width", "height", "mode", "bytes", "sha256", "pixels_sha256", "brightness"]
POLICIES = {  # the parameter behind each reason for dropping an image; all others: ingest.unreadable
    "missing": "ingest.missing_files",
    "not_rgb": "ingest.not_rgb",
    "conflict": "ingest.conflicts",
    "duplicate": "ingest.duplicates",
    "repeated_row": "ingest.duplicate_rows",
}


def dropped_in_words(by_reason: Mapping[str, int]) -> str:
    """Count what was dropped, each reason with its parameter: `30 conflict (ingest.conflicts)`."""
    named = [f"{n:,} {reason} ({POLICIES.get(reason, 'ingest.unreadable')})" for reason, n in by_reason.items()]
    return ", ".join(named) or "none"


class Audit:
    """A table of images that passes through the checks, with what they counted and dropped."""

    def __init__(self, metadata: Metadata, folder: Path, settings: Ingest, csv: Path) -> None:
        """Start from a checked table (`metadata.read_metadata`) and the folder that its paths are relative to."""
        self.folder, self.settings, self.csv = folder, settings, csv
        self.scheme, table = metadata.scheme, metadata.table
        self.images = table.assign(image_id=image_ids(table["path"], self.scheme))[
            ["row", "image_id", *table.columns[1:]]
        ]
        self.hints = metadata.hints
        self.dropped: list[dict[str, Any]] = []
        self.counts: dict[str, Any] = {"matched_loosely": metadata.matched}

    def run(self) -> None:
        """Make all checks, cheapest first.

        Raises
        ------
        DataError
            Where a policy of `ingest` is `error`, where no file name follows the scheme's grammar, or where no image is
        left.
        """
        self._grammar()
        self.counts["not_in_csv"] = _not_in_csv(self.folder, set(self.images["path"]))
        self._missing()
        self._read()
        self._not_rgb()
        self._duplicates()
        if self.images.empty:
            reasons = Counter(item["reason"] for item in self.dropped)
            why = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
            raise DataError(f"no usable image is left of {count(len(self.dropped), 'row')} of {self.csv}: {why}.")
        by_reason = dict(sorted(Counter(item["reason"] for item in self.dropped).items()))
        self.counts["dropped"] = {"count": len(self.dropped), "by_reason": by_reason, "listed": self.dropped[:LISTED]}
        self._black_rows()
        self.images = self.images.drop(columns=["format", "black_rows"]).sort_values("image_id", ignore_index=True)

    def summary(self) -> dict[str, Any]:
        """Count the images that are left, gaps filled from the file names as `impute` will fill them."""
        filled = self.filled()
        cases = filled["case"].where(filled["case"] != "", filled["slide"])  # as `impute` completes them
        slides = whole_slides(filled)
        sizes = self.images["width"].astype(str) + "x" + self.images["height"].astype(str)
        brightness = self.images["brightness"]
        return {
            "images": len(filled),
            "slides": len(set(slides) - {""}),
            "cases": len(set(cases) - {""}),
            "labels": {name: _tally(filled[name], task.names) for name, task in self.scheme.tasks.items()},
            "by_magnification": _tally(filled["magnification"], sorted(set(filled["magnification"]) - {""}, key=float)),
            "by_size": dict(Counter(sizes).most_common(LISTED)),
            "brightness": {"mean": round(brightness.mean(), 2), "min": brightness.min(), "max": brightness.max()},
        }

    def scales(self) -> str:
        """Say which images are, or seem to be, at several scales, as `mixed_scales` does."""
        return mixed_scales(self.images)

    def filled(self) -> pd.DataFrame:
        """Return the images that are left, gaps filled from the file names."""
        return fill(self.images, read_names(self.images["path"], self.scheme), self.scheme)

    def _grammar(self) -> None:
        """Reject a grammar that no file name follows: it belongs to another data set."""
        followed = (read_names(self.images["path"], self.scheme) != "").any(axis=1)
        self.counts["names"] = {"grammar": self.scheme.grammar, "without_facts": int((~followed).sum())}
        if self.scheme.grammar and not followed.any():
            raise DataError(
                f"{self.csv}: no file name follows the grammar '{self.scheme.grammar}' (the first is "
                f"{self.images['path'].iloc[0]}). Set labels.grammar to null, or take the label scheme of this data "
                "set, such as -S labels=from_csv."
            )

    def _drop(self, reasons: dict[int, str]) -> None:
        """Leave out rows by index, each with its reason."""
        gone = self.images.loc[sorted(reasons)]
        self.dropped += [
            {"row": int(row), "path": path, "reason": reasons[index]}
            for index, row, path in zip(gone.index, gone["row"], gone["path"], strict=True)
        ]
        self.images = self.images.drop(index=gone.index)

    def _missing(self) -> None:
        missing = self.images[[_is_missing(self.folder / path) for path in self.images["path"]]]
        if len(missing) and self.settings.missing_files == "error":
            hints = [f" ({self.hints[path]})" if path in self.hints else "" for path in missing["path"]]
            listed = [
                f"row {row}: {path}{hint}"
                for row, path, hint in zip(missing["row"], missing["path"], hints, strict=True)
            ]
            hint = f" Are the paths relative to {self.folder}?" if len(missing) == len(self.images) else ""
            raise DataError(
                f"{len(missing):,} of {len(self.images):,} files named in {self.csv} are missing "
                f"({some(listed, 3)}).{hint} Add them and fetch again (`dvc repro -fs fetch`), delete "
                "rows that are no image, or set ingest.missing_files to drop to leave such rows out."
            )
        rows = [int(row) for row in missing["row"][:LISTED]]
        self.counts["missing_files"] = {"policy": self.settings.missing_files, "count": len(missing), "rows": rows}
        self._drop(dict.fromkeys(missing.index, "missing"))

    def _read(self) -> None:
        """Decode every file; only facts stay in memory."""
        facts: list[Facts] = []
        failed: dict[int, Failure] = {}
        results = measure_all(self.folder, list(self.images["path"]), self.settings)
        progress = tqdm(results, total=len(self.images), desc="ingest", unit="image", delay=2)
        for index, result in zip(self.images.index, progress, strict=True):
            if isinstance(result, Facts):
                facts.append(result)
            else:
                failed[index] = result
        by_reason = dict(sorted(Counter(error.reason for error in failed.values()).items()))
        if failed and self.settings.unreadable == "error":
            gone = self.images.loc[list(failed)]
            listed = [
                f"row {row}: {path} {error.detail}"
                for row, path, error in zip(gone["row"], gone["path"], failed.values(), strict=True)
            ]
            kinds = ", ".join(f"{count} {reason}" for reason, count in by_reason.items())
            raise DataError(
                f"{len(failed):,} of {len(self.images):,} files named in {self.csv} cannot be used: {kinds} "
                f"({some(listed, 3)}). Fix them at the source and fetch again "
                "(`dvc repro -fs fetch`), or set ingest.unreadable to drop to leave such rows out."
            )
        policy = self.settings.unreadable
        self.counts["unreadable"] = {"policy": policy, "count": len(failed), "by_reason": by_reason}
        self._drop({index: error.reason for index, error in failed.items()})
        columns = [*MEASURED, "format", "black_rows"]
        self.images[columns] = pd.DataFrame([asdict(f) for f in facts], index=self.images.index, columns=columns)

    def _not_rgb(self) -> None:
        policy = self.settings.not_rgb
        other = self.images[self.images["mode"] != "RGB"]
        if len(other) and policy == "error":
            listed = [f"row {row}: {path} {mode}" for row, path, mode in other[["row", "path", "mode"]].to_numpy()]
            raise DataError(
                f"{len(other):,} of {len(self.images):,} files named in {self.csv} are not 8-bit RGB ({some(listed)}). "
                "Set ingest.not_rgb to convert or drop."
            )
        by_mode = {str(mode): int(count) for mode, count in sorted(Counter(other["mode"]).items())}
        self.counts["not_rgb"] = {"policy": policy, "count": len(other), "by_mode": by_mode}
        if policy == "drop":
            self._drop(dict.fromkeys(other.index, "not_rgb"))
        named = self.images["path"].map(lambda path: IMAGE_SUFFIXES.get(Path(path).suffix.lower(), "other"))
        wrong = self.images[self.images["format"] != named]
        listed = [f"row {row}: {path} is {form}" for row, path, form in wrong[["row", "path", "format"]].to_numpy()]
        self.counts["format_mismatch"] = {"count": len(wrong), "listed": listed[:LISTED]}

    def _black_rows(self) -> None:
        """Count the images that begin or end with black rows, as files do that lost their end."""
        black = self.images[self.images["black_rows"] > 1]
        rows = black[["row", "path", "black_rows"]].to_numpy()
        listed = [f"row {row}: {path} ({count:,} rows)" for row, path, count in rows]
        self.counts["black_rows"] = {"count": len(black), "listed": listed[:LISTED]}

    def _duplicates(self) -> None:
        filled = self.filled()
        reasons, counts = resolve(filled, self.settings, self.scheme)
        self.counts |= counts
        self.counts["slides_under_two_labels"] = slides_under_two_labels(filled, self.scheme)
        gone = self.images[self.images["image_id"].isin(list(reasons))]
        self._drop({index: reasons[image_id] for index, image_id in zip(gone.index, gone["image_id"], strict=True)})


def mixed_scales(images: pd.DataFrame) -> str:
    """Say which micrometres per pixel the images have or, where these are unknown, which sizes of one shape.

    Parameters
    ----------
    images
        `width`, `height`, `mpp`.

    Returns
    -------
    str
        `350 x 230 (32), 1400 x 920 (32) pixels`; empty where the largest is less than `FACTOR` times the smallest. What
        fewer than `SHARE` of the images have does not count.
    """
    known = images["mpp"] != ""
    scales = _usual(images.loc[known, "mpp"].astype(float), len(images))
    if scales and max(scales) >= FACTOR * min(scales):
        return f"{some((f'{mpp:g} ({n:,})' for mpp, n in sorted(scales.items())), 4)} micrometres per pixel"
    sizes = _usual(zip(images.loc[~known, "width"], images.loc[~known, "height"], strict=True), len(images))
    for width, height in sizes:
        shape = sorted((w, h) for w, h in sizes if abs(w * height / (h * width) - 1) <= SAME_SHAPE)
        if shape[-1][0] >= FACTOR * shape[0][0]:
            return f"{some((f'{w} x {h} ({sizes[w, h]:,})' for w, h in shape), 4)} pixels"
    return ""


def _usual(values: Iterable[Any], images: int) -> dict[Any, int]:
    """Count values, and leave out the rare ones."""
    return {value: n for value, n in Counter(values).items() if n >= max(2, SHARE * images)}


def _is_missing(path: Path) -> bool:
    """Tell whether nothing is there; a file that cannot be read is found later."""
    try:
        path.stat()
    except OSError as error:
        return NOT_READ.get(error.errno or 0, ("", ""))[0] == "missing"
    return False


def image_files(folder: Path) -> list[str]:
    """List the image files below a folder, relative to it; bytes that are not UTF-8 are surrogates, as in `os`."""
    paths = [Path(parent, name).relative_to(folder) for parent, _, names in os.walk(folder) for name in names]
    return [path.as_posix() for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]


def _not_in_csv(folder: Path, named: set[str]) -> dict[str, Any]:
    """Count the image files of the folder that no row names."""
    found = [as_text(path) for path in image_files(folder) if path not in named]
    return {"count": len(found), "listed": sorted(found)[:LISTED]}


def _tally(values: pd.Series, order: list[str]) -> dict[str, int]:
    """Count each value of `order`, and the empty ones as `unknown` where there are any."""
    counts = Counter(values)
    return {value: counts[value] for value in order} | ({"unknown": counts[""]} if counts[""] else {})
