"""`biopsy predict` that was stopped goes on where it was, and ends with the same bytes."""

import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from biopsy.cli import command
from biopsy.core.errors import DataError, MachineError
from biopsy.images.decode import hash_pixels, read_rgb
from biopsy.images.looks.record import Looks, Range
from biopsy.serving import answering, elsewhere
from biopsy.serving.inputs import Found
from biopsy.serving.journal import Journal
from biopsy.serving.training_images import packed, pixel_key
from tiny_onnx import DARK, network, write_onnx

pytestmark = pytest.mark.usefixtures("quick_pictures")
IMAGES, BATCH = 9, 2
Stop = Callable[..., None]


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A model, and nine images of which one is bad; which of them are read since."""
    monkeypatch.setattr(answering, "BATCH", BATCH)
    monkeypatch.setattr(answering, "THREADS", 1)
    write_onnx(tmp_path / "exports/dark.onnx", made=network(extra=True))
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        pixels = rng.integers(20 * number, 25 * number + 50, (48, 64, 3)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"images/{number}.png"), pixels)
    (tmp_path / "images/3.png").write_bytes(b"no image")
    rows = (f"{number}.png,P{number % 2}\n" for number in range(IMAGES))
    (tmp_path / "images/x.csv").write_text(f"path,case\n{''.join(rows)}")
    monkeypatch.chdir(tmp_path)
    source, seen = Found.source, list[str]()
    monkeypatch.setattr(Found, "source", lambda self, most: (seen.append(self.path.stem), source(self, most))[1])
    return seen


def call(*arguments: str, out: str = "x.csv", inputs: str = "images/x.csv") -> bytes:
    with suppress(DataError):  # one image has no prediction
        command(["predict", inputs, "--out", out, *arguments])
    return Path(out).read_bytes()


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch, reads: list[str]) -> Stop:
    """Press Ctrl-C when an image is answered."""

    def stopped(at: int, *arguments: str, out: str = "x.csv") -> None:
        whole = elsewhere.answers_of

        def interrupted(*arguments: Any) -> Any:
            for image, given in whole(*arguments):
                if image.path.stem == str(at):
                    raise KeyboardInterrupt
                yield image, given

        with monkeypatch.context() as patch:
            patch.setattr(elsewhere, "answers_of", interrupted)
            kept = at // BATCH * BATCH
            with pytest.raises(KeyboardInterrupt, match=f"{kept} of {IMAGES} images are done. Repeat the command to"):
                call(*arguments, out=out)
        assert not Path(out).exists()
        reads.clear()

    return stopped


@pytest.mark.parametrize("at", [0, 2, 5, 8])
@pytest.mark.parametrize("arguments", [[], ["--by", "case"], ["--explain", "maps"]], ids=["", "by", "explain"])
def test_the_table_of_a_stopped_prediction_has_the_bytes_of_one_that_was_not(
    reads: list[str], stop: Stop, arguments: list[str], at: int, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = call(*arguments, out="whole.csv")
    said = capsys.readouterr().err
    stop(at, *arguments)
    capsys.readouterr()
    assert call(*arguments) == whole
    kept = at // BATCH * BATCH
    assert reads[:1] == [str(kept)][: IMAGES - kept]
    told = f"{kept} of 9 images are done already.\n"
    expected = said.replace("diagnosis.\n", f"diagnosis.\n{told if kept else ''}", 1)
    again = [
        re.sub(r"\s*predict: .*", "", text) for text in (capsys.readouterr().err, expected)
    ]  # the bar of a slow disk
    assert again[0] == again[1]
    assert sorted(path.name for path in Path().iterdir() if path.is_file()) == ["whole.csv", "x.csv"]


@pytest.mark.parametrize("kind", [".json", ".jsonl"])
def test_so_has_a_table_of_several_models_in_other_formats(reads: list[str], stop: Stop, kind: str) -> None:
    write_onnx(Path("exports/other.onnx"), DARK.model_copy(update={"threshold": 0.9}))
    models = ["--model", "exports/dark.onnx", "--model", "exports/other.onnx"]
    whole = call(*models, out=f"whole{kind}")
    stop(6, *models, out=f"x{kind}")
    assert call(*models, out=f"x{kind}") == whole
    assert set(reads) == {"6", "7", "8"}


@pytest.mark.parametrize("change", ["time", "size"])
def test_a_changed_image_is_predicted_again(
    reads: list[str], stop: Stop, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stop(8)
    path = Path("images/5.png")
    time = path.stat().st_mtime_ns
    if change == "size":
        path.write_bytes(path.read_bytes() + b"x")
    os.utime(path, ns=(time, time + (change == "time")))
    found = call()
    assert "warning: images/5.png is not what it was" in capsys.readouterr().err
    assert reads == ["4", "5", "6", "7", "8"]
    assert found == call(out="again.csv")


def test_an_image_that_is_there_now_is_predicted(reads: list[str], stop: Stop) -> None:
    content = Path("images/4.png").read_bytes()
    Path("images/4.png").unlink()
    stop(8)
    Path("images/4.png").write_bytes(content)
    assert b"does not exist" not in call()


def test_other_inputs_keep_what_is_still_true(reads: list[str], stop: Stop) -> None:
    stop(8)
    Path("images/x.csv").write_text("path,case\n" + "".join(f"{n}.png,P\n" for n in (0, 1, 2, 3, 5, 6)))
    assert call(inputs="images/x.csv").count(b"\n") == 7
    assert reads == ["5", "6"]


def test_fewer_inputs_need_no_new_answers(reads: list[str], stop: Stop, capsys: pytest.CaptureFixture[str]) -> None:
    stop(8)
    Path("images/x.csv").write_text("path,case\n" + "".join(f"{n}.png,P\n" for n in range(6)))
    capsys.readouterr()
    assert call().count(b"\n") == 7
    assert reads == []
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("change", ["model", "explain"])
def test_another_model_or_option_starts_afresh(
    reads: list[str], stop: Stop, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stop(8)
    if change == "model":
        write_onnx(Path("exports/dark.onnx"), DARK.model_copy(update={"threshold": 0.9}), network(extra=True))
    more = ["--explain", "maps"] if change == "explain" else []
    found = call(*more)
    assert "x.csv.unfinished is of other models or another --explain, so all" in capsys.readouterr().err
    assert set(reads) == {str(number) for number in range(IMAGES)}
    assert found == call(*more, out="again.csv")


def test_a_picture_that_is_gone_is_drawn_again(reads: list[str], stop: Stop) -> None:
    stop(8, "--explain", "maps")
    Path("maps/5-explained.png").unlink()
    call("--explain", "maps")
    assert Path("maps/5-explained.png").is_file()
    assert reads[0] == "4"


def answer(**other: Any) -> bytes:
    told = {"probabilities": [0.4, 0.6], "error": "", "learnt": None, "unlike": None, "picture": None, "no_picture": ""}
    return json.dumps(["KEY", [told | other]]).encode()


@pytest.mark.parametrize(
    "line",
    [
        b"{", b"[]", b"[1, 2]", b'[["images/2.png", 1, 1], []]', b'{"a": 1, "b": 2}', b'["KEY", []]',
        answer(probabilities=["x", "y"]), answer(probabilities=[1.0]), answer(probabilities=[0.9, 0.6]),
        answer(probabilities=[float("nan")] * 2), answer(unlike=3), answer(other=3),
    ],
)  # fmt: skip
def test_a_journal_that_is_torn_or_edited_is_read_as_far_as_it_is_whole(
    reads: list[str], stop: Stop, line: bytes
) -> None:
    whole = call(out="whole.csv")
    stop(8)
    journal = Path("x.csv.unfinished")
    head, *lines = journal.read_bytes().splitlines(keepends=True)
    line = line.replace(b'"KEY"', json.dumps(json.loads(lines[2])[0]).encode())
    journal.write_bytes(b"".join([head, *lines[:2], line + b"\n", *lines[3:]]))
    assert call() == whole
    assert reads[0] == "2"


def test_pictures_keep_their_numbers(reads: list[str], stop: Stop) -> None:
    Path("images/deep").mkdir()
    Path("images/0.png").rename("images/deep/8.png")
    rows = Path("images/x.csv").read_text()
    Path("images/x.csv").write_text(rows.replace("\n0.png", "\ndeep/8.png"))
    whole = call("--explain", "maps", out="whole.csv")
    assert b"maps/8-2-explained.png" in whole
    Path("maps/8-2-explained.png").unlink()
    stop(4, "--explain", "maps")
    assert call("--explain", "maps") == whole
    assert Path("maps/8-2-explained.png").is_file()


def test_rows_of_cases_can_be_made_of_what_was_begun_for_images(reads: list[str], stop: Stop) -> None:
    whole = call("--by", "case", out="whole.csv")
    stop(6)
    assert call("--by", "case") == whole
    assert reads == ["6", "7", "8"]


def test_a_table_in_a_file_is_that_on_the_screen(reads: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    learnt = pixel_key(hash_pixels(read_rgb(Path("images/1.png"), 10_000)))
    usual = Looks(images=9, ranges={"brightness": Range(low=0, median=60, high=120)})
    write_onnx(
        Path("exports/dark.onnx"), DARK.model_copy(update={"training": usual}), learnt_from=packed(frozenset([learnt]))
    )
    content = call().decode()
    capsys.readouterr()
    with suppress(DataError):
        command(["predict", "images/x.csv"])
    assert capsys.readouterr().out == content
    assert content.count(",True,") == 1
    assert content.count(",brightness\n") == 2


def test_what_goes_to_the_screen_leaves_no_journal(reads: list[str]) -> None:
    before = set(Path().rglob("*"))
    with suppress(DataError):
        command(["predict", "images/x.csv"])
    assert set(Path().rglob("*")) == before


def test_the_journal_holds_answers_to_the_last_digit(reads: list[str], stop: Stop) -> None:
    stop(4)
    key, (answer,) = json.loads(Path("x.csv.unfinished").read_text().splitlines()[1])
    status = Path("images/0.png").stat()
    assert key == ["images/0.png", status.st_size, status.st_mtime_ns]
    assert answer["probabilities"] != np.round(answer["probabilities"], 12).tolist()


def test_a_batch_is_that_of_the_networks_that_answer_in_batches() -> None:
    models = [SimpleNamespace(network=network, batch=size) for network, size in ((None, 4), (1, 32), (1, 16))]
    assert [answering.batch_of(models), answering.batch_of(models[:1])] == [16, answering.BATCH]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder in which nothing can be made")
def test_a_place_that_takes_no_files_is_one_sentence(reads: list[str]) -> None:
    with pytest.raises(MachineError, match=r"^/proc takes no files\. Name another place for x\.csv"):
        call(out="/proc/x.csv")


def test_one_process_at_a_time_adds_to_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "x.unfinished"
    one, other = (Journal(path, b"#\n", 2, "of another kind") for _ in range(2))
    with one.open() as lines:
        lines.write("1\n")
        with pytest.raises(MachineError, match="another process is writing"), other.open():
            pass
        with pytest.raises(MachineError, match="another process is writing"):
            Journal(path, b"#\n", 2, "")
    assert path.read_bytes() == b"#\n1\n"
    one.forget()
    assert not path.exists()
    with other.open() as lines:
        lines.write("2\n")
    assert path.read_bytes() == b"#\n2\n"
    other.release()
    assert Journal(path, b"#\n", 1, "").done == 1


def test_a_journal_that_is_removed_while_it_is_taken_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, taken = tmp_path / "x.unfinished", []

    def finishing(descriptor: int, _: float) -> bool:
        """The process that had it ends in between."""
        taken.append(descriptor)
        if len(taken) == 1:
            path.unlink()
        return True

    monkeypatch.setattr("biopsy.serving.journal.acquire", finishing)
    with Journal(path, b"#\n", 2, "").open():
        assert os.fstat(taken[-1]).st_ino == path.stat().st_ino
