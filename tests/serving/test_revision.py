"""A model of another revision of a DVC repository, loaded by name."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import biopsy
from biopsy.cli import command
from biopsy.core.errors import MachineError, SourceError
from biopsy.core.layout import cache
from biopsy.serving.revision import parse_revision
from scratch import call, commit
from tiny_onnx import DARK, write_onnx


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (".@main:models/binary-case", (".", "main", "models/binary-case")),
        ("git@host:user/repo@v1:models/x", ("git@host:user/repo", "v1", "models/x")),
        (
            "https://host:80/repo@binary-case@v0.1.0:models/x",
            ("https://host:80/repo", "binary-case@v0.1.0", "models/x"),
        ),
        (".@origin/main:models/x", (".", "origin/main", "models/x")),
        ("git@host:repo@v1:models/x", ("git@host:repo", "v1", "models/x")),
        ("https://me@host/a/repo@feature/b:models/x", ("https://me@host/a/repo", "feature/b", "models/x")),
        ("models/binary-case", None),
        ("models/a@b", None),
        ("@main:x", None),
        (".@:x", None),
    ],
)
def test_a_name_is_a_repository_a_revision_and_a_path(text: str, parts: tuple[str, str, str] | None) -> None:
    assert parse_revision(text) == parts


def test_a_folder_may_have_an_at_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "x@v2").mkdir()
    for revision in ("HEAD", "a@v1", "origin/main"):
        assert parse_revision(f"{tmp_path}/x@v2@{revision}:m") == (f"{tmp_path}/x@v2", revision, "m")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DVC repository whose tag v1 and whose branch hold two models under one name."""
    root = tmp_path_factory.mktemp("team")
    call(root, "git", "init", "-q")
    call(root, "dvc", "init", "-q")
    for tag, task in (("v1", "first"), ("v2", "second")):
        write_onnx(root / "exports/dark.onnx", DARK.model_copy(update={"protocol": tag}))
        shutil.copytree(root / "exports", root / "models", dirs_exist_ok=True)
        call(root, "dvc", "add", "-q", "exports/dark.onnx", "models")
        commit(root, task)
        call(root, "git", "tag", tag)
    return root


def test_a_model_is_loaded_at_a_revision_and_kept(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIOPSY_CACHE", str(tmp_path))
    for revision in ("v1", "v2"):
        assert biopsy.load(f"{repository}@{revision}:exports/dark.onnx").card.protocol == revision
        command(["info", f"{repository}@{revision}:exports/dark.onnx"])
        with pytest.raises(SourceError, match=r"dark\.onnx is exported already"):
            command(["export", f"{repository}@{revision}:exports/dark.onnx"])
    kept = sorted((tmp_path / "models").rglob("*.onnx"))
    assert len(kept) == len(list((tmp_path / "models").iterdir())) == 2
    before = [path.stat().st_mtime_ns for path in kept]
    assert biopsy.load(f"{repository}@v1:exports/dark.onnx").card.protocol == "v1"
    assert [path.stat().st_mtime_ns for path in kept] == before


def test_the_commands_take_such_a_name_too(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BIOPSY_CACHE", str(tmp_path / "cache"))
    cv2.imwrite(str(tmp_path / "a.png"), np.full((40, 40, 3), 90, np.uint8))
    (tmp_path / "labels.csv").write_text("path,label\na.png,malignant\n")
    model = ("--model", f"{repository}@v2:exports/dark.onnx")
    command(["predict", str(tmp_path / "a.png"), *model])
    assert "protocol v2" in capsys.readouterr().err
    command(["evaluate", "--csv", str(tmp_path / "labels.csv"), "--out", str(tmp_path / "out"), *model])
    assert "protocol v2" in capsys.readouterr().out
    served: list[Path] = []
    monkeypatch.setattr("biopsy.serving.server.run.serve", lambda models, *_: served.extend(models))
    command(["serve", *model])
    assert [path.name for path in served] == ["dark.onnx"]
    assert served[0].is_file()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("{root}@v9:exports/dark.onnx", "v9"),
        ("{root}@v1:exports/light.onnx", "has no exports/light.onnx at v1"),
        (
            "{root}/none@v1:exports/dark.onnx",
            "none@v1:exports/dark.onnx cannot be fetched: No git repository was found at .*/none",
        ),
    ],
)
def test_what_is_not_there_is_a_sentence(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.setenv("BIOPSY_CACHE", str(tmp_path))
    with pytest.raises(SourceError, match=words):
        biopsy.load(name.format(root=repository))
    assert not list(tmp_path.rglob("*.onnx"))


def test_a_remote_without_the_file_leaves_nothing_half_fetched(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIOPSY_CACHE", str(tmp_path / "cache"))
    root = Path(shutil.copytree(repository, tmp_path / "team"))
    shutil.rmtree(root / ".dvc/cache")
    for path in ("exports/dark.onnx", "models"):
        with pytest.raises(SourceError, match="its remote lacks the files"):
            biopsy.load(f"{root}@v1:{path}")
    assert not list((tmp_path / "cache").rglob("*.onnx"))


def test_a_cache_that_cannot_be_written_is_named_and_the_repository_is_not_blamed(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for place in ("/proc/none", str(tmp_path / "file/cache")):
        monkeypatch.setenv("BIOPSY_CACHE", place)
        with pytest.raises(MachineError, match=rf"^{place}/models cannot be written .* Set BIOPSY_CACHE"):
            biopsy.load(f"{repository}@v1:exports/dark.onnx")


def test_a_user_without_a_home_is_told_to_name_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    for name in ("HOME", "XDG_CACHE_HOME", "BIOPSY_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(MachineError, match="Set HOME, or BIOPSY_CACHE"):
        cache("models")
