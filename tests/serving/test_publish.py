"""`biopsy publish`: a folder of card, file, metadata and example, written only when it is asked for twice."""

import errno
import json
import runpy
import socket
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from biopsy.cli import command
from biopsy.core.encoders import terms_of
from biopsy.core.errors import BiopsyError, MachineError, ParamsError, SourceError
from biopsy.core.files import sha256
from biopsy.evaluation import report
from biopsy.networks.model_file import NOTICE, write_card
from biopsy.serving.export import hub
from biopsy.serving.export.publish import FILES
from model_hub import serving
from tiny_onnx import DARK, network, write_onnx

SHA = "a" * 64
TEXT = f"---\nlibrary_name: keras\n---\n{NOTICE} {SHA} load models/binary-case"
SIMILAR = {"width": 3, "features": "AAAAAAAA", "classes": ["benign"], "images": ["patient 7"]}
CARD = DARK.model_copy(update={"model_sha256": SHA})


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_onnx(Path("exports/binary-case.onnx"), CARD, network(extra=True), similar=SIMILAR, temperature=1.5)
    Path("plots/cards").mkdir(parents=True)
    Path("plots/cards/binary-case.md").write_text(TEXT)


def test_nothing_is_written_without_yes_and_what_the_file_tells_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    command(["publish", "shared"])
    told = capsys.readouterr().out
    assert not Path("shared").exists()
    assert "Nothing was written" in told
    assert "features of 1 training images" in told
    assert "their names: patient 7. Leave them out with `biopsy export --similar none`" in told


def test_a_model_away_from_its_project_needs_its_card_named(tmp_path: Path) -> None:
    Path("plots/cards/binary-case.md").rename("sent.md")
    with pytest.raises(
        SourceError, match=r"cards/binary-case\.md does not exist.* where the model was trained.*--card"
    ):
        command(["publish", "shared", "--yes"])
    command(["publish", "shared", "--card", "sent.md", "--yes"])
    assert Path("shared/README.md").is_file()


def test_the_folder_holds_what_a_stranger_needs_and_its_example_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):  # again over itself
        command(["publish", "shared", "--yes"])
    assert sorted(path.name for path in Path("shared").iterdir()) == list(FILES)
    assert "library_name: onnx" in Path("shared/README.md").read_text()
    assert "load model.onnx" in Path("shared/README.md").read_text()
    metadata = json.loads(Path("shared/metadata.json").read_text())
    assert metadata["file_sha256"] == sha256(Path("shared/model.onnx")) == sha256(Path("exports/binary-case.onnx"))
    assert (metadata["temperature"], metadata["notice"]) == (1.5, NOTICE)
    assert "patient 7" not in Path("shared/metadata.json").read_text()
    cv2.imwrite("a.png", np.full((48, 64, 3), 40, np.uint8))
    monkeypatch.setattr(sys, "argv", ["example.py", "a.png"])
    runpy.run_path("shared/example.py")
    assert "malignant" in capsys.readouterr().out


FOLDS = f"""---
library_name: keras
---
{NOTICE}

## How to load it

`biopsy predict images/ --model models/binary-case-cv3/1-1`, `load("models/binary-case-cv3/1-1")`

`model.json` beside `model.keras` holds the classes. The other folds lie beside this one.

{"b" * 64}, {SHA}
"""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"fold": "1-2"},
            "`model.onnx` is the model of fold 1-2, and the figures are those of the models of all folds, each on",
        ),
        ({"model_sha256": "c" * 64, "members": [SHA, "b" * 64]}, "`model.onnx` is the mean of the models below"),
    ],
    ids=["fold", "mean of the folds"],
)
def test_a_fold_and_the_mean_of_all_folds_are_published_with_the_card_of_their_cross_validation(
    change: dict[str, Any], words: str
) -> None:
    card = CARD.model_copy(update={"protocol": "case-cv3", **change})
    write_onnx(Path("exports/binary-case-cv3.onnx"), card, network())
    Path("plots/cards/binary-case-cv3.md").write_text(FOLDS)
    command(["publish", "shared", "--model", "exports/binary-case-cv3.onnx", "--yes"])
    told = Path("shared/README.md").read_text()
    assert words in told
    assert '`biopsy predict images/ --model model.onnx`, `load("model.onnx")`' in told
    assert "`model.onnx` holds the classes.\n" in told
    assert "model.json" not in told
    template = Path(report.__file__).with_name("card.md.j2").read_text()
    assert "`model.json` beside `model.keras` holds" in template
    assert "The other folds lie beside this one." in template


def test_models_that_no_card_names_together_are_one_sentence() -> None:
    members = CARD.model_copy(update={"model_sha256": "c" * 64, "members": [SHA, "b" * 64]})
    write_onnx(Path("exports/mean.onnx"), members, network())
    with pytest.raises(SourceError, match=r"binary-case\.md does not name all models whose answers exports/mean\.onnx"):
        command(["publish", "shared", "--model", "exports/mean.onnx"])


def test_a_full_disk_leaves_no_card_of_one_model_beside_another(monkeypatch: pytest.MonkeyPatch) -> None:
    command(["publish", "shared", "--yes"])
    before = {path.name: path.read_bytes() for path in Path("shared").iterdir()}
    Path("plots/cards/binary-case.md").write_text(f"{TEXT} of another training")
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.suffix == ".onnx":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        command(["publish", "shared", "--yes"])
    assert {path.name: path.read_bytes() for path in Path("shared").iterdir()} == before


def test_a_folder_of_other_files_a_foreign_card_and_a_model_that_was_not_exported_are_one_sentence() -> None:
    Path("mine").mkdir()
    Path("mine/notes.txt").touch()
    for target in ("mine", "mine/notes.txt"):
        with pytest.raises(ParamsError, match=f"{target} is a file, or holds others than"):
            command(["publish", target, "--yes"])
    Path("models/binary-case").mkdir(parents=True)
    write_card(Path("models/binary-case"), CARD)
    command(["publish", "shared", "--model", "models/binary-case"])
    write_card(Path("models/binary-case"), CARD.model_copy(update={"model_sha256": "b" * 64}))
    with pytest.raises(SourceError, match=r"Run `biopsy export models/binary-case`, name the"):
        command(["publish", "shared", "--model", "models/binary-case"])
    Path("plots/cards/binary-case.md").write_text(TEXT.replace(SHA, ""))
    with pytest.raises(SourceError, match=r"binary-case.md is not the card of exports/binary-case.onnx"):
        command(["publish", "shared", "--model", "exports/binary-case.onnx"])
    with pytest.raises(SourceError, match=r"exports/binary-case.onnx is not the card of"):
        command(["publish", "shared", "--model", "exports/binary-case.onnx", "--card", "exports/binary-case.onnx"])
    assert not Path("shared").exists()


def test_the_hub_gets_the_same_files_once_it_is_asked_for_and_again_over_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command(["publish", "shared", "--yes"])
    wanted = {path.name: path.read_bytes() for path in Path("shared").iterdir()}
    with serving(monkeypatch) as found:
        command(["publish", "hf://me/mine"])
        assert "all can read it" in capsys.readouterr().out
        assert not found.asked
        for _ in range(2):
            command(["publish", "hf://me/mine", "--yes"])
            assert found.repositories["me/mine"] == wanted
        assert "/me/mine/commit/1" in capsys.readouterr().out
        assert found.asked.count("/api/repos/create") == 1
        found.repositories["me/other"] = {"weights.bin": b"", ".gitattributes": b""}
        with pytest.raises(ParamsError, match=r"hf://me/other holds other files \(weights.bin\)"):
            command(["publish", "hf://me/other", "--yes"])


@pytest.mark.parametrize(
    ("target", "token", "words"),
    [
        ("hf://me/mine", None, r"hf://me/mine needs a token that may write\. Make one at http.*/settings/tokens"),
        ("hf://me/mine", "old", "the hub does not know the token in HF_TOKEN"),
        ("hf://you/yours", "mine", "may not write there"),
        ("hf://me/broken", "mine", r"the hub answered 422 \(out of order\)"),
        ("hf://mine", "mine", "hf://mine names no repository: the form is hf://user/name"),
        ("hf://me/a--b", "mine", "names no repository"),
        ("s3://me/mine", "mine", "s3://me/mine is in an object store"),
    ],
)
def test_what_keeps_a_model_from_the_hub_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, target: str, token: str | None, words: str
) -> None:
    with serving(monkeypatch, token) as found, pytest.raises(BiopsyError, match=words):
        command(["publish", target, "--yes"])
    assert not any(found.repositories.values())


def test_a_hub_that_cannot_be_reached_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch):
        pass
    with pytest.raises(SourceError, match=r"http://127\S+ could not be reached.*publish to a folder"):
        command(["publish", "hf://me/mine", "--yes"])
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MachineError, match=r"has no package huggingface_hub.*\.\[hub\]"):
        command(["publish", "hf://me/mine", "--yes"])


def test_a_hub_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "TIMEOUT", 0.2)
    monkeypatch.setenv("HF_TOKEN", "mine")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(SourceError, match=r"could not be reached.*timed out"):
            command(["publish", "hf://me/mine", "--yes"])


def test_a_model_whose_encoder_forbids_it_is_not_published() -> None:
    card = CARD.model_copy(update={"terms": terms_of("virchow2")})
    write_onnx(Path("exports/binary-case.onnx"), card, network(extra=True))
    with pytest.raises(SourceError, match=r"may not be published\. The encoder virchow2 .* CC BY-NC-ND 4.0"):
        command(["publish", "shared", "--yes"])
    assert not Path("shared").exists()
