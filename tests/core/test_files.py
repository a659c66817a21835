"""Files of our own that are torn, foreign, edited or gone: one sentence with the file and what to run."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from biopsy.core.errors import DataError, MachineError, ParamsError
from biopsy.core.files import atomic_dir, atomic_file, atomic_files, read_csv, read_json, write_csv, write_json
from biopsy.experiments.dvc_lock import read_stages

TABLE = pd.DataFrame(
    {
        "image_id": ["a", "b"], "path": ["a.png", "b.png"], "case": ["007", ""], "row": [2, 3],
        "magnification": ["40", ""],
    }
)  # fmt: skip
FOREIGN = {
    "empty": b"",
    "torn": b'{"synthetic": tr',
    "a list": b"[]",
    "null": b"null",
    "another file of ours": b'{"method": "none"}',
    "a value of another type": b'{"synthetic": "no"}',
    "no UTF-8": b"\xff\xfe\x00\x01",
    "deep": b"[" * 100_000,
    "a picture": b"\x89PNG\r\n\x1a\n\0\0",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_json_that_is_not_what_we_wrote_is_a_sentence(tmp_path: Path, what: str) -> None:
    path = tmp_path / "source.json"
    path.write_bytes(FOREIGN[what])
    with pytest.raises(DataError, match=r"source\.json .*Run `dvc repro` to make it again\.$"):
        read_json(path, {"synthetic": bool})


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    content = {"synthetic": True, "é": [1, None]}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json", {"synthetic": bool}) == content


def lines(text: str) -> bytes:
    write = TABLE.to_csv(index=False, lineterminator="\n")
    return write.replace("b,b.png,,3,", text).encode()


TORN = {
    "it is empty": b"",
    "it ends in the middle of a row": lines("b,b.png,,3,")[:-1],
    "row 3 has not as many cells": lines("b,b.png"),
    "Unable to parse string": lines("b,b.png,,one,"),
    "a is in it twice": lines("a,b.png,,3,"),
    "'../b' leads out of": lines("../b,b.png,,3,"),
    "'/b' leads out of": lines("/b,b.png,,3,"),
    "'x/../../b.png' leads out of": lines("b,x/../../b.png,,3,"),
    "row 3 has not": lines("b,b.png,,3,40,2,3,4"),
    "it has no column image_id": b"file,label\na,b\n",
    "codec can't decode": b"image_id\n\xff\xfe\n",
}


@pytest.mark.parametrize("fault", TORN)
def test_a_table_that_is_not_what_we_wrote_is_a_sentence(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(TORN[fault])
    with pytest.raises(DataError, match=rf"labels\.csv .*{fault}.*Run `dvc repro` to make it again\.$"):
        read_csv(path, ["image_id"])


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", TABLE)
    pd.testing.assert_frame_equal(read_csv(tmp_path / "a.csv"), TABLE, check_dtype=False)
    assert list(read_csv(tmp_path / "a.csv")["case"]) == ["007", ""]
    write_csv(tmp_path / "a.csv", TABLE[:0])
    assert len(read_csv(tmp_path / "a.csv")) == 0


@pytest.mark.parametrize("read", [read_json, read_csv])
def test_what_is_not_there_or_is_a_folder_is_a_sentence(tmp_path: Path, read: object) -> None:
    assert callable(read)
    with pytest.raises(DataError, match=r"x is missing\. Run"):
        read(tmp_path / "x")
    with pytest.raises(DataError, match="is not a file"):
        read(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "- a", "stages: [1]", "a: [", "stages: {a: {outs: [x]}}", "stages: {a: {outs: [{}]}}", "\0",
        "stages: {a: {deps: [{md5: b}]}}", "stages: {a: {deps: null}}", "stages: {a: {params: {params.yaml: [seed]}}}",
    ],
)  # fmt: skip
def test_a_damaged_dvc_lock_is_a_sentence(text: str) -> None:
    with pytest.raises(DataError, match=r"dvc\.lock is damaged .*git checkout dvc\.lock"):
        read_stages(text)


def test_an_empty_dvc_lock_has_no_stages() -> None:
    assert read_stages("") == {}
    assert read_stages(json.dumps({"stages": {"a": {"cmd": "b"}}})) == {"a": {"cmd": "b"}}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder in which nothing can be made")
@pytest.mark.parametrize("path", ["/proc/x.csv", "/proc/new/x.csv"])
@pytest.mark.parametrize("write", [atomic_file, atomic_dir])
def test_a_place_that_takes_no_files_is_one_sentence(write: Any, path: str) -> None:
    with pytest.raises(MachineError, match=r"/proc.* takes no files. Name another place for x.csv"), write(Path(path)):
        pass


def test_a_place_without_permission_is_told_by_the_name_that_the_user_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(OSError, match="Read-only") as raised, atomic_file(tmp_path / "report.html"):
        pass
    assert raised.value.filename == str(tmp_path / "report.html")


def test_files_that_are_one_result_are_replaced_all_or_none(tmp_path: Path) -> None:
    with atomic_files(tmp_path, ["a", "b"]) as (first, second):
        first.write_text("old a")
        second.write_text("old b")
    with pytest.raises(FileNotFoundError), atomic_files(tmp_path, ["a", "b"]) as (first, _):
        first.write_text("new a")  # and no b
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old a", "b": "old b"}


def test_a_name_of_nearly_as_many_bytes_as_a_disk_takes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / f"{'ø' * 125}.csv"
    with atomic_file(path) as temporary:
        temporary.write_text("kept")
    assert list(tmp_path.iterdir()) == [path]


def test_a_device_and_a_pipe_are_not_replaced(tmp_path: Path) -> None:
    """In a container, where everybody is root, `--out /dev/null` would leave a file in its place."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to(os.devnull)
    for path in (tmp_path / "pipe", tmp_path / "null", Path("/dev/biopsy-test")):
        with pytest.raises(ParamsError, match=f"{path} is a device or a pipe"), atomic_file(path) as temporary:
            temporary.touch()
    assert (tmp_path / "null").is_symlink()
