"""Grad-CAM: the slopes of every head, a network whose right answer is known, and what random weights leave of it."""

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from coloured import colours
from scipy.stats import spearmanr

from biopsy.core.errors import ParamsError
from biopsy.core.sections.model import Features, Head, Model
from biopsy.evaluation.report.results import read_run
from biopsy.experiments.explain_report import explain_run
from biopsy.networks.backend import keras
from biopsy.networks.build import build_model
from biopsy.networks.model_file import save_model
from biopsy.serving.explain.files import explain_files
from biopsy.serving.explain.gradcam import gradcam, pooled_maps
from biopsy.serving.explain.image import explain, methods_of
from biopsy.serving.export.activation import evidence, head_of
from biopsy.serving.model import Model as Trained
from report_project import HASH, write_project
from tiny_onnx import DARK, SIZE, encoder, write_onnx

PROBE = Head(kind="probe", feature_norm=False, units=0, unit_norm=False, batch_norm=False)
MAP = ["block2_relu"]  # of several places, as the last one of so small an image is not
HEADS: dict[str, tuple[Head, Features, int, int]] = {  # head, features, classes, tiles
    "dense, tiles": (Head(feature_norm=False), Features(layers=MAP), 8, 3),
    "probe, two classes": (PROBE, Features(layers=MAP), 2, 1),
    "dense, gem": (Head(feature_norm=False, unit_norm=False), Features(layers=MAP, pool="gem"), 2, 1),
    "probe of two layers, tiles": (PROBE, Features(layers=["block1_relu", *MAP]), 8, 2),
}


def shaken(model: Any) -> Any:
    """Let no weight be 0 or 1: what starts as such would hide a missing factor."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(weight + rng.uniform(0.05, 0.3, weight.shape))
    return model


@pytest.mark.parametrize("kind", HEADS)
def test_the_map_is_that_of_the_closed_form_or_its_mean_the_change_of_the_logit_as_the_maps_grow(kind: str) -> None:
    head, features, classes, tiles = HEADS[kind]
    keras.utils.set_random_seed(0)
    settings = Model().model_copy(update={"head": head, "features": features})  # a probe of random weights is rejected
    model = shaken(build_model(settings, SIZE, classes, tiles=tiles))
    views = np.random.default_rng(1).integers(0, 256, (tiles, SIZE, SIZE, 3), np.uint8)
    pixels = views.astype(np.float32) if tiles == 1 else views[None].astype(np.float32)
    maps, last, closed = pooled_maps(model), model.get_layer("probabilities"), head_of(model)
    assert len(maps) == len(features.layers)
    cams = [gradcam(model, views, index) for index in range(2)]
    assert cams[0].shape == (tiles, max(m.shape[1] for m in maps) // tiles, max(m.shape[2] for m in maps))
    if closed:
        layers, tensors = closed
        *values, pooled = keras.Model(model.inputs[0], [*tensors, model.get_layer("head_pool").output])(pixels)
        wanted = keras.ops.convert_to_numpy(evidence(layers, values, pooled))[0, :2]
        np.testing.assert_allclose(np.stack(cams), wanted.reshape(np.shape(cams)), rtol=1e-6, atol=1e-4)
        assert np.ptp(wanted, axis=(1, 2)).min() > 0.01
        return
    seen = keras.Model(model.inputs[0], maps)(pixels)
    seen = seen if isinstance(seen, list) else [seen]
    rest, kernel = keras.Model(maps, last.input), last.get_weights()[0]
    kernel = np.concatenate([-kernel, kernel], 1) if classes == 2 else kernel
    less, more = (np.asarray(rest([m * factor for m in seen]))[0] @ kernel for factor in (0.99, 1.01))
    slope = ((more - less) / 0.02)[:2]
    assert np.abs(slope).min() > 0.01
    np.testing.assert_allclose([cam.mean() for cam in cams], slope, rtol=0.03)


def test_the_map_names_what_the_network_was_made_to_see_and_its_check_agrees(tmp_path: Path) -> None:
    network, image = colours()
    save_model(network, tmp_path, DARK)
    model = Trained(tmp_path)
    assert methods_of(model) == ["occlusion", "gradcam"]
    found = explain(model, image[0], "gradcam")
    red, green = np.s_[1:3, 1:3], np.s_[1:3, 5:7]
    assert (found.predicted, found.method) == ("malignant", "gradcam")
    (cam,) = found.drops
    assert (cam[red] > 1).all()
    assert (cam[green] < -1).all()
    assert not np.delete(cam, np.s_[1:3], axis=0).any()
    np.testing.assert_allclose(gradcam(network, image, 0), -found.drops, atol=1e-5)
    assert found.trusted
    assert found.check.deletion < found.check.random < found.check.insertion


def changes(explained: Any) -> float:
    """How much of a map's order survives random weights: the mean of |Spearman| over draws of each layer in turn."""
    left = []
    for layer in ("probabilities", "conv"):  # from the output on, as Adebayo et al. (2018, arXiv 1810.03292) do
        network, image = colours()
        usual, weights = explained(network, image), network.get_layer(layer).get_weights()
        for seed in range(6):
            rng = np.random.default_rng(seed)
            network.get_layer(layer).set_weights([rng.normal(0, max(w.std(), 0.1), w.shape) for w in weights])
            left.append(abs(spearmanr(usual.ravel(), explained(network, image).ravel()).statistic))
    return float(np.mean(left))


def test_randomised_weights_change_the_map_and_an_edge_detector_fails_this_check() -> None:
    assert (left := changes(lambda network, image: gradcam(network, image, 1))) < 0.6, left
    assert changes(lambda _, image: cv2.Laplacian(image[0], cv2.CV_64F)) == pytest.approx(1)


def test_the_report_shows_it_beside_occlusion_each_map_on_its_own_scale(tmp_path: Path) -> None:
    save_model(colours()[0], tmp_path, DARK)
    model = Trained(tmp_path)
    preparation = DARK.preparation.model_copy(update={"max_pixels": 100_000})
    model.card = model.card.model_copy(update={"model_sha256": HASH, "preparation": preparation})
    params = write_project(tmp_path, ["benign", "malignant"], ["case"], cases=4)
    html = explain_run(read_run(params, tmp_path), lambda _: model)
    shown = html.count("<figure>")
    assert shown > 1
    assert html.count('<img src="data:image/jpeg;base64,') == html.count(' alt="') == 3 * shown
    assert html.count("<br>Occlusion: ") == html.count("<br>Grad-CAM: ") == shown
    assert len(set(re.findall(r'class="key">(\S+: -[\d.e-]+) ', html))) == 2


def test_the_command_draws_the_map_of_a_folder_and_says_in_a_sentence_what_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, image = colours()
    for name in ("model", "vectors"):
        (tmp_path / name).mkdir()
    save_model(network, tmp_path / "model", DARK)
    cv2.imwrite(str(tmp_path / "a.png"), image[0, ..., ::-1])
    assert explain_files([str(tmp_path / "a.png")], tmp_path / "model", tmp_path / "out", "gradcam") == 0
    assert "a-explained.png: malignant" in (told := capsys.readouterr().out)
    assert "The places that the map names matter more than random ones." in told
    assert (tmp_path / "out/a-explained.png").stat().st_size > 1000
    exported = write_onnx(tmp_path / "dark.onnx")
    with pytest.raises(ParamsError, match=r"an \.onnx file does not give. Name the model's folder"):
        explain_files([str(tmp_path / "a.png")], exported, tmp_path / "out", "gradcam")
    (tmp_path / "e.onnx").write_bytes(encoder())
    settings = Model(backbone="onnx", weights=str(tmp_path / "e.onnx"), trainable="none", head=PROBE)
    save_model(build_model(settings, SIZE, 2), tmp_path / "vectors", DARK)
    with pytest.raises(ParamsError, match="sees one vector, not a map"):
        explain_files([str(tmp_path / "a.png")], tmp_path / "vectors", tmp_path / "out", "gradcam")
