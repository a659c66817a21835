import io
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from raw import bomb, draw, obey_permissions, png

from biopsy.core.errors import DataError
from biopsy.images.decode import ImageError, hash_pixels, read_picture, read_rgb

LIMIT = 1_000_000


def save(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def reason(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        read_rgb(path, LIMIT)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, DataError)
    return caught.value.reason


def test_rgb_pixels_come_back_as_stored(tmp_path: Path) -> None:
    image = draw(0)
    for name in ("a.png", "b.bmp", "c.tif", "d.png"):
        Image.fromarray(image).save(tmp_path / name)
        assert np.array_equal(read_rgb(tmp_path / name, LIMIT), image)


def test_opencv_and_pillow_decode_the_real_images_alike(real_data: Path) -> None:
    for path in sorted(real_data.rglob("*.png"))[::60]:
        assert np.array_equal(read_rgb(path, LIMIT), np.asarray(Image.open(path).convert("RGB"))), path


def test_grey_and_palette_become_rgb(tmp_path: Path) -> None:
    grey = draw(1)[..., 0]
    save(tmp_path / "grey.png", png(grey))
    assert np.array_equal(read_rgb(tmp_path / "grey.png", LIMIT), np.dstack([grey] * 3))
    palette = Image.fromarray(draw(1)).quantize(16)
    save(tmp_path / "palette.png", png(palette))
    assert np.array_equal(read_rgb(tmp_path / "palette.png", LIMIT), np.asarray(palette.convert("RGB")))


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    rgba = np.dstack([draw(2), np.full((36, 48), 255, np.uint8)])
    rgba[:10, :, 3] = 0
    picture = read_picture(save(tmp_path / "a.png", png(rgba)), LIMIT)
    assert picture.mode == "RGBA"
    assert (picture.pixels[:10] == 255).all()
    assert np.array_equal(picture.pixels[10:], rgba[10:, :, :3])
    marked = png(draw(2), transparency=tuple(int(value) for value in draw(2)[0, 0]))
    picture = read_picture(save(tmp_path / "b.png", marked), LIMIT)
    assert picture.mode == "RGB+alpha"
    assert (picture.pixels[0, 0] == 255).all()


def test_16_bit_samples_keep_their_high_byte(tmp_path: Path) -> None:
    deep = np.random.default_rng(3).integers(0, 65536, (36, 48, 3), np.uint16)
    for name, stored in (("colour", deep[..., ::-1]), ("grey", deep[..., 0])):
        for suffix in ("png", "tif"):
            path = tmp_path / f"{name}.{suffix}"
            cv2.imwrite(str(path), stored)
            picture = read_picture(path, LIMIT)
            expected = deep if name == "colour" else np.dstack([deep[..., 0]] * 3)
            assert ";16" in picture.mode
            assert np.array_equal(picture.pixels, (expected >> 8).astype(np.uint8)), path


def test_cmyk_jpeg_is_converted_and_a_jpeg_named_png_is_known_as_one(tmp_path: Path) -> None:
    smooth = Image.new("RGB", (48, 36), (200, 100, 150))
    smooth.convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    picture = read_picture(tmp_path / "a.jpg", LIMIT)
    assert (picture.mode, picture.format) == ("CMYK", "JPEG")
    assert np.abs(picture.pixels.astype(int) - (200, 100, 150)).max() < 12
    smooth.save(tmp_path / "b.png", "JPEG", quality=95)
    picture = read_picture(tmp_path / "b.png", LIMIT)
    assert (picture.mode, picture.format) == ("RGB", "JPEG")


def test_an_exif_orientation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    for name in ("a.png", "a.jpg"):
        Image.fromarray(draw(4)).save(tmp_path / name, exif=exif)
        assert read_rgb(tmp_path / name, LIMIT).shape == (36, 48, 3)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_png_is_broken(tmp_path: Path, part: float) -> None:
    data = png(draw(5))
    assert reason(save(tmp_path / "a.png", data[: int(part * len(data))])) == "broken"


def test_one_flipped_bit_in_a_png_is_found(tmp_path: Path) -> None:
    data = bytearray(png(draw(5)))
    for position in range(8, len(data), 97):
        data[position] ^= 4
        assert reason(save(tmp_path / "a.png", bytes(data))) == "broken", position
        data[position] ^= 4


def test_truncated_jpeg_and_tiff_are_broken(tmp_path: Path) -> None:
    for kind in ("JPEG", "TIFF"):
        stream = io.BytesIO()
        Image.fromarray(draw(6)).save(stream, kind)
        assert reason(save(tmp_path / "a.png", stream.getvalue()[:900])) == "broken"


@pytest.mark.parametrize(("kind", "settings"), [("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {}), ("GIF", {})])
def test_a_file_that_lost_its_directory_is_broken_and_not_of_an_unknown_kind(
    tmp_path: Path, kind: str, settings: dict[str, str]
) -> None:
    stream = io.BytesIO()
    Image.fromarray(draw(6)).save(stream, kind, **settings)
    path = save(tmp_path / "a.png", stream.getvalue()[: 900 if kind == "TIFF" else 12])
    with pytest.raises(ImageError, match="truncated or damaged"):
        read_rgb(path, LIMIT)


def test_what_is_no_image_says_how_it_begins(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", b"hello world")
    assert reason(path) == "not_an_image"
    with pytest.raises(ImageError, match=r"\(PNG, .*GIF.*\); it begins with 'hello wo'"):
        read_rgb(path, LIMIT)
    assert reason(save(tmp_path / "empty.png", b"")) == "empty"


def test_a_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", bomb())
    with pytest.raises(ImageError, match=r"900,000,000 pixels, more than ingest.max_pixels 1,000,000"):
        read_rgb(path, LIMIT)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # pytest resets what images.py sets
@pytest.mark.parametrize("side", [1_008, 9_600])  # above the limit; where Pillow itself would only warn
def test_max_pixels_holds_below_pillows_own_limit(tmp_path: Path, side: int) -> None:
    assert reason(save(tmp_path / "a.png", bomb(side))) == "too_many_pixels"


def test_a_file_too_large_to_be_such_an_image_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as stream:
        stream.truncate(2**40)
    assert reason(tmp_path / "a.png") == "too_many_pixels"


def test_16_bit_samples_of_a_camera_of_fewer_bits_are_refused_not_black(tmp_path: Path) -> None:
    for bits in (10, 12, 14):
        deep = np.random.default_rng(bits).integers(0, 2**bits, (36, 48, 3), np.uint16)
        for name, stored in (("a.png", deep), ("b.png", deep[..., 0]), ("a.tif", deep), ("b.tif", deep[..., 0])):
            cv2.imwrite(str(tmp_path / name), stored)
            assert reason(tmp_path / name) == "unsupported_mode"


def test_16_bit_grey_of_which_zero_is_white_is_inverted(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 65536, (36, 48), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", 65535 - grey, photometric="miniswhite")
    assert np.array_equal(read_rgb(tmp_path / "a.tif", LIMIT)[..., 0], (grey >> 8).astype(np.uint8))


def test_an_image_that_is_wholly_transparent_is_refused_if_it_has_colours_and_else_white(tmp_path: Path) -> None:
    hidden = np.dstack([draw(1), np.zeros((36, 48), np.uint8)])
    Image.fromarray(hidden).save(tmp_path / "a.png")
    assert reason(tmp_path / "a.png") == "unsupported_mode"
    Image.fromarray(np.zeros_like(hidden)).save(tmp_path / "b.png")
    assert (read_rgb(tmp_path / "b.png", LIMIT) == 255).all()


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(("channels", "kind"), [(4, np.uint8), (4, np.uint16), (2, np.uint8)])
def test_a_tiff_whose_colours_hold_their_alpha_is_read_on_white_and_refused_where_nothing_shows(
    tmp_path: Path, channels: int, kind: type, compression: str | None
) -> None:
    high = np.iinfo(kind).max
    stored = np.random.default_rng(0).integers(0, high // 2, (36, 48, channels), kind)

    def written(alpha: int) -> Path:
        stored[..., -1] = alpha
        options = {"photometric": "rgb" if channels == 4 else "minisblack", "extrasamples": ["assocalpha"]}
        tifffile.imwrite(tmp_path / "a.tif", stored, compression=compression, **options)
        return tmp_path / "a.tif"

    assert reason(written(0)) == "unsupported_mode"
    eight = (stored[..., :-1] // (high // 255)).astype(int)
    for alpha in (high, high // 2):
        shown = np.clip(eight + 255 - alpha // (high // 255), 0, 255)
        assert np.abs(read_rgb(written(alpha), LIMIT) - shown).max() <= 2


def test_of_a_telephone_s_jpeg_with_a_second_image_the_first_counts(tmp_path: Path) -> None:
    first, second = (Image.fromarray(draw(seed)) for seed in (1, 2))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second], quality=95)
    first.save(tmp_path / "b.jpg", quality=95)
    found, alone = (read_picture(tmp_path / name, LIMIT) for name in ("a.jpg", "b.jpg"))
    assert found.format == "JPEG"
    assert np.array_equal(found.pixels, alone.pixels)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "but a Git LFS pointer; run `git lfs pull`"),
        (b"\n<!DOCTYPE html><html>404</html>", "but a page"),
        (b"\0\0\0\x1cftypavif", "but AVIF or HEIC; convert it"),
        (b"\0\0\0\x0cjP  \r\n", "but JPEG 2000"),
        (bytes(128) + b"DICM", "but DICOM"),
        (b"\x93NUMPY\x01", "but a NumPy array"),
    ],
)
def test_what_is_named_like_an_image_and_is_another_file_is_called_so(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        read_rgb(save(tmp_path / "a.png", data), LIMIT)


def test_animations_are_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(draw(seed)) for seed in range(3)]
    for name in ("a.png", "a.gif", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert reason(tmp_path / name) == "animated"


@pytest.mark.parametrize("big", [False, True], ids=["TIFF", "BigTIFF"])
def test_a_tiff_of_several_pages_is_called_what_it_is_whatever_its_size(tmp_path: Path, big: bool) -> None:
    page, path = Image.fromarray(draw(0)), tmp_path / "a.tif"
    levels = [page.resize((48 >> level, 36 >> level)) for level in (1, 2)]
    page.save(path, save_all=True, append_images=levels, big_tiff=big)
    for limit in (LIMIT, 100):  # as whole slides are, larger than what is decoded
        with pytest.raises(ImageError, match=r"a\.tif is a pyramid, as whole slides are stored, of 3 pages") as caught:
            read_rgb(path, limit)
        assert caught.value.reason == "multi_page"
    page.save(path, save_all=True, append_images=[page], big_tiff=big)
    with pytest.raises(ImageError, match=r"a\.tif is a TIFF of 2 pages; an image must have one"):
        read_rgb(path, LIMIT)
    with pytest.raises(ImageError, match="the image is a TIFF of 2 pages"):
        read_rgb(path.read_bytes(), LIMIT)


def test_32_bit_samples_have_no_known_range(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((36, 48), np.float32)).save(tmp_path / "a.tif")
    assert reason(tmp_path / "a.tif") == "unsupported_mode"


def test_what_is_no_regular_file_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for ever
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert reason(tmp_path / "folder.png") == "not_a_file"
    assert reason(tmp_path / "pipe.png") == "not_a_file"
    assert reason(tmp_path / "loop.png") == "missing"
    assert reason(tmp_path / "nothing.png") == "missing"
    assert reason(tmp_path / "nothing.png" / "below.png") == "missing"
    assert reason(tmp_path / ("x" * 300)) == "missing"


def test_a_file_without_read_permission_says_so(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", png(draw(7)))
    path.chmod(0)
    code = f"from pathlib import Path; from biopsy.images.decode import read_rgb; read_rgb(Path({str(path)!r}), 10**6)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, preexec_fn=obey_permissions)
    assert "may not be read (chmod u+rX)" in result.stderr


def test_an_error_of_the_machine_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_many(path: Path) -> bytes:
        raise OSError(24, "Too many open files")

    path = save(tmp_path / "a.png", png(draw(8)))
    monkeypatch.setattr(Path, "read_bytes", too_many)
    with pytest.raises(OSError, match="Too many open files"):
        read_rgb(path, LIMIT)


def test_the_hash_of_pixels_knows_their_shape() -> None:
    image = draw(9)
    assert hash_pixels(image) == hash_pixels(image.copy()) == hash_pixels(image[:, ::-1][:, ::-1])
    assert len({hash_pixels(image), hash_pixels(image.reshape(48, 36, 3)), hash_pixels(255 - image)}) == 3
