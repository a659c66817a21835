"""Claim: docs/experiments.md and the line 'Measured' of each preset hold what this prints, one command for all.

    python benchmarks/experiments.py <folder of BreakHis> <weights of MobileNetV2> --page docs/experiments.md
    python benchmarks/experiments.py <folder> <weights> --only adopt flips       a part of it, printed

Each preset of conf/experiment/ that keeps the frozen MobileNetV2 is composed on `data=breakhis`, that is on the preset
`recommended`, and answers each image out of five folds of cases, `--repeats` times, and once out of five folds of
images. It is compared with its base on the same images; the interval is over cases (biopsy/evaluation/comparison.py).
Presets that change the images are compared with the probe, `plain` is the probe without stain normalisation. Presets
that change the training are compared with a linear head. Such heads train all their epochs at a constant rate on the
four other folds, since a few validation cases cannot say which epoch to keep. Augmented images are stored once: every
other epoch sees them, and the images themselves in the others. For the probe, each fold is brought to the mean stain
of its training images. For heads, whose images are stored once, it is the mean of all, which needs no label.

Half an hour on two idle cores; features and answers are kept in BIOPSY_CACHE. `--backbones` adds presets that train
the backbone or mix pixels, binary by case, once: each tile counts as an image, for five epochs at a constant rate. Two
hours more without a GPU.
"""

import argparse
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from backbones import restart, trained, variables_of
from experiments_page import LINEAR, PROBE, Answered, report
from honest import FOLDS, PARENTS, PLAIN, ROOT, Floats, Ints, features_of, read_table, stained
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from biopsy.core.errors import BiopsyError
from biopsy.core.files import atomic_file
from biopsy.core.layout import cache
from biopsy.core.params import Params
from biopsy.experiments.compose import compose
from biopsy.experiments.page import read_preset, write_head
from biopsy.images.preparation.record import Preparation
from biopsy.images.prepare import prepare
from biopsy.networks.backend import keras, seed_everything
from biopsy.networks.build import build_model
from biopsy.networks.feature_store import hash_arrays
from biopsy.networks.features import split_model
from biopsy.networks.temperature import both_classes
from biopsy.tables.labels.breakhis import TYPES, parse
from biopsy.tables.slides.extra_inputs import Category
from biopsy.training.averaging import AveragedWeights
from biopsy.training.fit import class_weights, compile_model
from biopsy.training.inputs.features import FeatureFeed, stored_features
from biopsy.training.inputs.feed import PixelFeed
from biopsy.training.inputs.image_features import image_features
from biopsy.training.inputs.loader import ImageStore, batches_of, encode_targets, training_items
from biopsy.training.probe import grouped_folds
from biopsy.training.probe_layers import EXTRA, Features, fit_layers

LONG = ("cutmix", "hybrid", "mednext")  # hours on two cores
EPOCHS = 5  # over all tiles, where the network itself runs in every epoch; as many steps as a head takes in 30
BATCH = 8  # images of six tiles
OF_TARGETS = ("class_balanced", "logit_adjusted")  # losses that the classes' frequencies are part of
STRETCHED = ["resize.mode=stretch", "model.tiles=each"]
FIXED = ["train.monitor=none", "train.early_stopping_patience=null"]  # of heads; and the rate, unless a preset sets it


@dataclass(frozen=True)
class Images:
    """The images, their classes by task, their cases, and who is tested together: the draws of folds by protocol."""

    files: list[Path]
    targets: dict[str, Ints]
    cases: NDArray[np.str_]
    folds: dict[str, list[Ints]]
    prepared: dict[str, NDArray[np.uint8]] = field(default_factory=dict)

    def of(self, params: Params) -> NDArray[np.uint8]:
        """Make what the network sees; kept, since most presets see the same."""
        key = f"{params.resize} {params.stain}"
        if key not in self.prepared:
            self.prepared.clear()
            preparation = Preparation(max_pixels=params.ingest.max_pixels, resize=params.resize)
            views = np.stack([prepare(file, preparation) for file in tqdm(self.files, "prepare", delay=2)])
            self.prepared[key] = (
                stained(views, params.stain.method, np.full(len(views), True))
                if params.stain.method != "none"
                else views
            )
        return self.prepared[key]


def features_for_heads(images: Images, params: Params, title: str) -> NDArray[np.float32]:
    """Compute (views, n, p) features: of the images, and where they are augmented, of one more view."""
    seed_everything(0)
    pixels = images.of(params)
    tiles = pixels.shape[1]
    pixels = pixels if tiles > 1 else pixels[:, 0]
    model = build_model(params.model.model_copy(update={"extra_inputs": []}), params.resize.size, 2, tiles=tiles)
    extractor, _ = split_model(model)
    found = [image_features(extractor, ImageStore.whole(pixels), title)]
    if params.augment.every:
        targets = images.targets["binary"]
        feed = PixelFeed(
            ImageStore.whole(pixels), training_items(targets, params.augment, "binary"), targets[:0], params, "binary",
            2, BATCH,
        )  # fmt: skip
        recipe = {
            "pixels": hash_arrays([pixels]), "extractor": extractor.to_json(), "seed": params.seed,
            "weights": hash_arrays(extractor.get_weights()), "augment": params.augment.every,
        }  # fmt: skip
        drawn = feed.train(range(1), shuffled=False)
        found.append(np.array(stored_features(extractor, drawn, BATCH, len(targets), recipe, f"{title}, augmented")))
    return np.stack(found)


def answer(params: Params, images: Images, task: str, folds: Ints, seen: list[Features]) -> Floats:
    """Answer each image by a probe that was fitted on the other folds; `seen` are the features, by fold."""
    targets = images.targets[task]
    found = np.zeros((len(targets), 2 if task == "binary" else len(TYPES)))
    for fold, features in enumerate(seen):
        known, asked = folds != fold, folds == fold
        if params.model.extra_inputs:
            told = [str(name.magnification) for file in images.files if (name := parse(file.name))]
            column = Category(name="magnification", categories=sorted(set(np.array(told)[known])))
            features = {**features, EXTRA: column.encode(told)}
        learnt = {layer: values[known] for layer, values in features.items()}
        parents = None if task == "binary" else PARENTS
        probe = fit_layers(
            learnt, targets[known], images.cases[known], found.shape[1], params.model.probe, params.seed, parents
        )
        found[asked] = probe.probabilities(np.concatenate(list(features.values()), axis=1)[asked])
    return found


def answer_with_heads(params: Params, images: Images, task: str, folds: Ints, seen: NDArray[np.float32]) -> Floats:
    """Answer each image by a head that was trained on the other folds; `seen` are (views, n, p) features."""
    targets = images.targets[task]
    found = np.zeros((len(targets), 2 if task == "binary" else len(TYPES)))
    heads = Heads(params, task, found.shape[1])
    for fold in range(FOLDS):
        known, asked = folds != fold, folds == fold
        found[asked] = heads.answers(targets[known], seen[:, known], seen[0, asked])
    return found


class Heads:
    """Trains one head after the other on stored features; the network is built once, and traced once if it can be."""

    def __init__(self, params: Params, task: str, classes: int) -> None:
        seed_everything(params.seed)
        self.params, self.task, self.classes = params, task, classes
        tiles = Preparation(max_pixels=1, resize=params.resize).views
        _, head = split_model(build_model(params.model, params.resize.size, classes, tiles=tiles))
        self.model, self.start = keras.models.clone_model(head), list[Any]()

    def answers(self, targets: Ints, known: NDArray[np.float32], asked: NDArray[np.float32]) -> Floats:
        """Train on (views, n, p) features for all epochs, from the same first weights each time, and answer."""
        train, model = self.params.train, self.model
        epochs, steps = train.epochs_of(self.task), batches_of(len(targets), train.batch)
        encoded, views = encode_targets(targets, self.classes), len(known)
        feed = FeatureFeed(
            np.concatenate(list(known)), encoded, asked, encoded[:0], views, train.batch, self.params.seed
        )  # fmt: skip
        if not self.start:
            compile_model(model, train, targets, epochs, steps)
            self.start = [np.array(variable) for variable in variables_of(model)]
        elif train.loss.name in OF_TARGETS or train.schedule.name == "cosine":
            restart(model, self.start)
            compile_model(model, train, targets, epochs, steps)
        else:
            restart(model, self.start)
        averaged, items = AveragedWeights(), training_items(targets, self.params.augment, self.task)
        model.fit(
            feed.train(range(epochs)), steps_per_epoch=steps, epochs=epochs, class_weight=class_weights(items, train),
            callbacks=[averaged] if train.ema else [], shuffle=False, verbose=0,
        )  # fmt: skip
        if train.ema:
            averaged.set_model(model)
            averaged.on_test_begin()
        return both_classes(np.asarray(model.predict_on_batch(asked), np.float64))


def section_of(params: Params) -> str:
    """Say in which of `SECTIONS` a preset stands: in the last if no features can be stored for a head."""
    if params.model.trainable != "none" or params.augment.mix.mixup > 0 or params.augment.mix.cutmix > 0:
        return "network"
    return "images" if params.model.head.kind == "probe" else "head"


def composed(weights: str, only: list[str], backbones: bool) -> tuple[dict[str, Params], dict[str, list[str]]]:
    """Compose the presets that can be compared; name the others by why not."""
    given = ["data=breakhis", f"model.weights={weights}"]
    constant = [*FIXED, "train.schedule.name=constant"]
    base = compose("recommended", given, ROOT)
    found = {PROBE: base, "stretched": compose("recommended", [*given, *STRETCHED], ROOT)}
    found["plain"] = compose("recommended", [*given, PLAIN], ROOT)
    found[LINEAR] = compose("recommended", [*given, "model.head.kind=dense", *constant], ROOT)
    left: dict[str, list[str]] = {}
    for path in sorted((ROOT / "conf/experiment").glob("*.yaml")):
        name = path.stem
        if name in found:
            continue
        try:
            params = compose(name, given, ROOT)
        except BiopsyError:
            left.setdefault("They need a table or a file", []).append(name)
            continue
        model = params.model
        if not only and params == base.model_copy(update={"experiment": params.experiment}):
            left.setdefault(f"Part of `{PROBE}`", []).append(name)
        elif only and name not in only:
            left.setdefault("For lack of time", []).append(name)
        elif section_of(params) == "network" and (not backbones or name in LONG):
            left.setdefault("They train on pixels, which takes hours without a GPU", []).append(name)
        elif section_of(params) == "network" and model.backbone in (base.model.backbone, "cnn"):
            squares = 6 if params.resize.mode == "tiles" else 1
            more = [*constant, "model.tiles=each", f"train.epochs={EPOCHS * 6 // squares}"]
            more += ["model.weights=none"] if model.backbone == "cnn" else []
            found[name] = compose(name, [*given, *more], ROOT)
            if name == "unfreeze_3":  # quick, for what is frozen runs once: a tenth of the learning rate too
                slower = f"train.learning_rate={found[name].train.learning_rate / 10}"
                found[f"{name}, rate / 10"] = compose(name, [*given, *more, slower], ROOT)
        elif (model.backbone, model.features, model.tiles) != (base.model.backbone, base.model.features, "mean"):
            left.setdefault("They take another network or layer", []).append(name)
        else:
            kept = "schedule" in " ".join(read_preset(path).changes)
            more = [] if section_of(params) == "images" else FIXED if kept else constant
            found[name] = compose(name, [*given, *more], ROOT)
    return found, left


def answers_of(images: Images, presets: dict[str, Params]) -> dict[str, dict[str, Floats]]:
    """Answer with each preset: (draws, n, classes) by '<task>-<protocol>'. Earlier answers are found in the cache."""
    given: dict[str, dict[str, Floats]] = {}
    held: tuple[str, Any] = "", None
    for name, params in tqdm(sorted(presets.items(), key=lambda item: features_key(item[1])), "presets"):
        draws = images.folds
        if section_of(params) == "network":  # it takes too long for more
            draws = {protocol: folds[:1] for protocol, folds in draws.items()}
        if held[0] != features_key(params):
            held = features_key(params), seen_by(images, params, name)
        for model in models_of(name, params):
            task, _, protocol = model.partition("-")
            answers = [
                answer_once(params, images, task, folds, seen, f"{name}, {model}")
                for folds, seen in zip(draws[protocol], held[1][protocol], strict=False)  # a network: one draw
            ]
            given.setdefault(name, {})[model] = np.stack(answers)
    return given


def seen_by(images: Images, params: Params, name: str) -> Any:
    """Compute what models see, by protocol and draw: of a probe its features by fold, for heads features, or pixels."""
    if section_of(params) != "images":
        seen = images.of(params) if section_of(params) == "network" else features_for_heads(images, params, name)
        return {protocol: [seen] * len(draws) for protocol, draws in images.folds.items()}
    draws = [folds for of_protocol in images.folds.values() for folds in of_protocol]
    found = iter(features_of(images.files, params, name, draws))
    return {protocol: [next(found) for _ in of_protocol] for protocol, of_protocol in images.folds.items()}


def answer_once(params: Params, images: Images, task: str, folds: Ints, seen: Any, title: str) -> Floats:
    """Answer with a preset for one draw of folds, or read what it answered before."""
    section = section_of(params)
    arrays = [values for fold in seen for values in fold.values()] if section == "images" else [seen]
    told = [params.model_dump_json(exclude={"experiment"}), task, hash_arrays([*arrays, folds])]
    path = cache("experiments") / f"{hashlib.sha256(' '.join(told).encode()).hexdigest()}.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        if section == "network":
            answers = trained(params, task, seen, images.targets[task], folds, title)
        else:
            answers = (answer if section == "images" else answer_with_heads)(params, images, task, folds, seen)
        with atomic_file(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, answers)
    found: Floats = np.load(path)
    return found


def models_of(name: str, params: Params) -> list[str]:
    """List '<task>-<protocol>' of what is measured: of a head, which takes longer, what the report could compare."""
    section = section_of(params)
    if section == "network":
        return ["binary-case"]
    if section == "images":
        return ["binary-case", "binary-image", "multiclass-case", "multiclass-image"]
    tried = name == LINEAR or read_preset(ROOT / f"conf/experiment/{name}.yaml").report
    return ["binary-case", *(["binary-image"] if tried else [])]


def features_key(params: Params) -> str:
    """Name what decides what a model sees."""
    kinds = f"{section_of(params)} {params.resize} {params.stain} {params.augment.every}"
    return f"{kinds} {params.model.tiles} {params.model.features}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=os.environ.get("BIOPSY_REAL_DATA"), help="holds BreakHis's PNGs")
    parser.add_argument("weights", nargs="?", default="imagenet", help="a .weights.h5; default: Keras's own")
    parser.add_argument("--repeats", type=int, default=3, help="draws of the folds of cases (default: 3)")
    parser.add_argument("--only", nargs="+", default=[], metavar="PRESET", help="these alone")
    parser.add_argument("--backbones", action="store_true", help="presets that train the backbone or mix pixels too")
    parser.add_argument("--page", type=Path, help="write the page here, and what was measured into the presets' heads")
    chosen = parser.parse_args()
    if not chosen.folder:
        parser.error("name the folder of BreakHis, or set BIOPSY_REAL_DATA")
    presets, left = composed(chosen.weights, chosen.only, chosen.backbones)
    files, targets, cases = read_table(Path(chosen.folder), presets[PROBE].ingest.max_pixels)
    by_case = [grouped_folds(targets["multiclass"], cases, FOLDS, draw) for draw in range(chosen.repeats)]
    by_image = np.zeros(len(files), int)
    drawn = StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(files, targets["multiclass"])
    for fold, (_, asked) in enumerate(drawn):
        by_image[asked] = fold
    images = Images(files, targets, cases, {"case": by_case, "image": [by_image]})
    answered = Answered(targets, cases, answers_of(images, presets))
    text, heads = report(answered, {name: section_of(params) for name, params in presets.items()}, left)
    print(text)
    if chosen.page:
        chosen.page.write_text(text, "utf-8")
        for name, measured in heads.items():
            if (preset := ROOT / f"conf/experiment/{name}.yaml").is_file():
                write_head(preset, measured)


if __name__ == "__main__":
    main()
