"""Bring one image to a square or to several, reduce it to grey or edges where asked, and encode it.

`benchmarks/resize.py` chose the methods. Where an axis shrinks: INTER_AREA, a mean over the covered area, so
antialiased. Where it grows: INTER_CUBIC, since INTER_AREA would become almost nearest neighbour. PNG with run lengths
and the Average filter: as small as zlib's level 1, in half the time.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from biopsy.core.sections.data import Resize, Tiles

PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
PNG += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_AVG]

Image = NDArray[np.uint8]


def make_views(image: Image, resize: Resize) -> Image:
    """Make what the network sees of one image, before stain normalisation.

    Parameters
    ----------
    image : uint8 array of shape (height, width, 3)
        RGB.
    resize
        Size, mode, tiles and structure.

    Returns
    -------
    uint8 array of shape (views, size, size, 3)
        One view, or with mode `tiles` one per tile, row by row.
    """
    if resize.mode == "tiles":
        squares = [resize_rgb(tile, resize.size, "stretch") for tile in cut_tiles(image, resize.tiles)]
    else:
        squares = [resize_rgb(image, resize.size, resize.mode)]
    return np.stack([draw_structure(square, resize.structure) for square in squares])


def cut_tiles(image: Image, tiles: Tiles) -> list[Image]:
    """Cut squares on a grid that reaches from edge to edge; a single row or column is in the middle.

    A square's side is `tiles.px`, or the image's shorter side where that is less.
    """
    height, width = image.shape[:2]
    px = min(tiles.px, height, width)
    tops, lefts = (
        [(side - px) // 2] if count == 1 else [i * (side - px) // (count - 1) for i in range(count)]
        for side, count in ((height, tiles.rows), (width, tiles.columns))
    )
    return [image[top : top + px, left : left + px] for top in tops for left in lefts]


def resize_rgb(image: Image, size: int, mode: str) -> Image:
    """Resize one image to a square.

    Parameters
    ----------
    image : uint8 array of shape (height, width, 3)
        RGB.
    size
        The side in pixels.
    mode
        `stretch` ignores the aspect ratio; `crop` takes the centre square; `pad` keeps all of the image and fills the
        rest with the median colour of its border, which is glass where the border is glass and tissue where it is
        tissue: white bars would put an edge into most images.

    Returns
    -------
    uint8 array of shape (size, size, 3)
    """
    height, width = image.shape[:2]
    if mode == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        image = image[top : top + side, left : left + side]
    if mode != "pad" or height == width:
        return _scale(image, size, size)
    scale = size / max(height, width)
    inner = _scale(image, max(round(height * scale), 1), max(round(width * scale), 1))
    square = np.empty((size, size, 3), np.uint8)
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    square[:] = np.median(border, axis=0).round()
    top, left = (size - inner.shape[0]) // 2, (size - inner.shape[1]) // 2
    square[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return square


def draw_structure(image: Image, structure: str) -> Image:
    """Keep the colours, or only luma or edges; always three channels, so that every network takes it.

    Parameters
    ----------
    image : uint8 array of shape (height, width, 3)
        RGB, at the size the network sees: edges are those of its pixels.
    structure
        `rgb` returns the image itself. `grayscale` is the luma 0.299 R + 0.587 G + 0.114 B. `laplacian` is the luma's
        Laplacian (the four neighbours minus four times the pixel; Marr & Hildreth, 1980, without smoothing, which
        shrinking has done), halved, laid on 128 and clipped to 0-255: 128 is flat, brighter the dark side of an edge,
        darker the light one. The scale is one for all images; of BreakHis at 256 px it clips 0.03 % of the values,
        in the sharpest image 1 %.

    Returns
    -------
    uint8 array of shape (height, width, 3)
        The channels of `grayscale` and `laplacian` are equal.
    """
    if structure == "rgb":
        return image
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if structure == "laplacian":
        grey = cv2.Laplacian(grey, cv2.CV_8U, ksize=1, scale=0.5, delta=128)
    return np.repeat(np.asarray(grey)[..., None], 3, axis=2)


def encode_png(image: Image) -> bytes:
    """Encode an RGB array of shape (height, width, 3) losslessly."""
    whole, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), PNG)
    if not whole:
        raise RuntimeError(f"OpenCV could not encode an array of shape {image.shape}")
    return data.tobytes()


def _scale(image: Image, height: int, width: int) -> Image:
    """Shrink first, then enlarge, since OpenCV's area method antialiases only where both axes shrink."""
    smaller = min(image.shape[0], height), min(image.shape[1], width)
    if smaller != image.shape[:2]:
        image = cv2.resize(image, smaller[::-1], interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    if smaller != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)  # type: ignore[assignment]
    return image
