"""How images look to us, in numbers such as focus, and to the network, as features: a row an image, for the report."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from biopsy.images.looks.measure import look_at
from biopsy.images.looks.record import WORDS
from biopsy.networks.answers import BATCH

MOST = 500  # images whose features are kept: enough for a map, and a set of any size costs no more
LEAST = 1e-6  # what has a smaller deviation is constant: of equal numbers it is not always 0
COMPONENTS = 50
LOOKS = tuple(name for name in WORDS if name not in ("width", "height"))

Read = Callable[[list[Path]], NDArray[np.uint8]]
Features = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def appearance_table(
    table: pd.DataFrame, needed: NDArray[np.bool_], read: Read, features: Features | None
) -> pd.DataFrame:
    """Measure images, and ask a network for their features.

    Parameters
    ----------
    table
        n rows with `image_id`, `part`, `file` and, if known, `case`.
    needed
        (n,) the images whose looks are wanted in any case; beside them, at most 500 evenly spaced ones are measured.
    read
        From files to pixels, (b, views, size, size, 3) uint8.
    features
        From pixels, float32, to (b, p); asked about the evenly spaced images only. None: there are no features.

    Returns
    -------
    pandas.DataFrame
        `image_id`, `part`, the numbers of `look_at`, and where there are features `f00`, `f01`, ...: the first 50
        principal components of the standardised features, and what `nearest_images` gives; NaN where an image has none.
    """
    mapped = np.zeros(len(table), bool)
    mapped[np.unique(np.linspace(0, len(table) - 1, min(MOST, len(table))).astype(int))] = True
    places = np.flatnonzero(mapped | needed)
    looks, found = [], []
    for start in tqdm(range(0, len(places), BATCH), "how images look", delay=2, unit="batch"):
        part = places[start : start + BATCH]
        pixels = read([table["file"].iloc[i] for i in part])
        looks += [look_at(views) for views in pixels]
        if features is not None and mapped[part].any():
            found.append(features(pixels[mapped[part]].astype(np.float32)))
    rows = table.iloc[places][["image_id", "part"]].reset_index(drop=True)
    rows = rows.join(pd.DataFrame(looks, columns=list(LOOKS)).round(4))
    if not found:
        return rows
    wide, known = np.concatenate(found), np.flatnonzero(mapped[places])
    placed, here = principal_components(wide), table.iloc[places[known]]
    names = [f"f{i:02d}" for i in range(placed.shape[1])]
    cases = here["case"].to_numpy(str) if "case" in here else np.full(len(here), "")
    nearest = nearest_images(wide, here["image_id"].to_numpy(str), cases)
    return rows.join(pd.DataFrame(placed, known, names)).join(nearest.set_index(known))


def nearest_images(features: NDArray[np.floating], ids: NDArray[np.str_], cases: NDArray[np.str_]) -> pd.DataFrame:
    """Find the image nearest to each by the angle between features as they are, which copies hardly change.

    Parameters
    ----------
    features
        (n, p).
    ids, cases
        (n,); an empty case is not known, and stands apart from all others.

    Returns
    -------
    pandas.DataFrame
        `nearest`, an image_id; `distance`, one minus the cosine; `elsewhere`, the distance of the nearest image of
        another case, NaN if there is no other case. All NaN if any feature is not finite.
    """
    if len(features) < 2 or not np.isfinite(features).all():
        return pd.DataFrame({"nearest": "", "distance": np.nan, "elsewhere": np.nan}, range(len(features)))
    from sklearn.metrics.pairwise import cosine_distances

    apart = cosine_distances(features.astype(np.float64))
    np.fill_diagonal(apart, np.inf)
    elsewhere = np.where((cases[:, None] == cases) & (cases != ""), np.inf, apart).min(1)
    distances = {"distance": apart.min(1), "elsewhere": np.where(np.isfinite(elsewhere), elsewhere, np.nan)}
    return pd.DataFrame({"nearest": ids[apart.argmin(1)], **distances}).round(6)


def principal_components(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Standardise features, (n, p), and return at most 50 first components, (n, k); constant features do not count."""
    wide = features.astype(np.float64)
    varied = wide[:, ~(wide.std(0) <= LEAST)]
    k = min(COMPONENTS, len(varied) - 1, varied.shape[1])
    if k < 2 or not np.isfinite(varied).all():
        return np.zeros((len(features), 2))
    from sklearn.decomposition import PCA  # two seconds, which readers of the table need not spend

    scaled = (varied - varied.mean(0)) / varied.std(0)
    return PCA(k, svd_solver="full").fit_transform(scaled).round(4)


def features_of(table: pd.DataFrame) -> NDArray[np.float64]:
    """Return the feature columns of a table, (n, k); k is 0 if it has none."""
    return table[[name for name in map(str, table) if name[:1] == "f" and name[1:].isdigit()]].to_numpy(float)
