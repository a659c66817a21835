"""`biopsy predict` of whole slides: a folder of results each, which a rerun continues."""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from biopsy.core.engine import Engine, open_engine
from biopsy.core.errors import BiopsyError, DataError, ParamsError, warn
from biopsy.core.files import atomic_file, sha256, write_json
from biopsy.images.slides.reader import Slide, open_slide
from biopsy.images.slides.tissue import SHARE, Cut, Overview, Tile, cut, look_over
from biopsy.networks.model_file import NOTICE
from biopsy.serving.elsewhere import answers_on, check_exported
from biopsy.serving.finding import only_model
from biopsy.serving.model import Model, describe
from biopsy.serving.predict.tables import KINDS
from biopsy.serving.slides.heat import write_pyramid
from biopsy.serving.slides.journal import SUMMARY, TileJournal
from biopsy.serving.slides.outcome import Totals, shown_classes, shown_in_words, write_geojson, write_tiles
from biopsy.serving.slides.picture import draw_heatmap
from biopsy.serving.slides.scale import plan, scale_in, trained_scale


@dataclass(frozen=True)
class Options:
    """What a person asks for: model, folder, scales in micrometres per pixel and overlap (see `plan`), engine."""

    model: Path | None
    out: Path | None
    mpp: float | None = None
    tile_mpp: float | None = None
    overlap: float = 0.0
    engine: str = "local"


def predict_slides(paths: Sequence[Path], options: Options) -> None:
    """Predict slides and write a folder for each; the progress and what to know go to the standard error.

    Parameters
    ----------
    paths
        As `find_slides` gives them.
    options
        See `Options`.

    Raises
    ------
    ParamsError, SourceError
        No folder or no model is named; two slides have one name; a slide without a scale.
    DataError
        A slide cannot be read, or tiles of it: the others are written all the same.
    KeyboardInterrupt
        Stopped; the message says how to continue.
    """
    if options.out is None or options.out.suffix in (*KINDS, ".geojson") or options.out.is_file():
        raise ParamsError(f"{paths[0]} is a whole slide, so --out must name a folder. Try --out slides-predicted.")
    names = [path.stem for path in paths]
    if twice := [path for path in paths if names.count(path.stem) > 1]:
        raise ParamsError(
            f"{twice[0]} and {twice[1]} would both be written to {options.out / twice[0].stem}. Rename one."
        )
    source = options.model or only_model()
    model = Model(source)
    print(describe(model.card), file=sys.stderr)
    errors, failed = [], 0
    if options.engine != "local":
        check_exported([model])
    with open_engine(options.engine) as engine:
        for path in paths:
            try:
                failed += _predict(path, model, source, options, engine)
            except BiopsyError as error:
                if len(paths) == 1:
                    raise
                errors.append(str(error))
                print(f"error: {error}", file=sys.stderr)
    if errors:
        raise DataError(f"{len(errors)} of {len(paths)} slides have no prediction. The lines above say why.")
    if failed:
        raise DataError(f"{failed:,} of the tiles have no prediction. The column 'error' of tiles.csv says why.")


def _predict(path: Path, model: Model, source: Path, options: Options, engine: Engine) -> int:
    """Predict one slide into the folder of its name; return how many tiles have no prediction."""
    slide, card, folder = open_slide(path), model.card, Path(options.out or "", path.stem)
    scale = scale_in(model.facts) if model.network is None else trained_scale(source, card)
    cutting = plan(slide, card, scale, options.mpp, options.tile_mpp, options.overlap)
    about = {
        "slide": path.name,
        "slide_sha256": _hash(path),
        "model": f"{card.task}-{card.protocol}",
        "model_sha256": model.sha256,
        "cut": asdict(cutting) | {"size": list(cutting.size), "least_tissue": SHARE},
    }
    columns = ["x", "y", "width", "height", "tissue", *model.columns[1:-2]]  # a tile is no training image
    if model.knows_training:
        columns.append("unlike_training")
    folder.mkdir(parents=True, exist_ok=True)
    journal = TileJournal(folder, about, columns, model.batch, (slide.width, slide.height))
    if found := journal.finished():
        print(f"{folder} is complete already: nothing has changed since.", file=sys.stderr)
        return int(found["tiles_without_prediction"])
    overview = look_over(slide)
    _answer(overview, slide, model, journal, engine, cutting)
    totals = Totals(card, cutting, (slide.width, slide.height))
    journal.close()
    packed = folder / "tiles.parquet"
    packed.unlink(missing_ok=True)  # of an earlier model, and of an environment that could write it
    if find_spec("pyarrow"):
        write_tiles(packed, journal.rows())
    write_geojson(folder / "tiles.geojson", totals.over(journal.rows()), card)
    _draw(folder / "heatmap.png", path.name, overview, totals, model, cutting)
    shrink = write_pyramid(folder / "heatmap.tif", totals.heat, f"{shown_in_words(card)}. {NOTICE}")
    summary = {
        "notice": NOTICE,
        **totals.summary(),
        "heatmap_shows": shown_classes(card),
        "heatmap_tif_slide_pixels_per_pixel": shrink,
        "slide": {
            "name": path.name, "layout": slide.vendor, "width": slide.width, "height": slide.height,
            "um_per_pixel": cutting.slide_um,
        },
        "made_of": about,
    }  # fmt: skip
    write_json(folder / SUMMARY, summary)
    journal.forget()
    print(f"{path} -> {folder}: {_in_words(summary, card.labels[card.task].words)}", flush=True)
    if totals.warning:
        warn(f"{totals.warning}, so their predictions may be unreliable. See 'unlike_training' in tiles.csv.")
    return totals.failed


def _answer(overview: Overview, slide: Slide, model: Model, journal: TileJournal, engine: Engine, cutting: Cut) -> None:
    """Predict the tiles that have no row yet."""
    total = sum(1 for _ in cut(slide, overview, cutting))  # counted, not kept: there may be a million
    if not total:
        warn(f"{slide.path} has no tissue, or less of it than half a tile.")
    tiles = islice(cut(slide, overview, cutting), journal.done, None)

    alone = Lock()  # of the threads that prepare tiles: a slide's file has one place where it is read

    def read(tile: Tile) -> NDArray[Any]:
        with alone:
            return slide.region(tile.x, tile.y, tile.width, tile.height, cutting.size)

    done = journal.done
    if done:
        print(f"{done:,} of {total:,} tiles are done already.", file=sys.stderr)
    with journal.table() as rows, tqdm(total=total, initial=done, unit="tile", delay=2, file=sys.stderr) as bar:
        try:
            for tile, (given,) in answers_on(engine, [model], ((tile, partial(read, tile)) for tile in tiles)):
                row = model.row("", given)
                row = {name: value for name, value in row.items() if name in journal.columns}
                place = asdict(tile)
                rows.writerow(place | {name: "" if value != value else value for name, value in row.items()})
                done += 1
                bar.update()
        except KeyboardInterrupt:
            done -= done % journal.batch
            raise KeyboardInterrupt(
                f"{done:,} of {total:,} tiles of {slide.path.name} are done. Repeat the command to continue."
            ) from None


def _hash(path: Path) -> str:
    """Hash a slide; of a MIRAX slide, whose own file holds no tiles, the folder beside it, too."""
    if path.suffix.lower() != ".mrxs":
        return sha256(path)
    others = sorted(p for p in path.with_suffix("").glob("*") if p.is_file())
    return hashlib.sha256("".join(sha256(p) for p in (path, *others)).encode()).hexdigest()


def _draw(path: Path, name: str, overview: Overview, totals: Totals, model: Model, cutting: Cut) -> None:
    shown = f"{shown_in_words(model.card)}, model {model.card.task}-{model.card.protocol}"
    picture = draw_heatmap(overview, totals, cutting, name, shown)
    with atomic_file(path) as temporary:
        Image.fromarray(picture).save(temporary, "PNG")


def _in_words(summary: dict[str, Any], words: dict[str, str]) -> str:
    shares = {words[name]: about["area_share"] for name, about in summary["classes"].items() if about["area_share"]}
    parts = [f"{share:.0%} {name}" for name, share in sorted(shares.items(), key=lambda item: -item[1])]
    return f"{summary['tiles']:,} tiles; of the tissue {', '.join(parts)}" if parts else "no tile with a prediction"
