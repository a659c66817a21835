"""What the tests of `fetch` share."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from biopsy.core.errors import SourceError
from biopsy.core.files import sha256
from biopsy.core.sections.data import Data
from biopsy.sources import fetch as sources

SetParams = Callable[..., Path]
RunStage = Callable[..., subprocess.CompletedProcess[str]]


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder, with its hash."""
    return {path.relative_to(folder).as_posix(): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def source(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "data/raw/source.json").read_text())


def assert_refused(data: Data, tmp_path: Path, words: list[str]) -> None:
    """The source raises one sentence with these words."""
    (tmp_path / "out").mkdir()
    with pytest.raises(SourceError) as caught:
        sources.fill(data, tmp_path / "out", tmp_path / "downloads")
    assert not [word for word in words if word not in str(caught.value)], caught.value
