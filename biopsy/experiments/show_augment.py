"""`biopsy show-augment`: the contact sheet of an experiment, before anything is trained."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from biopsy.core.errors import ParamsError, SourceError
from biopsy.core.files import read_csv
from biopsy.core.params import Params, parse_params, read_params
from biopsy.core.sections import Resize, Task
from biopsy.experiments.compose import compose
from biopsy.experiments.dvc_lock import read_stages
from biopsy.images.decode import read_rgb
from biopsy.images.resize import draw_structure, resize_rgb
from biopsy.sources.sample.draw import draw_sample
from biopsy.tables.labels.breakhis import parse
from biopsy.training.augment.pipeline import check_augment
from biopsy.training.contact_sheet import TILES, write_sheet
from biopsy.training.inputs.loader import ImageStore


class Source(NamedTuple):
    """Images to choose from: the files, the class of each, what the sheet calls them, and whether they hold edges."""

    files: list[Path]
    classes: list[str]
    origin: str
    edges: bool = False


def show_augment(
    experiment: str | None,
    overrides: Sequence[str],
    *,
    task: Task = "multiclass",
    images: Path | None = None,
    out: Path | None = None,
    root: Path = Path(),
) -> tuple[Path, list[str]]:
    """Write the contact sheet of an experiment.

    Parameters
    ----------
    experiment
        A file of `conf/experiment/`; None: the parameters in force.
    overrides
        Further `group=preset` or `key=value`, as `dvc exp run -S` takes them.
    task
        Whose minority is doubled, where it is.
    images
        A folder of PNGs. By default `data/resized`, or the images that it was made of where the experiment wants
        others (grey ones, say); where there are none, a few images of the sample are drawn.
    out
        The PNG to write; by default `plots/augment-<experiment>.png`.
    root
        The project's folder.

    Returns
    -------
    path : Path
        The sheet.
    notes : list of str
        What its reader must know, and its title says.

    Raises
    ------
    ParamsError
        No such experiment, or an override that fits nothing.
    SourceError
        `images` holds no PNG.
    """
    if out and out.suffix.lower() != ".png":
        raise ParamsError(f"--out: {out} must end in .png, the kind of file that is written.")
    params = compose(experiment, overrides, root) if experiment or overrides else read_params(root / "params.yaml")
    check_augment(params.augment)
    with tempfile.TemporaryDirectory() as drawn:
        source, notes = _choose(params, task, images, root, Path(drawn))
        store, names = _read(source, params)
    if params.stain.method != "none":
        notes.append(f"stain normalisation ({params.stain.method}) is not shown")
    classes = sorted(set(names))
    targets = np.array([classes.index(name) for name in names])
    name = experiment or "current"
    path = out or root / "plots" / f"augment-{name}.png"
    write_sheet(store, targets, params, task, classes, "; ".join([f"{name}, {source.origin}", *notes]), path)
    return path, notes


def _choose(params: Params, task: Task, folder: Path | None, root: Path, drawn: Path) -> tuple[Source, list[str]]:
    """Find images that can be brought to what the experiment sees, and say why where these are not the resized ones."""
    tree, notes = root / "data/resized", list[str]()
    if folder and folder.resolve() != tree.resolve():
        if files := sorted(folder.rglob("*.png")):
            return Source(files, [_class_of(file, task) for file in files], str(folder)), notes
        raise SourceError(f"{folder} holds no PNG. Give a folder of images, or leave --images out.")
    if files := sorted(tree.rglob("*.png")):
        made = _made_with(root)
        if _suits(made, params.resize):
            classes = [_class_of(file, task) for file in files]
            return Source(files, classes, str(tree), made.structure == "laplacian"), notes
        how = f"{made.structure}, {made.aspect}, {made.size} px"
        notes.append(f"{tree} is of no use: it was made with other parameters ({how})")
    if source := _originals(root, task):
        return source, notes
    draw_sample(drawn, 48, seed=params.seed)
    files = sorted(drawn.rglob("*.png"))
    return Source(files, [_class_of(file, task) for file in files], "a drawn sample"), notes


def _made_with(root: Path) -> Resize:
    """Return the parameters of `data/resized`, from dvc.lock; where it has none, those in force, else the default."""
    try:
        stages = read_stages((root / "dvc.lock").read_text("utf-8"))
        return parse_params({"resize": stages["resize"]["params"]["params.yaml"]["resize"]}, "dvc.lock").resize
    except (FileNotFoundError, KeyError):
        return read_params(root / "params.yaml").resize if (root / "params.yaml").is_file() else Resize()


def _suits(made: Resize, wanted: Resize) -> bool:
    """Say whether an image made in one way can become one made in another.

    Colours give grey and edges, grey gives edges; edges are those of the pixels at their size, and give nothing.
    """
    if made.structure == "laplacian":
        return made == wanted
    return made.aspect == wanted.aspect and (made.structure == "rgb" or wanted.structure != "rgb")


def _originals(root: Path, task: Task) -> Source | None:
    """Find the images that were ingested, with their labels."""
    table, images = root / "data/interim/labels.csv", root / "data/raw/images"
    if not table.is_file():
        return None
    labels = read_csv(table)
    labels = labels[[(images / path).is_file() for path in labels["path"]]]
    names = labels["class" if task == "binary" else "subtype"].replace("", "unspecified")
    return Source([images / path for path in labels["path"]], list(names), str(images)) if len(labels) else None


def _read(source: Source, params: Params) -> tuple[ImageStore, list[str]]:
    """Read sixteen images, spread over all there are, as the stage `resize` makes them; with their classes."""
    resize, count = params.resize, len(source.files)
    chosen = np.linspace(0, count - 1, min(TILES, count)).astype(int)
    pixels = [read_rgb(source.files[i], params.ingest.max_pixels) for i in chosen]
    squares = [resize_rgb(image, resize.size, resize.aspect) for image in pixels]
    if not source.edges:
        squares = [draw_structure(square, resize.structure) for square in squares]
    return ImageStore(np.stack(squares), True), [source.classes[i] for i in chosen]


def _class_of(file: Path, task: Task) -> str:
    """Read the class off a BreakHis file name, else off the folders of the resized tree."""
    if name := parse(file.name):
        return name.label if task == "binary" else name.subtype
    return file.parts[-3 if task == "binary" else -2]
