"""Stained tissue, drawn by the law that stains follow."""

import numpy as np

HAEMATOXYLIN, EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.17, 0.88, 0.42])
GLASS = (236, 240, 234)


def tissue(seed: int = 0, strength: float = 1.0, hue: float = 0.0, glass: float = 0.3) -> np.ndarray:
    """Beer-Lambert: eosin everywhere, haematoxylin in spots, glass in the upper part; (64, 64, 3)."""
    rng = np.random.default_rng(seed)
    eosin = strength * rng.uniform(0.25, 0.6, (64, 64, 1))
    haematoxylin = strength * np.where(rng.random((64, 64, 1)) < 0.3, rng.uniform(0.6, 1.2, (64, 64, 1)), 0.05)
    turn = np.array([hue, -hue, hue / 2])
    image = 240 * np.exp(-(haematoxylin * (HAEMATOXYLIN + turn) + eosin * (EOSIN + turn)))
    image[: round(64 * glass)] = GLASS
    return np.clip(image, 0, 255).astype(np.uint8)
