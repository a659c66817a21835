"""From what a file stores to 8-bit RGB: how samples, palettes and transparency become colours."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # of a TIFF
USED = 64  # of 256: a 16-bit image that is darker everywhere comes from a camera with fewer bits
OTHERS = {  # the first bytes of files that are named like images but are of a kind that is not read
    b"version https://git-lfs": "a Git LFS pointer; run `git lfs pull` where it comes from",
    b"/annex/objects": "a git-annex pointer; run `git annex get` where it comes from",
    b"<": "a page (HTML, XML or SVG), such as a download that failed",
    b"\0\0\0\x0cjP": "JPEG 2000; convert it to PNG",
    b"\xffO\xffQ": "JPEG 2000; convert it to PNG",
    b"\x93NUMPY": "a NumPy array; save it as PNG",
    b"%PDF": "a PDF; convert it to PNG",
    b"PK": "a zip archive; unpack it",
}


class UnusableError(Exception):
    """An image whose colours are not known; `reason` and `detail` as for `ImageError`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def kind_of(data: bytes) -> str:
    """Complete 'is not an image' with what the file is, or with its first bytes."""
    if data[4:8] == b"ftyp":
        return " but AVIF or HEIC; convert it to PNG"
    if data[128:132] == b"DICM":
        return " but DICOM; convert it to PNG"
    begins = data.lstrip()[:30].lower()
    known = next((kind for start, kind in OTHERS.items() if begins.startswith(start.lower())), "")
    shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data[:8])
    return f" but {known}" if known else f"; it begins with '{shown}'"


def stored_mode(image: ImageFile.ImageFile) -> str:
    """Name the mode as stored: Pillow reads 16-bit colour as 8-bit and says so only in the decoder's arguments."""
    mode = image.mode
    if mode in ("RGB", "RGBA", "LA") and ";16" in str(image.tile):
        mode += ";16"
    return f"{mode}+alpha" if mode in ("RGB", "L", "P", "1") and image.has_transparency_data else mode


def to_rgb(image: ImageFile.ImageFile) -> NDArray[np.uint8]:
    """Decode and convert; see `decode.read_rgb` for the policy.

    Raises
    ------
    UnusableError
        32-bit samples, 16-bit ones that use a part of their range, or colours that are wholly transparent.
    """
    mode = stored_mode(image)
    if mode.startswith("I;16"):
        high = (np.asarray(image, dtype=np.uint16) >> 8).astype(np.uint8)
        _check_range(high)
        inverted = image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO  # type: ignore[attr-defined]
        return np.repeat((255 - high if inverted else high)[..., None], 3, axis=2)
    if mode in ("I", "F"):
        raise UnusableError("unsupported_mode", f"has mode {mode} (32 bit), whose range is not known")
    if image.mode == "La":  # grey that holds its alpha
        stored = np.asarray(image)
        _check_transparency(stored)
        on_white = stored[..., :1] + (255 - stored[..., 1:].astype(int))
        return np.repeat(on_white.clip(max=255).astype(np.uint8), 3, axis=2)
    if image.has_transparency_data:
        rgba = _read_rgba(image)
        white = Image.new("RGBA", rgba.size, "white")
        return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))
    pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    if mode == "RGB;16":
        _check_range(pixels)
    return pixels


def _check_range(high: NDArray[np.uint8]) -> None:
    """Reject 16-bit samples whose high bytes are nearly black, as from a camera of 10, 12 or 14 bits."""
    if high.max() < USED:
        raise UnusableError(
            "unsupported_mode",
            "has 16-bit samples of which none lies above a quarter of the range, as of a camera of 12 bits. Convert it "
            "to 8 bits",
        )


def _read_rgba(image: ImageFile.ImageFile) -> Image.Image:
    """Decode with transparency; check a TIFF with premultiplied alpha before Pillow blackens its colours."""
    arguments = [tile.args if isinstance(tile.args, tuple) else ("",) for tile in image.tile]
    if not all(str(mode).startswith("RGBa") for mode, *_ in arguments):
        rgba = image.convert("RGBA")
        _check_transparency(np.asarray(rgba))
        return rgba
    image.tile = [
        tile._replace(args=(str(mode).replace("a", "A"), *others))
        for tile, (mode, *others) in zip(image.tile, arguments, strict=True)
    ]
    stored = np.asarray(image)
    _check_transparency(stored)
    return Image.frombytes("RGBa", image.size, stored.tobytes()).convert("RGBA")


def _check_transparency(pixels: NDArray[np.uint8]) -> None:
    """Reject a wholly transparent image that has colours; without colours it is an empty tile, and white."""
    if not pixels[..., -1].any() and np.ptp(pixels[..., :-1], axis=(0, 1)).any():
        raise UnusableError(
            "unsupported_mode", "is wholly transparent, though it has colours. Save it without transparency"
        )
