"""An ONNX file as encoder: what it must be, in one sentence each; no Keras is needed for that."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from biopsy.core.errors import ParamsError
from biopsy.core.params import parse_params
from biopsy.networks.encoder_file import EncoderFile
from tiny_onnx import SIZE, encoder


def value(name: str, kind: int, *shape: int | str) -> object:
    return helper.make_tensor_value_info(name, kind, shape)


UINT8, FLOAT, DOUBLE = TensorProto.UINT8, TensorProto.FLOAT, TensorProto.DOUBLE


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no model", r"is not an ONNX file that ONNX Runtime can load"),
        (encoder()[:200], r"is not an ONNX file"),
        (
            encoder(outputs=[value("vector", FLOAT, "n", 6), value("m", FLOAT, "n", 3)]),
            r"gives 2 outputs \(vector, m\)",
        ),
        (
            encoder(inputs=[value("pixels", UINT8, "n", 32, 32, 3), value("age", FLOAT, "n")]),
            r"takes 2 inputs \(pixels, age\)",
        ),
        (
            encoder(inputs=[value("pixels", DOUBLE, "n", 32, 32, 3)]),
            r"takes tensor\(double\) and gives tensor\(float\)",
        ),
        (encoder(inputs=[value("pixels", UINT8, "n", 32, 32, 4)]), r"takes \(n, 32, 32, 4\)\. Images are"),
        (encoder(inputs=[value("pixels", UINT8, 1, 32, 32, 3)]), r"takes 1 image\(s\) at a time.*free first dimension"),
        (
            encoder(inputs=[value("pixels", UINT8, "n", 32, 48, 3)]),
            r"takes \(n, 32, 48, 3\), and our images are square",
        ),
        (encoder(outputs=[value("x", FLOAT, "n", 32, 32, 3)]), r"makes \(2, 32, 32, 3\) of two images"),
    ],
)
def test_what_is_no_encoder_says_why(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EncoderFile(content).width(SIZE)


def of_nodes(*nodes: onnx.NodeProto, version: int = 8, **constants: np.ndarray) -> onnx.ModelProto:
    """An encoder of these nodes, from `pixels` to `vector`."""
    kept = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["pixels"], ["m"], axes=[2, 3], keepdims=0), *nodes],
        "encoder", [value("pixels", FLOAT, "n", 3, 32, 32)], [value("vector", FLOAT, "n", "d")], kept,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=version)


def test_weights_beside_the_file_are_refused_also_where_they_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = of_nodes(helper.make_node("MatMul", ["m", "w"], ["vector"]), w=np.eye(3, dtype=np.float32))
    EncoderFile(model.SerializeToString())
    onnx.save(model, tmp_path / "e.onnx", save_as_external_data=True, location="e.data", size_threshold=0)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"keeps its weights in another file. Join them: `python -c"):
        EncoderFile(Path("e.onnx").read_bytes())


@pytest.mark.parametrize(
    "nodes",
    [
        [
            helper.make_node("ReduceMean", ["m"], ["c"], axes=[0]),
            helper.make_node("Sub", ["m", "c"], ["vector"]),
        ],
        [
            helper.make_node("RandomNormalLike", ["m"], ["r"]),
            helper.make_node("Add", ["m", "r"], ["vector"]),
        ],
    ],
    ids=["the batch's mean", "noise"],
)
def test_a_vector_that_depends_on_more_than_its_image_is_refused(nodes: list[onnx.NodeProto]) -> None:
    with pytest.raises(ValueError, match=r"another vector when another image stands beside it.*module\.eval"):
        EncoderFile(of_nodes(*nodes).SerializeToString()).width(SIZE)


def test_no_numbers_at_all_and_a_file_of_the_future_say_so() -> None:
    empty = of_nodes(helper.make_node("MatMul", ["m", "w"], ["vector"]), w=np.zeros((3, 0), np.float32))
    with pytest.raises(ValueError, match=r"makes \(2, 0\) of two images"):
        EncoderFile(empty.SerializeToString()).width(SIZE)
    future = of_nodes(helper.make_node("Identity", ["m"], ["vector"]), version=99)
    with pytest.raises(ValueError, match=r"can load: Unsupported model IR version: 99, max supported"):
        EncoderFile(future.SerializeToString())
    future = of_nodes(helper.make_node("Identity", ["m"], ["vector"]))
    future.opset_import[0].version = 99
    with pytest.raises(
        ValueError, match=r"it is of opset 99, and this ONNX Runtime knows at most \d+\. Export it with"
    ):
        EncoderFile(future.SerializeToString())


def test_numbers_that_are_not_finite_are_refused_before_a_training_takes_them_for_its_own_fault() -> None:
    root = of_nodes(helper.make_node("Log", ["m"], ["l"]), helper.make_node("Sqrt", ["l"], ["vector"]))
    with pytest.raises(ValueError, match=r"gives NaN or infinite numbers of an image of random pixels\. Export it in"):
        EncoderFile(root.SerializeToString()).width(SIZE)
    of_black = of_nodes(helper.make_node("Div", ["m", "m"], ["vector"]))
    assert EncoderFile(of_black.SerializeToString()).width(SIZE) == 3


@pytest.mark.parametrize(("kind", "first"), [("uint8", False), ("float", True)])
def test_layout_type_and_size_are_read_from_the_file(kind: str, first: bool) -> None:
    for size, known in ((SIZE, SIZE), ("s", None)):
        found = EncoderFile(encoder(kind, size))
        assert (found.takes_uint8, found.channels_first, found.size) == (not first, first, known)
        assert found.width(SIZE) == 6
    images = np.full((1, SIZE, SIZE, 3), 7, np.uint8)
    given = found(images if kind == "uint8" else images.transpose(0, 3, 1, 2).astype(np.float32))
    np.testing.assert_allclose(given, [[7, 7, 7, 14, 14, 14]])


SOUND = {"backbone": "onnx", "weights": "e.onnx", "trainable": "none"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights": "none"}, r"model\.weights is 'none'\. Set it to the path of an \.onnx file"),
        ({"weights": "imagenet"}, r"model\.weights is 'imagenet'\. Set it"),
        ({"trainable": "all"}, r"cannot be trained, and model\.trainable is 'all'\. Set it to none"),
        ({"trainable": 2}, r"cannot be trained, and model\.trainable is 2\. Set it to none"),
        ({"encoder": {"std": [1.0, 0.0, 1.0]}}, r"model\.encoder\.std.*greater than 0"),
        ({"encoder": {"mean": [0.5]}}, r"model\.encoder\.mean.*at least 3"),
    ],
)
def test_parameters_that_an_encoder_cannot_go_with_are_one_sentence(change: dict[str, object], words: str) -> None:
    parse_params({"model": SOUND})
    with pytest.raises(ParamsError, match=words):
        parse_params({"model": SOUND | change})
