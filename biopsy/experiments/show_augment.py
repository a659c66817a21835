"""`biopsy show-augment`: the contact sheet of an experiment, before anything is trained."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from biopsy.core.errors import ParamsError, SourceError, nearest
from biopsy.core.files import read_csv
from biopsy.core.layout import LABELS, ORIGINALS, RESIZED
from biopsy.core.params import Params, read_params
from biopsy.core.sections.data import Resize
from biopsy.core.shards import archive_of, files_of, is_there, read_file
from biopsy.experiments.compose import compose
from biopsy.images.decode import read_rgb
from biopsy.images.preparation.record import FILE, read_preparation, suited_to
from biopsy.images.resize import make_views
from biopsy.sources.sample.draw import draw_sample
from biopsy.tables.labels.grammars import facts_in
from biopsy.tables.labels.scheme import UNLABELLED
from biopsy.training.augment.pipeline import check_augment
from biopsy.training.contact_sheet import TILES, write_sheet
from biopsy.training.inputs.loader import ImageStore


class Source(NamedTuple):
    """Images to choose from: the files, the class of each, what the sheet calls them, and whether they are ready."""

    files: list[Path]
    classes: list[str]
    origin: str
    ready: bool = False


def show_augment(
    experiment: str | None,
    overrides: Sequence[str],
    *,
    task: str | None = None,
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
        The task whose minority is doubled, if any is; by default the last of `tasks`.
    images
        A folder of PNGs. By default `data/resized`, or the images that it was made of if the experiment prepares them
        differently (in grey, say); without either, a few images of the sample are drawn.
    out
        The PNG to write; by default `plots/augment-<experiment>.png`.
    root
        The project's folder.

    Returns
    -------
    path : Path
        The sheet.
    notes : list of str
        What a reader must know; the title says it too.

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
    if (root / LABELS).is_file():
        params = params.model_copy(update={"resize": suited_to(params.resize, root / LABELS)})
    task = task or params.tasks[-1]
    if task not in params.labels.tasks:
        known = params.labels.tasks
        raise ParamsError(f"--task must be one of {', '.join(known)}. Got '{task}'.{nearest(task, known)}")
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


def _choose(params: Params, task: str, folder: Path | None, root: Path, drawn: Path) -> tuple[Source, list[str]]:
    """Find images that can be brought to what the experiment sees, and say why where these are not the resized ones."""
    tree, notes = root / RESIZED, list[str]()
    if folder and folder.resolve() != tree.resolve():
        if files := sorted(folder.rglob("*.png")):
            return Source(files, _classes(files, task, params), str(folder)), notes
        raise SourceError(f"{folder} has no PNG. Name a folder of PNG images, or omit --images.")
    images, classes = _labelled(root, task)
    if (tree / FILE).is_file() and (found := _there(dict(zip(classes, files_of(tree, classes), strict=True)))):
        made = read_preparation(tree).resize
        if made == params.resize or _suits(made, params.resize):
            ready = made == params.resize
            return Source(list(found.values()), [classes[i] for i in found], str(tree), ready), notes
        how = f"{made.structure}, {made.mode}, {made.size} px"
        notes.append(f"{tree} cannot be used: it was made with other parameters ({how})")
    if found := _there(images):
        return Source(list(found.values()), [classes[i] for i in found], str(root / ORIGINALS)), notes
    draw_sample(drawn, 48, seed=params.seed)
    files = sorted(drawn.rglob("*.png"))
    return Source(files, _classes(files, task, params), "a drawn sample"), notes


def _there(files: dict[str, Path]) -> dict[str, Path]:
    return {image_id: path for image_id, path in files.items() if is_there(path)}


def _suits(made: Resize, wanted: Resize) -> bool:
    """Say whether an image made in one way can become one made in another.

    Colours give grey and edges, grey gives grey; edges are those of the pixels at their size, and give nothing, nor do
    tiles.
    """
    if made.structure == "laplacian" or "tiles" in (made.mode, wanted.mode):
        return False
    return made.mode == wanted.mode and (made.structure == "rgb" or wanted.structure != "rgb")


def _labelled(root: Path, task: str) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the ingested file and the class of each image that has a label, by image_id."""
    table = root / LABELS
    if not table.is_file():
        return {}, {}
    labels = read_csv(table)
    names = labels[task].replace("", UNLABELLED) if task in labels else [UNLABELLED] * len(labels)
    paths = [root / ORIGINALS / path for path in labels["path"]]
    return dict(zip(labels["image_id"], paths, strict=True)), dict(zip(labels["image_id"], names, strict=True))


def _read(source: Source, params: Params) -> tuple[ImageStore, list[str]]:
    """Read sixteen images, spread over all there are, as the stage `resize` makes them; with their classes."""
    resize, count = params.resize, len(source.files)
    squares = []
    chosen = np.linspace(0, count - 1, min(TILES, count)).astype(int)
    for i in chosen:
        file = source.files[i]
        image = read_rgb(read_file(file) if archive_of(file) else file, params.ingest.max_pixels)
        size = resize.size
        views = image.reshape(-1, size, size, 3) if source.ready else make_views(image, resize)
        squares.append(views[len(views) // 2])  # of tiles, one from the middle
    return ImageStore.whole(np.stack(squares)), [source.classes[i] for i in chosen]


def _classes(files: list[Path], task: str, params: Params) -> list[str]:
    """Read the classes of files without labels off their names, as the grammar says."""
    facts = (facts_in(file.name, params.labels.grammar) or {} for file in files)
    return [known.get(task) or UNLABELLED for known in facts]
