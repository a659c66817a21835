"""Claim: on patients that it has not seen, the recommended preset beats a constant answer and stretched features.

    python benchmarks/honest.py <folder of BreakHis> <weights of MobileNetV2>      ten minutes of two cores
    python benchmarks/honest.py --repeats 1                                        quicker; folder from BIOPSY_REAL_DATA

Five folds of cases, `--repeats` times. Each image is answered by a model that saw no image of its case, and all
answers of a repeat make one figure. C is chosen inside the training folds. Shown: the mean over the
repeats, the mean of their 95 % intervals over cases (biopsy/evaluation/intervals.py), and the deviation over repeats.

    constant       the class with the most training images
    stretched      each image squeezed to a square; logistic regression on the last layer, every image counts the same
    block 13, last the recommended preset with a probe of that layer alone, without stain normalisation
    without parent without the probes of benign and malignant, and without stain normalisation
    plain          without stain normalisation
    recommended    +experiment=recommended: each fold is brought to the mean stain of its training images
    chosen         plain or recommended, in each fold what the inner folds of its training part find better

Images of equal pixels under two labels (slide 13412) are left out, as the pipeline does. Features are kept in
BIOPSY_CACHE: a second run takes seconds for them.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from biopsy.core.params import Params
from biopsy.evaluation.intervals import Interval, figure_intervals
from biopsy.evaluation.jackknife import leave_one_out
from biopsy.experiments.compose import compose
from biopsy.images.decode import hash_pixels, read_rgb
from biopsy.images.preparation.record import Preparation
from biopsy.images.prepare import prepare
from biopsy.images.stain import mean_of, measure, restain
from biopsy.images.stains.registry import NotNormalised
from biopsy.networks.backend import seed_everything
from biopsy.networks.build import build_model
from biopsy.networks.features import split_model
from biopsy.tables.labels.breakhis import TYPES, parse
from biopsy.training.inputs.image_features import image_features
from biopsy.training.inputs.loader import ImageStore
from biopsy.training.probe import grouped_folds
from biopsy.training.probe_layers import Features, fit_layers
from biopsy.training.probing import by_layer

FOLDS = 5
ROOT = Path(__file__).resolve().parents[1]
STRETCHED = [
    "resize.mode=stretch", "model.tiles=each", "model.features.layers=[last]", "model.probe.weights=image",
    "model.probe.parent=false",
]  # fmt: skip
PLAIN = "stain.method=none"
LAYERS = {"block 13": "block_13_expand_relu", "last": "last"}
SHOWN = ("macro_f1", "roc_auc")
PARENTS = np.repeat([0, 1], 4)  # benign or malignant, of each type
TASKS = {"binary": [1], "multiclass": [4, 5, 6, 7]}  # and their positive classes

Floats = NDArray[np.float64]
Answered = tuple[Floats, Floats]  # (n, classes) answers; by fold, the macro-F1 of the inner folds
Ints = NDArray[np.int_]


def read_table(folder: Path, max_pixels: int) -> tuple[list[Path], dict[str, Ints], NDArray[np.str_]]:
    """List the images, their classes by task, and their cases."""
    named = [(path, name) for path in sorted(folder.rglob("*.png")) if (name := parse(path.name))]
    labels: dict[str, set[str]] = {}
    hashes = [hash_pixels(read_rgb(path, max_pixels)) for path, _ in tqdm(named, "read", delay=2)]
    for (_, name), digest in zip(named, hashes, strict=True):
        labels.setdefault(digest, set()).add(name.subtype)
    kept = [pair for pair, digest in zip(named, hashes, strict=True) if len(labels[digest]) == 1]
    types = list(TYPES)
    targets = {
        "binary": np.array([int(name.label == "malignant") for _, name in kept]),
        "multiclass": np.array([types.index(name.subtype) for _, name in kept]),
    }
    return [path for path, _ in kept], targets, np.array([name.case for _, name in kept])


def stained(views: NDArray[np.uint8], method: str, learnt: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Bring all images to the mean stain of those that are learnt from."""
    found = []
    for image in views[learnt]:
        try:
            found.append(measure(image.reshape(-1, *image.shape[2:]), method))
        except NotNormalised:
            continue
    target = mean_of(found)
    return np.stack([restain(image, target)[0] for image in tqdm(views, method, delay=2)])


def features_of(files: list[Path], params: Params, title: str, draws: list[Ints]) -> list[list[Features]]:
    """Compute what the head of these parameters sees of each image, by layer; for each draw, a list by fold.

    Folds differ where the stain is normalised: to the mean of the images that are not in the fold.
    """
    seed_everything(0)
    preparation = Preparation(max_pixels=params.ingest.max_pixels, resize=params.resize)
    views = preparation.views if params.model.tiles == "mean" else 1
    model = build_model(params.model, preparation.size, 2, tiles=views)
    extractor, _ = split_model(model)
    prepared = np.stack([prepare(path, preparation) for path in tqdm(files, f"{title}: prepare", delay=2)])

    def seen(pixels: NDArray[np.uint8]) -> Features:
        store = ImageStore.whole(pixels)
        found = image_features(extractor, store if views > 1 else store.tiles(), title)
        return by_layer(model, params.model.features.layers, found)

    begun = time.perf_counter()
    if params.stain.method == "none":
        found = [[seen(prepared)] * FOLDS] * len(draws)
    else:
        method = params.stain.method
        found = [[seen(stained(prepared, method, folds != fold)) for fold in range(FOLDS)] for folds in draws]
    print(f"{title}: {len(files)} images of {preparation.views} squares, {time.perf_counter() - begun:.0f} s")
    return found


def constant(targets: Ints, classes: int, rows: int) -> Floats:
    """Answer with the most frequent class."""
    return np.tile(np.eye(classes)[np.bincount(targets).argmax()], (rows, 1))


def out_of_fold(
    by_fold: list[Features] | None, targets: Ints, cases: NDArray[np.str_], folds: Ints, params: Params
) -> Answered:
    """Answer each image by a model that saw none of its case; and give the score of each fold's inner folds."""
    classes = 2 if targets.max() < 2 else len(TYPES)
    found, inner = np.zeros((len(targets), classes)), np.zeros(FOLDS)
    for fold in range(FOLDS):
        inside, outside = folds != fold, folds == fold
        if by_fold is None:
            found[outside] = constant(targets[inside], classes, outside.sum())
        else:
            features = by_fold[fold]
            known = {layer: columns[inside] for layer, columns in features.items()}
            parents = None if classes == 2 else PARENTS
            probe = fit_layers(known, targets[inside], cases[inside], classes, params.model.probe, params.seed, parents)
            found[outside] = probe.probabilities(np.concatenate(list(features.values()), axis=1)[outside])
            inner[fold] = probe.figures().get("inner_macro_f1", 0.0)
    return found, inner


def better(one: Answered, other: Answered, folds: Ints) -> Floats:
    """Take each fold's answers from the one that did better in the inner folds of its training part."""
    take = (other[1] > one[1])[folds]
    return np.where(take[:, None], other[0], one[0])


def summary(repeats: list[Floats], targets: Ints, cases: NDArray[np.str_], positive: list[int]) -> str:
    """Write the figures of one row of the table."""
    cells = []
    for name in SHOWN:
        values = [leave_one_out(targets, given, cases, positive, 0.5)[1][name].estimate for given in repeats]
        spans = [figure_intervals(targets, given, cases, positive)[name] for given in repeats]
        shown = [span for span in spans if isinstance(span, Interval)]
        text = "too few cases" if len(shown) < len(spans) else (
            f"{np.mean([s.low for s in shown]):.2f} to {np.mean([s.high for s in shown]):.2f}"
        )  # fmt: skip
        spread = f"{np.std(values, ddof=1):.3f}" if len(values) > 1 else "-"
        cells.append(f"{np.mean(values):6.3f} {text:>13} {spread:>6}")
    return "   ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=os.environ.get("BIOPSY_REAL_DATA"), help="holds BreakHis's PNGs")
    parser.add_argument(
        "weights", nargs="?", default="imagenet", help="a .weights.h5; default: Keras's own, downloaded"
    )
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    if not chosen.folder:
        parser.error("name the folder of BreakHis, or set BIOPSY_REAL_DATA")
    weights = f"model.weights={chosen.weights}"
    recommended = compose("recommended", [weights], ROOT)
    others = {"stretched": STRETCHED} | {name: [f"model.features.layers=[{layer}]"] for name, layer in LAYERS.items()}
    others |= {"without parent": ["model.probe.parent=false"], "plain": []}
    models = {name: compose("recommended", [weights, PLAIN, *change], ROOT) for name, change in others.items()}
    models["recommended"] = recommended
    files, targets, cases = read_table(Path(chosen.folder), recommended.ingest.max_pixels)
    if not files:
        parser.error(f"{chosen.folder} holds no PNG that is named as BreakHis names them")
    draws = [grouped_folds(targets["multiclass"], cases, FOLDS, seed) for seed in range(chosen.repeats)]
    seen = {name: features_of(files, params, name, draws) for name, params in models.items()}
    print(f"\n{len(files)} images, {len(set(cases))} cases, {FOLDS} folds of cases, {chosen.repeats} times\n")
    print(f"{'':26}{'macro-F1':>8} {'interval':>11} {'sd':>6}   {'AUC':>6} {'interval':>13} {'sd':>6}")
    for task, positive in TASKS.items():
        given: dict[str, list[Answered]] = {}
        for name in ("constant", *models):
            if (task, name) == ("binary", "without parent"):  # the same as plain
                continue
            params = models.get(name, recommended)
            answers = [
                out_of_fold(seen[name][draw] if name in seen else None, targets[task], cases, folds, params)
                for draw, folds in enumerate(draws)
            ]
            given[name] = answers
            print(f"{task:11}{name:15}{summary([a for a, _ in answers], targets[task], cases, positive)}", flush=True)
        chosen_of = [
            better(one, other, folds)
            for one, other, folds in zip(given["plain"], given["recommended"], draws, strict=True)
        ]
        print(f"{task:11}{'chosen':15}{summary(chosen_of, targets[task], cases, positive)}", flush=True)


if __name__ == "__main__":
    main()
