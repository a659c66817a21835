"""`biopsy export`, `publish`, `convert-weights`, `convert-encoder`: the verbs that pass a model on, or take one in."""

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from biopsy.cli.verb import Model, examples, model_path, new_verbs, one_model
from biopsy.core.errors import ParamsError

verbs = new_verbs()
MOST_LOSS = 0.02


@verbs.command(
    epilog=examples(
        "biopsy export models/binary-case",
        "biopsy export models/binary-case-?of5 --out exports/folds.onnx     # the mean of the folds",
        "biopsy export models/binary-case --format openvino",
    )
)
def export(
    model: Annotated[
        list[str],
        Argument(
            metavar="FOLDER", help="a model's folder, here or REPO@REVISION:PATH; several (folds, seeds) are averaged"
        ),
    ],
    out: Annotated[Path | None, Option(metavar="FILE", help="default: exports/<name>.onnx")] = None,
    int8: Annotated[
        bool,
        Option("--int8", help=f"quantise to 8 bits; fails if a validation figure drops by more than {MOST_LOSS}"),
    ] = False,
    int8_loss: Annotated[float | None, Option(metavar="LOSS", help="--int8 with another limit than this")] = None,
    format: Annotated[
        Literal["onnx", "openvino", "litert"],
        Option(help="also write it for OpenVINO (.xml, .bin) or LiteRT (.tflite), with its metadata as .json"),
    ] = "onnx",
    similar: Annotated[
        Literal["names", "pictures", "none"],
        Option(help="what the file stores to show similar training images: names, also thumbnails, or none"),
    ] = "names",
) -> None:
    """Write a model as one .onnx file; it needs no TensorFlow."""
    from biopsy.experiments.model_info import known_of
    from biopsy.serving.export.run import export_model

    most = MOST_LOSS if int8 and int8_loss is None else int8_loss
    if most is not None and format != "onnx":
        raise ParamsError("--int8 is for .onnx files. Leave --format or --int8 out.")
    folders = [model_path(name) for name in model]
    alone = len(folders) == 1 and (folders[0] / "model.json").is_file()
    about = known_of(folders[0]) if alone else None
    path, difference = export_model(folders, out, about=about, kept=similar, int8=most)
    whose = "its probabilities differ" if most is None else "before int8, probabilities differed"
    print(f"wrote {path}; {whose} from those of Keras by at most {difference:.1e}")
    if format != "onnx":
        from biopsy.serving.export.runtimes import export_as

        other, difference = export_as(format, folders, path)
        print(f"wrote {other}; its probabilities differ from those of Keras by at most {difference:.1e}")
    if not alone:
        from biopsy.serving.model import describe
        from biopsy.serving.onnx_file import open_file

        print(describe(open_file(path)[2]))


@verbs.command(
    epilog=examples(
        "biopsy publish shared/ --model exports/binary-case          # says what it would write",
        "biopsy publish shared/ --model exports/binary-case --yes",
        "HF_TOKEN=... biopsy publish hf://user/name --yes",
    )
)
def publish(
    target: Annotated[str, Argument(help="a new or empty folder or hf://user/name, or one of an earlier `publish`")],
    model: Model = None,
    card: Annotated[Path | None, Option(metavar="FILE", help="default: plots/cards/<task>-<protocol>.md")] = None,
    yes: Annotated[bool, Option("--yes", help="write the files; without it, only list them")] = False,
) -> None:
    """Share a model in a folder or on the Hugging Face hub.

    Writes a model card, the .onnx file, its metadata and an example.
    """
    from biopsy.serving.export import publish as publishing

    for line in publishing.publish(one_model(model), target, card, yes):
        print(line)


@verbs.command(
    epilog=examples(
        "biopsy convert-weights resnet50.pth resnet50.weights.h5 --architecture resnet50",
        "dvc exp run -S model.backbone=resnet50 -S model.weights=resnet50.weights.h5",
    )
)
def convert_weights(
    checkpoint: Annotated[Path, Argument(help="a state dict (.pth, .pt, .tar) or a .safetensors file")],
    out: Annotated[Path, Argument(help="the file to write, <name>.weights.h5")],
    architecture: Annotated[str, Option(metavar="NAME", help="resnet34, resnet50, densenet121 or mobilenet_v2")],
) -> None:
    """Convert a PyTorch checkpoint to a Keras weights file."""
    from biopsy.networks import convert

    print(convert.convert_weights(checkpoint, out, architecture))


@verbs.command(
    epilog=examples(
        "biopsy convert-encoder tf_efficientnet_lite0 lite0.onnx",
        "HF_TOKEN=... biopsy convert-encoder virchow2 virchow2.onnx",
        "biopsy convert-encoder vit_small_patch16_224 vit.onnx --weights vit.safetensors",
    )
)
def convert_encoder(
    encoder: Annotated[str, Argument(help="timm's name, hf-hub:organisation/repository, or uni, virchow2, ...")],
    out: Annotated[Path, Argument(help="the file to write, .onnx")],
    weights: Annotated[Path | None, Option(metavar="FILE", help="a checkpoint (default: timm downloads it)")] = None,
    size: Annotated[int | None, Option(metavar="PX", help="side of the images (default: as in its training)")] = None,
) -> None:
    """Write a timm encoder as an .onnx file.

    `model.backbone: onnx` takes it.
    """
    from biopsy.networks import convert_encoder as converting

    print(converting.convert_encoder(encoder, out, weights, size))
