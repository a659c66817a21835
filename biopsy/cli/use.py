"""The verbs that use a trained model."""

import argparse
import os
from pathlib import Path
from typing import Any

from biopsy.cli.verb import add_model, figures_of, new_verb
from biopsy.core.errors import DataError, ParamsError


def add_predict(verbs: Any) -> None:
    """Add `biopsy predict`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.images.slides.find import find_slides
        from biopsy.serving.predict import predict_files

        if slides := find_slides(chosen.inputs):
            from biopsy.core.extras import extra

            with extra("slides"):
                from biopsy.serving.slides.run import Options, predict_slides

            if chosen.by:
                raise ParamsError("--by is for images of which a table gives the case or slide, not for whole slides.")
            predict_slides(slides, Options(chosen.model, chosen.out, chosen.mpp, chosen.tile_mpp))
            return
        if chosen.mpp or chosen.tile_mpp:
            raise ParamsError("--mpp and --tile-mpp are for whole slides, and the inputs name none.")
        failed = predict_files(chosen.inputs, chosen.model, chosen.out, chosen.by, figures_of)
        if failed:
            why = "The column 'without_prediction' counts them." if chosen.by else "The column 'error' says why."
            raise DataError(f"{failed} of the images have no prediction. {why}")

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
    add_model(verb)
    verb.add_argument(
        "--by", choices=("case", "slide"), help="one row for each: the mean probability over its images, as in the test"
    )
    verb.add_argument(
        "--out", type=Path, metavar="PATH",
        help=".csv, .json or .jsonl (default: CSV on the screen); for slides, a folder",
    )  # fmt: skip
    verb.add_argument("--mpp", type=float, metavar="UM", help="micrometres per pixel of a slide whose file lacks them")
    verb.add_argument("--tile-mpp", type=float, metavar="UM", help="those of its tiles (default: as in training)")
    verb.set_defaults(run=act)


def add_evaluate(verbs: Any) -> None:
    """Add `biopsy evaluate`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.serving.external import Asked, evaluate_elsewhere
        from biopsy.serving.predict import only_model

        asked = Asked(chosen.csv, chosen.images, chosen.label, chosen.map)
        left = evaluate_elsewhere(chosen.model or only_model(), asked, chosen.out, figures_of)
        if left:
            rows = "row has" if left == 1 else "rows have"
            raise DataError(f"{left:,} {rows} no prediction. The column 'error' of predictions.csv says why.")

    verb = new_verb(
        verbs, "evaluate", "test a model on labelled images of elsewhere; research use only",
        "biopsy evaluate --model exports/binary-case.onnx --csv labels.csv --images photos/ --out external/",
        "biopsy evaluate --csv labels.csv --label diagnosis --map cancer=malignant --map healthy=benign",
    )  # fmt: skip
    add_model(verb)
    verb.add_argument(
        "--csv", type=Path, required=True, metavar="FILE",
        help="columns path and label and, if known, case, slide and magnification",
    )  # fmt: skip
    verb.add_argument("--images", type=Path, metavar="FOLDER", help="where the images are (default: beside the CSV)")
    verb.add_argument("--label", metavar="COLUMN", help="the column of labels (default: that of the model's data)")
    verb.add_argument("--map", action="append", default=[], metavar="WORD=CLASS", help="what a label means; repeatable")
    verb.add_argument("--out", type=Path, default=Path("external"), metavar="FOLDER", help="default: external/")
    verb.set_defaults(run=act)


def add_explain(verbs: Any) -> None:
    """Add `biopsy explain`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.serving.explain_files import explain_files

        failed = explain_files(chosen.inputs, chosen.model, chosen.out, chosen.method)
        if failed:
            raise DataError(f"{failed} of the images have no explanation. The lines above say why.")

    verb = new_verb(
        verbs, "explain", "draw where a model looks in images; research use only",
        "biopsy explain images/ --model exports/binary-case.onnx",
        "biopsy explain 'slides/**/*.png' --out looks/",
    )  # fmt: skip
    verb.add_argument(
        "inputs", nargs="+", metavar="IMAGE", help="image files, folders, patterns, a .csv with a column path, or -"
    )
    add_model(verb)
    verb.add_argument("--out", type=Path, default=Path("explanations"), metavar="FOLDER", help="default: explanations/")
    verb.add_argument(
        "--method", choices=("occlusion", "gradcam", "deepshap", "activation"), default="occlusion",
        help="hide places (default); of a model's folder, Grad-CAM, or DeepSHAP against training images (extra shap); "
        "or the map that an .onnx file gives, unchecked",
    )  # fmt: skip
    verb.set_defaults(run=act)


def add_serve(verbs: Any) -> None:
    """Add `biopsy serve`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.serving.serve import serve

        serve(chosen.model, chosen.host, chosen.port, chosen.token or os.environ.get("BIOPSY_TOKEN"), figures_of)

    verb = new_verb(
        verbs, "serve", "open a page and an API that predict images; research use only",
        "biopsy serve --model exports/binary-case.onnx",
        "BIOPSY_TOKEN=... biopsy serve --host 0.0.0.0 --port 80",
    )  # fmt: skip
    verb.add_argument(
        "--model", type=Path, action="append", default=[], metavar="MODEL",
        help="a folder or .onnx file; again for more (default: all in models/, else in exports/)",
    )  # fmt: skip
    verb.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine alone")
    verb.add_argument("--port", type=int, default=8000, help="default: 8000")
    verb.add_argument("--token", help="what clients must send; needed for other hosts (default: $BIOPSY_TOKEN)")
    verb.set_defaults(run=act)
