"""`biopsy predict`, `evaluate`, `explain`, `serve`: the verbs that use a trained model."""

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from biopsy.cli.verb import MODEL, Model, Models, examples, figures_of, model_path, new_verbs, one_model, repeatable
from biopsy.core.errors import DataError, ParamsError, some

verbs = new_verbs()


@verbs.command(
    epilog=examples(
        "biopsy predict images/ --model exports/binary-case --out predictions.csv",
        "biopsy predict images.csv --by case",
        "biopsy predict slide.svs --out results/",
    )
)
def predict(
    inputs: Annotated[
        list[str],
        Argument(
            metavar="INPUT",
            help="image files, folders, patterns such as 'a/**/*.png', a .zip, a .csv with the columns path and, if "
            "known, case and slide, or - for a list of paths; or whole slides (.svs, .ndpi, .mrxs, .tif, ...)",
        ),
    ],
    *,
    model: Models,
    by: Annotated[
        Literal["case", "slide"] | None, Option(help="one row per case or slide: the mean probability of its images")
    ] = None,
    explain: Annotated[
        Path | None, Option(metavar="FOLDER", help="draw which parts of each image matter, as `explain` does")
    ] = None,
    out: Annotated[
        Path | None,
        Option(
            metavar="PATH",
            help=".csv, .json, .jsonl or .parquet (default: CSV on the screen); for slides, a folder; a call that was "
            "stopped continues",
        ),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"], Option(help="ray: exported models answer on the Ray cluster at RAY_ADDRESS")
    ] = "local",
    mpp: Annotated[
        float | None, Option(metavar="UM", help="micrometres per pixel of the slide, if its file does not say")
    ] = None,
    tile_mpp: Annotated[
        float | None, Option(metavar="UM", help="micrometres per pixel of tiles (default: as in training)")
    ] = None,
    overlap: Annotated[float, Option(metavar="SHARE", help="of neighbouring tiles, to 0.9")] = 0,
) -> None:
    """Predict images with a trained model; research use only."""
    from biopsy.images.slides.find import find_slides
    from biopsy.serving.predict.run import Options, predict_files

    models = {words: model_path(words) for words in model}
    if slides := find_slides(inputs):
        from biopsy.core.extras import extra

        with extra("slides"):
            from biopsy.serving.slides.run import Options as SlideOptions
            from biopsy.serving.slides.run import predict_slides

        if by:
            raise ParamsError("--by is for a CSV of images with a column case or slide, not for whole slides.")
        if explain:
            raise ParamsError("--explain is for images. Whole slides get a heat map without it.")
        if len(models) > 1:
            raise ParamsError(f"--model: whole slides are predicted by one model. Name one of {some(models)}.")
        only = next(iter(models.values()), None)
        predict_slides(slides, SlideOptions(only, out, mpp, tile_mpp, overlap, engine))
        return
    if mpp or tile_mpp or overlap:
        raise ParamsError("--mpp, --tile-mpp and --overlap are for whole slides, but no input is one.")
    predict_files(inputs, Options(models, out, by, explain, engine), figures_of)


@verbs.command(
    epilog=examples(
        "biopsy evaluate --model exports/binary-case --csv labels.csv --images photos/ --out external/",
        "biopsy evaluate --csv labels.csv --label diagnosis --map cancer=malignant --map healthy=benign",
    )
)
def evaluate(
    *,
    csv: Annotated[
        Path,
        Option(
            metavar="FILE",
            help="columns path (or file), label and, if known, case (or patient), slide and magnification",
        ),
    ],
    model: Model = None,
    images: Annotated[
        Path | None, Option(metavar="FOLDER", help="where the images are (default: the CSV's folder)")
    ] = None,
    label: Annotated[
        str | None, Option(metavar="COLUMN", help="the column of labels (default: as in the model's own data)")
    ] = None,
    map: Annotated[
        list[str],
        repeatable(metavar="WORD=CLASS", help="translate a label, such as --map -1=benign; repeatable"),
    ],
    out: Annotated[Path, Option(metavar="FOLDER")] = Path("external"),
) -> None:
    """Test a model on labelled images; research use only."""
    from biopsy.serving.evaluate.run import LabelledImages, evaluate_elsewhere

    asked = LabelledImages(csv, images, label, map)
    left = evaluate_elsewhere(one_model(model), asked, out, figures_of)
    if left:
        rows = "row has" if left == 1 else "rows have"
        raise DataError(f"{left:,} {rows} no prediction. The column 'error' of predictions.csv says why.")


@verbs.command(
    epilog=examples(
        "biopsy explain images/ --model exports/binary-case",
        "biopsy explain 'slides/**/*.png' --out maps/",
    )
)
def explain(
    inputs: Annotated[
        list[str],
        Argument(metavar="IMAGE", help="image files, folders, patterns, a .csv with a column path, or -"),
    ],
    model: Model = None,
    out: Annotated[Path, Option(metavar="FOLDER")] = Path("explanations"),
    method: Annotated[
        Literal["occlusion", "gradcam", "deepshap", "activation"],
        Option(
            metavar="NAME",
            help="occlusion: hide region after region; gradcam, deepshap (extra shap): of a model's folder; all three "
            "are checked; activation: quick, .onnx only, not checked",
        ),
    ] = "occlusion",
) -> None:
    """Draw which parts of an image matter; research use only."""
    from biopsy.serving.explain.files import explain_files

    failed = explain_files(inputs, model_path(model) if model else None, out, method)
    if failed:
        raise DataError(
            f"{failed} of the images {'has' if failed == 1 else 'have'} no explanation. The lines above say why."
        )


@verbs.command(
    epilog=examples(
        "biopsy serve --model exports/binary-case",
        "BIOPSY_TOKEN=... biopsy serve --host 0.0.0.0 --port 80",
    )
)
def serve(
    *,
    model: Annotated[
        list[str],
        repeatable(metavar="MODEL", help=f"{MODEL}; repeatable (default: all in models/, else in exports/)"),
    ],
    host: Annotated[str, Option(metavar="ADDRESS", help="127.0.0.1: only this machine")] = "127.0.0.1",
    port: Annotated[int, Option(metavar="N")] = 8000,
    token: Annotated[
        str | None,
        Option(envvar="BIOPSY_TOKEN", metavar="SECRET", help="what clients must send; required with --host"),
    ] = None,
) -> None:
    """Start a page and an API that predict; research use only."""
    from biopsy.serving.server import run

    run.serve([model_path(name) for name in model], host, port, token, figures_of)
