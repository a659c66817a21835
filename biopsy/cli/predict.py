"""`biopsy predict`, `evaluate`, `explain`, `serve`: the verbs that use a trained model."""

import argparse
import os
from pathlib import Path
from typing import Any

from biopsy.cli.verb import add_model, figures_of, model_path, new_verb
from biopsy.core.errors import DataError, ParamsError, some


def add_predict(verbs: Any) -> None:
    """Add `biopsy predict`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.images.slides.find import find_slides
        from biopsy.serving.predict import run as predict

        models = {words: model_path(words) for words in chosen.model}
        if slides := find_slides(chosen.inputs):
            from biopsy.core.extras import extra

            with extra("slides"):
                from biopsy.serving.slides.run import Options, predict_slides

            if chosen.by:
                raise ParamsError("--by is for a CSV of images with a column case or slide, not for whole slides.")
            if chosen.explain:
                raise ParamsError("--explain is for images. Whole slides get a heat map without it.")
            if len(models) > 1:
                raise ParamsError(f"--model: whole slides are predicted by one model. Name one of {some(models)}.")
            model = next(iter(models.values()), None)
            asked = Options(model, chosen.out, chosen.mpp, chosen.tile_mpp, chosen.overlap, chosen.engine)
            predict_slides(slides, asked)
            return
        if chosen.mpp or chosen.tile_mpp or chosen.overlap:
            raise ParamsError("--mpp, --tile-mpp and --overlap are for whole slides, but no input is one.")
        options = predict.Options(models, chosen.out, chosen.by, chosen.explain, chosen.engine)
        predict.predict_files(chosen.inputs, options, figures_of)

    verb = new_verb(
        verbs, "predict", "predict images with a trained model; research use only",
        "biopsy predict images/ --model exports/binary-case.onnx --out predictions.csv",
        "biopsy predict images.csv --by case",
        "biopsy predict slide.svs --out results/",
    )  # fmt: skip
    verb.add_argument(
        "inputs", nargs="+", metavar="INPUT",
        help="image files, folders, patterns such as 'a/**/*.png', a .zip, a .csv with the columns path and, if known, "
        "case and slide, or - for a list of paths; or whole slides (.svs, .ndpi, .mrxs, .tif, ...)",
    )  # fmt: skip
    add_model(verb, several=True)
    verb.add_argument(
        "--by", choices=("case", "slide"), help="one row per case or slide: the mean probability of its images"
    )
    verb.add_argument(
        "--explain", type=Path, metavar="FOLDER", help="draw which parts of each image matter, as `explain` does"
    )
    verb.add_argument(
        "--out", type=Path, metavar="PATH",
        help=".csv, .json, .jsonl or .parquet (default: CSV on the screen); for slides, a folder; a call that was "
        "stopped continues",
    )  # fmt: skip
    verb.add_argument(
        "--engine", choices=("local", "ray"), default="local",
        help="ray: exported models answer on the Ray cluster at RAY_ADDRESS",
    )  # fmt: skip
    verb.add_argument(
        "--mpp", type=float, metavar="UM", help="micrometres per pixel of the slide, if its file does not say"
    )
    verb.add_argument(
        "--tile-mpp", type=float, metavar="UM", help="micrometres per pixel of tiles (default: as in training)"
    )
    verb.add_argument(
        "--overlap", type=float, default=0, metavar="SHARE", help="of neighbouring tiles, 0 (default) to 0.9"
    )
    verb.set_defaults(run=act)


def add_evaluate(verbs: Any) -> None:
    """Add `biopsy evaluate`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.serving.evaluate.run import LabelledImages, evaluate_elsewhere
        from biopsy.serving.finding import only_model

        asked = LabelledImages(chosen.csv, chosen.images, chosen.label, chosen.map)
        left = evaluate_elsewhere(chosen.model or only_model(), asked, chosen.out, figures_of)
        if left:
            rows = "row has" if left == 1 else "rows have"
            raise DataError(f"{left:,} {rows} no prediction. The column 'error' of predictions.csv says why.")

    verb = new_verb(
        verbs, "evaluate", "test a model on your own labelled images; research use only",
        "biopsy evaluate --model exports/binary-case.onnx --csv labels.csv --images photos/ --out external/",
        "biopsy evaluate --csv labels.csv --label diagnosis --map cancer=malignant --map healthy=benign",
    )  # fmt: skip
    add_model(verb)
    verb.add_argument(
        "--csv", type=Path, required=True, metavar="FILE",
        help="columns path (or file), label and, if known, case (or patient), slide and magnification",
    )  # fmt: skip
    verb.add_argument("--images", type=Path, metavar="FOLDER", help="where the images are (default: the CSV's folder)")
    verb.add_argument("--label", metavar="COLUMN", help="the column of labels (default: as in the model's own data)")
    verb.add_argument(
        "--map", action="append", default=[], metavar="WORD=CLASS",
        help="translate a label, such as --map=-1=benign; repeatable",
    )  # fmt: skip
    verb.add_argument("--out", type=Path, default=Path("external"), metavar="FOLDER", help="default: external/")
    verb.set_defaults(run=act)


def add_explain(verbs: Any) -> None:
    """Add `biopsy explain`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.serving.explain.files import explain_files

        failed = explain_files(chosen.inputs, chosen.model, chosen.out, chosen.method)
        if failed:
            raise DataError(
                f"{failed} of the images {'has' if failed == 1 else 'have'} no explanation. The lines above say why."
            )

    verb = new_verb(
        verbs, "explain", "draw which parts of an image matter to a model; research use only",
        "biopsy explain images/ --model exports/binary-case.onnx",
        "biopsy explain 'slides/**/*.png' --out maps/",
    )  # fmt: skip
    verb.add_argument(
        "inputs", nargs="+", metavar="IMAGE", help="image files, folders, patterns, a .csv with a column path, or -"
    )
    add_model(verb)
    verb.add_argument("--out", type=Path, default=Path("explanations"), metavar="FOLDER", help="default: explanations/")
    verb.add_argument(
        "--method", choices=("occlusion", "gradcam", "deepshap", "activation"), default="occlusion",
        help="occlusion: hide region after region (default); gradcam, deepshap (extra shap): of a model's folder; all "
        "three are checked; activation: quick, .onnx only, not checked",
    )  # fmt: skip
    verb.set_defaults(run=act)


def add_serve(verbs: Any) -> None:
    """Add `biopsy serve`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.serving.server.run import serve

        serve(chosen.model, chosen.host, chosen.port, chosen.token or os.environ.get("BIOPSY_TOKEN"), figures_of)

    verb = new_verb(
        verbs, "serve", "start a web page and an API that predict images; research use only",
        "biopsy serve --model exports/binary-case.onnx",
        "BIOPSY_TOKEN=... biopsy serve --host 0.0.0.0 --port 80",
    )  # fmt: skip
    verb.add_argument(
        "--model", type=model_path, action="append", default=[], metavar="MODEL",
        help="a model's folder or .onnx file; repeatable (default: all in models/, else in exports/)",
    )  # fmt: skip
    verb.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, only this machine")
    verb.add_argument("--port", type=int, default=8000, help="default: 8000")
    verb.add_argument("--token", help="a secret that clients must send; required with --host (default: $BIOPSY_TOKEN)")
    verb.set_defaults(run=act)
