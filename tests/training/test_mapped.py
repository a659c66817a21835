"""Mapped files: on a full disk they end in a sentence and not in a signal."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from biopsy.training.inputs.mapped import create_array
from conftest import assert_kind


@pytest.fixture
def small_disk(tmp_path: Path, mount: Callable[..., None]) -> Path:
    """A disk of 100 kB."""
    place = tmp_path / "disk"
    mount(place, "-t", "tmpfs", "-o", "size=100k", "tmpfs")
    return place


def test_an_array_that_the_disk_cannot_hold_ends_in_a_sentence_and_leaves_no_file(small_disk: Path) -> None:
    code = (
        "import numpy as np; from pathlib import Path; from biopsy.core.errors import run; "
        "from biopsy.training.inputs.mapped import create_array; "
        f"run(lambda: create_array(Path({str(small_disk / 'x.npy')!r}), np.uint8, (200_000,)).fill(1))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 5  # a sparse file would end it with SIGBUS
    assert_kind(result, "no space left on the disk", "x.npy", "same command again")
    assert list(small_disk.iterdir()) == []


def test_the_space_is_set_aside_before_anything_is_written(tmp_path: Path) -> None:
    array = create_array(tmp_path / "x.npy", np.float32, (1000, 1000))
    assert (tmp_path / "x.npy").stat().st_blocks * 512 >= 4_000_000
    array[-1] = 7
    array.flush()
    assert np.load(tmp_path / "x.npy")[-1].tolist() == [7] * 1000


@pytest.mark.parametrize(("number", "made"), [(errno.EOPNOTSUPP, True), (errno.ENOSPC, False), (errno.EDQUOT, False)])
def test_a_file_system_that_cannot_set_space_aside_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, made: bool
) -> None:
    def fail(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    path = tmp_path / "x.npy"
    if made:
        assert create_array(path, np.uint8, (3,)).tolist() == [0, 0, 0]
    else:
        with pytest.raises(OSError, match=r"x\.npy") as error:
            create_array(path, np.uint8, (3,))
        assert error.value.errno == number
    assert path.is_file() == made
