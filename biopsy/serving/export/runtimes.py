"""An exported model for other runtimes, OpenVINO and LiteRT: compared with Keras as the .onnx file is."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np

from biopsy.core.errors import UnsuitableModelError
from biopsy.core.extras import extra
from biopsy.core.files import sha256
from biopsy.networks.model_file import NOTICE
from biopsy.serving.export.ensemble import Ensemble, open_models
from biopsy.serving.export.publish import metadata_of
from biopsy.serving.export.run import Ask, images_to_compare, parity
from biopsy.serving.model import Model
from biopsy.serving.onnx_file import INPUT, OUTPUT, open_file


def export_as(kind: str, models: Sequence[Path], onnx: Path, root: Path = Path()) -> tuple[Path, float]:
    """Write a model that was exported as ONNX in another format, beside that file.

    Inputs and outputs are those of the .onnx file; `<file>.json` has its metadata. Equal models give equal bytes,
    each in a new process.

    Parameters
    ----------
    kind
        'openvino' writes `<name>.xml` and `<name>.bin`, 'litert' `<name>.tflite`.
    models
        The folders that the file was exported from.
    onnx
        The file.
    root
        The project, whose prepared images the two are compared on.

    Returns
    -------
    path : Path
    difference : float
        The largest between a probability of Keras and of the format's runtime, at most 1e-4.

    Raises
    ------
    SourceError
        The format cannot hold the model, or gives other probabilities.
    MachineError
        The extra of that name is not installed.
    """
    content, facts, card = open_file(onnx)
    model = open_models(models)
    images, _ = images_to_compare(root, card)
    with TemporaryDirectory(dir=onnx.parent, prefix=".") as folder:
        made, ask = MAKERS[kind](Path(folder, onnx.stem), content, model)
        difference = parity(
            f"{onnx} gives other probabilities as {made.suffix}",
            lambda part: ask(part[:, 0] if card.preparation.views == 1 else part),
            model,
            images,
        )
        digests = {file.name: sha256(file) for file in sorted(Path(folder).iterdir())}
        made.with_name(f"{made.name}.json").write_text(metadata_of(facts, digests), "utf-8")
        for file in sorted(Path(folder).iterdir()):
            file.replace(onnx.with_name(file.name))
    return onnx.with_name(made.name), difference


def _openvino(stem: Path, content: bytes, model: Model | Ensemble) -> tuple[Path, Ask]:
    """Write OpenVINO's two files."""
    path = stem.with_suffix(".xml")
    write_openvino(content, path)
    return path, open_openvino(path, "f32")


def write_openvino(content: bytes, path: Path) -> None:
    """Write an ONNX file as OpenVINO's `path`, an .xml file, and a .bin file beside it."""
    with extra("openvino"):
        import openvino

    network = openvino.Core().read_model(content)  # `convert_model` would report to its maker
    network.set_rt_info(NOTICE, ["biopsy", "notice"])
    openvino.save_model(network, path, compress_to_fp16=False)


def open_openvino(path: Path, precision: Literal["f32", "bf16"]) -> Ask:
    """Open what `write_openvino` wrote; return what asks it about images, uint8.

    The precision is named, because some processors would take 16-bit floats.
    """
    with extra("openvino"):
        import openvino

    # Bytes and not the path: else Windows could not move the files, which OpenVINO keeps open.
    read = openvino.Core().read_model(path.read_bytes(), path.with_suffix(".bin").read_bytes())
    network = openvino.Core().compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    return lambda images: np.asarray(network([images])[OUTPUT])


def _litert(stem: Path, content: bytes, model: Model | Ensemble) -> tuple[Path, Ask]:
    """Write LiteRT's one file, from Keras."""
    with extra("litert"):
        from ai_edge_litert.interpreter import Interpreter

    from biopsy.networks.backend import tf
    from biopsy.serving.export.onnx_graph import answering

    if isinstance(model, Ensemble):
        raise UnsuitableModelError("litert holds one model, and several were named. Take openvino, or name one.")
    answer, taken, encoder = answering(model.network, model.card)
    if encoder:
        raise UnsuitableModelError("litert cannot hold an encoder that is an ONNX file. Take openvino.")
    module = tf.Module()
    module.kept = [variable.value for variable in model.network.variables]
    module.answer = tf.function(answer, input_signature=[taken], autograph=False)
    with TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=module.answer)
        made = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    path = stem.with_suffix(".tflite")
    path.write_bytes(made)
    run = Interpreter(model_content=made).get_signature_runner()
    return path, lambda images: np.asarray(run(**{INPUT: images})[OUTPUT])


MAKERS = {"openvino": _openvino, "litert": _litert}
