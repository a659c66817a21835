"""The boundary: a user's mistake is a sentence and an exit code; a defect of ours keeps its traceback."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tqdm import tqdm

from biopsy.core.errors import DataError, ParamsError, nearest, reason_in, run, some
from biopsy.core.files import atomic_dir, atomic_file, write_json
from biopsy.core.locks import stage_lock
from biopsy.core.stage import run_stage
from conftest import ROOT


def leave(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as left:
        run(main)
    assert isinstance(left.value.code, int)
    return left.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ParamsError("train.batch is bad"), 2, "error: train.batch is bad"),
        (DataError("row 7"), 3, "error: row 7"),
        (MemoryError(), 5, "no memory left"),
        (OSError(errno.ENOSPC, "x", "out.csv"), 5, "no space left on the disk while writing out.csv"),
        (OSError(errno.EROFS, "x", "out.csv"), 5, "out.csv lies on a read-only file system"),
        (PermissionError(errno.EACCES, "x", "out.csv"), 5, "no permission for out.csv"),
        (OSError(errno.EMFILE, "x"), 5, "too many open files"),
        (KeyboardInterrupt(), 130, "dvc repro"),
    ],
)
def test_each_family_has_its_sentence_and_its_code(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, printed = leave(error, capsys)
    assert found == code
    assert words in printed
    assert "Traceback" not in printed


def test_a_polite_kill_is_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run(lambda: os.kill(os.getpid(), signal.SIGTERM), "go on with `x`.")
    assert left.value.code == 130
    assert "go on with `x`" in capsys.readouterr().err


@pytest.mark.parametrize("error", [OSError(errno.EIO, "x"), ZeroDivisionError()])
def test_a_defect_of_ours_is_not_dressed_up(error: Exception) -> None:
    def main() -> None:
        raise error

    with pytest.raises(type(error)):
        run(main)


def test_the_traceback_shows_on_request(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIOPSY_TRACEBACK", "1")
    assert "Traceback" in leave(DataError("row 7"), capsys)[1]


@pytest.mark.parametrize("error", [KeyboardInterrupt("5 of 9 are done."), DataError("x.csv has no row.")])
def test_a_progress_bar_ends_its_line_before_the_sentence(
    error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = tqdm(range(9), "predict", file=sys.stderr)
    steps = iter(bar)  # kept: the bar closes with it
    next(steps)
    _, told = leave(error, capsys)
    assert told.splitlines()[-1].endswith(f": {error}")
    assert "predict" not in told.split("\n")[-2]
    assert "predict" in told
    assert bar.disable, "a closed bar is not drawn again at the exit"


def test_nearest_and_some_end_a_sentence() -> None:
    assert nearest("adm", ["sgd", "Adam"]) == " Did you mean 'Adam'?"
    assert nearest("zzz", ["sgd"]) == ""
    assert some("abcdefg", 3) == "a, b, c and 4 more"
    assert some("ab", 3) == "a, b"


def test_a_reader_that_has_read_enough_is_no_error() -> None:
    code = "import sys; from biopsy.core.errors import run; run(lambda: print(int(sys.argv[1]) * 'line '))"
    for words in ("1", "100000"):  # what fits into Python's buffer is written at the end alone
        shell = 'set -o pipefail; (sleep 0.5; "$@") | true'
        done = subprocess.run(
            ["bash", "-c", shell, "bash", sys.executable, "-c", code, words],
            capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (141, "", "")


def test_the_reason_is_our_sentence_else_the_first_error_else_the_last_line() -> None:
    assert reason_in("> python a.py\nerror: no disk\nERROR: failed to reproduce 'a'\n") == "no disk"
    assert reason_in("ERROR: failed to reproduce 'a'\n\n") == "failed to reproduce 'a'"
    assert reason_in("one\ntwo\n") == "two"
    assert reason_in("") == ""


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new/out.json"
    write_json(path, {"a": 1})
    before = path.read_bytes()
    link = tmp_path / "link.json"
    link.hardlink_to(path)
    with pytest.raises(ValueError, match="Out of range"):
        write_json(path, {"a": float("nan")})
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["out.json"]
    write_json(path, {"a": 2})
    assert link.read_bytes() == before  # a hard link, such as DVC's cache, keeps the old content


def test_a_folder_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with atomic_dir(path) as new:
        (new / "a").write_text("1")

    def fail() -> None:
        with atomic_dir(path) as new:
            (new / "b").write_text("2")
            raise DataError("stop")

    with pytest.raises(DataError):
        fail()
    assert [p.name for p in path.iterdir()] == ["a"]
    with atomic_dir(path) as new:
        (new / "c").write_text("3")
    assert [p.name for p in path.iterdir()] == ["c"]
    assert {p.name for p in tmp_path.iterdir()} == {"out", ".out.made.json"}


def test_a_folder_that_a_killed_run_had_put_aside_comes_back(tmp_path: Path) -> None:
    aside = tmp_path / ".out.old.1-abc.tmp"
    aside.mkdir()
    (aside / "a").write_text("1")

    def fail() -> None:
        with stage_lock("x", tmp_path / "locks"), atomic_dir(tmp_path / "out"):
            raise DataError("stop")

    with pytest.raises(DataError):
        fail()
    assert (tmp_path / "out/a").read_text() == "1"


def test_a_failed_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_file(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise DataError("stop")

    with pytest.raises(DataError):
        fail()
    assert list(tmp_path.iterdir()) == []


def python(code: str, *, shell: str = '"$@"') -> subprocess.CompletedProcess[str]:
    """Run code of Python in a shell line, where `"$@"` stands for it."""
    return subprocess.run(
        ["bash", "-c", shell, "bash", sys.executable, "-c", code],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-", "</dev/null 1</dev/null"])
def test_closed_standard_streams_change_nothing_but_that_nobody_reads(tmp_path: Path, closed: str) -> None:
    """The last is what DVC gives to a stage when its own are closed."""
    path = tmp_path / "out"
    code = f"""
from pathlib import Path
from biopsy.core.errors import run
def main():
    with Path({str(path)!r}).open("w") as stream:
        print("for a person", flush=True)
        stream.write("for the pipeline")
run(main)
"""
    done = python(code, shell=f'"$@" {closed}')
    assert (done.returncode, done.stderr) == (0, "")
    assert path.read_text() == "for the pipeline"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ImportError("x.so: failed to map segment from shared object"), "no memory left"),
        (ImportError("x.so: cannot open: Cannot allocate memory"), "no memory left"),
        (ModuleNotFoundError("No module named 'cv2'", name="cv2"), "has no package cv2. Activate"),
        (OSError(errno.EFBIG, "x", "out.csv"), "out.csv would be larger than a file may be here"),
        (OSError(errno.ENOMEM, "x"), "no memory left"),
        (OSError(errno.ELOOP, "x", "a.yaml"), "a.yaml is a link that leads back to itself. Delete it"),
        (OSError("100 requested and 3 written"), "no space left on the disk"),
        (RuntimeError("can't start new thread"), "no thread can be started: a limit on processes or memory"),
    ],
)
def test_the_limits_of_a_machine_are_sentences(
    error: Exception, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed = leave(error, capsys)
    assert code == 5
    assert words in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("error", [ImportError("cannot import name 'x'"), ModuleNotFoundError("x", name="biopsy.x")])
def test_a_broken_import_of_our_own_keeps_its_traceback(error: Exception) -> None:
    def main() -> None:
        raise error

    with pytest.raises(ImportError):
        run(main)


def test_an_error_that_nobody_foresaw_keeps_its_traceback() -> None:
    def main() -> None:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        run(main)


def test_a_full_disk_names_the_file_that_was_being_written(tmp_path: Path) -> None:
    def fill() -> None:
        with atomic_file(tmp_path / "table.csv"), Path("/dev/full").open("w") as stream:
            stream.write("x")

    with pytest.raises(OSError, match="No space") as caught:
        fill()
    assert caught.value.filename == str(tmp_path / "table.csv")


@pytest.mark.parametrize("option", ["-v", "-d"])
def test_too_small_a_limit_of_memory_is_told_before_a_library_crashes(option: str) -> None:
    done = python("from biopsy.core.stage import main; main()", shell=f'ulimit {option} 300000; "$@"')
    assert "Traceback" not in done.stderr
    assert (
        f"memory is limited to 0.3 GB here, and the stages need 4 GB. Raise the limit (ulimit {option}" in done.stderr
    )
    assert done.returncode == 5


@pytest.mark.parametrize(
    ("folder", "words"),
    [("project", "the epochs are kept"), (".dvc/tmp/exps/tmp1", "begins anew. Put it into the queue again")],
)
def test_a_stopped_stage_promises_to_go_on_where_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: str, words: str
) -> None:
    (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / folder)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)  # of another test: with it the process would end

    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit):
        run_stage(main, "the epochs are kept")
    assert words in capsys.readouterr().err
