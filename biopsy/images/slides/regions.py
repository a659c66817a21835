"""Regions that people drew on a slide: GeoJSON as QuPath exports it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from biopsy.core.errors import DataError

LARGEST = 200 * 2**20  # bytes of a file


@dataclass(frozen=True)
class Region:
    """A polygon of one class: its outline and its holes, each (n, 2) float32 x and y in pixels at full resolution."""

    name: str
    rings: list[NDArray[np.float32]]

    def holds(self, x: float, y: float) -> bool:
        """Say whether a point lies inside, and in none of the holes."""
        inside = [cv2.pointPolygonTest(ring, (x, y), measureDist=False) >= 0 for ring in self.rings]
        return inside[0] and not any(inside[1:])


def class_at(regions: list[Region], x: float, y: float) -> str | None:
    """Return the class of the regions that hold a point; None if there is no region, or more than one class."""
    found = {region.name for region in regions if region.holds(x, y)}
    return found.pop() if len(found) == 1 else None


def read_regions(path: Path) -> list[Region]:
    """Read the polygons that have a class; points, lines and annotations without a class are passed over.

    Parameters
    ----------
    path
        A FeatureCollection, a list of features, or one; the class is `properties.classification.name`.

    Raises
    ------
    DataError
        It is too large, no JSON, or no GeoJSON.
    """
    if path.stat().st_size > LARGEST:
        raise DataError(f"{path} has more than {LARGEST >> 20} MB. Export the annotations of one slide alone.")
    try:
        content = json.loads(path.read_bytes())
        features = content.get("features", [content]) if isinstance(content, dict) else content
        return [region for feature in features for region in _regions(feature)]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise DataError(
            f"{path} is not a GeoJSON file of polygons. Export the annotations from QuPath again."
        ) from None


def _regions(feature: dict[str, Any]) -> list[Region]:
    given = (feature.get("properties") or {}).get("classification") or {}
    given = {"name": given} if isinstance(given, str) else given
    name = given.get("name") or ": ".join(given.get("names") or [])  # a derived class, as QuPath shows it
    polygons = _polygons(feature["geometry"])
    if not name:
        return []
    return [Region(str(name), [_ring(ring) for ring in polygon]) for polygon in polygons if polygon]


def _polygons(geometry: dict[str, Any] | None) -> list[Any]:
    """Return the polygons of a geometry, each a list of rings; an annotation may have no place."""
    if geometry is None:
        return []
    if geometry["type"] == "GeometryCollection":
        return [polygon for part in geometry["geometries"] for polygon in _polygons(part)]
    places = geometry.get("coordinates")
    return list({"Polygon": [places], "MultiPolygon": places}.get(geometry["type"]) or [])


def _ring(points: Any) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # it becomes infinite, which is rejected
        ring = np.asarray(points, np.float32)
    if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3 or not np.isfinite(ring).all():
        raise ValueError
    return ring
