"""`biopsy export`, `publish`, `convert-weights`, `convert-encoder`: the verbs that pass a model on, or take one in."""

import argparse
from pathlib import Path
from typing import Any

from biopsy.cli.verb import add_model, model_path, new_verb
from biopsy.core.errors import ParamsError


def add_export(verbs: Any) -> None:
    """Add `biopsy export`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.experiments.model_info import known_of
        from biopsy.serving.export.run import export_model

        if chosen.int8 is not None and chosen.format != "onnx":
            raise ParamsError("--int8 is for .onnx files. Leave --format or --int8 out.")
        first, alone = chosen.model[0], len(chosen.model) == 1 and (chosen.model[0] / "model.json").is_file()
        about = known_of(first) if alone else None
        path, difference = export_model(chosen.model, chosen.out, about=about, kept=chosen.similar, int8=chosen.int8)
        whose = "its probabilities differ" if chosen.int8 is None else "before int8, probabilities differed"
        print(f"wrote {path}; {whose} from those of Keras by at most {difference:.1e}")
        if chosen.format != "onnx":
            from biopsy.serving.export.runtimes import export_as

            other, difference = export_as(chosen.format, chosen.model, path)
            print(f"wrote {other}; its probabilities differ from those of Keras by at most {difference:.1e}")
        if not alone:
            from biopsy.serving.model import describe
            from biopsy.serving.onnx_file import open_file

            print(describe(open_file(path)[2]))

    verb = new_verb(
        verbs, "export", "write a model as one .onnx file, which needs no TensorFlow",
        "biopsy export models/binary-case",
        "biopsy export models/binary-case-?of5 --out exports/folds.onnx     # the mean of the folds",
        "biopsy export models/binary-case --format openvino",
    )  # fmt: skip
    verb.add_argument(
        "model", type=model_path, nargs="+", metavar="FOLDER",
        help="a model's folder, here or REPO@REVISION:PATH; several (folds, seeds) are averaged",
    )  # fmt: skip
    verb.add_argument("--out", type=Path, metavar="FILE", help="default: exports/<name>.onnx")
    verb.add_argument(
        "--int8", nargs="?", type=float, const=0.02, metavar="LOSS",
        help="quantise to 8 bits; fails if a validation figure drops by more than LOSS (default: 0.02)",
    )  # fmt: skip
    verb.add_argument(
        "--format", choices=("onnx", "openvino", "litert"), default="onnx",
        help="also write it for OpenVINO (.xml, .bin) or LiteRT (.tflite), with its metadata as .json",
    )  # fmt: skip
    verb.add_argument(
        "--similar", choices=("names", "pictures", "none"), default="names",
        help="what the file stores to show similar training images: names (default), also thumbnails, or none",
    )  # fmt: skip
    verb.set_defaults(run=act)


def add_publish(verbs: Any) -> None:
    """Add `biopsy publish`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.serving.export.publish import publish
        from biopsy.serving.finding import only_model

        for line in publish(chosen.model or only_model(), chosen.target, chosen.card, chosen.yes):
            print(line)

    verb = new_verb(
        verbs, "publish", "share a model in a folder or on the hub: model card, .onnx file, metadata, example",
        "biopsy publish shared/ --model exports/binary-case.onnx          # says what it would write",
        "biopsy publish shared/ --model exports/binary-case.onnx --yes",
        "HF_TOKEN=... biopsy publish hf://user/name --yes",
    )  # fmt: skip
    verb.add_argument(
        "target", metavar="TARGET", help="a new or empty folder or hf://user/name, or one of an earlier `publish`"
    )
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


def add_convert_encoder(verbs: Any) -> None:
    """Add `biopsy convert-encoder`."""

    def act(chosen: argparse.Namespace) -> None:
        from biopsy.networks.convert_encoder import convert_encoder

        print(convert_encoder(chosen.encoder, chosen.out, chosen.weights, chosen.size))

    verb = new_verb(
        verbs, "convert-encoder", "write a timm encoder as an .onnx file, for `model.backbone: onnx`",
        "biopsy convert-encoder tf_efficientnet_lite0 lite0.onnx",
        "HF_TOKEN=... biopsy convert-encoder virchow2 virchow2.onnx",
        "biopsy convert-encoder vit_small_patch16_224 vit.onnx --weights vit.safetensors",
    )  # fmt: skip
    verb.add_argument(
        "encoder", metavar="NAME", help="timm's name, hf-hub:organisation/repository, or uni, virchow2, ..."
    )
    verb.add_argument("out", type=Path, metavar="FILE", help="the file to write, .onnx")
    verb.add_argument("--weights", type=Path, metavar="FILE", help="a checkpoint (default: timm downloads it)")
    verb.add_argument("--size", type=int, metavar="PX", help="side of the images (default: as in its training)")
    verb.set_defaults(run=act)
