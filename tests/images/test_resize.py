"""One image made square, or cut into tiles: antialiased, honest about its aspect, lossless."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from biopsy.core.sections.data import Tiles
from biopsy.images.decode import read_rgb
from biopsy.images.resize import cut_tiles, draw_structure, encode_png, resize_rgb


def tissue(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth coloured blobs with some noise, as images of tissue have."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(60, 250, (height // 12 + 2, width // 12 + 2, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), float)
    return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def pillow(image: np.ndarray, width: int, height: int, how: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), how), float)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other).mean())


@pytest.mark.parametrize(("height", "width"), [(460, 700), (456, 700), (328, 500), (1000, 257), (256, 256)])
def test_shrinking_is_the_mean_over_the_covered_area(height: int, width: int) -> None:
    image = tissue(height, width)
    assert difference(resize_rgb(image, 256, "stretch"), pillow(image, 256, 256, Image.Resampling.BOX)) < 4
    assert difference(resize_rgb(image, 256, "stretch"), pillow(image, 256, 256, Image.Resampling.HAMMING)) < 2


def test_a_whole_factor_gives_the_exact_means() -> None:
    image = tissue(512, 768)
    exact = image.reshape(256, 2, 256, 3, 3).mean(axis=(1, 3))
    assert np.abs(resize_rgb(image, 256, "stretch") - exact).max() <= 0.51


@pytest.mark.parametrize(("height", "width"), [(460, 700), (100, 700), (700, 100)])
def test_a_fine_pattern_becomes_grey_and_not_another_pattern(height: int, width: int) -> None:
    """One axis may grow while the other shrinks: the shrinking one must not alias."""
    stripes = np.zeros((height, width, 3), np.uint8)
    if width > height:
        stripes[:, ::2] = 255
    else:
        stripes[::2] = 255
    made = resize_rgb(stripes, 128, "stretch").astype(float)
    nearest = pillow(stripes, 128, 128, Image.Resampling.NEAREST)
    assert made.std() < 30 < nearest.std()
    assert made.mean() == pytest.approx(127.5, abs=2)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (100, 60), (255, 200)])
def test_enlarging_is_smooth(height: int, width: int) -> None:
    image = tissue(height, width)
    made = resize_rgb(image, 256, "stretch")
    nearest = pillow(image, 256, 256, Image.Resampling.NEAREST)
    bicubic = pillow(image, 256, 256, Image.Resampling.BICUBIC)
    assert difference(made, bicubic) < 2 < difference(made, nearest)


def test_an_image_of_the_right_size_is_left_as_it_is() -> None:
    image = tissue(96, 96)
    for mode in ("stretch", "pad", "crop"):
        np.testing.assert_array_equal(resize_rgb(image, 96, mode), image)


@pytest.mark.parametrize(("height", "width", "size"), [(460, 700, 256), (700, 460, 224), (33, 100, 64), (1, 700, 64)])
@pytest.mark.parametrize("mode", ["stretch", "pad", "crop"])
def test_every_mode_gives_a_square_rgb_image(height: int, width: int, size: int, mode: str) -> None:
    made = resize_rgb(tissue(height, width), size, mode)
    assert made.shape == (size, size, 3)
    assert made.dtype == np.uint8


def test_crop_takes_the_centre_and_keeps_its_proportions() -> None:
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, 100:200] = 200
    np.testing.assert_array_equal(resize_rgb(image, 50, "crop"), np.full((50, 50, 3), 200))


def test_pad_keeps_the_whole_image_between_bars_of_the_border_s_median_colour() -> None:
    image = np.full((100, 200, 3), (240, 238, 242), np.uint8)
    image[20:80, 20:180] = (150, 60, 140)
    made = resize_rgb(image, 100, "pad")
    np.testing.assert_array_equal(made[:25], np.broadcast_to((240, 238, 242), (25, 100, 3)))
    np.testing.assert_array_equal(made[75:], np.broadcast_to((240, 238, 242), (25, 100, 3)))
    np.testing.assert_array_equal(made[25:75], resize_rgb(image, 100, "stretch")[::2][:50])


def test_grey_is_the_luma_in_three_equal_channels() -> None:
    image = tissue(40, 50)
    grey = draw_structure(image, "grayscale")
    assert grey.shape == image.shape
    assert grey.dtype == np.uint8
    assert (grey == grey[..., :1]).all()
    assert np.abs(grey[..., 0] - image @ [0.299, 0.587, 0.114]).max() <= 0.51


def test_edges_lie_on_128_bright_on_their_dark_side_and_are_clipped() -> None:
    image = np.full((5, 6, 3), 100, np.uint8)
    image[:, 3:] = 140
    edges = draw_structure(image, "laplacian")
    assert (edges == edges[..., :1]).all()
    assert edges[2, :, 0].tolist() == [128, 128, 148, 108, 128, 128]
    image[2, 2], image[2, 3] = 0, 255
    assert draw_structure(image, "laplacian")[2, 2:4, 0].tolist() == [255, 0]


def test_colour_stays_as_it_is_without_a_copy() -> None:
    image = tissue(8, 8)
    assert draw_structure(image, "rgb") is image


def test_the_png_is_lossless_and_in_rgb_order() -> None:
    image = tissue(64, 64)
    image[:8] = (255, 0, 0)
    with Image.open(BytesIO(encode_png(image))) as read:
        assert (read.format, read.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(np.asarray(read), image)


@pytest.mark.parametrize(("height", "width"), [(46, 70), (23, 23), (100, 31)])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (1, 4), (3, 1)])
def test_tiles_reach_from_edge_to_edge_and_their_number_does_not_depend_on_the_image(
    height: int, width: int, rows: int, columns: int
) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(height)[:, None], np.arange(width)
    tiles = cut_tiles(image, Tiles(px=23, rows=rows, columns=columns))
    assert [tile.shape for tile in tiles] == [(23, 23, 3)] * (rows * columns)
    corners = np.array([tile[0, 0, :2] for tile in tiles]).reshape(rows, columns, 2)
    assert (corners == corners[:, :1] * [1, 0] + corners[:1] * [0, 1]).all(), "a grid, row by row"
    for starts, side in ((corners[:, 0, 0], height), (corners[0, :, 1], width)):
        if len(starts) == 1:
            assert starts[0] == (side - 23) // 2
        else:
            assert (starts[0], starts[-1]) == (0, side - 23)
            assert np.ptp(np.diff(starts.astype(int))) <= 1


def test_tiles_of_an_image_with_a_shorter_side_are_as_large_as_that_side() -> None:
    image = np.arange(46 * 70 * 3, dtype=np.uint32).astype(np.uint8).reshape(46, 70, 3)
    left, _, right = cut_tiles(image, Tiles(px=47, rows=1, columns=3))
    np.testing.assert_array_equal(left, image[:, :46])
    np.testing.assert_array_equal(right, image[:, -46:])
    assert [tile.shape for tile in cut_tiles(image[:20, :20], Tiles(px=47, rows=2, columns=2))] == [(20, 20, 3)] * 4


def test_real_images_keep_what_pillow_s_bicubic_keeps_and_weigh_no_more(real_data: Path) -> None:
    for path in sorted(real_data.rglob("*.png"))[::60]:
        image = read_rgb(path, 10**7)
        made = resize_rgb(image, 256, "stretch")
        reference = Image.fromarray(image).resize((256, 256))
        assert difference(made, np.asarray(reference, float)) < 4
        assert made.mean() == pytest.approx(image.mean(), abs=0.2)
        level_6 = BytesIO()
        reference.save(level_6, "PNG")
        assert len(encode_png(made)) < 1.05 * level_6.tell()
