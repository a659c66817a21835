"""The page of `biopsy serve` in a real browser, at the width of a phone, in dark mode, by keyboard."""

import csv
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
from biopsy.images.decode import hash_pixels
from biopsy.images.looks.record import ranges_of
from biopsy.serving.model import Model
from biopsy.serving.server.api import make_app
from biopsy.serving.training_images import packed, pixel_key
from servers import free_port
from tiny_onnx import DARK, write_onnx

LEARNT = np.full((60, 60, 3), 190, np.uint8)
ZOOM = ".zoom"
PLACES = f"""([across, down]) => {{
  const frame = document.querySelector("{ZOOM}").getBoundingClientRect();
  const picture = document.querySelector("{ZOOM} .map").getBoundingClientRect();
  return [picture.width / frame.width, (frame.left + across * frame.width - picture.left) / picture.width,
    (frame.top + down * frame.height - picture.top) / picture.height];
}}"""

RULE = {"rule": {"threshold": 0.9}}
PROMISES = {  # test figures by which a model abstains, and names the classes that a case may be
    "test": {"accuracy": 0.9}, "images": 9, "cases": 3, "intervals": {},
    "abstention": {"image": RULE, "case": RULE}, "sets": {"cases": 20, "levels": {"0.9": {"threshold": 1}}},
}  # fmt: skip


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    real = DARK.model_copy(update={"synthetic": False, "training": ranges_of([{"red": 0.1}] * 3)})
    learnt = packed(frozenset([pixel_key(hash_pixels(LEARNT))]))
    mean = DARK.model_copy(update={"members": ["0" * 64, "1" * 64]})
    models = {
        "dark": Model(write_onnx(tmp_path / "dark.onnx", learnt_from=learnt)),
        "real": Model(write_onnx(tmp_path / "real.onnx", real, figures=PROMISES)),
        "mean": Model(write_onnx(tmp_path / "mean.onnx", mean)),
    }
    app = make_app(models, None)
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
    page.get_by_text("2 images done, 1 without a prediction: see the reason at each").wait_for()
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
    assert page.locator("#status").inner_text().startswith("Map of corner.png: ")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert violations(page) == []
    page.get_by_role("button", name="Clear").press("Enter")
    assert page.evaluate("document.activeElement.id") == "choose"  # not lost with the button that had it
    assert found == []


def test_the_mean_of_models_is_not_said_to_be_tested_on_patients_that_it_has_not_seen(
    address: str, phone: tuple[Any, list[str]]
) -> None:
    page, _ = phone
    page.goto(address)
    page.locator("#model").select_option("mean")
    about = page.locator("#about").inner_text()
    assert "for each of its 2 models alone: " in about
    assert "none of the mean of 2 models" in about


def test_a_tiff_which_browsers_do_not_show_is_predicted_and_said_to_have_no_preview(
    address: str, tmp_path: Path, phone: tuple[Any, list[str]]
) -> None:
    cv2.imwrite(str(tmp_path / "a.tif"), LEARNT)
    (tmp_path / "broken.png").write_bytes(b"no image")
    page, _ = phone
    page.goto(address)
    page.get_by_text("This model").wait_for()
    page.locator("#files").set_input_files([tmp_path / "a.tif", tmp_path / "broken.png"])
    page.get_by_text("2 images done, 1 without a prediction").wait_for()
    page.get_by_text("no preview").wait_for()
    marked = page.locator("#summary .caution").all_inner_texts()  # grey, they were less visible than the prediction
    assert any("Training or validation images of this model: 1 of 1." in text for text in marked)
    assert [blank.inner_text() for blank in page.locator(".blank").all()] == ["no preview", ""]
    assert violations(page) == []


def test_a_server_that_has_stopped_is_said_and_later_images_are_predicted_when_it_is_back(
    address: str, tmp_path: Path, phone: tuple[Any, list[str]]
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), LEARNT)
    page, _ = phone
    page.goto(address)
    page.get_by_text("This model").wait_for()
    page.route("**/v1/predict*", lambda route: route.abort("connectionrefused"))
    page.locator("#files").set_input_files([tmp_path / "a.png"])
    page.get_by_text("No answer: the server has stopped").wait_for()
    assert page.locator("#status").inner_text().endswith("1 of 1 images have no prediction.")
    page.unroute("**/v1/predict*")
    page.locator("#files").set_input_files([tmp_path / "a.png"])
    page.get_by_text("1 image done.").wait_for()


def test_a_sample_image_is_drawn_and_said_to_be_a_drawing_and_the_next_one_is_another(
    address: str, phone: tuple[Any, list[str]]
) -> None:
    page, found = phone
    page.goto(address)
    page.get_by_text("This model").wait_for()
    for n, model in enumerate(("dark", "real")):
        page.locator("#model").select_option(model)
        page.get_by_role("button", name="Try a sample image").press("Enter")
        page.locator("#results > li").nth(n).wait_for()
        page.get_by_text("1 image done.").wait_for()
        if model == "dark":
            assert "trained on drawn images, so its answers about real" in page.locator("#summary").inner_text()
    synthetic, real = page.locator("#results > li").all_inner_texts()
    assert "drawn-ductal-carcinoma.png" in synthetic
    assert "like those the model was trained on" in synthetic
    assert "drawn-adenosis.png" in real
    assert "not tissue: what the model says of it means nothing" in real
    assert "unlike the training images in tissue colour, green to red: the prediction" in real
    summary = page.locator("#summary")  # of the last model
    assert "Unlike the training images: 1 of 1." in summary.locator(".caution").inner_text()
    assert "unlike the training" in " ".join(page.locator("#results > li").nth(1).locator(".caution").all_inner_texts())
    assert "drawn images" not in summary.inner_text()
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    rows = list(csv.DictReader(download.value.path().read_text().splitlines()))
    assert [row["unlike_training"] for row in rows] == ["", "red"]
    assert page.locator("#results > li > img").evaluate_all("all => all.map(i => i.naturalWidth)") == [123, 123]
    assert violations(page) == []
    assert found == []


def place(page: Any, across: float = 0.5, down: float = 0.5) -> list[float]:
    """How much larger the map is than its frame, and what part of it a place of the frame shows."""
    return [round(number, 2) for number in page.evaluate(PLACES, [across, down])]


def test_a_press_and_a_file_before_the_models_are_known_wait_for_them(
    address: str, tmp_path: Path, phone: tuple[Any, list[str]]
) -> None:
    page, held = phone[0], list[Any]()
    page.route("**/v1/models", lambda route: held.append(route))
    cv2.imwrite(str(tmp_path / "a.png"), LEARNT)
    for act in (
        lambda: page.get_by_role("button", name="Try a sample image").press("Enter"),
        lambda: page.locator("#files").set_input_files(tmp_path / "a.png"),
    ):
        with page.expect_request("**/v1/models"):
            page.goto(address)
        act()
        page.wait_for_timeout(100)
        held.pop().continue_()
        page.get_by_role("button", name="Where does the model look?").wait_for(timeout=10_000)


def test_the_map_is_enlarged_and_moved_by_keys_buttons_mouse_and_fingers(
    address: str, phone: tuple[Any, list[str]]
) -> None:
    page, found = phone
    page.goto(address)
    page.get_by_role("button", name="Try a sample image").press("Enter")
    page.get_by_role("button", name="Where does the model look?").press("Enter")
    frame = page.locator(ZOOM)
    frame.wait_for()
    page.locator(f"{ZOOM} .map").evaluate("map => map.decode()")
    assert place(page) == [1, 0.5, 0.5]

    frame.press("+")
    frame.press("+")
    assert place(page) == [2.25, 0.5, 0.5]
    frame.press("ArrowRight")
    assert place(page) == [2.25, 0.59, 0.5]
    for _ in range(9):
        frame.press("ArrowDown")
    assert place(page, 1, 1)[2] == 1  # its end
    assert page.get_by_text("225 %").count() == 1
    assert violations(page) == []
    page.get_by_role("button", name="Zoom out").press("Enter")
    assert place(page)[0] == 1.5
    page.get_by_role("button", name="Show all of it").press("Enter")
    assert place(page) == [1, 0.5, 0.5]
    page.get_by_role("button", name="Zoom in").press("Enter")
    assert place(page)[0] == 1.5
    frame.press("0")

    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    left, top = box["x"] + 0.25 * box["width"], box["y"] + 0.75 * box["height"]
    page.mouse.dblclick(left, top)
    assert place(page, 0.25, 0.75) == [2, 0.25, 0.75]  # what was under the pointer is there still
    page.mouse.down()
    page.mouse.move(left - 0.1 * box["width"], top, steps=3)
    page.mouse.up()
    page.mouse.move(left + 0.1 * box["width"], top)  # the button is up
    assert place(page, 0.15, 0.75) == [2, 0.25, 0.75]
    frame.press("0")
    page.mouse.move(left, top)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    page.wait_for_function(f"({PLACES})([0, 0])[0] > 2.5")
    assert place(page, 0.25, 0.75) == [2.72, 0.25, 0.75]
    frame.press("0")

    fingers = page.context.new_cdp_session(page)
    for kind, apart in (("touchStart", 0.1), ("touchMove", 0.15), ("touchMove", 0.2), ("touchEnd", None)):
        points = [{"x": left + side * (apart or 0) * box["width"], "y": top, "id": side} for side in (0, 1)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points if apart else []})
    assert place(page, 0.25, 0.75) == [2, 0.25, 0.75]
    assert page.evaluate("visualViewport.scale") == 1  # the picture alone
    assert found == []


def test_an_answer_that_the_model_is_unsure_of_is_marked_and_a_case_gets_the_classes_that_it_may_be(
    address: str, tmp_path: Path, phone: tuple[Any, list[str]]
) -> None:
    for name, grey in (("dark", 40), ("middle", 125)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((60, 60, 3), grey, np.uint8))
    page, found = phone
    page.goto(address)
    page.get_by_text("This model").wait_for()
    said = []
    for model in ("dark", "real"):
        page.locator("#model").select_option(model)
        page.locator("#files").set_input_files([tmp_path / "dark.png", tmp_path / "middle.png"])
        page.get_by_text("2 images done.").wait_for()
        said.append([item.inner_text() for item in page.locator("#results > li, #summary").all()])
        if model == "dark":
            page.get_by_role("button", name="Clear").press("Enter")
    assert not any("Unsure" in text or "Possible:" in text for text in said[0])  # no figures: nothing is promised
    summary, dark, middle = said[1]
    assert "Unsure" not in dark
    assert "Unsure: no class reaches 90.0 %" in middle
    assert (
        "Possible: benign, malignant. The true class is among these for 90 % of new patients like those of" in summary
    )
    assert page.locator("#results > li").last.locator(".bars rect").count() == 4  # two bars, with the line in each
    assert violations(page) == []
    assert found == []
