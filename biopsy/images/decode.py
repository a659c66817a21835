"""Read one image file into 8-bit RGB, or say in a sentence why not.

Pillow opens every file, since its checks are stricter: format, size before decoding, frames, checksums. OpenCV then
decodes the common case, an 8-bit RGB PNG, a fifth faster (measured: 290 against 240 images/s on two threads); it never
sees a file with wrong checksums. Pillow decodes everything else.
"""

import errno
import hashlib
import re
import stat
import struct
import warnings
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

from biopsy.core.errors import DataError, reason_of
from biopsy.core.files import IMAGE_SUFFIXES
from biopsy.images.short_files import missing_data
from biopsy.images.to_rgb import UnusableError, kind_of, stored_mode, to_rgb

FORMATS = tuple(dict.fromkeys(IMAGE_SUFFIXES.values()))
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the first bytes of one
# What Pillow's decoders raise on broken bytes.
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)
NOT_READ = {
    errno.ENOENT: ("missing", "does not exist"),
    errno.ENOTDIR: ("missing", "does not exist"),
    errno.ENAMETOOLONG: ("missing", "does not exist: the name is too long"),
    errno.ELOOP: ("missing", "is a link that leads nowhere"),
    errno.EACCES: ("no_permission", "may not be read (chmod u+rX)"),
    errno.EPERM: ("no_permission", "may not be read (chmod u+rX)"),
    errno.EIO: ("broken", "cannot be read from the disk"),
}

# Pillow's guard against decompression bombs stays on, and its warnings are errors.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


class ImageError(DataError):
    """One image file that cannot be used; `reason` is the key under which it is counted."""

    def __init__(self, path: Path, reason: str, detail: str) -> None:
        """Name the file; `detail` begins with a verb."""
        super().__init__(f"{path} {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded image.

    Attributes
    ----------
    pixels : uint8 array of shape (height, width, 3)
        RGB, 0-255.
    mode : str
        As stored: `RGB`, `L`, `P`, `RGBA`, `CMYK`, `I;16`, `RGB;16`, ...; anything but `RGB` was converted.
    format : str
        The format of the bytes, whatever the name says: `PNG`, `JPEG`, ...
    data : bytes
        The file as it is on the disk.
    """

    pixels: NDArray[np.uint8]
    mode: str
    format: str
    data: bytes


def check_size(source: object, pixels: NDArray[np.uint8], min_size: int) -> None:
    """Make sure that an image, uint8 (height, width, 3), is not smaller than `ingest.min_size` on either side.

    Raises
    ------
    ImageError
        With the path `source`; of anything else, such as bytes, it says "the image".
    """
    height, width = pixels.shape[:2]
    if min(height, width) < min_size:
        raise ImageError(_named(source), "too_small", f"has {width}x{height} pixels; ingest.min_size is {min_size}")


def _named(source: object) -> Path:
    return source if isinstance(source, Path) else Path("the image")


def read_rgb(source: Path | bytes, max_pixels: int) -> NDArray[np.uint8]:
    """Read a file as RGB.

    Parameters
    ----------
    source
        An image file: PNG, JPEG, TIFF, BMP, WebP or GIF of one frame, whatever its name ends in; or its bytes.
    max_pixels
        The largest width x height that is decoded.

    Returns
    -------
    uint8 array of shape (height, width, 3)
        RGB, 0-255. Pillow converts grey, palette and CMYK, transparency is laid on white (the colour of an empty
        slide), and 16-bit samples keep their high byte. Pixels stay as stored: an EXIF orientation is not applied,
        except in a TIFF, which Pillow turns. An MPO, a JPEG of several images, counts as its first.

    Raises
    ------
    ImageError
        With the file, the reason and what was found.
    """
    return read_picture(source, max_pixels).pixels


def read_picture(source: Path | bytes, max_pixels: int) -> Picture:
    """Read and fully decode a file as `read_rgb` does; also return its mode, format and bytes."""
    path = _named(source)
    data = encoded(source, max_pixels) if isinstance(source, Path) else source
    try:
        if not isinstance(source, Path):
            _check_pages(path, BytesIO(data))
        with _open(path, data, max_pixels) as image:
            mode, form = stored_mode(image), str(image.format).replace("MPO", "JPEG")
            if form == "PNG":
                image.verify()  # the checksums of all chunks, at a twentieth of the time of decoding
        if form == "PNG" and mode == "RGB":
            # OpenCV would turn an image by its EXIF tag; Pillow, and so all other files, would not.
            flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
            if pixels is not None:
                return Picture(np.asarray(pixels, np.uint8), mode, form, data)
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            pixels = to_rgb(image)
            if lack := missing_data(data, image, pixels):
                raise ImageError(path, "broken", f"is truncated or damaged (it {lack})")
            return Picture(pixels, mode, form, data)
    except ImageError:
        raise
    except UnusableError as fault:
        raise ImageError(path, fault.reason, fault.detail) from None
    except BROKEN as error:
        raise ImageError(path, "broken", f"is truncated or damaged ({reason_of(error)})") from None


def hash_pixels(pixels: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of an RGB array's shape and values: the same for different files with equal pixels."""
    height, width, channels = pixels.shape
    digest = hashlib.sha256(f"{height}x{width}x{channels} ".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def encoded(path: Path, max_pixels: int) -> bytes:
    """Read a whole regular file without decoding it. Raises `ImageError`, also if it is too large for `max_pixels`."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            next(path.iterdir(), None)  # a folder without permission raises here
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(path, "not_a_file", "is a folder or device, not a file")
        if status.st_size == 0:
            raise ImageError(path, "empty", "is empty (0 bytes)")
        with path.open("rb") as stream:
            _check_pages(path, stream)
        if status.st_size > 8 * max_pixels + 2**20:
            raise ImageError(
                path, "too_many_pixels", f"has {status.st_size:,} bytes, too many for {max_pixels:,} pixels"
            )
        return path.read_bytes()
    except ValueError:  # a zero byte, or a letter that the file system cannot write
        raise ImageError(path, "missing", "does not exist: no file can have such a name") from None
    except OSError as error:
        if error.errno not in NOT_READ:
            raise
        raise ImageError(path, *NOT_READ[error.errno]) from None


def _check_pages(path: Path, stream: BinaryIO) -> None:
    """Reject a TIFF of several pages by its directories, before its size is checked: whole slides are large, too."""
    start = stream.read(4)
    stream.seek(0)
    if start not in TIFF:
        return
    try:
        image = TiffImagePlugin.TiffImageFile(stream)
        widths = [image.size[0]]
        while image.n_frames > len(widths):
            image.seek(len(widths))
            widths.append(image.size[0])
    except (*BROKEN, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return  # what is wrong is said when it is decoded
    if len(widths) > 1:
        pyramid = widths[-1] < widths[0]
        what = "a pyramid, as whole slides are stored," if pyramid else "a TIFF"
        raise ImageError(
            path,
            "multi_page",
            f"is {what} of {len(widths)} pages; an image must have one. Export the regions as images",
        )


def _open(path: Path, data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """Open without decoding; reject what is not an image, has too many pixels or more than one frame."""
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        claimed = re.search(r"\d+", str(error))
        raise _bomb(path, int(claimed[0]) if claimed else 0, max_pixels) from None
    except BROKEN:
        if data.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF")):
            raise ImageError(path, "broken", "is truncated or damaged in its header") from None
        if data.startswith(TIFF):
            raise ImageError(
                path, "broken", "is a TIFF that is truncated or damaged, or of a kind such as 32-bit colour"
            ) from None
        kinds = ", ".join(FORMATS)
        raise ImageError(path, "not_an_image", f"is not an image ({kinds}){kind_of(data)}") from None
    if image.width * image.height > max_pixels:
        raise _bomb(path, image.width * image.height, max_pixels)
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # a telephone's JPEG with a small copy
    if frames > 1:
        raise ImageError(path, "animated", f"holds {frames} frames; an image must have one")
    return image


def _bomb(path: Path, pixels: int, max_pixels: int) -> ImageError:
    return ImageError(path, "too_many_pixels", f"has {pixels:,} pixels, more than ingest.max_pixels {max_pixels:,}")
