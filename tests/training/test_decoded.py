"""The decoded images are made once, shared, checked, and never worth a training."""

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from biopsy.core.errors import DataError, MachineError
from biopsy.tables.split.parts import read_images
from biopsy.training.inputs import decoded
from biopsy.training.inputs.decoded import decode_once

SIZE, VIEWS = 16, 2


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return draw(tmp_path / "tree")


def draw(folder: Path, images: int = 5) -> list[Path]:
    folder.mkdir()
    rng, paths = np.random.default_rng(0), [folder / f"{number}.png" for number in range(images)]
    for path in paths:
        cv2.imwrite(str(path), rng.integers(0, 256, (VIEWS * SIZE, SIZE, 3), np.uint8))
    return paths


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images were decoded, each time."""
    counted: list[int] = []

    def count(files: list[Path], *more: Any) -> np.ndarray:
        counted.append(len(files))
        return read_images(files, *more)

    monkeypatch.setattr(decoded, "read_images", count)
    return counted


def ask(files: list[Path], folder: Path, keep_mb: int = 100) -> np.ndarray:
    return decode_once(files, SIZE, VIEWS, keep_mb, folder)


def test_the_second_training_finds_the_pixels_and_so_does_another_clone(
    files: list[Path], tmp_path: Path, times: list[int]
) -> None:
    expected = read_images(files, SIZE, VIEWS).reshape(5, VIEWS, SIZE, SIZE, 3)
    first, second = ask(files, tmp_path / "kept"), ask(files, tmp_path / "kept")
    other = ask(draw(tmp_path / "clone"), tmp_path / "kept")
    assert times == [5]
    for found in (first, second, other):
        np.testing.assert_array_equal(found, expected)
        assert isinstance(found, np.memmap)
        assert not found.flags.writeable
    assert sorted(path.suffix for path in (tmp_path / "kept").iterdir()) == ["", ".npy"]


def test_a_file_with_other_pixels_or_another_order_is_decoded(
    files: list[Path], tmp_path: Path, times: list[int]
) -> None:
    ask(files, tmp_path / "kept")
    turned = ask(files[::-1], tmp_path / "kept")
    cv2.imwrite(str(files[0]), np.zeros((VIEWS * SIZE, SIZE, 3), np.uint8))
    assert ask(files, tmp_path / "kept")[0].max() == 0
    assert turned[4].max() > 0
    assert times == [5, 5, 5]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data.replace(b"|u1", b"|O1"),
    ],
    ids=["torn", "empty", "a pixel", "a checksum", "of objects"],
)
def test_what_is_damaged_is_made_again(
    files: list[Path], tmp_path: Path, times: list[int], damage: Callable[[bytes], bytes]
) -> None:
    expected = np.array(ask(files, tmp_path / "kept"))
    (path,) = (tmp_path / "kept").glob("*.npy")
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(damage(whole))
    np.testing.assert_array_equal(ask(files, tmp_path / "kept"), expected)
    assert times == [5, 5]
    assert path.read_bytes() == whole


def test_the_longest_unused_go_and_the_one_in_use_stays(files: list[Path], tmp_path: Path, times: list[int]) -> None:
    folder = tmp_path / "kept"
    wide = [draw(tmp_path / f"{name}", 400) for name in "abc"]  # 0.6 MB each
    for number, tree in enumerate(wide):
        cv2.imwrite(str(tree[0]), np.full((VIEWS * SIZE, SIZE, 3), number, np.uint8))
    a, b, c = wide
    ask(a, folder)
    ask(b, folder)
    for path in folder.glob("*.npy"):  # both were used an hour ago
        os.utime(path, (time.time() - 3600,) * 2)
    ask(a, folder, 1)
    held = ask(c, folder, 2)
    assert len(list(folder.glob("*.npy"))) == 3
    for path in folder.glob("*.npy"):
        os.utime(path, (time.time() - 3600,) * 2)
    ask(a, folder)
    ask(files, folder, 1)  # room for a and this one
    assert len(list(folder.glob("*.npy"))) == 2
    assert times == [400, 400, 400, 5]
    ask(a, folder)
    assert times == [400, 400, 400, 5]
    assert held[0].max() == 2  # although its file is gone
    ask(b, folder, 0)
    assert len(list(folder.glob("*.npy"))) == 1


def test_arrays_of_the_user_in_the_folder_stay(files: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    np.save(folder / "features.npy", np.zeros(10))
    ask(files, folder, 0)
    ask(files[:3], folder, 0)
    assert (folder / "features.npy").exists()
    assert len(list(folder.glob("*.npy"))) == 2


def test_a_broken_image_is_named_and_nothing_is_left(files: list[Path], tmp_path: Path) -> None:
    files[3].write_bytes(b"")
    with pytest.raises(DataError, match=r"3\.png cannot be read.*dvc repro"):
        ask(files, tmp_path / "kept")
    files[3].unlink()
    with pytest.raises(DataError, match=r"3\.png cannot be read.*dvc repro"):
        ask(files, tmp_path / "kept")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["lock"]


def test_a_training_that_comes_second_waits_instead_of_decoding(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun, go_on, counted = threading.Event(), threading.Event(), list[int]()

    def slow(files: list[Path], *more: Any) -> np.ndarray:
        counted.append(len(files))
        begun.set()
        assert go_on.wait(60)
        return read_images(files, *more)

    monkeypatch.setattr(decoded, "read_images", slow)
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(ask(files, tmp_path / "kept"))) for _ in range(2)]
    for thread in threads:
        thread.start()
        assert begun.wait(60)
    time.sleep(1.3)
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert counted == [5]
    assert capsys.readouterr().out.count("waiting for another training") == 1
    np.testing.assert_array_equal(found[0], found[1])


def full(*_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_on_a_full_disk_the_images_stay_in_memory_with_a_warning(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", full)
    found = ask(files, tmp_path / "kept")
    np.testing.assert_array_equal(found, read_images(files, SIZE, VIEWS).reshape(found.shape))
    assert not found.flags.writeable
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert "BIOPSY_CACHE" in said
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["lock"]


def test_without_a_place_to_write_the_training_goes_on(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kept").write_text("a file")
    assert ask(files, tmp_path / "kept").shape == (5, VIEWS, SIZE, SIZE, 3)
    assert "stay in memory" in capsys.readouterr().err


def test_images_that_fit_neither_on_the_disk_nor_into_memory_are_one_sentence(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(decoded, "available_bytes", lambda: 1000)
    with pytest.raises(
        MachineError, match=r"cannot be written \(No space left on device\), and do not fit into memory"
    ):
        ask(files, tmp_path / "kept")
