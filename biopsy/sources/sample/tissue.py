"""Draw synthetic H&E-like tissue: the architecture of each tumour type, its stroma, and the stain over both."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
# Four channels of a canvas: how much stroma, cytoplasm, mucin and nucleus a pixel shows. None of them: pale background.
OPEN, STROMA, CYTOPLASM, MUCIN = (0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0)
# Optical density (red, green, blue) of a unit of stain: haematoxylin after Ruifrok & Johnston, 2001, eosin by eye.
HAEMATOXYLIN, EOSIN = (0.65, 0.70, 0.29), (0.17, 0.88, 0.42)


@dataclass(frozen=True)
class Cells:
    """What nuclei look like: radius and spacing in units, spread of the sizes, darkness 0-255, length to width."""

    radius: float
    spacing: float
    spread: float
    dark: float
    length: float = 1.25


BENIGN, MALIGNANT = Cells(2.1, 5.0, 0.08, 150), Cells(3.3, 5.8, 0.25, 230)
SPINDLE, LYMPHOCYTE = Cells(1.3, 13.0, 0.12, 160, 3.5), Cells(1.5, 6.0, 0.1, 240, 1.0)


@dataclass
class Canvas:
    """One image while it is drawn. Lengths are in units of a pixel at 100X.

    `layers` is uint8 (height, width, 4), `unit` pixels per unit, `angle` that of the fibres in radians, and `lesion`,
    bool (height, width), the part of the image where the type's own architecture is drawn.
    """

    layers: NDArray[np.uint8]
    unit: float
    cells: Cells
    stroma: Cells
    angle: float
    rng: np.random.Generator
    lesion: NDArray[np.bool_]

    def fill(self, outlines: Array, what: tuple[int, int, int, int]) -> None:
        """Fill closed outlines, (n, points, 2)."""
        for outline in _fixed(outlines * self.unit):
            cv2.fillPoly(self.layers, [outline], what, cv2.LINE_AA, 4)

    def stroke(self, lines: Sequence[Array], width: float, what: tuple[int, int, int, int]) -> None:
        """Draw open lines, each (points, 2), `width` thick."""
        fixed = [_fixed(line * self.unit) for line in lines]
        cv2.polylines(self.layers, fixed, False, what, max(1, round(width * self.unit)), cv2.LINE_AA, 4)

    def nuclei(self, centres: Array, angles: Array | float, cells: Cells) -> None:
        """Draw one nucleus at each centre, (n, 2), its long axis along its angle."""
        n = len(centres)
        turn = np.linspace(0, 2 * np.pi, 10, endpoint=False)
        lumps = 1 + 0.5 * cells.spread * self.rng.standard_normal((n, 10))
        radii = cells.radius * self.rng.lognormal(0, cells.spread, (n, 1)) * lumps
        along, across = radii * np.cos(turn) * math.sqrt(cells.length), radii * np.sin(turn) / math.sqrt(cells.length)
        cos, sin = (f(np.broadcast_to(angles, n))[:, None] for f in (np.cos, np.sin))
        outlines = np.stack([along * cos - across * sin, along * sin + across * cos], axis=-1) + centres[:, None]
        darks = np.clip(cells.dark * self.rng.lognormal(0, 0.5 * cells.spread + 0.05, n), 60, 255).tolist()
        for outline, dark in zip(_fixed(outlines * self.unit), darks, strict=True):
            cv2.fillPoly(self.layers, [outline], (0, 0, 0, dark), cv2.LINE_AA, 4)

    def lattice(self, spacing: float, jitter: float) -> Array:
        """Return the points of a shaken hexagonal lattice over the lesion, (n, 2)."""
        height, width = (side / self.unit / spacing for side in self.layers.shape[:2])
        x, y = np.meshgrid(np.arange(-1, width + 1), np.arange(-1, height / 0.87 + 1))
        points = np.stack([(x + 0.5 * (y % 2)).ravel(), 0.87 * y.ravel()], axis=-1) + self.rng.random(2)
        points = spacing * (points + self.rng.normal(0, jitter / 2, points.shape))
        return points[self.at(points, self.lesion)]

    def at(self, points: Array, mask: NDArray[Any]) -> NDArray[Any]:
        """Read a mask, (height, width), at points; outside the image, at its border."""
        x, y = np.floor(points * self.unit).astype(int).T
        return mask[np.clip(y, 0, mask.shape[0] - 1), np.clip(x, 0, mask.shape[1] - 1)]

    def crowd(self, cells: Cells, spacing: float, jitter: float) -> None:
        """Fill all cytoplasm with nuclei."""
        points = self.lattice(cells.spacing * spacing, jitter)
        points = points[self.at(points, self.layers[..., 1]) > 128]
        self.nuclei(points, self.rng.uniform(0, np.pi, len(points)), cells)

    def outlines(self, centres: Array, radii: Array | float, wobble: float, flat: float = 1) -> Array:
        """Return closed wavy outlines, (n, 32, 2)."""
        n = len(centres)
        turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        k = np.array([[2], [3], [4]])
        phases = self.rng.uniform(0, 2 * np.pi, (n, 3, 1))
        waves = 1 + np.sum(self.rng.normal(0, wobble, (n, 3, 1)) / k * np.cos(k * turn + phases), axis=1)
        shapes = np.broadcast_to(radii, n)[:, None] * waves * np.exp(1j * turn)
        shapes = (shapes.real + 1j * flat * shapes.imag) * np.exp(1j * self.rng.uniform(0, np.pi, (n, 1)))
        return np.stack([shapes.real, shapes.imag], axis=-1) + centres[:, None]

    def curve(self, start: Array, angle: float, length: float, bend: float) -> Array:
        """Return a smooth random line from `start`, (n, 2), a point every two units."""
        n = max(4, round(length / 2))
        turns = np.cumsum(cv2.GaussianBlur(self.rng.normal(0, bend, (n, 1)), (1, 9), 0)[:, 0])
        return start + 2 * np.cumsum(np.stack([np.cos(angle + turns), np.sin(angle + turns)], axis=-1), axis=0)

    def lining(self, lines: Sequence[Array], cells: Cells) -> None:
        """Draw a row of nuclei along each line, their long axes across it."""
        rows = [_spaced(line, cells.spacing) for line in lines]
        if rows:
            points, angles = (np.concatenate(parts) for parts in zip(*rows, strict=True))
            self.nuclei(points + self.rng.normal(0, 0.12 * cells.spacing, points.shape), angles + np.pi / 2, cells)

    def glands(self, centres: Array, radii: Array | float, lumen: float, cells: Cells) -> None:
        """Draw rings of cells round open lumens, whose radius is `lumen` times the gland's."""
        middles, outlines = centres[:, None], self.outlines(centres, radii, 0.1)
        self.fill(outlines, CYTOPLASM)
        self.fill(middles + lumen * (outlines - middles), OPEN)
        rings = middles + (0.45 + 0.5 * lumen) * (outlines - middles)
        self.lining(list(np.concatenate([rings, rings[:, :1]], axis=1)), cells)


def adenosis(canvas: Canvas) -> None:
    """Small glands with open lumens, unlike in size, stroma between them."""
    centres = canvas.lattice(canvas.rng.uniform(28, 40), 0.5)
    canvas.glands(centres, canvas.rng.uniform(7, 16, len(centres)), canvas.rng.uniform(0.4, 0.65), canvas.cells)


def fibroadenoma(canvas: Canvas) -> None:
    """Much stroma with sparse spindle nuclei; compressed, slit-like ducts."""
    starts = canvas.lattice(80, 0.6)
    lines = [canvas.curve(start, canvas.rng.uniform(0, 6.3), canvas.rng.uniform(40, 110), 0.3) for start in starts]
    _ducts(canvas, lines, 1)


def phyllodes_tumor(canvas: Canvas) -> None:
    """Cellular stroma thrown into leaves by long, wide, open clefts."""
    starts, angle = canvas.lattice(100, 0.7), canvas.rng.uniform(0, 6.3)
    lines = [
        canvas.curve(start, angle + canvas.rng.normal(0, 0.7), canvas.rng.uniform(90, 190), 0.15) for start in starts
    ]
    _ducts(canvas, lines, canvas.rng.uniform(6, 13))


def tubular_adenoma(canvas: Canvas) -> None:
    """Small round tubules of one size, packed back to back."""
    radius = canvas.rng.uniform(8.5, 11)
    centres = canvas.lattice(2.2 * radius, 0.15)
    radii = radius * canvas.rng.uniform(0.85, 1.05, len(centres))
    canvas.glands(centres, radii, canvas.rng.uniform(0.2, 0.45), canvas.cells)


def ductal_carcinoma(canvas: Canvas) -> None:
    """Irregular solid nests and broad cords crowded with unlike nuclei."""
    nests = noise(canvas.rng, canvas.layers.shape, canvas.rng.uniform(16, 30) * canvas.unit)
    canvas.layers[canvas.lesion & (nests > canvas.rng.uniform(-0.5, 0.3))] = CYTOPLASM
    canvas.crowd(canvas.cells, 1.4, 0.5)


def lobular_carcinoma(canvas: Canvas) -> None:
    """Dark cells in single file through the fibres."""
    starts = canvas.lattice(canvas.rng.uniform(24, 36), 0.9)
    angles = canvas.angle + canvas.rng.normal(0, 0.35, len(starts))
    lines = [canvas.curve(*start, canvas.rng.uniform(20, 80), 0.1) for start in zip(starts, angles, strict=True)]
    canvas.stroke(lines, 6, CYTOPLASM)
    canvas.lining(lines, replace(canvas.cells, spacing=canvas.cells.spacing * 1.4))


def mucinous_carcinoma(canvas: Canvas) -> None:
    """Lakes of mucin between septa, clusters of cells afloat in them."""
    septa = np.abs(noise(canvas.rng, canvas.layers.shape, 50 * canvas.unit)) < canvas.rng.uniform(0.12, 0.3)
    canvas.layers[canvas.lesion & ~septa] = MUCIN
    centres = canvas.lattice(canvas.rng.uniform(36, 60), 0.6)
    centres = centres[canvas.at(centres, canvas.layers[..., 2]) > 128]
    radii = canvas.rng.uniform(7, 16, len(centres))
    canvas.fill(canvas.outlines(centres, radii, 0.25, canvas.rng.uniform(0.6, 1)), CYTOPLASM)
    canvas.crowd(canvas.cells, 1.2, 0.4)


def papillary_carcinoma(canvas: Canvas) -> None:
    """Branching fingers with a thin core of stroma, clad in crowded cells, in open space."""
    canvas.layers[canvas.lesion] = OPEN
    stems = [
        canvas.curve(start, canvas.rng.uniform(0, 6.3), canvas.rng.uniform(60, 110), 0.2)
        for start in canvas.lattice(64, 0.4)
    ]
    fingers = [
        canvas.curve(stem[at], canvas.rng.uniform(0, 6.3), canvas.rng.uniform(18, 40), 0.2)
        for stem in stems
        for at in range(6, len(stem), 12)
    ]
    lines = stems + fingers
    canvas.stroke(lines, 17, CYTOPLASM)
    canvas.lining([_beside(line, distance) for line in lines for distance in (-6, 6)], canvas.cells)
    canvas.stroke(lines, 4, STROMA)


def _ducts(canvas: Canvas, spines: list[Array], lumen: float) -> None:
    """Draw long ducts that taper and swell, cells on both sides; `lumen` is half the width of the opening."""
    for spine in spines:
        along = np.linspace(0, np.pi, len(spine))
        wave = 1 + 0.5 * np.sin(canvas.rng.uniform(1, 4) * 2 * along + canvas.rng.uniform(0, 6.3))
        width = lumen * np.sqrt(np.sin(along) + 0.05) * wave
        for extra, what in ((5, CYTOPLASM), (0, OPEN)):
            sides = _beside(spine, width + extra), _beside(spine, -width - extra)[::-1]
            canvas.fill(np.vstack(sides)[None], what)
        canvas.lining([_beside(spine, width + 2.5), _beside(spine, -width - 2.5)], canvas.cells)


def draw_stroma(canvas: Canvas) -> None:
    """Draw what any tissue shows: spindle nuclei along the fibres; here and there lymphocytes, fat, normal glands."""
    rng, lesion = canvas.rng, canvas.lesion
    canvas.lesion = np.ones_like(lesion)
    points = canvas.lattice(canvas.stroma.spacing, 0.9)
    canvas.nuclei(points, canvas.angle + rng.normal(0, 0.3, len(points)), canvas.stroma)
    for draw, chance in ((_lymphocytes, 0.2), (_fat, 0.2), (_normal_glands, 0.05)):
        if rng.random() < chance:
            canvas.lesion = noise(rng, lesion.shape, 50 * canvas.unit) > rng.uniform(0.3, 1)
            draw(canvas)
    canvas.lesion = lesion


def _lymphocytes(canvas: Canvas) -> None:
    canvas.nuclei(canvas.lattice(LYMPHOCYTE.spacing, 1), 0.0, LYMPHOCYTE)


def _fat(canvas: Canvas) -> None:
    centres = canvas.lattice(27, 0.2)
    canvas.fill(canvas.outlines(centres, canvas.rng.uniform(11, 13.5, len(centres)), 0.08), OPEN)


def _normal_glands(canvas: Canvas) -> None:
    centres = canvas.lattice(42, 0.4)
    canvas.glands(centres, canvas.rng.uniform(8, 15, len(centres)), 0.5, BENIGN)


def stain(canvas: Canvas, slide: np.random.Generator) -> NDArray[np.uint8]:
    """Turn what is where into light: stains absorb (Beer-Lambert), in the slide's own hues, strength and brightness."""
    rng, shape = canvas.rng, canvas.layers.shape
    stroma, cytoplasm, mucin, nuclei = cv2.split(canvas.layers.astype(np.float32) / 255)
    fibres = _fibres(canvas, float(slide.lognormal(0, 0.2)))
    grain = noise(rng, shape, 2.2 * canvas.unit)
    eosin = stroma * (0.42 + 0.13 * fibres) + cytoplasm * (0.42 + 0.08 * grain) + 0.08 * mucin + 0.25 * nuclei
    haematoxylin = stroma * 0.08 + cytoplasm * (0.2 + 0.06 * grain) + 0.12 * mucin + nuclei * (0.9 + 0.2 * grain)
    stains = np.stack([np.maximum(haematoxylin, 0.02), np.maximum(eosin, 0.02)], axis=-1)
    hues = np.array([HAEMATOXYLIN, EOSIN]) + slide.normal(0, 0.03, (2, 3))
    strength = slide.lognormal(0, [[0.1], [0.12]]) * rng.lognormal(0, 0.06, (2, 1))
    light = 250 * slide.uniform(0.85, 1) * (1 - np.abs(slide.normal(0, 0.03, 3))) * rng.uniform(0.95, 1)
    picture = light.astype(np.float32) * np.exp(-stains @ (hues * strength).astype(np.float32))
    picture *= 1 + 0.03 * noise(rng, shape, max(shape) / 2)[..., None]
    picture = cv2.GaussianBlur(picture, (0, 0), max(0.3, 0.5 * canvas.unit))
    picture += 2.5 * rng.standard_normal(picture.shape, np.float32)
    return np.clip(picture[..., ::-1], 0, 255).astype(np.uint8)


def noise(rng: np.random.Generator, shape: tuple[int, ...], cell: float) -> NDArray[np.float32]:
    """Return smooth noise, mean 0, (height, width), `cell` pixels a bump."""
    height, width = shape[:2]
    rows, columns = max(1, round(height / cell)), max(1, round(width / cell))
    grid = rng.standard_normal((rows + 1, columns + 1), np.float32)
    # The outer half of a border bump is flat: half a bump is cut off on each side.
    tall, wide = height // rows, width // columns
    bumps = cv2.resize(grid, (width + wide, height + tall), interpolation=cv2.INTER_CUBIC)
    return np.asarray(bumps[tall // 2 :, wide // 2 :][:height, :width], np.float32)


def _fibres(canvas: Canvas, coarse: float) -> NDArray[np.float32]:
    """Return wavy streaks along the canvas's angle, fine and broad ones, mean 0, (height, width)."""
    rng, (height, width) = canvas.rng, canvas.layers.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32) / np.float32(canvas.unit)
    cos, sin = math.cos(canvas.angle), math.sin(canvas.angle)
    along = x * cos + y * sin
    across = y * cos - x * sin + 4 * noise(rng, (height, width), 20 * canvas.unit)
    streaks = np.zeros((height, width), np.float32)
    for cell in (1.5 * coarse, 5 * coarse):
        grid = rng.standard_normal((512, 64), np.float32)  # repeats itself, beyond the width of an image
        streaks += cv2.remap(grid, along / (12 * cell), across / cell, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)
    return streaks


def _spaced(line: Array, spacing: float) -> tuple[Array, Array]:
    """Return points every `spacing` along a line and the line's angles there."""
    angles = _directions(line)
    along = np.concatenate([[0], np.cumsum(np.hypot(*(line[1:] - line[:-1]).T))])
    at = spacing * np.arange(0.5, along[-1] / spacing)
    points = np.stack([np.interp(at, along, line[:, axis]) for axis in (0, 1)], axis=-1)
    return points, angles[np.searchsorted(along, at) - 1]


def _beside(line: Array, distance: Array | float) -> Array:
    """Return the line shifted sideways."""
    angles = _directions(line)[[0, *range(len(line) - 1)]]
    return line + np.stack([-np.sin(angles), np.cos(angles)], axis=-1) * np.broadcast_to(distance, len(line))[:, None]


def _directions(line: Array) -> Array:
    """Return the angle of each step of a line."""
    steps = line[1:] - line[:-1]
    return np.arctan2(steps[:, 1], steps[:, 0])


def _fixed(points: Array) -> NDArray[np.int32]:
    """Return pixels as OpenCV's fixed-point numbers, sixteenths of a pixel."""
    return np.round(16 * points).astype(np.int32)
