"""What a person can get wrong on the command line is a sentence."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from biopsy import cli
from biopsy.core.errors import SourceError
from biopsy.core.files import sha256
from biopsy.experiments.model_info import dvc_hash, figures_of
from biopsy.networks.model_file import NOTICE, write_card
from cards import CARD
from tiny_onnx import DARK, write_onnx


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["info", "{file}"], "is not a model's folder"),
        (["info", "{tmp}/nothing"], "is not a model's folder"),
        (["info", "{file}/deeper"], "is not a model's folder"),
        (["info", "{tmp}"], "model.json is missing"),
        (["info", "{tmp}/folds"], "or one of the models: {tmp}/folds/1-1, {tmp}/folds/1-2."),
        (["predict", "{file}", "--model", "{tmp}/exports"], "Name one: {tmp}/exports/a.onnx."),
        (["results", "--root", "{file}"], "has no results"),
        (["show-augment", "--out", "{tmp}/x.zzz"], "must end in .png"),
        (["show-augment", "--out", "{tmp}/x"], "must end in .png"),
    ],
)
def test_a_wrong_argument_is_a_sentence(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("file", "folds/1-1/model.json", "folds/1-2/model.json", "exports/a.onnx"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    filled = [word.format(file=tmp_path / "file", tmp=tmp_path) for word in arguments]
    monkeypatch.setattr("sys.argv", ["biopsy", *filled])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code not in (0, None)
    printed = capsys.readouterr().err
    assert words.format(tmp=tmp_path) in printed
    assert "Traceback" not in printed


def test_info_of_an_exported_file_needs_no_project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever was sent the file alone has nothing else to ask."""
    figures = {"test": {"macro_f1": 0.749, "f1_low": 0.611}, "images": 421, "cases": 33}
    path = write_onnx(tmp_path / "sent.onnx", figures=figures, revision="abc1234")
    cli.command(["info", str(path), "--root", str(tmp_path)])
    told = " ".join(capsys.readouterr().out.split())
    assert f"sent.onnx SHA-256 {sha256(path)}" in told
    assert "test macro_f1 0.749, f1_low 0.611; 421 images of 33 cases" in told
    assert "commit abc1234" in told
    assert told.endswith(NOTICE)
    write_onnx(path)
    cli.command(["info", str(path)])
    assert "test none are known to this file" in " ".join(capsys.readouterr().out.split())
    write_onnx(path, figures={"of": "another version"})
    with pytest.raises(SourceError, match=r"sent\.onnx was made by another version of Biopsy"):
        cli.command(["info", str(path)])
    none = {"macro_f1": None, "reasons": {"macro_f1": "too few cases: 8 are tested"}}
    short = {"macro_f1": 0.5, "f1_low": None, "f1_high": None, "roc_auc": None}
    card = DARK.model_copy(update={"params": {"seed": None}})
    write_onnx(path, card, figures={"test": short, "images": 9, "cases": 8, "intervals": none})
    cli.command(["info", str(path)])
    told = " ".join(capsys.readouterr().out.split())
    assert "f1_low -, f1_high -, roc_auc -; 9 images of 8 cases; no interval, too few cases: 8 are tested" in told
    assert "seed=null" in told
    assert "None" not in told


def test_info_of_a_fold_tells_the_figures_of_the_folds_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, test = "multiclass-case-cv3", b'{"macro_f1": 0.625}'
    for fold in ("1-1", "1-2"):
        folder = tmp_path / "models" / name / fold
        folder.mkdir(parents=True)
        (folder / "model.keras").write_text(fold)
        update = {"protocol": "case-cv3", "fold": fold, "model_sha256": sha256(folder / "model.keras")}
        write_card(folder, CARD.model_copy(update=update))
    (tmp_path / "metrics" / name).mkdir(parents=True)
    (tmp_path / "metrics" / name / "test.json").write_bytes(test)
    dep = {"path": f"models/{name}", "md5": dvc_hash(folder.parent)}
    out = {"path": f"metrics/{name}/test.json", "md5": hashlib.md5(test, usedforsecurity=False).hexdigest()}
    lock = {"stages": {f"evaluate@{name}": {"deps": [dep], "outs": [out]}}}
    (tmp_path / "dvc.lock").write_text(json.dumps(lock))
    cli.command(["info", str(folder), "--root", str(tmp_path)])
    assert "the folds together: macro_f1 0.625" in capsys.readouterr().out
    alone = shutil.copytree(folder, tmp_path / "elsewhere/1-2")
    (alone.parent / "holiday.mp4").touch()
    cli.command(["info", str(alone), "--root", str(tmp_path)])
    assert "no figures of exactly this model" in capsys.readouterr().out
    assert figures_of(folder, tmp_path) is None
