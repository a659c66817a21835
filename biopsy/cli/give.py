"""The verbs that pass a model on, or take one in."""

import argparse
from pathlib import Path
from typing import Any

from biopsy.cli.verb import add_model, new_verb


def add_export(verbs: Any) -> None:
    """Add `biopsy export`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.experiments.model_info import known_of
        from biopsy.serving.export import export_model

        first, alone = chosen.model[0], len(chosen.model) == 1 and (chosen.model[0] / "model.json").is_file()
        about = known_of(first) if alone else None
        path, difference = export_model(chosen.model, chosen.out, about=about, kept=chosen.similar, int8=chosen.int8)
        print(f"wrote {path}; its probabilities differ from those of Keras by at most {difference:.1e}")
        if not alone:
            from biopsy.serving.model import describe
            from biopsy.serving.onnx_file import open_file

            print(describe(open_file(path)[2]))

    verb = new_verb(
        verbs, "export", "write a model as one .onnx file, which needs no TensorFlow",
        "biopsy export models/binary-case",
        "biopsy export models/binary-case-?of5 --out exports/folds.onnx     # the mean of the folds",
    )  # fmt: skip
    verb.add_argument(
        "model", type=Path, nargs="+", metavar="FOLDER",
        help="a model's folder, such as models/binary-case; several (folds, seeds) are averaged",
    )  # fmt: skip
    verb.add_argument("--out", type=Path, metavar="FILE", help="default: exports/<name>.onnx")
    verb.add_argument(
        "--int8", nargs="?", type=float, const=0.02, metavar="LOSS",
        help="quantise to 8 bits; fails if a validation figure drops by more than LOSS (default: 0.02)",
    )  # fmt: skip
    verb.add_argument(
        "--similar", choices=("names", "pictures", "none"), default="names",
        help="what the file stores to show similar training images: names (default), also thumbnails, or none",
    )  # fmt: skip
    verb.set_defaults(run=act)


def add_publish(verbs: Any) -> None:
    """Add `biopsy publish`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.serving.predict import only_model
        from biopsy.serving.publish import publish

        for line in publish(chosen.model or only_model(), chosen.target, chosen.card, chosen.yes):
            print(line)

    verb = new_verb(
        verbs, "publish", "write a folder to share: model card, .onnx file, metadata, example",
        "biopsy publish shared/ --model exports/binary-case.onnx          # says what it would write",
        "biopsy publish shared/ --model exports/binary-case.onnx --yes",
    )  # fmt: skip
    verb.add_argument("target", metavar="FOLDER", help="a new or empty folder, or one of an earlier `publish`")
    add_model(verb)
    verb.add_argument("--card", type=Path, metavar="FILE", help="default: plots/cards/<task>-<protocol>.md")
    verb.add_argument("--yes", action="store_true", help="write the files; without it, only list them")
    verb.set_defaults(run=act)


def add_convert_weights(verbs: Any) -> None:
    """Add `biopsy convert-weights`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.networks.convert import convert_weights

        print(convert_weights(chosen.checkpoint, chosen.out, chosen.architecture))

    verb = new_verb(
        verbs, "convert-weights", "convert a PyTorch checkpoint to a Keras weights file",
        "biopsy convert-weights resnet50.pth resnet50.weights.h5 --architecture resnet50",
        "dvc exp run -S model.backbone=resnet50 -S model.weights=resnet50.weights.h5",
    )  # fmt: skip
    verb.add_argument("checkpoint", type=Path, help="a state dict (.pth, .pt, .tar) or a .safetensors file")
    verb.add_argument("out", type=Path, help="the file to write, <name>.weights.h5")
    verb.add_argument(
        "--architecture", required=True, metavar="NAME", help="resnet34, resnet50, densenet121 or mobilenet_v2"
    )
    verb.set_defaults(run=act)
