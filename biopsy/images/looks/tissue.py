"""Where an image shows tissue, and where glass."""

import cv2
import numpy as np
from numpy.typing import NDArray

LEAST_TISSUE = 0.01  # of the image: with less, nothing can be said of its tissue

# CIELAB. Glass is lighter than LIGHT, and in a* and b* nearer than NEAR to the image's own white. SOFT units beyond,
# tissue has full weight, so that no hard edge shows. The glass of BreakHis is grey, cream or greenish.
LIGHT, NEAR, SOFT = 75.0, 5.0, 5.0
LIGHTEST = 0.02  # share of the pixels; the median of the lightest is taken as white,
WHITEST_A, WHITEST_CHROMA = 8.0, 14.0  # unless it is more coloured than this: then there is no glass; white is neutral

Image = NDArray[np.uint8]


def tissue_weight(image: Image) -> NDArray[np.float32]:
    """Weigh each pixel: 1 for tissue, 0 for glass, which is light and has the colour of the lightest pixels.

    Parameters
    ----------
    image
        (height, width, 3) uint8, RGB.

    Returns
    -------
    numpy.ndarray
        (height, width) float32, 0 to 1; between them for pixels near the colour of glass.
    """
    light, a, b = cv2.split(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB))
    lightest = light >= np.quantile(light, 1 - LIGHTEST)
    white_a, white_b = np.median(a[lightest]), np.median(b[lightest])
    if white_a > WHITEST_A or np.hypot(white_a, white_b) > WHITEST_CHROMA:
        white_a = white_b = np.float32(0)
    coloured = np.hypot(a - white_a, b - white_b) - NEAR
    return np.clip(np.maximum(LIGHT - light, coloured) / SOFT, 0, 1).astype(np.float32)
