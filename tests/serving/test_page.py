"""The page of `biopsy serve` in a real browser, at the width of a phone, in dark mode, by keyboard."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import uvicorn

from accessible import violations
from biopsy.serving.api import make_app
from biopsy.serving.model import Model
from servers import free_port
from tiny_onnx import write_onnx


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    app = make_app({"dark": Model(write_onnx(tmp_path / "dark.onnx"))}, None)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join()


def test_an_image_is_predicted_and_explained_by_keyboard_without_an_error_or_a_request_elsewhere(
    address: str, tmp_path: Path, phone: tuple[Any, list[str]]
) -> None:
    image = np.full((480, 640, 3), 190, np.uint8)
    image[320:, :160] = 10
    assert image.shape[0] * image.shape[1] > 10_000  # more than the model takes
    cv2.imwrite(str(tmp_path / "large.png"), image)
    cv2.imwrite(str(tmp_path / "corner.png"), image[::6, ::6])
    page, found = phone
    known = (address, "blob:", "data:")
    page.on("request", lambda asked: None if asked.url.startswith(known) else found.append(asked.url))
    page.goto(address)
    page.get_by_text("This model").wait_for()
    page.locator("#files").set_input_files([tmp_path / "corner.png", tmp_path / "large.png"])
    page.get_by_text("2 images done.").wait_for()
    (why,) = page.get_by_role("button", name="Where does the model look? corner.png").all()
    assert page.get_by_role("button", name="Where does the model look?").count() == 1  # not of the bad image
    why.press("Enter")
    slider = page.get_by_role("slider", name="Opacity of the map")
    page.locator("input[type=range]:focus").wait_for()
    layers = page.locator(".layers img")
    sizes = layers.evaluate_all("all => all.map(i => [i.naturalWidth, i.clientWidth, i.clientHeight, i.alt !== ''])")
    assert sizes[0] == sizes[1]
    assert sizes[0][0] == 107
    before = layers.last.evaluate("i => i.style.opacity")
    slider.press("ArrowRight")
    assert float(layers.last.evaluate("i => i.style.opacity")) == pytest.approx(float(before) + 0.05)
    assert "deletion 0." in page.locator("figcaption").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert violations(page) == []
    page.get_by_role("button", name="Clear").press("Enter")
    assert page.evaluate("document.activeElement.id") == "choose"  # not lost with the button that had it
    assert found == []
