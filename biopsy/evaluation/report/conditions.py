"""Whether a model fails on images of one stain, or on blurred, dark or nearly empty ones."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from biopsy.evaluation.appearance import LEAST
from biopsy.evaluation.report.groups import by_group
from biopsy.evaluation.report.results import Result
from biopsy.images.looks.record import SHORT

QUALITY = ("focus", "tissue", "brightness")
STAIN = ("density", "red", "yellow")
THIRDS = ("low", "middle", "high")
CLUSTERS = 3
FEWEST = 20  # images, below which clusters and thirds are noise


def by_conditions(result: Result) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield a name and the rows of `by_group` for stain, focus, share of tissue and brightness of the test images.

    Nothing where the looks are not known, or of fewer than 20 images.
    """
    table, ids = result.appearance, result.test.rows["image_id"]
    if table is None or len(table) < FEWEST:
        return
    looks = table.assign(stain=stain_clusters(table)).drop_duplicates("image_id").set_index("image_id").reindex(ids)
    clusters = looks["stain"].fillna("")
    yield "stain", by_group(result.test, clusters.reset_index(drop=True))
    for name in QUALITY:
        yield SHORT[name], by_group(result.test, thirds(looks[name].reset_index(drop=True)))


def thirds(values: pd.Series) -> pd.Series:
    """Name the third of the known values that each lies in, with its ends; equal values stay together, NaN is ''."""
    known, names = values.dropna(), pd.Series("", values.index)
    if not len(known):
        return names
    place = np.searchsorted(np.unique(np.quantile(known, (1 / 3, 2 / 3))), values)
    present = np.unique(place[values.notna()])
    words = THIRDS if len(present) == len(THIRDS) else ("low", "high") if len(present) == 2 else ("all",)
    for i, word in zip(present, words, strict=True):
        chosen = (place == i) & values.notna()
        names[chosen] = f"{word}: {values[chosen].min():.3g} to {values[chosen].max():.3g}"
    return names


@threadpool_limits.wrap(limits=1)  # so few images cost ten times as much on two threads of a busy machine
def stain_clusters(table: pd.DataFrame) -> pd.Series:
    """Put images into at most three groups by k-means of the stain's strength and colour; '' where there is no tissue.

    The groups are numbered from the palest to the strongest and described by their medians.
    """
    known = table[list(STAIN)].dropna()
    names = pd.Series("", table.index)
    if len(known) < FEWEST or not ((spread := known.std()) > LEAST).all():
        return names
    clusters = min(CLUSTERS, len(known.drop_duplicates()))
    found = KMeans(clusters, n_init=10, random_state=0).fit_predict((known - known.mean()) / spread)
    medians = known.groupby(found).median().sort_values("density")
    for number, (cluster, at) in enumerate(medians.iterrows(), 1):
        about = f"strength {at['density']:.2f}, a* {at['red']:.0f}, b* {at['yellow']:.0f}"
        names[known.index[found == cluster]] = f"{number}: {about}"
    return names
