"""The training images that an exported file knows: which are most like an image, and which images are like none."""

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from biopsy.cli import command
from biopsy.core.errors import SourceError
from biopsy.core.files import sha256
from biopsy.networks.model_file import Card
from biopsy.serving import similar
from biopsy.serving.model import Model
from biopsy.serving.onnx_file import load_network
from tiny import make_project
from tiny_onnx import DARK, network, write_onnx


@pytest.fixture
def card(tmp_path: Path) -> Card:
    make_project(tmp_path)
    tables = {"labels": "data/interim/labels.csv", "split": "data/splits/case.csv"}
    preparation = DARK.preparation.model_copy(update={"max_pixels": 50_000_000})
    data = {what: sha256(tmp_path / path) for what, path in tables.items()}
    return DARK.model_copy(update={"data": data, "preparation": preparation})


def measured(root: Path, card: Card, **change: Any) -> similar.Similar | None:
    given, _ = load_network(write_onnx(root / "models/m.onnx", card, network(extra=True)))
    return similar.measure(given, card, root / "models/m", **change)


def known_features(known: similar.Similar) -> np.ndarray:
    return np.frombuffer(base64.b64decode(known.features), np.float16).reshape(-1, known.width).astype(float)


def test_a_training_image_is_most_like_itself_and_an_image_of_another_colour_is_far_from_all(
    tmp_path: Path, card: Card, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(similar, "LEAST", 8)
    known = measured(tmp_path, card, kept="pictures")
    assert known
    assert known.usual
    path = write_onnx(tmp_path / "exports/m.onnx", card, network(extra=True), similar=known.model_dump(mode="json"))
    table = pd.read_csv(tmp_path / "data/splits/case.csv")
    train = table["image_id"][table["part"] == "train"]
    assert known.images == list(train)
    blue = np.zeros((32, 32, 3), np.uint8)
    blue[..., 2] = 200
    cv2.imwrite(str(tmp_path / "blue.png"), blue[..., ::-1])
    own = str(tmp_path / "data/resized/TA-001.png")
    model = Model(path)
    (_, given), (_, elsewhere) = model.answers([(None, Path(own)), (None, blue)])
    assert model.similar
    near, away = given.distances, elsewhere.distances
    assert near is not None
    assert away is not None
    ((_, quick),) = model.answers([(None, blue)], looked=False)
    assert quick.distances is quick.unlike is None
    assert model.predict([own, blue])["unlike_training"].tolist() == ["", "features"]
    np.testing.assert_allclose(away[0], np.linalg.norm([0, 0, 1] - known_features(model.similar)[0]), atol=1e-3)
    nearest = model.similar.nearest(near)
    assert nearest[0]["image"] == "TA-001"
    assert nearest[0]["class"] == "benign"
    assert [row["distance"] for row in nearest] == sorted(row["distance"] for row in nearest)
    assert nearest[0]["distance"] < 0.001 < 0.9 < away.min()
    assert nearest[0]["picture"].startswith("data:image/jpeg;base64,/9j/")
    assert [model.similar.far(distances) for distances in (near, away)] == [False, True]
    monkeypatch.chdir(tmp_path)
    command(["predict", own, "blue.png", "--out", "a.csv"])
    told = pd.read_csv("a.csv", keep_default_na=False)["unlike_training"].tolist()
    assert told == ["", "features"]
    assert "1 of 2 images look unlike the training images" in capsys.readouterr().err


def test_the_index_tells_no_name_where_it_must_not_and_is_none_of_other_tables_or_images(
    tmp_path: Path, card: Card
) -> None:
    known = measured(tmp_path, card, kept="none")
    assert known
    assert known.images is known.pictures is known.usual is None  # 8 validation images are too few
    assert known.nearest(np.zeros(32)) == []
    assert not known.far(np.full(32, 2.0))
    assert measured(tmp_path, card.model_copy(update={"preparation": DARK.preparation})) is None
    (tmp_path / "data/resized/A-000.png").unlink()
    assert measured(tmp_path, card) is None
    (tmp_path / "data/splits/case.csv").write_text("image_id,part\n")
    assert measured(tmp_path, card) is None


def test_an_index_that_is_not_whole_is_rejected_and_a_file_without_one_loads(tmp_path: Path, card: Card) -> None:
    torn = {"width": 3, "features": "AAAA", "classes": ["benign"]}
    with pytest.raises(SourceError, match="its features are not of all images"):
        Model(write_onnx(tmp_path / "torn.onnx", made=network(extra=True), similar=torn))
    assert Model(write_onnx(tmp_path / "old.onnx")).similar is None
