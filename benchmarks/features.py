"""Claim: on stored features, a head trains at least 10 times as fast as with its frozen backbone in every epoch.

    python benchmarks/features.py                    1,400 training images, about 10 minutes on two cores
    python benchmarks/features.py --images 300       fewer: what does not depend on the images weighs more

MobileNetV2 without its weights, which changes no time, on noise at 224 px, 20 epochs of batch 16. Three trainings in a
process, after one that warms up, each timed from the decoded images to the last epoch:

    every epoch    the backbone runs in each epoch, on newly drawn flips and turns
    first          it runs once over eight views, which are stored; then the head trains
    second         the stored features are found; the head trains

Before, the engine that computes features is measured beside TensorFlow: MobileNetV2 on images of six tiles.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from biopsy.core.params import Params, parse_params
from biopsy.core.sections.model import Head, Model
from biopsy.networks.answers import images_at_once
from biopsy.networks.backend import seed_everything
from biopsy.networks.build import build_model
from biopsy.networks.extractor import asker
from biopsy.networks.features import split_model
from biopsy.training.fit import fit
from biopsy.training.inputs.loader import ImageStore
from measure import Row, options, parse, peak_mb, ratio, rounds, tell

SIZE, EPOCHS, VIEWS = 224, 20, 8
HEAD = {"feature_norm": False, "units": 0, "dropout": 0.2, "unit_norm": False, "batch_norm": True}  # of conf/model/


def parameters(views: int | None, epochs: int) -> Params:
    params = parse_params(
        {
            "resize": {"size": SIZE},
            "augment": {"every": {"flip": True, "rot90": True}},
            "model": {"head": HEAD},
            "train": {"epochs": epochs, "batch": 16, "early_stopping_patience": None},
        }
    )
    frozen = {"backbone": "mobilenetv2", "weights": "none", "trainable": "none", "feature_views": views}
    return params.model_copy(update={"model": params.model.model_copy(update=frozen)})


def train(store: ImageStore, targets: np.ndarray, n_train: int, params: Params) -> float:
    seed_everything(0)
    model = build_model(params.model, SIZE, 2)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        fit(
            model, params, "binary", store, targets, n_train, title="benchmark",
            state_file=Path(folder, "state.npz"), fingerprint="", live_dir=Path(folder, "live"),
        )  # fmt: skip
        return time.perf_counter() - start


def engines(images: int) -> Row:
    """Compute the features of images of six tiles with our engine and with TensorFlow's, in turns."""
    head = Head(feature_norm=False, units=0)
    frozen = Model(backbone="mobilenetv2", weights="none", trainable="none", head=head)
    extractor, _ = split_model(build_model(frozen, SIZE, 2, tiles=6))
    batch = images_at_once(6)
    ask = asker(extractor, batch)
    pixels = np.random.default_rng(0).integers(0, 256, (batch, 6, SIZE, SIZE, 3)).astype(np.float32)
    if np.abs(ask(pixels) - extractor.predict_on_batch(pixels)).max() > 1e-4:
        raise SystemExit("the features differ")

    def rate(way: Callable[[Any], Any]) -> float:
        start = time.perf_counter()
        for _ in range(images // batch):
            way(pixels)
        return images // batch * batch / (time.perf_counter() - start)

    ways = {"ours": lambda: rate(ask), "TensorFlow": lambda: rate(extractor.predict_on_batch)}
    found = rounds(ways, 5)
    ours, other = (float(np.median(found[name])) for name in ways)
    times = ratio(found["ours"], found["TensorFlow"])
    return Row("tiled images", ours, "/s", "TensorFlow", other, times, ">=1", peak_mb())


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--images", type=int, default=1400, help="training images; a fifth as many validate")
    n = parse(parser, images=300).images
    tell(engines(60))
    rng = np.random.default_rng(0)
    store = ImageStore.whole(rng.integers(0, 256, (n + n // 5, SIZE, SIZE, 3), np.uint8))
    targets = rng.integers(0, 2, len(store))
    with tempfile.TemporaryDirectory() as cache:
        os.environ["BIOPSY_CACHE"] = cache
        train(store.part(slice(64)), targets[:64], 48, parameters(None, 1))
        each, first, second = (train(store, targets, n, parameters(views, EPOCHS)) for views in (None, VIEWS, VIEWS))
    print(f"\n{n} training images at {SIZE} px, {EPOCHS} epochs of batch 16")
    tell(Row("first training", first, "s", "each epoch", each, each / first, "", peak_mb()))
    tell(Row("second training", second, "s", "each epoch", each, each / second, ">=10", peak_mb()))


if __name__ == "__main__":
    main()
