"""`biopsy show-augment`: the contact sheet of an experiment, before anything is trained."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from biopsy.augment.pipeline import check_augment
from biopsy.breakhis import parse
from biopsy.contact_sheet import TILES, write_sheet
from biopsy.errors import ParamsError, SourceError, nearest
from biopsy.images import read_rgb
from biopsy.loader import ImageStore
from biopsy.params import Params, parse_params, read_params
from biopsy.resize import resize_rgb
from biopsy.sample import draw_sample
from biopsy.sections import Task


def show_augment(
    experiment: str | None,
    overrides: Sequence[str],
    *,
    task: Task = "multiclass",
    images: Path | None = None,
    out: Path | None = None,
    root: Path = Path(),
) -> Path:
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
        A folder of PNGs. By default `data/resized`; where it holds none, a few images of the sample are drawn.
    out
        The PNG to write; by default `plots/augment-<experiment>.png`.
    root
        The project's folder.

    Returns
    -------
    Path
        The sheet.

    Raises
    ------
    ParamsError
        No such experiment, or an override that fits nothing.
    SourceError
        `images` holds no PNG.
    """
    params = composed(experiment, overrides, root) if experiment or overrides else read_params(root / "params.yaml")
    check_augment(params.augment)
    store, names, origin = _images(params, task, images, root)
    classes = sorted(set(names))
    targets = np.array([classes.index(name) for name in names])
    name = experiment or "current"
    path = out or root / "plots" / f"augment-{name}.png"
    write_sheet(store, targets, params, task, classes, f"{name}, {origin}", path)
    return path


def composed(experiment: str | None, overrides: Sequence[str], root: Path) -> Params:
    """Compose `conf/` as `dvc exp run -S +experiment=<name> -S ...` would, without writing params.yaml."""
    known = sorted(path.stem for path in (root / "conf/experiment").glob("*.yaml"))
    if experiment and experiment not in known:
        raise ParamsError(
            f"there is no experiment '{experiment}' in {root / 'conf/experiment'}; there are {', '.join(known)}."
            f"{nearest(experiment, known)}"
        )
    chosen = ([f"+experiment={experiment}"] if experiment else []) + list(overrides)
    try:
        with initialize_config_dir(str((root / "conf").resolve()), version_base=None):
            content = OmegaConf.to_container(compose("config", chosen), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ParamsError(f"{' '.join(chosen)} cannot be composed: {' '.join(str(error).split())}") from None
    return parse_params(content, f"{root / 'conf'}, composed with {' '.join(chosen)}")


def _images(params: Params, task: Task, folder: Path | None, root: Path) -> tuple[ImageStore, list[str], str]:
    """Read sixteen images, spread over all there are, at `resize.size`; with their classes, and where they are from."""
    tree = folder or root / "data/resized"
    files = sorted(tree.rglob("*.png"))
    if files:
        return *_read(files, params, task), str(tree)
    if folder:
        raise SourceError(f"{folder} holds no PNG. Give a folder of images, or leave --images out.")
    with tempfile.TemporaryDirectory() as drawn:
        draw_sample(Path(drawn), 48, seed=params.seed)
        return *_read(sorted(Path(drawn).rglob("*.png")), params, task), "a drawn sample"


def _read(files: list[Path], params: Params, task: Task) -> tuple[ImageStore, list[str]]:
    chosen = [files[i] for i in np.linspace(0, len(files) - 1, min(TILES, len(files))).astype(int)]
    pixels = [read_rgb(file, params.ingest.max_pixels) for file in chosen]
    resized = [resize_rgb(image, params.resize.size, params.resize.aspect) for image in pixels]
    return ImageStore(np.stack(resized), True), [_class_of(file, task) for file in chosen]


def _class_of(file: Path, task: Task) -> str:
    """Read the class off a BreakHis file name, else off the folders of the resized tree."""
    if name := parse(file.name):
        return name.label if task == "binary" else name.subtype
    return file.parts[-3 if task == "binary" else -2]
