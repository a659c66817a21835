"""A download is whole and right, or it is a sentence that says how to go on."""

import hashlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from http_server import Server, serving

from biopsy.core.errors import SourceError
from biopsy.sources.web import download as module
from biopsy.sources.web.download import download

CONTENT = random.Random(0).randbytes(100_000)
OTHER = random.Random(1).randbytes(80_000)
HINT = "Or set data.breakhis.path to where it lies."
fetch = partial(download, limit=10**6, hint=HINT, pause=0.0)


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "downloads" / "BreaKHis_v1.tar.gz"


def left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def broken_off(target: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the first half of the file behind, as a killed download would."""
    monkeypatch.setattr(module, "TRIES", 1)
    server.script.insert(0, "half")
    with pytest.raises(SourceError, match="run `dvc repro` again to continue"):
        fetch(server.url, target)
    monkeypatch.undo()
    assert not target.exists()
    assert target.with_name(target.name + ".part").stat().st_size == len(server.content) // 2


def test_whole_file_arrives(target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(CONTENT) as server:
        fetch(server.url, target)
    assert target.read_bytes() == CONTENT
    assert left(target) == ["BreaKHis_v1.tar.gz", "BreaKHis_v1.tar.gz.json"]
    assert "downloaded" in capsys.readouterr().out


def test_broken_connection_is_resumed_by_range(target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(CONTENT, "half", "half") as server:
        fetch(server.url, target)
    assert target.read_bytes() == CONTENT
    assert [request.get("Range") for request in server.requests] == [None, "bytes=50000-", "bytes=75000-"]
    assert {request.get("If-Range") for request in server.requests[1:]} == {'"v1"'}
    out = capsys.readouterr().out
    assert "the connection ended at byte 50000 of 100000" in out
    assert "going on at 75.0kB of 100kB" in out


def test_reset_connection_is_attempted_again(target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(CONTENT, "reset") as server:
        fetch(server.url, target)
    assert target.read_bytes() == CONTENT
    assert "the connection broke at byte" in capsys.readouterr().out


def test_whole_part_of_a_killed_run_costs_no_request(target: Path) -> None:
    part = target.with_name(target.name + ".part")
    with serving(CONTENT) as server:
        fetch(server.url, target)
        target.rename(part)
        target.with_name(target.name + ".json").rename(part.with_name(part.name + ".json"))
        fetch(server.url, target)
        assert len(server.requests) == 1
    assert target.read_bytes() == CONTENT


def test_next_run_goes_on_where_the_last_one_stopped(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(CONTENT) as server:
        broken_off(target, server, monkeypatch)
        fetch(server.url, target)
    assert server.requests[-1]["Range"] == "bytes=50000-"
    assert target.read_bytes() == CONTENT


def test_server_without_ranges_starts_over(target: Path) -> None:
    with serving(CONTENT, "half", "no_range") as server:
        fetch(server.url, target)
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize("lie", ["shifted", "other_total", "endless"])
def test_lie_about_the_range_gives_the_part_up(target: Path, lie: str) -> None:
    with serving(CONTENT, "half", lie) as server:
        fetch(server.url, target)
    assert target.read_bytes() == CONTENT
    assert "Range" not in server.requests[2]


def test_file_that_changed_between_attempts_is_fetched_anew(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(CONTENT) as server:
        broken_off(target, server, monkeypatch)
        server.content, server.etag = OTHER, '"v2"'
        fetch(server.url, target)
    assert target.read_bytes() == OTHER


def test_changed_etag_in_a_range_answer_is_noticed(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ignores If-Range: same size, other file."""
    with serving(CONTENT) as server:
        server.etag = 'W/"v1"'  # weak: not allowed in If-Range
        broken_off(target, server, monkeypatch)
        server.content, server.etag = OTHER + CONTENT[:20_000], 'W/"v2"'
        fetch(server.url, target)
        assert "If-Range" not in server.requests[1]
    assert target.read_bytes() == OTHER + CONTENT[:20_000]


def test_server_without_etag_is_resumed_on_equal_size(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(CONTENT) as server:
        server.validators = False
        broken_off(target, server, monkeypatch)
        fetch(server.url, target)
    assert server.requests[-1]["Range"] == "bytes=50000-"
    assert target.read_bytes() == CONTENT


def test_file_that_shrank_is_fetched_anew(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(CONTENT) as server:
        server.validators = False
        broken_off(target, server, monkeypatch)
        server.content = OTHER[:40_000]  # the range asked for begins behind its end: 416
        fetch(server.url, target)
    assert target.read_bytes() == OTHER[:40_000]


def test_part_of_another_address_is_not_continued(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(CONTENT) as server:
        broken_off(target, server, monkeypatch)
    with serving(OTHER + CONTENT[:20_000]) as server:  # of the same size, and the same ETag
        fetch(server.url, target)
        assert "Range" not in server.requests[0]
    assert target.read_bytes() == OTHER + CONTENT[:20_000]


def test_part_without_its_note_is_not_trusted(target: Path) -> None:
    target.parent.mkdir()
    target.with_name(target.name + ".part").write_bytes(b"whatever")
    with serving(CONTENT) as server:
        fetch(server.url, target)
    assert target.read_bytes() == CONTENT


def test_too_few_bytes_every_time_is_an_error_and_never_a_file(target: Path) -> None:
    with serving(CONTENT, *["half"] * 50) as server, pytest.raises(SourceError) as caught:
        fetch(server.url, target)
    assert len(server.requests) == module.TRIES
    assert re.search(rf"failed {module.TRIES} times, .* ended at byte \d+ of 100000", str(caught.value))
    assert str(caught.value).endswith(HINT)
    assert left(target) == ["BreaKHis_v1.tar.gz.part", "BreaKHis_v1.tar.gz.part.json"]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_refusal_ends_at_once_with_a_sentence(target: Path, status: int) -> None:
    with serving(CONTENT, status) as server:
        with pytest.raises(SourceError, match=rf"{re.escape(server.url)}: the server answered {status} .*{HINT}"):
            fetch(server.url, target)
        assert len(server.requests) == 1
    assert left(target) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_failure_is_attempted_again(target: Path, status: int) -> None:
    with serving(CONTENT, status, status) as server:
        fetch(server.url, target)
    assert target.read_bytes() == CONTENT


def test_refused_connection_is_a_sentence(target: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a.tar.gz"
        with pytest.raises(SourceError, match=r"there was no connection .*refused.*Or set data\.breakhis\.path"):
            fetch(url, target)


def test_unusable_address_is_a_sentence(target: Path) -> None:
    with pytest.raises(SourceError, match=r"Fix data\.breakhis\.url"):
        fetch("http://[half/a.tar.gz", target)


@pytest.mark.parametrize("behaviour", ["good", "unsized"])
def test_file_above_the_limit_is_refused(target: Path, behaviour: str) -> None:
    with serving(CONTENT, behaviour) as server, pytest.raises(SourceError, match="more than the"):
        fetch(server.url, target, limit=50_000)
    assert not target.exists()


def test_file_of_unknown_size_arrives(target: Path) -> None:
    with serving(CONTENT, "unsized") as server:
        fetch(server.url, target)
    assert target.read_bytes() == CONTENT


def test_wrong_hash_is_an_error_with_both_hashes(target: Path) -> None:
    found = hashlib.sha256(CONTENT).hexdigest()
    with serving(CONTENT) as server, pytest.raises(SourceError, match=rf"SHA-256 {found}, not the expected {'0' * 64}"):
        fetch(server.url, target, sha256="0" * 64)
    assert left(target) == []


def test_kept_file_is_used_again_and_said_so(target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(CONTENT) as server:
        fetch(server.url, target)
        fetch(server.url, target, sha256=hashlib.sha256(CONTENT).hexdigest())
        assert len(server.requests) == 1
    assert "using" in (out := capsys.readouterr().out)
    assert "downloaded earlier" in out


@pytest.mark.parametrize("change", ["size", "hash"])
def test_kept_file_that_does_not_fit_is_fetched_again(target: Path, change: str) -> None:
    with serving(CONTENT) as server:
        fetch(server.url, target)
        target.write_bytes(CONTENT[:-1] if change == "size" else CONTENT[:-1] + b"?")
        fetch(server.url, target, sha256=hashlib.sha256(CONTENT).hexdigest() if change == "hash" else None)
        assert len(server.requests) == 2
    assert target.read_bytes() == CONTENT


def test_file_put_there_by_hand_is_used(target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target.parent.mkdir()
    target.write_bytes(OTHER)
    fetch("http://127.0.0.1:9/BreaKHis_v1.tar.gz", target)
    assert target.read_bytes() == OTHER
    assert "put there by hand" in capsys.readouterr().out


def test_killed_process_is_continued(target: Path) -> None:
    """SIGKILL in the middle of the body, then a second run: only the rest is asked for."""
    with serving(CONTENT, "half") as server:
        code = f"from pathlib import Path; from biopsy.sources.web.download import download; download({server.url!r}, "
        code += f"Path({str(target)!r}), limit=10**6, hint='', pause=60.0)"
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, env=os.environ)
        part = target.with_name(target.name + ".part")
        deadline = time.monotonic() + 30
        while not (part.exists() and part.stat().st_size == 50_000) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        fetch(server.url, target)
        assert server.requests[-1]["Range"] == "bytes=50000-"
    assert target.read_bytes() == CONTENT
