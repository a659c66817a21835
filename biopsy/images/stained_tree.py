"""The tree of one protocol's images with a normalised stain, fitted on its training images and on no other."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from biopsy.core.code_digest import code_digest
from biopsy.core.errors import DataError, MachineError, ParamsError
from biopsy.core.files import at_home
from biopsy.core.layout import resized_path
from biopsy.core.sections.data import Stain
from biopsy.core.shards import SINGLE_FILES, files_of, place_of, read_file, shards_for, shards_in
from biopsy.images.decode import ImageError, hash_pixels, read_rgb
from biopsy.images.image_tree import Maker, Recipe, Row, build_tree
from biopsy.images.preparation.record import Preparation, Stains
from biopsy.images.resize import Image, encode_png, make_views
from biopsy.images.stain import mean_of, measure, restain
from biopsy.images.stains.registry import NotNormalised, find

CODE = (
    "biopsy.images.resize",
    "biopsy.images.stain",
    "biopsy.images.stains",
    "biopsy.images.stained_tree",
)  # what makes the pixels, and their PNG
NO_TARGET = "no training image to fit on"


def stain_all(
    tables: Mapping[str, pd.DataFrame],
    resized: Path,
    stained: Path,
    resume: Path,
    params: Stain,
    preparation: Preparation,
) -> tuple[dict[str, Any], Counter[str]]:
    """Fit the target stain, that of each fold on its own training images, and bring the stained tree up to date.

    Parameters
    ----------
    tables
        By fold, or under '' where all images have one target, a DataFrame of `image_id`, `pixels_sha256`, and `part`:
        'train', 'val' or 'test'. The images of fold '1-2' get the ids '1-2/<image_id>' in the tree.
    resized, stained
        The trees `<image_id>.png` to read and to write; the second is called by its protocol.
    resume
        Holds the journal and the files that are not yet in the tree.
    params
        Method and reference.
    preparation
        Of the resized tree.

    Returns
    -------
    told : dict
        What the metrics tell: `method`, `directions`, `spreads` (see `Stains`), what they were fitted on, how many
        images there are, and how many kept their own stain, by part and reason; equal for equal images, however often
        the run was stopped. Of several folds the method, and this of each fold. If no training image's stain can be
        measured, the images are used as they are, and the tree has none.
    counts : Counter
        `made` and `kept` in this run.

    Raises
    ------
    ParamsError
        No such method, or a reference that is missing, is no image, shows no tissue, or belongs to the validation or
        test part; or more images, over all folds, than a tree has as single files.
    DataError
        A resized image that cannot be read.
    MachineError
        The disk is too full.
    """
    find(params.method)
    protocol, targets, about = stained.name, dict[str, Stains | None](), dict[str, dict[str, Any]]()
    rows: list[Row] = [
        {"image_id": f"{fold}/{image_id}" if fold else image_id, "source": image_id, "part": part, "fold": fold}
        for fold, table in tables.items()
        for image_id, part in zip(table["image_id"], table["part"], strict=True)
    ]
    if len(tables) > 1 and shards_for(len(rows)):
        raise ParamsError(
            f"protocols lists '{protocol}': a stain of each fold's own makes {len(rows):,} images, more than "
            f"{SINGLE_FILES:,}. Set stain.reference to an image file that is not among your images, stain.method to "
            "none, or protocols to single folds."
        )
    cv2.setNumThreads(1)  # the images are the parallel unit, for OpenCV and for BLAS
    with threadpool_limits(1):
        training = {fold: list(table["image_id"][table["part"] == "train"]) for fold, table in tables.items()}
        measured = dict[str, Stains | str]()
        if params.reference is None:
            once = sorted({image_id for ids in training.values() for image_id in ids})
            measured = _measure(once, resized, params.method, f"{protocol}: measure")
        for fold, table in tables.items():
            if params.reference is None:
                targets[fold], about[fold] = _fit([measured[image_id] for image_id in training[fold]])
            else:
                path = at_home(params.reference)
                targets[fold], about[fold] = _fit_reference(path, table, params.method, preparation)
        made = {fold: preparation.model_copy(update={"stain": target}) for fold, target in targets.items()}
        fitted = {fold: target for fold, target in targets.items() if target}
        made_of = [row for row in rows if row["fold"] in fitted]
        _check_disk(made_of, resized, stained)
        counts, notes = build_tree(
            made_of,
            stained,
            resume / f"stained-{protocol}",
            made.get("", preparation),
            Maker(_recipe(resized, fitted, preparation.size), f"{protocol}: {params.method}"),
            {fold: how for fold, how in made.items() if fold},
        )
    told = {}
    for fold, target in targets.items():
        own = [row for row in rows if row["fold"] == fold]
        left = Counter((row["part"], note) for row in own if (note := notes.get(row["image_id"], NO_TARGET)))
        by_part: dict[str, dict[str, int]] = {"train": {}, "val": {}, "test": {}}
        for (part, reason), count in sorted(left.items()):
            by_part[part][reason] = count
        kept = {"images": len(own), "normalised": len(own) - left.total(), "kept_their_stain": by_part}
        measured_on = target or Stains(method=params.method, directions=(), spreads=())
        told[fold] = measured_on.model_dump(mode="json") | about[fold] | kept
    return told.get("", {"method": params.method, "folds": told}), counts


def _check_disk(rows: Sequence[Row], resized: Path, stained: Path) -> None:
    """Raise `MachineError` before images, about as large as the resized ones, fill the disk."""
    new = [row["source"] for row in rows if not (stained / resized_path(row["image_id"])).exists()]
    size = 0 if shards_in(resized) else sum(path.stat().st_size for path in files_of(resized, new) if path.exists())
    if size > (free := shutil.disk_usage(resized).free):
        raise MachineError(
            f"stain.method: the normalised images of protocol {stained.name} take about {size / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB of the disk are free. Free some space, or set stain.method to none."
        )


def _recipe(resized: Path, targets: Mapping[str, Stains], size: int) -> Callable[[Row], Recipe]:
    code, archives = f"{code_digest(*CODE)} torchstain {version('torchstain')}", shards_in(resized)

    def recipe(row: Row) -> Recipe:
        path, target = resized / place_of(row["source"], archives), targets[row["fold"]]
        data = _bytes(path)

        def make() -> tuple[bytes, str]:
            views, reason = restain(_decode(data, path).reshape(-1, size, size, 3), target)
            return (data, reason) if reason else (encode_png(np.concatenate(views)), "")

        return Recipe(f"{hashlib.sha256(data).hexdigest()} {target.model_dump_json()} {code}", make)

    return recipe


def _measure(image_ids: Sequence[str], resized: Path, method: str, title: str) -> dict[str, Stains | str]:
    """Measure the stain of images, or say why it cannot be."""

    def one(path: Path) -> Stains | str:
        try:
            return measure(_decode(_bytes(path), path), method)
        except NotNormalised as reason:
            return str(reason)

    with ThreadPool() as pool:
        found = tqdm(pool.imap(one, files_of(resized, image_ids), 8), title, len(image_ids), delay=2)
        return dict(zip(image_ids, found, strict=True))


def _fit(found: Sequence[Stains | str]) -> tuple[Stains | None, dict[str, Any]]:
    """Average the stain of images; those that have none are left out and counted. None has one: no target."""
    measured = [stains for stains in found if isinstance(stains, Stains)]
    without = Counter(reason for reason in found if isinstance(reason, str))
    told = {"reference": None, "fitted_on": len(measured), "not_fitted_on": dict(without)}
    return (mean_of(measured) if measured else None), told


def _fit_reference(
    path: Path, table: pd.DataFrame, method: str, preparation: Preparation
) -> tuple[Stains, dict[str, Any]]:
    """Measure one image, made like the others, since shrinking takes contrast away."""
    try:
        image = read_rgb(path, preparation.max_pixels)
    except ImageError as error:
        raise ParamsError(
            f"stain.reference: {path} {error.detail}. Name an image file, or null for the mean of the training images."
        ) from None
    pixels = hash_pixels(image)
    known = table[(table["pixels_sha256"] == pixels) & (table["part"] != "train")]
    if len(known):
        row = known.iloc[0]
        raise ParamsError(
            f"stain.reference: {path} is {row['image_id']} of the {row['part']} part, from which nothing may be "
            "learnt. Name a training image, or null for the mean of all of them."
        )
    try:
        views = make_views(image, preparation.resize)
        measured = measure(np.concatenate(views), method)
    except NotNormalised as reason:
        raise ParamsError(
            f"stain.reference: {path} cannot be matched ({reason}). Name an image with stained tissue, or null for the "
            "mean of the training images."
        ) from None
    return measured, {"reference": {"file": path.name, "pixels_sha256": pixels}, "fitted_on": 1, "not_fitted_on": {}}


def _bytes(path: Path) -> bytes:
    try:
        return read_file(path)
    except FileNotFoundError:
        raise DataError(f"{path} is missing. Run `dvc repro resize` to make it again.") from None


def _decode(data: bytes, path: Path) -> Image:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
    if image is None:
        raise DataError(f"{path} cannot be read. Run `dvc repro resize` to make it again.")
    return np.asarray(image, np.uint8)
