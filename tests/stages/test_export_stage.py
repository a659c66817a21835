"""The export stage: an .onnx file of each model where ONNX can hold it, and an empty folder where it cannot."""

import json
import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest

import biopsy
from biopsy.cli import command
from biopsy.cli.export import MOST_LOSS
from biopsy.core.errors import DataError, ParamsError, SourceError
from biopsy.core.files import sha256, write_json
from biopsy.core.params import read_params
from biopsy.core.sections.figures import Export
from biopsy.images.preparation.record import Stains
from biopsy.networks.model_file import NOTICE, read_card
from biopsy.serving.export import run
from biopsy.serving.finding import exported_models, find_models, short_name
from biopsy.serving.onnx_file import exported_file, open_file
from conftest import ROOT
from tiny import make_project
from tiny_onnx import DARK, SIZE, write_model

DETAILS = {"images": 8, "cases": 8, "intervals": {"macro_f1": [0.6, 0.9]}, "curves": [1, 2, 3]}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a model of two classes that was tested."""
    monkeypatch.chdir(tmp_path)
    make_project(tmp_path, size=SIZE)
    data = {
        what: sha256(tmp_path / f"data/{p}.csv") for what, p in (("labels", "interim/labels"), ("split", "splits/case"))
    }
    preparation = DARK.preparation.model_copy(update={"max_pixels": 50_000_000})
    write_model(tmp_path / "models/binary-case", DARK.model_copy(update={"data": data, "preparation": preparation}))
    write_tested("binary-case")
    return tmp_path


def write_tested(name: str) -> None:
    write_json(Path("metrics", name, "test.json"), {"macro_f1": 0.8})
    write_json(Path("metrics", name, "details.json"), DETAILS)


def export(set_params: Any, protocol: str = "case", **changes: Any) -> None:
    params = read_params(set_params({f"export.{key}": value for key, value in changes.items()}))
    runpy.run_path(str(ROOT / "stages/export.py"))["export"](params, "binary", protocol)


def made(name: str = "binary-case") -> list[str]:
    return sorted(path.name for path in Path("exports", name).iterdir())


def test_each_model_becomes_a_file_with_its_figures_the_same_each_time(
    project: Path, set_params: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    export(set_params)
    assert capsys.readouterr().out.startswith("export binary-case: model.onnx (")
    path = project / "exports/binary-case/model.onnx"
    content, facts, card = open_file(path)
    assert card == read_card(project / "models/binary-case")
    assert json.loads(facts["figures"]) == {"test": {"macro_f1": 0.8}} | {
        k: DETAILS[k] for k in DETAILS if k != "curves"
    }
    assert json.loads(facts["parity"])["of"] == "prepared images"
    images = sorted((project / "data/resized").glob("*.png"))
    given, wanted = (
        biopsy.load(model).predict(images) for model in (path.parent.parent.parent / "models/binary-case", path)
    )
    assert given["p_malignant"].to_numpy() == pytest.approx(wanted["p_malignant"].to_numpy(), abs=1e-4)
    assert given["p_malignant"].nunique() > 5
    export(set_params)
    assert path.read_bytes() == content


def test_its_folder_is_a_model_for_every_verb(
    project: Path, set_params: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    export(set_params)
    (project / "exports/own.onnx").write_bytes((project / "exports/binary-case/model.onnx").read_bytes())
    found = [Path("exports/binary-case/model.onnx"), Path("exports/own.onnx")]
    assert exported_models(Path()) == found
    assert [short_name(path) for path in found] == ["binary-case", "own"]
    assert find_models() == [Path("models/binary-case")]
    Path("card.md").write_text(f"{NOTICE} {read_card(project / 'models/binary-case').model_sha256}")
    for told, *verb in (
        ("model.onnx SHA-256", "info"),
        ("A-000.png,", "predict", "data/resized/A-000.png", "--model"),
        ("model.onnx", "publish", "shared", "--card", "card.md", "--model"),
    ):
        command([*verb, "exports/binary-case"])
        assert told in capsys.readouterr().out
    monkeypatch.setattr("biopsy.serving.onnx_file.find_spec", lambda _: None)
    (project / "exports/own.onnx").unlink()
    assert exported_file(Path("models/binary-case")) == found[0].resolve()


def test_without_formats_the_folder_is_empty_and_int8_is_another_file_with_figures_of_its_own(
    project: Path, set_params: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    export(set_params, formats=["int8", "onnx"], int8_loss=0.9)
    assert made() == ["model-int8.onnx", "model.onnx"]
    facts = open_file(project / "exports/binary-case/model-int8.onnx")[1]
    assert facts["figures"] == "null"
    assert json.loads(facts["int8"])["test_figures_of_floats"]["test"] == {"macro_f1": 0.8}
    command(["info", "exports/binary-case/model-int8.onnx"])
    told = " ".join(capsys.readouterr().out.split())
    assert re.search(r"none as int8\. Of 8 validation images: .*macro_f1 0\.\d{3} \(floats 0\.", told)
    export(set_params, formats=[])
    assert made() == []
    assert Export().int8_loss == MOST_LOSS, "the command's limit is the stage's"
    with pytest.raises(ParamsError, match=r"each entry may appear only once"):
        export(set_params, formats=["onnx", "onnx"])
    with pytest.raises(ParamsError, match=r"the other formats are made of onnx\. Add onnx, or leave the list empty"):
        export(set_params, formats=["int8"])


def test_a_file_that_answers_otherwise_is_not_written_and_the_earlier_one_stays(
    project: Path, set_params: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(set_params)
    earlier = (project / "exports/binary-case/model.onnx").read_bytes()
    convert = run.convert
    warmer = read_card(project / "models/binary-case").model_copy(update={"temperature": 1.5})
    monkeypatch.setattr(run, "convert", lambda network, _: convert(network, warmer))
    with pytest.raises(SourceError, match=r"models/binary-case gives other probabilities as ONNX \(by up to 0\.\d+; 0"):
        export(set_params)
    assert (project / "exports/binary-case/model.onnx").read_bytes() == earlier


def test_what_onnx_cannot_hold_is_a_warning_and_no_file(
    project: Path, set_params: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ValueError("no such\noperation")

    with monkeypatch.context() as patch:
        patch.setattr("biopsy.networks.to_onnx.to_onnx", fails)
        export(set_params)
    told = capsys.readouterr()
    assert told.out == "export binary-case: none\n"
    assert "warning: export binary-case: no onnx. tf2onnx cannot convert" in told.err
    assert "no such operation" in told.err
    assert made() == []


def test_folds_become_their_mean_without_figures_and_folds_of_own_stains_none(
    project: Path, set_params: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    card = read_card(project / "models/binary-case").model_copy(update={"protocol": "case-cv3"})
    folder = project / "models/binary-case-cv3"
    for number in (1, 2, 3):
        write_model(folder / f"1-{number}", card.model_copy(update={"fold": f"1-{number}"}), seed=number)
    write_tested("binary-case-cv3")
    export(set_params, "case-cv3", formats=["onnx", "int8"])
    told = capsys.readouterr()
    assert made("binary-case-cv3") == ["model.onnx"]
    assert "no int8. int8 quantises one model, and an ensemble was named" in told.err
    _, facts, joined = open_file(project / "exports/binary-case-cv3/model.onnx")
    assert facts["figures"] == "null"
    assert len(joined.members) == 3
    shutil.rmtree(folder)
    for number in (1, 2, 3):
        stains = Stains(method="reinhard", directions=[50.0 + number, 10.0, 10.0], spreads=[10.0] * 3)
        own = card.preparation.model_copy(update={"stain": stains})
        update = {"fold": f"1-{number}", "preparation": own}
        write_model(folder / f"1-{number}", card.model_copy(update=update), seed=number)
    export(set_params, "case-cv3")
    assert "Each fold has a stain of its own" in capsys.readouterr().err
    assert made("binary-case-cv3") == []


def test_a_file_of_the_users_own_in_the_folder_stops_the_stage(project: Path, set_params: Any) -> None:
    export(set_params)
    (project / "exports/binary-case/notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"exports/binary-case, .* holds files that it did not write.*notes\.txt"):
        export(set_params)
    assert made() == ["model.onnx", "notes.txt"]
