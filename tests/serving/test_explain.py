"""`biopsy explain`: maps of models whose answer is known, and what a person gets for images."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from biopsy.core.errors import DataError, ParamsError
from biopsy.core.sections.data import Resize, Tiles
from biopsy.images.resize import make_views
from biopsy.networks.model_file import NOTICE
from biopsy.serving.explain.files import explain_files
from biopsy.serving.explain.image import Explanation, lay_on, paint, scale_of
from biopsy.serving.explain.occlusion import CELLS, Subject, faithfulness, occlusion_map
from conftest import ROOT
from tiny_onnx import network, write_onnx

SIZE = 6 * CELLS
SQUARE = np.s_[12:24, 36:48]  # the cells 2 and 3 from the top, 6 and 7 from the left


def subject_of(answer: object, views: NDArray[np.uint8] | None = None) -> Subject:
    if views is None:
        views = np.full((1, SIZE, SIZE, 3), 90, np.uint8)
        views[0][SQUARE] = 250
    return Subject(answer, views, 1)  # type: ignore[arg-type]


def brightness(views: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The second class is as probable as the square is bright; nothing else counts."""
    share = views[:, 0][:, *SQUARE].mean(axis=(1, 2, 3)) / 255
    return np.stack([1 - share, share], axis=1)


def white(views: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The second class is as probable as the views are white."""
    share = (views > 200).mean(axis=(1, 2, 3, 4))
    return np.stack([1 - share, share], axis=1)


def explained(subject: Subject) -> Explanation:
    drops = occlusion_map(subject)
    return Explanation("b", "b", 0.9, drops, faithfulness(subject, drops))


def test_a_map_peaks_on_the_one_square_that_counts_and_its_check_says_so() -> None:
    found = explained(subject_of(brightness))
    (drops,) = found.drops
    assert (drops[2:4, 6:8] > 0.15).all()
    assert drops[2:4, 6:8].min() > np.delete(drops, np.s_[2:4], axis=0).max()
    assert not drops[5:].any()
    assert found.check.deletion < found.check.random - 0.1
    assert found.check.insertion > found.check.random + 0.1
    assert found.trusted


def test_a_map_of_the_wrong_places_fails_the_check() -> None:
    subject = subject_of(brightness)
    assert not faithfulness(subject, -occlusion_map(subject)).better


def test_a_constant_answer_gives_a_flat_map_and_one_of_chance_a_map_not_to_rely_on() -> None:
    flat = explained(subject_of(lambda views: np.full((len(views), 2), 0.5)))
    assert not flat.drops.any()
    assert flat.verdict.startswith("Flat")
    assert "no region stands out" in flat.verdict
    assert flat.check.deletion == pytest.approx(flat.check.random)
    rng = np.random.default_rng(0)
    chance = explained(subject_of(lambda views: rng.uniform(size=(len(views), 2))))
    assert not chance.flat
    assert not chance.trusted
    assert "do not rely on it" in chance.verdict


def test_places_that_hardly_change_the_answer_are_not_said_to_matter() -> None:
    faint = explained(subject_of(lambda views: 0.5 + 0.005 * (brightness(views) - 0.5)))
    assert faint.check.insertion > faint.check.deletion  # and so by more than any random order
    assert not faint.trusted
    assert "no region stands out" in faint.verdict
    assert "only hiding many" not in faint.verdict


@pytest.mark.parametrize(
    "resize",
    [
        Resize(size=60),
        Resize(size=60, mode="pad"),
        Resize(size=60, mode="crop"),
        Resize(size=60, mode="tiles", tiles=Tiles(px=60, rows=2, columns=3)),
        Resize(size=32, mode="tiles", tiles=Tiles(px=60, rows=1, columns=1)),
    ],
    ids=lambda r: f"{r.mode}{r.tiles.columns}",
)
@pytest.mark.parametrize(("top", "left"), [(48, 92), (66, 64)])
def test_the_map_lies_on_the_image_where_the_view_was_taken_from(resize: Resize, top: int, left: int) -> None:
    image = np.full((120, 180, 3), 90, np.uint8)
    image[top : top + 14, left : left + 14] = 250
    drops = occlusion_map(subject_of(white, make_views(image, resize)))
    laid = lay_on(drops, 120, 180, resize)
    assert laid.shape == (120, 180)
    peak = np.argwhere(laid > 0.98 * np.nanmax(laid)).mean(axis=0)
    assert np.abs(peak - (top + 7, left + 7)).max() <= 14
    unseen = {"crop": 1 / 3, "tiles": 0.0 if resize.tiles.columns == 3 else 5 / 6}.get(resize.mode, 0.0)
    assert np.isnan(laid).mean() == pytest.approx(unseen)
    assert (paint(laid, 0.1)[..., 3] == 0).mean() == pytest.approx(unseen)


def test_all_maps_of_a_call_have_one_symmetric_scale() -> None:
    strong, weak = (explained(subject_of(answer)) for answer in (brightness, white))
    assert scale_of([weak, strong]) == scale_of([strong]) > scale_of([weak]) > 0
    edge = np.full((1, 10, 10), 3.2)
    edge[0, 0, 0] = -500
    assert scale_of([Explanation("b", "b", 0.9, edge, method="activation")]) == 4
    below, middle, above = paint(np.array([[-0.2, 0.0, 0.2]]), 0.2)[0, :, :3].astype(int)
    assert below[2] > 200 > 100 > middle.max()
    assert above[0] > 200


def test_the_command_writes_a_picture_an_image_and_goes_on_after_a_bad_one_without_tensorflow(tmp_path: Path) -> None:
    write_onnx(tmp_path / "exports/dark.onnx")
    image = np.full((48, 64, 3), 200, np.uint8)
    image[:16, :16] = 10
    latin = os.fsdecode(b"images/other/\xe9\n.png")  # neither text nor one line
    for name in ("images/a.png", "images/other/a.png", "images/other/図$_$.png", "images/old-explained.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), image)
    shutil.copy(tmp_path / "images/a.png", tmp_path / latin)
    (tmp_path / "images/bad.png").write_bytes(b"no image")
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('tensorflow was imported')\n")
    result = subprocess.run(
        [sys.executable, "-m", "biopsy.cli", "explain", "images"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 3, result.stderr
    drawn, notice, bad, summary = result.stderr.splitlines()
    assert drawn.startswith("warning: images holds 1 picture that biopsy drew (old-explained.png)")
    assert NOTICE in notice
    assert bad.startswith("error: images/bad.png is not an image")
    assert summary.startswith("error: 1 of the images has no explanation")
    names = ["a-2-explained.png", "a-explained.png", "図$_$-explained.png", os.fsdecode(b"\xe9\n-explained.png")]
    assert sorted(p.name for p in (tmp_path / "explanations").iterdir()) == names
    lines = result.stdout.splitlines()
    assert lines[1].startswith("images/other/a.png -> explanations/a-2-explained.png: ")
    assert len(lines) == 4
    for line in lines:
        assert re.search(r"-explained.png: benign 0\.\d+; deletion 0\.\d+, insertion 0\.\d+, a random order 0", line)
    assert cv2.imread(str(tmp_path / "explanations/a-explained.png")).shape[1] == 1200


def test_an_activation_map_is_drawn_unchecked_and_a_model_without_one_is_told_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((48, 64, 3), 200, np.uint8))
    model = write_onnx(tmp_path / "dark.onnx", made=network(extra=True))
    assert explain_files([str(tmp_path / "a.png")], model, tmp_path / "out", "activation") == 0
    assert "no check. Not checked, and edges" in capsys.readouterr().out
    assert (tmp_path / "out/a-explained.png").stat().st_size > 1000
    with pytest.raises(ParamsError, match="gives no activation map"):
        explain_files([str(tmp_path / "a.png")], write_onnx(tmp_path / "b.onnx"), tmp_path / "out", "activation")


def test_ctrl_c_draws_what_is_explained_by_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_onnx(tmp_path / "dark.onnx")
    for name in "abc":
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((48, 64, 3), 200, np.uint8))

    def interrupted(_: object, path: Path, __: str) -> Explanation:
        if path.name == "b.png":
            raise KeyboardInterrupt
        return explained(subject_of(brightness))

    monkeypatch.setattr("biopsy.serving.explain.files.explain", interrupted)
    with pytest.raises(KeyboardInterrupt, match="1 of 3 images have a picture"):
        explain_files([str(tmp_path)], model, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a-explained.png"]


def test_what_cannot_be_explained_or_written_is_one_sentence(tmp_path: Path) -> None:
    model, own = write_onnx(tmp_path / "dark.onnx"), tmp_path / "a-explained.png"
    own.touch()
    (tmp_path / "link").symlink_to("nowhere")
    for out in (own, tmp_path / "link"):
        with pytest.raises(ParamsError, match="is not a folder"):
            explain_files([str(tmp_path)], model, out)
    with pytest.raises(DataError, match="explain drew them"):
        explain_files([str(own)], model, tmp_path / "out")
