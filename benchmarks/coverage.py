"""Claim: where an interval of a test figure is shown, it covers the figure over new cases in at least .93 of test sets.

    python benchmarks/coverage.py                  60 kinds of test set, 1,000 of each, about 10 minutes of one core
    python benchmarks/coverage.py --quick          100 of each, about 1 minute; standard error .02

Every test set is simulated: a case has a class, a number of images and an effect of its own on all its images, which
makes some cases harder than others; each image adds noise. The true figure is that of 16,000 cases from the same
process, weighted to the same mix of classes. Images per case: 20, or 2 to 120 (log-normal, as in BreakHis). Two
classes stand 1 : 2, eight as in BreakHis with at least one case each (6 cases: six of the classes). Models:

    weak           about .6 of the images right (two classes), .3 (eight)
    strong         about .9 and .8
    hard cases     about .9 and .75, but nearly all images of a case are right or wrong together

`-`: no interval, too few cases. `today` is what the percentile bootstrap over unstratified cases covers of macro-F1.
About four in ten of the figures are covered more often than .98, those of strong models and few cases above all: where
hardly a case is ever wrong, a valid interval seldom misses. The last lines are of the bands of ROC curves, and time
intervals and a comparison on 8,000 images.
"""

import argparse
import time
from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from biopsy.evaluation.comparison import paired_difference
from biopsy.evaluation.intervals import Interval, figure_intervals
from biopsy.evaluation.jackknife import FIGURES
from biopsy.evaluation.outcome import Undefined, make_outcome
from biopsy.evaluation.roc_band import THRESHOLDS, roc_band

Floats = NDArray[np.float64]
Ints = NDArray[np.int_]
Test = tuple[Ints, Floats, Ints]
CASES, UNITS, SIZES = (6, 9, 12, 20, 40), ("images", "cases"), ("equal", "unequal")
MODELS = ("weak", "strong", "hard cases")
CROWD = 16_000  # cases behind a true figure
EFFECTS = {  # skill, spread of the effect of a case, spread of images
    (2, "weak"): (0.35, 1.0, 1.0),
    (2, "strong"): (1.8, 0.9, 1.0),
    (2, "hard cases"): (2.2, 1.7, 0.5),
    (8, "weak"): (1.0, 1.0, 1.0),
    (8, "strong"): (3.4, 1.0, 1.0),
    (8, "hard cases"): (3.6, 1.6, 0.5),
}
POSITIVE = {2: [1], 8: [4, 5, 6, 7]}
SHARES = np.array([0.07, 0.12, 0.06, 0.08, 0.42, 0.07, 0.10, 0.08])
SHORT = {"accuracy": "acc", "macro_f1": "F1", "balanced_accuracy": "bal", "roc_auc": "AUC", "sensitivity": "sens",
         "specificity": "spec"}  # fmt: skip


def mix(cases: int, classes: int) -> Ints:
    """Give each class its number of cases."""
    if classes == 2:
        benign = round(cases / 3)
        return np.array([benign, cases - benign])
    counts = (np.arange(8) < cases).astype(int)
    while counts.sum() < cases:
        counts[(SHARES * cases - counts).argmax()] += 1
    return counts


def draw(truth: Ints, sizes: str, model: str, classes: int, random: np.random.Generator) -> tuple[Ints, Floats]:
    """Draw the images of cases: the case of each, and the model's probabilities."""
    n = len(truth)
    images = np.full(n, 20) if sizes == "equal" else np.exp(random.normal(2.5, 0.9, n)).clip(2, 120).astype(int)
    case = np.repeat(np.arange(n), images)
    skill, between, within = EFFECTS[classes, model]
    if classes == 2:
        score = (2 * truth[case] - 1) * skill + random.normal(0, between, n)[case] + random.normal(0, within, len(case))
        malignant = 1 / (1 + np.exp(-score))
        return case, np.stack([1 - malignant, malignant], 1)
    logits = skill * np.eye(8)[truth[case]] + random.normal(0, between, (n, 8))[case]
    logits += random.normal(0, within, logits.shape)
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return case, odds / odds.sum(1, keepdims=True)


def levels(truth: Ints, case: Ints, probabilities: Floats) -> Iterator[Test]:
    """Give the same test set by image and by case, with mean probabilities."""
    yield truth[case], probabilities, case
    images = np.bincount(case)[:, None]
    sums = np.stack([np.bincount(case, column) for column in probabilities.T], 1)
    yield truth, sums / images, np.arange(len(truth))


def population(test: Test, counts: Ints, per_class: int) -> dict[str, float]:
    """Compute the figures over very many cases, weighted to a mix of classes."""
    truth, probabilities, _ = test
    weight, positive = (counts / per_class)[truth], POSITIVE[len(counts)]
    chosen = (probabilities[:, 1] >= 0.5).astype(int) if len(counts) == 2 else probabilities.argmax(1)
    matrix = np.zeros((len(counts), len(counts)))
    np.add.at(matrix, (truth, chosen), weight)
    tested, hits = counts > 0, matrix.diagonal()
    ill, called = np.isin(truth, positive), probabilities[:, positive].sum(1) >= 0.5
    with np.errstate(invalid="ignore"):
        return {
            "accuracy": hits.sum() / matrix.sum(),
            "macro_f1": (2 * hits / (matrix.sum(0) + matrix.sum(1)))[tested].mean(),
            "balanced_accuracy": (hits / matrix.sum(1))[tested].mean(),
            "roc_auc": np.mean([_area(truth == c, probabilities[:, c], weight) for c in _curves(counts)]),
            "sensitivity": (weight * ill * called).sum() / (weight * ill).sum(),
            "specificity": (weight * ~ill * ~called).sum() / (weight * ~ill).sum(),
        }


def _curves(counts: Ints) -> list[int]:
    return [1] if len(counts) == 2 else np.flatnonzero(counts).tolist()


def _area(positive: NDArray[np.bool_], score: Floats, weight: Floats) -> float:
    order = score.argsort()
    ours, theirs = (weight * positive)[order], (weight * ~positive)[order]
    return float((ours * theirs.cumsum()).sum() / (ours.sum() * theirs.sum()))


def percentile(test: Test, classes: int, random: np.random.Generator, draws: int = 300) -> tuple[float, float]:
    """Compute the interval of macro-F1 as it was: unstratified cases, averaged over the classes of each draw."""
    truth, probabilities, case = test
    chosen = (probabilities[:, 1] >= 0.5).astype(int) if classes == 2 else probabilities.argmax(1)
    n = case.max() + 1
    confusion = np.bincount((case * classes + truth) * classes + chosen, minlength=n * classes**2)
    drawn = random.multinomial(n, np.full(n, 1 / n), draws) @ confusion.reshape(n, -1)
    matrices = drawn.reshape(draws, classes, classes)
    with np.errstate(invalid="ignore"):
        f1 = 2 * np.diagonal(matrices, axis1=1, axis2=2) / (matrices.sum(1) + matrices.sum(2))
    low, high = np.percentile(np.nanmean(np.where(matrices.sum(2) > 0, f1, np.nan), 1), [2.5, 97.5])
    return float(low), float(high)


def measure(cases: int, kind: tuple[int, str, str], truths: list[dict[str, float]], repeats: int) -> list[list[float]]:
    """Return what is covered at each level: every figure, NaN where none is shown; then today's; then mean width."""
    classes, sizes, model = kind
    random = np.random.default_rng([cases, classes, SIZES.index(sizes), MODELS.index(model)])
    truth = np.repeat(np.arange(classes), mix(cases, classes))
    seen = np.zeros((repeats, 2, len(FIGURES) + 2))
    for row in seen:
        sets = levels(truth, *draw(truth, sizes, model, classes, random))
        for level, (test, true) in enumerate(zip(sets, truths, strict=True)):
            found = figure_intervals(*test, POSITIVE[classes])
            shown = [found[name] for name in FIGURES]
            row[level, :-2] = [_covers(i, true[name]) for i, name in zip(shown, FIGURES, strict=True)]
            low, high = percentile(test, classes, random)
            row[level, -2] = low <= true["macro_f1"] <= high
            widths = [i.high - i.low for i in shown if isinstance(i, Interval)]
            row[level, -1] = np.mean(widths) if widths else np.nan
    return seen.mean(0).tolist()


def band(cases: int, repeats: int) -> None:
    """Print how often an ROC curve's band holds the true sensitivity, over its thresholds and at the worst of them."""
    covered = []
    for sizes, model in product(SIZES, MODELS):
        many, random = np.repeat(np.arange(2), CROWD // 2), np.random.default_rng(cases)
        case, crowd = draw(many, sizes, model, 2, np.random.default_rng(0))
        positive, truth = np.sort(crowd[many[case] == 1, 1]), np.repeat(np.arange(2), mix(cases, 2))
        held = np.zeros(THRESHOLDS)
        for _ in range(repeats):
            of, probabilities = draw(truth, sizes, model, 2, random)
            outcome = make_outcome(truth[of], probabilities, ["benign", "malignant"], 0.5, [])
            found = roc_band(outcome, of.astype(str))
            if isinstance(found, Undefined):
                print(f"ROC band, {cases} cases: none ({found.reason})")
                return
            true = 1 - np.searchsorted(positive, found["threshold"]) / len(positive)
            held += (found["low"] <= true) & (true <= found["high"])
        covered.append(held / repeats)
    means = np.mean(covered, 1)
    print(f"ROC band, {cases} cases: {show(means.min())}-{show(means.max())} of the thresholds of a curve,", end=" ")
    print(f"at the worst of {THRESHOLDS} places {show(np.min(covered))}", flush=True)


def _covers(found: object, true: float) -> float:
    return float(found.low <= true <= found.high) if isinstance(found, Interval) else float("nan")


def show(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}".lstrip("0")


def speed() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 8, 82)
    case = np.arange(8000) % 82
    one, other = random.dirichlet(np.ones(8), (2, 8000))
    start = time.perf_counter()
    figure_intervals(truth[case], one, case, POSITIVE[8])
    middle = time.perf_counter()
    paired_difference(truth[case], one, other, case, POSITIVE[8])
    end = time.perf_counter()
    print(
        f"\n8,000 images of 82 cases, eight classes: intervals {middle - start:.2f} s, comparison {end - middle:.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 test sets of each kind instead of 1,000")
    parser.add_argument("--repeats", type=int, help="test sets of each kind")
    parser.add_argument("--classes", type=int, choices=(2, 8), nargs="+", default=[2, 8])
    given = parser.parse_args()
    repeats = given.repeats or (100 if given.quick else 1000)
    columns = [*SHORT.values(), "today (F1)", "width"]
    print("| rows | cases | classes | images per case | model | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 5) + "|")
    shown: list[list[list[float]]] = []
    for classes, sizes, model in product(given.classes, SIZES, MODELS):
        per_class = CROWD // classes
        many = np.repeat(np.arange(classes), per_class)
        crowd = list(levels(many, *draw(many, sizes, model, classes, np.random.default_rng(0))))
        for cases in CASES:
            truths = [population(test, mix(cases, classes), per_class) for test in crowd]
            values = measure(cases, (classes, sizes, model), truths, repeats)
            shown.append(values)
            for unit, row in zip(UNITS, values, strict=True):
                cells = [unit, str(cases), str(classes), sizes, model, *map(show, row)]
                print("| " + " | ".join(cells) + " |", flush=True)
    for unit, row in zip(UNITS, np.moveaxis(np.array(shown)[:, :, : len(FIGURES)], 1, 0), strict=True):
        covered = row[~np.isnan(row)]
        within = ((covered >= 0.93) & (covered <= 0.98)).mean()
        print(f"\n{unit}: {len(covered)} shown, {repeats} test sets each: lowest {show(covered.min())},", end=" ")
        print(f"{(covered < 0.93).sum()} below .93, {within:.0%} in .93-.98, {(covered > 0.98).mean():.0%} above")
    for cases in CASES:
        band(cases, repeats // 5)
    speed()


if __name__ == "__main__":
    main()
