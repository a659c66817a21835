"""A contact sheet: what augmentation makes of one training image, as a picture of sixteen tiles."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from biopsy.core.files import atomic_file
from biopsy.core.params import Params
from biopsy.core.sections.section import Task
from biopsy.core.sections.train import Augment
from biopsy.training.inputs.batches import training_set
from biopsy.training.inputs.loader import ImageStore, TrainingItems, training_items

COLUMNS, TILES = 4, 16
SMALLEST, LARGEST = 192, 256  # sides of a tile in pixels
CAPTION, TITLE, GAP = 20, 28, 6
NOTHING = "no augmentation"


@dataclass(frozen=True, eq=False)
class Tile:
    """One picture of a sheet: uint8 pixels of shape (size, size, 3), and what stands below it."""

    pixels: NDArray[np.uint8]
    caption: str


def write_sheet(
    store: ImageStore, targets: np.ndarray, params: Params, task: Task, classes: list[str], title: str, path: Path
) -> None:
    """Draw an image and fifteen versions of it, made by `training_set` and nothing else, into a PNG.

    Without augmentation all would be equal, so the image is drawn alone.

    Parameters
    ----------
    store, targets
        Images, and the classes (n,) of the first n of them, which are the training part.
    params, task
        The parameters in force and which of the tasks this is.
    classes
        The names of the classes, for the captions.
    title
        What stands above, before the augmentation in force.
    path
        The PNG to write.
    """
    told = describe(params.augment, task)
    tiles = draw_tiles(store, targets, params, task, classes)[: 1 if told == NOTHING else TILES]
    with atomic_file(path) as temporary:
        paint(tiles, f"{title}: {told}").save(temporary, compress_level=3)


def draw_tiles(store: ImageStore, targets: np.ndarray, params: Params, task: Task, classes: list[str]) -> list[Tile]:
    """Return the original and what the first epochs of a training make of it.

    Without mixing, these are the pixels that the training sees, since they depend on nothing but seed, epoch and image.
    With it, fifteen other images stand in for the rest of the batch. Where the minority is doubled the image is one of
    it, and half of the tiles show its copy.
    """
    items = training_items(targets, params.augment, task)
    rows, names = _rows(items, params.augment)
    batches = training_set(
        store, items, params.augment, task,
        classes=max(2, len(classes)), batch=len(rows), seed=params.seed, epochs=range(TILES - 1), rows=rows,
    )  # fmt: skip
    subject = items.index[rows[0]]
    tiles = [Tile(store[subject], f"original, {classes[targets[subject]]}")]
    drawn: list[list[Tile]] = [[] for _ in names]
    for epoch, (images, labels) in enumerate(batches, start=1):
        for row, name in enumerate(names):
            pixels = np.clip(np.rint(images[row]), 0, 255).astype(np.uint8)
            mixed = f": {_shares(np.asarray(labels[row]), classes)}" if params.augment.mix.is_on else ""
            drawn[row].append(Tile(pixels, f"{name}epoch {epoch}{mixed}"))
    if len(names) == 1:
        return tiles + drawn[0]
    return tiles + drawn[0][: TILES // 2 - 1] + drawn[1][: TILES // 2]


def _rows(items: TrainingItems, augment: Augment) -> tuple[np.ndarray, list[str]]:
    """Choose the items of the sheet's batch, and name those of them that are shown."""
    copies = np.flatnonzero(items.copy)
    first = int(items.index[copies[0]]) if len(copies) else 0
    shown, names = ([first, int(copies[0])], ["", "copy, "]) if len(copies) else ([first], [""])
    if not augment.mix.is_on:
        return np.array(shown), names
    others = [i for i in range(len(items)) if i not in shown]
    spread = np.unique(np.linspace(0, len(others) - 1, min(TILES - 1, len(others))).astype(int))
    return np.array([*shown, *(others[i] for i in spread)]), names


def _shares(label: np.ndarray, classes: list[str]) -> str:
    """Put a mixed label in words: `A 0.62, DC 0.38`."""
    shares = np.array([1 - label[0], label[0]]) if len(label) == 1 else label
    order = np.argsort(-shares, kind="stable")[:2]
    return ", ".join(f"{classes[i]} {shares[i]:.2f}" for i in order if shares[i] >= 0.005)


def describe(augment: Augment, task: Task) -> str:
    """Say in a line what is on: `flip, stain_jitter 0.05, randaugment n=2 m=15; mixup 0.4`."""
    parts = [_strengths(augment.every)]
    if augment.double_minority and task in augment.copies:
        parts.append(f"copies of the minority {_strengths(augment.copies[task])}")
    parts += [f"{name} {alpha:g}" for name, alpha in augment.mix.model_dump().items() if alpha]
    return "; ".join(part for part in parts if part) or NOTHING


def _strengths(strengths: dict[str, Any]) -> str:
    words = []
    for name, strength in strengths.items():
        if isinstance(strength, dict):
            words.append(" ".join([name, *(f"{key}={value}" for key, value in strength.items())]))
        elif strength:
            words.append(name if strength is True else f"{name} {strength:g}")
    return ", ".join(words)


def paint(tiles: list[Tile], title: str) -> Image.Image:
    """Lay tiles out in rows of four, each with its caption, below a title."""
    side = len(tiles[0].pixels)
    shown = side * -(-SMALLEST // side) if side < SMALLEST else min(side, LARGEST)
    rows = -(-len(tiles) // COLUMNS)
    width = COLUMNS * (shown + GAP) + GAP
    sheet = Image.new("RGB", (width, TITLE + rows * (shown + CAPTION) + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, GAP), title, "black", _font(pen, [title], width - 2 * GAP, 16))
    small = _font(pen, [tile.caption for tile in tiles], shown, 13)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, COLUMNS)
        left, top = GAP + column * (shown + GAP), TITLE + row * (shown + CAPTION)
        way = Image.Resampling.NEAREST if shown > side else Image.Resampling.BOX
        sheet.paste(Image.fromarray(tile.pixels).resize((shown, shown), way), (left, top))
        pen.text((left, top + shown + 2), tile.caption, "black", small)
    return sheet


def _font(pen: ImageDraw.ImageDraw, texts: list[str], width: int, largest: int) -> Any:
    """Return the largest font in which every text fits the width, down to 7 points."""
    for size in range(largest, 7, -1):
        if all(pen.textlength(text, font=ImageFont.load_default(size)) <= width for text in texts):
            return ImageFont.load_default(size)
    return ImageFont.load_default(7)
