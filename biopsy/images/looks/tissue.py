"""Where an image shows tissue, and where glass."""

import numpy as np
from numpy.typing import NDArray
from torchstain.numpy.utils import rgb2lab

LEAST_TISSUE = 0.01  # of the image: with less, nothing can be said of its tissue

# CIELAB. Glass is lighter than LIGHT and lies nearer than NEAR to the image's own white in a* and b*; SOFT units
# beyond, tissue counts in full, so that no hard edge shows. BreakHis's glass is grey, cream or greenish, by slide.
LIGHT, NEAR, SOFT = 75.0, 5.0, 5.0
LIGHTEST = 0.02  # the share of the pixels whose median is taken for white,
WHITEST_A, WHITEST_CHROMA = 8.0, 14.0  # unless it is more coloured than this: then no glass shows, and white is neutral

Image = NDArray[np.uint8]


def tissue_weight(image: Image) -> NDArray[np.float32]:
    """Say how far each pixel is tissue: 0 for glass (light, and coloured like the lightest), 1 for tissue.

    Parameters
    ----------
    image
        (height, width, 3) uint8, RGB.

    Returns
    -------
    numpy.ndarray
        (height, width) float32, 0 to 1, between them near the colour of glass.
    """
    lab = rgb2lab(image.astype(np.float32) / 255)  # in OpenCV's scale: L* 0 to 255, a* and b* about 128
    light, a, b = lab[..., 0] / 2.55, lab[..., 1] - 128, lab[..., 2] - 128
    lightest = light >= np.quantile(light, 1 - LIGHTEST)
    white_a, white_b = np.median(a[lightest]), np.median(b[lightest])
    if white_a > WHITEST_A or np.hypot(white_a, white_b) > WHITEST_CHROMA:
        white_a = white_b = np.float32(0)
    coloured = np.hypot(a - white_a, b - white_b) - NEAR
    return np.clip(np.maximum(LIGHT - light, coloured) / SOFT, 0, 1).astype(np.float32)
