"""`biopsy serve`: what a program and a browser get, and that no input makes the server fail."""

import asyncio
import base64
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from damaged import damaged
from fastapi import HTTPException, Request
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from starlette.datastructures import URL

from biopsy.core.errors import BiopsyError, MachineError, ParamsError, SourceError
from biopsy.images.decode import hash_pixels
from biopsy.images.looks.record import WORDS, ranges_of
from biopsy.networks.model_file import NOTICE
from biopsy.serving.model import Model
from biopsy.serving.server.api import PAGE, Limits, make_app
from biopsy.serving.server.queue import Queue, Work
from biopsy.serving.server.run import serve
from biopsy.serving.training_images import pixel_key
from conftest import ROOT
from tiny_onnx import DARK, network, write_onnx

Parts = list[tuple[str, tuple[str, bytes]]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(write_onnx(tmp_path_factory.mktemp("api") / "dark.onnx"))


@pytest.fixture(scope="module")
def client(model: Model) -> Iterator[TestClient]:
    limits = Limits(request_bytes=3_000_000, images=5)
    with TestClient(make_app({"dark": model}, None, (), limits), raise_server_exceptions=False) as opened:
        yield opened


def png(value: int = 40) -> bytes:
    return cv2.imencode(".png", np.full((48, 64, 3), value, np.uint8))[1].tobytes()


def bomb() -> bytes:
    """A PNG of a few bytes whose header claims 200,000 x 20,000 pixels."""
    header = b"IHDR" + struct.pack(">II", 200_000, 20_000) + png()[24:29]
    return png()[:12] + header + struct.pack(">I", zlib.crc32(header)) + png()[33:]


def parts(*contents: bytes) -> Parts:
    return [("images", (f"{number}.png", content)) for number, content in enumerate(contents)]


def test_a_monitor_may_ask_with_head(client: TestClient) -> None:
    for path in ("/", "/health", "/ready", "/v1/models"):
        given = client.head(path)
        assert (given.status_code, given.content) == (200, b"")
    assert client.head("/v1/predict").status_code == 405
    assert client.head("/nowhere").status_code == 404


def test_each_image_is_a_row_in_order_with_the_class_its_probabilities_and_whether_it_was_learnt_from(
    client: TestClient, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "learnt", frozenset([pixel_key(hash_pixels(np.full((48, 64, 3), 40, np.uint8)))]))
    told = client.post("/v1/predict", files=parts(png(40), png(210))).json()
    assert [row["image"] for row in told["predictions"]] == ["0.png", "1.png"]
    assert [row["predicted"] for row in told["predictions"]] == ["malignant", "benign"]
    assert told["predictions"][0]["probabilities"]["malignant"] == pytest.approx(0.9315, abs=1e-3)
    assert [row["in_training"] for row in told["predictions"]] == [True, False]
    assert told["notice"] == NOTICE


def test_an_answer_below_the_threshold_of_the_models_own_rule_is_marked(tmp_path: Path) -> None:
    told = []
    rule = {"abstention": {"image": {"rule": {"threshold": 0.95}}}}
    leaky = DARK.model_copy(update={"protocol": "image"})  # its cases were seen in training: it promises nothing
    for card, figures in ((DARK, rule), (DARK, None), (leaky, rule)):
        model = Model(write_onnx(tmp_path / "dark.onnx", card, figures=figures))
        with TestClient(make_app({"dark": model}, None)) as opened:
            rows = opened.post("/v1/predict", files=parts(png(40), png(0), b"none")).json()["predictions"]
        told.append([row["abstain"] for row in rows])
    assert told == [[True, False, None], [None] * 3, [None] * 3]


def test_the_picture_under_a_map_is_large_enough_to_be_enlarged_and_no_larger(tmp_path: Path) -> None:
    preparation = DARK.preparation.model_copy(update={"max_pixels": 4_000_000})
    large = Model(write_onnx(tmp_path / "large.onnx", DARK.model_copy(update={"preparation": preparation})))
    image = cv2.imencode(".png", np.full((1000, 2000, 3), 40, np.uint8))[1].tobytes()
    with TestClient(make_app({"large": large}, None)) as opened:
        (row,) = opened.post("/v1/explain?picture=true", files=parts(image)).json()["explanations"]
    shapes = {}
    for key in ("picture", "overlay"):
        data = base64.b64decode(row[key].partition(",")[2])
        shapes[key] = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).shape[:2]
    assert shapes == {"picture": (800, 1600), "overlay": (320, 640)}


def test_a_sample_is_an_image_that_the_model_takes_of_the_size_of_its_training_files(tmp_path: Path) -> None:
    known = DARK.model_copy(update={"training": ranges_of([{"width": 90.0, "height": 60.0}] * 3)})
    models = {"none": DARK, "known": known}
    opened = {name: Model(write_onnx(tmp_path / f"{name}.onnx", card)) for name, card in models.items()}
    with TestClient(make_app(opened, None)) as client:
        names = client.get("/v1/models").json()["samples"]
        samples = [client.get("/v1/sample", params={"sample": name, "model": "known"}).content for name in names]
        small = client.get("/v1/sample").content
        rows = client.post("/v1/predict", files=parts(*samples[:4], small)).json()["predictions"]
        lost = client.get("/v1/sample?sample=muscle")
    assert len({*samples}) == len(names) == 8
    sizes = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape for data in (samples[0], small)]
    assert sizes == [(60, 90, 3), (81, 123, 3)]  # 10,000 pixels are the most that it takes
    assert [row["error"] for row in rows] == [None] * 5
    assert (lost.status_code, "There is no sample 'muscle'" in lost.text) == (404, True)


def test_the_server_has_words_for_everything_in_which_an_image_may_be_unlike_training(client: TestClient) -> None:
    assert set(client.get("/v1/models").json()["looks"]) == {*WORDS, "features"}


BAD = {
    "is truncated or damaged": png()[:60],
    "is not an image": b"a text file called .png",
    "has 20,000 pixels": cv2.imencode(".png", np.zeros((100, 200, 3)))[1].tobytes(),
    "has 4,000,000,000 pixels": bomb(),
}


@pytest.mark.parametrize("reason", [*BAD, "empty"])
def test_a_bad_image_is_a_row_with_its_reason_and_the_others_are_predicted(client: TestClient, reason: str) -> None:
    answer = client.post("/v1/predict", files=parts(BAD.get(reason, b""), png()))
    assert answer.status_code == 200
    bad, good = answer.json()["predictions"]
    assert good["predicted"] == "malignant"
    assert bad["predicted"] is bad["probabilities"] is None
    assert bad["error"].startswith("0.png ")
    assert reason == "empty" or reason in bad["error"]


def test_damage_anywhere_in_an_image_or_a_form_never_makes_the_server_fail(client: TestClient) -> None:
    rng, whole = np.random.default_rng(0), png()
    images = list(damaged(80))
    for place in range(0, len(images), 5):
        batch = images[place : place + 5]
        answer = client.post("/v1/predict", files=parts(*batch))
        assert answer.status_code == 200
        assert all(row["error"] or row["predicted"] for row in answer.json()["predictions"])
    request = client.build_request("POST", "/v1/predict", files=parts(whole))
    form = request.read()
    for _ in range(40):
        content = bytearray(form)
        for place in rng.integers(len(content), size=3):
            content[int(place)] = int(rng.integers(256))
        kind = {"content-type": request.headers["content-type"]}
        status = client.post("/v1/predict", content=bytes(content), headers=kind).status_code
        assert status in (200, 400)


@pytest.mark.parametrize(
    ("path", "rows", "place"),
    [
        ("/v1/predict", "predictions", "decoding.prepare"),
        ("/v1/explain", "explanations", "explain.image.prepare"),
        ("/v1/explain", "explanations", "server.responses.read_rgb"),
    ],
)
def test_what_nobody_foresaw_is_a_row_too(
    model: Model, monkeypatch: pytest.MonkeyPatch, path: str, rows: str, place: str
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("not foreseen")

    monkeypatch.setattr(f"biopsy.serving.{place}", fail)
    with TestClient(make_app({"dark": model}, None)) as client:
        told = client.post(path, files=parts(png(), png())).json()[rows]
    assert [row["error"] for row in told] == ["0.png cannot be used", "1.png cannot be used"]


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/explain"])
def test_a_name_that_is_no_text_is_written_so_that_an_answer_can_hold_it(client: TestClient, path: str) -> None:
    head = b'Content-Disposition: form-data; name="images"; filename="+2AA-.png"\r\n\r\n'  # half a character, in UTF-7
    answer = client.post(
        path,
        content=b"--XX\r\n" + head + png() + b"\r\n--XX--\r\n",
        headers={"content-type": "multipart/form-data; boundary=XX; charset=utf-7"},
    )
    assert answer.status_code == 200
    (row,) = answer.json()["predictions" if path == "/v1/predict" else "explanations"]
    assert row["image"] == "\\ud800.png"


def test_an_explanation_is_a_map_of_the_image_with_its_check_and_a_bad_image_is_a_row(client: TestClient) -> None:
    image = np.full((48, 64, 3), 190, np.uint8)
    image[32:, :16] = 10  # bottom left: what the model takes for malignant
    sent = parts(cv2.imencode(".png", image)[1].tobytes(), png(), *BAD.values())[:4]
    told = client.post("/v1/explain", files=sent, params={"picture": True, "numbers": True}).json()
    dark, plain, *bad = told["explanations"]
    assert (told["notice"], told["scale"]["limit"] > 0.01) == (NOTICE, True)
    assert [row["error"].split()[0] for row in bad] == ["2.png", "3.png"]
    assert all(row["predicted"] is None for row in bad)
    assert [plain["flat"], plain["trusted"]] == [True, False]
    assert (dark["predicted"], dark["trusted"]) == ("benign", True)
    assert dark["deletion"] < dark["random_order"] < dark["insertion"]
    assert dark["peak"]["lost"] > 0
    (view,) = dark["views"]
    assert view["top_left_height_width"] == [0, 0, 48, 64]
    assert np.argmin(view["lost"]) // 10 >= 6  # hiding the dark corner makes the image brighter, and more benign
    for key, channels in (("overlay", 4), ("picture", 3)):
        data = base64.b64decode(dark[key].partition(",")[2])
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).shape == (48, 64, channels)
    few = client.post("/v1/explain", files=sent[:1]).json()["explanations"][0]
    assert {"picture", "views"}.isdisjoint(few)
    many = client.post("/v1/explain", files=parts(*[png()] * 5))
    assert (many.status_code, "may hold 4 images" in many.text) == (413, True)


def test_a_model_that_gives_them_answers_with_similar_training_images_and_its_own_map_in_one_pass_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: TestClient
) -> None:
    known = np.eye(3, dtype=np.float16)[[0, 1, 2, 2]]
    similar = {
        "width": 3, "features": base64.b64encode(known.tobytes()).decode(), "classes": ["benign"] * 4,
        "images": ["red", "green", "blue", "also blue"], "usual": {"low": 0.6, "median": 0.65, "high": 0.75},
    }  # fmt: skip
    model = Model(write_onnx(tmp_path / "dark.onnx", made=network(extra=True), similar=similar))
    image = np.full((48, 64, 3), 190, np.uint8)
    image[32:, :16] = 10
    images = [cv2.imencode(".png", value)[1].tobytes() for value in (image, np.tile([200, 0, 0], (48, 64, 1)))]
    asked, ask = [], model.ask
    monkeypatch.setattr(model, "ask", lambda *given: asked.extend([given[1:]] * len(given[0])) or ask(*given))
    with TestClient(make_app({"dark": model}, None)) as opened:
        assert opened.get("/v1/models").json()["models"][0]["explains"] == ["activation", "occlusion"]
        first, second = opened.post("/v1/predict", files=parts(*images)).json()["predictions"]
        assert [row["image"] for row in second["similar"]] == ["blue", "also blue", "red"]
        assert second["similar"][0] == {"image": "blue", "class": "benign", "distance": 0}
        assert [row["unlike_training"] for row in (first, second)] == [["features"], []]
        told = opened.post("/v1/explain", files=parts(images[0]), params={"method": "activation", "numbers": True})
        row = told.json()["explanations"][0]
    assert asked == [("probabilities", "features")] * 2 + [("probabilities", "activation_map")]
    assert (row["trusted"], row["verdict"].startswith("Not checked")) == (None, True)
    assert "log-odds" in told.json()["scale"]["words"]
    lost = np.array(row["views"][0]["lost"])
    assert (row["predicted"], lost.shape) == ("benign", (32, 32))
    plain = client.post("/v1/explain", files=parts(images[0]), params={"method": "activation"})
    assert (plain.status_code, "gives no activation map" in plain.text) == (400, True)


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        ({"files": parts(*[png()] * 6)}, 413, "may hold 5 images"),
        ({"files": parts(os.urandom(3_050_000))}, 413, "may hold 3,000,000 bytes"),
        ({"files": parts(png()), "params": {"model": "other"}}, 404, "no model 'other'"),
        ({"json": {}}, 400, "Send a form"),
        ({"data": {"images": "text"}, "files": {}}, 400, "Send a form"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "boundary"),
        ({"content": b"--a--\r\n", "headers": {"content-type": "multipart/form-data; boundary=a"}}, 400, "no file"),
    ],
)
def test_a_request_that_cannot_be_answered_is_told_why(
    client: TestClient, sent: dict[str, Any], status: int, words: str
) -> None:
    answer = client.post("/v1/predict", **sent)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text


def test_a_full_queue_answers_429_at_once_and_what_was_accepted_is_finished(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go_on, answer = threading.Event(), threading.Event(), model.probabilities

    def slow(views: Any) -> Any:
        started.set()
        assert go_on.wait(20)
        return answer(views)

    monkeypatch.setattr(model, "probabilities", slow)
    first = []
    with TestClient(make_app({"dark": model}, None, (), Limits(waiting=1))) as client:
        thread = threading.Thread(target=lambda: first.append(client.post("/v1/predict", files=parts(png()))))
        thread.start()
        assert started.wait(20)
        try:
            second = client.post("/v1/predict", files=parts(png()))
            assert (second.status_code, second.headers["retry-after"]) == (429, "1")
            assert client.get("/ready").status_code == 429
            assert client.get("/health").status_code == 200
            assert "\nbiopsy_queue_requests 1.0\n" in client.get("/metrics").text
        finally:
            go_on.set()
            thread.join()
        assert first[0].json()["predictions"][0]["predicted"] == "malignant"
        assert client.get("/ready").status_code == 200


def test_an_image_whose_client_has_gone_is_not_worked_on() -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\na\r\n--x--\r\n'
    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"multipart/form-data; boundary=x")]}
    begin, done = threading.Event(), []

    async def ask() -> None:
        queue, sent = Queue(Limits()), iter([{"type": "http.request", "body": body}, {"type": "http.disconnect"}])

        async def receive() -> Any:
            return next(sent)

        queue._worker.submit(begin.wait)
        with pytest.raises(HTTPException, match="has gone"):
            await queue.answer(Request(scope, receive), Limits(), Work(done.append))
        begin.set()
        assert queue.held == 0
        queue._worker.shutdown()

    asyncio.run(ask())
    assert done == []


def test_with_a_token_predictions_need_it_and_the_page_does_not(model: Model) -> None:
    with TestClient(make_app({"dark": model}, "secret")) as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}):
            answer = client.post("/v1/predict", files=parts(png()), headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert client.get("/v1/models", headers=headers).status_code == 401
        allowed = {"Authorization": "Bearer secret"}
        assert client.post("/v1/predict", files=parts(png()), headers=allowed).status_code == 200
        assert client.get("/").status_code == client.get("/health").status_code == 200


def test_no_host_header_opens_what_needs_a_token(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starlette before 1.0 built the address, and so its path, of what a client calls the host."""
    address = property(lambda self: URL(f"http://{self.headers['host']}{self.scope['path']}"))
    monkeypatch.setattr("starlette.requests.Request.url", address)
    with TestClient(make_app({"dark": model}, "secret")) as client:
        for host in ("elsewhere/x", "elsewhere/health?", "elsewhere/#"):
            assert client.get("/v1/models", headers={"host": host}).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "localhost:8000"}, 200),
        ({"host": "127.0.0.1", "origin": "http://127.0.0.1"}, 200),
        ({"host": "elsewhere.example"}, 403),
        ({"host": "["}, 403),
        ({"host": "localhost:8000", "origin": "http://elsewhere.example"}, 403),
        ({"host": "localhost:8000", "origin": "null"}, 403),
        ({"host": "localhost:8000", "origin": "http://["}, 403),
        ({"host": "[::1", "origin": "http://["}, 403),
    ],
)
def test_another_page_can_neither_name_itself_as_this_server_nor_send_to_it(
    model: Model, headers: dict[str, str], status: int
) -> None:
    with TestClient(make_app({"dark": model}, None, ("localhost", "127.0.0.1"))) as client:
        assert client.get("/v1/models", headers=headers).status_code == status


def test_nothing_is_written_to_disk(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise AssertionError("an upload went to disk")

    monkeypatch.setattr("tempfile.SpooledTemporaryFile.rollover", fail)
    monkeypatch.setattr("starlette.formparsers.MultiPartParser.spool_max_size", 10)
    assert client.post("/v1/predict", files=parts(png())).json()["predictions"][0]["error"] is None


def test_the_page_is_of_this_server_alone_and_shows_the_notice(client: TestClient) -> None:
    for path, (_, kind) in PAGE.items():
        answer = client.get(f"/{path}")
        assert answer.headers["content-type"].startswith(kind)
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", answer.text)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
    page = client.get("/").text
    assert NOTICE in page
    assert not re.search(r"<script>|<style|style=|\son\w+=", page)
    assert "innerHTML" not in client.get("/page.js").text


def test_models_are_told_with_classes_training_and_figures_and_the_schema_names_every_answer(
    client: TestClient,
) -> None:
    (told,) = client.get("/v1/models").json()["models"]
    assert [c["name"] for c in told["classes"]] == ["benign", "malignant"]
    assert (told["name"], told["protocol"], told["synthetic"], told["figures"]) == ("dark", "case", True, None)
    schema = client.get("/openapi.json").json()
    for path in ("/v1/predict", "/v1/explain"):
        assert {"200", "400", "404", "408", "413", "429"} <= set(schema["paths"][path]["post"]["responses"])


def test_prometheus_reads_what_the_server_has_done_and_no_word_of_a_client(model: Model) -> None:
    with TestClient(make_app({"dark": model}, "secret"), headers={"Authorization": "Bearer secret"}) as client:
        client.post("/v1/predict", files=parts(png(), b"no image", png()))
        client.post("/v1/predict")
        client.get("/a-path-of-the-client")
        assert client.get("/metrics", headers={"Authorization": "none"}).status_code == 401
        told = client.get("/metrics")
    figures = {
        (sample.name, *(label for _, label in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(told.text)
        for sample in family.samples
    }
    assert figures["biopsy_requests_total", "/v1/predict", "200"] == 1
    assert figures["biopsy_requests_total", "/v1/predict", "400"] == 1
    assert figures["biopsy_requests_total", "other", "404"] == figures["biopsy_requests_total", "other", "401"] == 1
    assert figures["biopsy_images_total", "/v1/predict", "answer"] == 2
    assert figures["biopsy_images_total", "/v1/predict", "error"] == 1
    assert figures["biopsy_request_seconds_count", "/v1/predict"] == 2
    assert figures["biopsy_request_seconds_bucket", "60.0", "/v1/predict"] == 2
    assert figures["biopsy_queue_requests",] == 0
    assert figures["process_resident_memory_bytes",] > 10_000_000


def test_the_command_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    write_onnx(tmp_path / "exports/dark.onnx")
    command = [sys.executable, "-m", "biopsy.cli", "serve", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        lines = [server.stderr.readline() for _ in range(2)]
        try:
            address = re.match(r"http://127\.0\.0\.1:(\d+)/", lines[1])
            assert address, lines
            with socket.create_connection(("127.0.0.1", int(address[1])), timeout=20) as connection:
                connection.sendall(b"GET /v1/models HTTP/1.0\r\nHost: localhost\r\n\r\n")
                body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\r\n\r\n")[2]
        finally:
            server.send_signal(signal.SIGINT)
        assert json.loads(body)["models"][0]["name"] == "dark"
        assert server.wait(20) == 0
        assert server.stderr.read() == "stopped.\n"


def test_a_mistake_at_the_start_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: pytest.fail("it serves"))
    path = write_onnx(tmp_path / "a/dark.onnx")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        mistakes: list[tuple[tuple[Any, ...], type[BiopsyError], str]] = [
            (([path], "0.0.0.0", 8000, None), ParamsError, "needs a token"),
            (([], "127.0.0.1", 8000, None), SourceError, "have no model"),
            (([path, path], "127.0.0.1", 8000, None), ParamsError, "two models are called dark"),
            (([path], "127.0.0.1", taken.getsockname()[1], None), MachineError, "cannot listen on"),
            (([path], "127.0.0.1", 99999, None), ParamsError, "must be 0 to 65535"),
            (([path], "nowhere.invalid", 8000, "secret"), MachineError, "cannot listen on"),
            (([path], "a..b", 8000, "secret"), MachineError, "cannot listen on"),
            (([tmp_path / "none.onnx"], "127.0.0.1", 0, None), SourceError, r"none.onnx is not a file"),
        ]
        for given, kind, words in mistakes:
            with pytest.raises(kind, match=words):
                serve(*given)
