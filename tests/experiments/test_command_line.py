"""What a person can get wrong on the command line is a sentence."""

from pathlib import Path

import pytest

from biopsy import cli


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["info", "{file}"], "is not a model's folder"),
        (["info", "{tmp}/nothing"], "is not a model's folder"),
        (["info", "{file}/deeper"], "is not a model's folder"),
        (["info", "{tmp}"], "model.json is missing"),
        (["info", "{tmp}/folds"], "Name one: {tmp}/folds/1-1, {tmp}/folds/1-2."),
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
