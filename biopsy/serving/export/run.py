"""`biopsy export`: one ONNX file of a trained model, checked against Keras on real images before it is kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopsy.core.errors import BiopsyError, SourceError, UnsuitableModelError, warn
from biopsy.core.files import atomic_file
from biopsy.core.layout import EXPORTS, model_name
from biopsy.core.shards import images_in
from biopsy.images.preparation.record import images_of
from biopsy.networks.answers import images_at_once
from biopsy.networks.model_file import NOTICE, Card
from biopsy.serving.export.ensemble import Ensemble, join, open_models
from biopsy.serving.export.onnx_graph import convert, rename
from biopsy.serving.export.quantise import quantise
from biopsy.serving.model import Model
from biopsy.serving.onnx_file import INPUT, OUTPUT, Network, open_file
from biopsy.serving.onnx_metadata import seal
from biopsy.serving.similar import Kept, chunks, measure
from biopsy.serving.slides.scale import trained_scale
from biopsy.serving.training_images import packed

Ask = Callable[[NDArray[np.uint8]], NDArray[np.floating[Any]]]  # from images as a file takes them to probabilities
LARGEST_DIFFERENCE = 1e-4  # of a probability, between Keras and ONNX Runtime
LICENCE = "Apache-2.0"  # where nothing but this code has gone in: drawn images, no weights of others
UNKNOWN = "not set: whoever owns the images and the first weights decides"
IMAGES = 32  # on which they are compared


def export_model(
    models: Path | Sequence[Path],
    out: Path | None = None,
    root: Path = Path(),
    about: Mapping[str, Any] | None = None,
    kept: Kept = "names",
    int8: float | None = None,
) -> tuple[Path, float]:
    """Write a model, or several that answer together, as one ONNX file; equal models give equal bytes.

    Parameters
    ----------
    models
        A folder that holds `model.keras` and `model.json`, or the folders of folds that do; or several folders, whose
        models then answer together.
    out
        The file; None: `exports/<model_name>.onnx`, or `...-int8.onnx`.
    root
        The project, whose prepared images the two are compared on.
    about
        What the project knows of the model, which goes into the metadata: `figures`, the test figures, which an
        ensemble does not have; `revision`.
    kept
        What the file tells of the training images whose features it holds (`similar.measure`); not of an ensemble.
    int8
        Quantise it, and lose at most this of a validation figure (`quantise`); None: floats. Not of an ensemble.

    Returns
    -------
    path : Path
    difference : float
        The largest between a probability of Keras and of ONNX Runtime, at most 1e-4; before `int8`.

    Raises
    ------
    SourceError
        The model cannot be loaded, or gives other probabilities as ONNX.
    UnsuitableModelError
        It needs more than images, has folds that prepare images differently, or an operation that ONNX does not know.
    """
    named = [models] if isinstance(models, Path) else list(models)
    folder = named[0]
    out = out or root / EXPORTS / f"{model_name(folder)}{'' if int8 is None else '-int8'}.onnx"
    if out.suffix.lower() != ".onnx":
        raise SourceError(f"--out must end in .onnx. Got {out}.")
    if folder.suffix.lower() == ".onnx":
        raise SourceError(f"{folder} is exported already. Name a model's folder, such as models/binary-case.")
    model = open_models(named)
    card = model.card
    if card.terms:
        warn(card.terms)
    images, what = images_to_compare(root, card)
    if card.members and int8 is not None:
        raise UnsuitableModelError("int8 quantises one model, and an ensemble was named. Leave it out.")
    network, facts = _network(model), {**_metadata(card, about or {}), "learnt_from": packed(model.learnt)}
    if scale := trained_scale(folder, card):
        facts["scale"] = asdict(scale)
    with atomic_file(out) as temporary:
        temporary.write_bytes(seal(network, facts))
        exported = Network(out, *open_file(temporary))
        difference = parity(f"{folder} gives other probabilities as ONNX", exported, model, images)
        # Rounded up: the last digits differ between processors, and the file should not.
        limit = next(step for step in (1e-6, 1e-5, LARGEST_DIFFERENCE) if difference <= step)
        compared: dict[str, Any] = {"probabilities_differ_by_at_most": limit, "images": len(images), "of": what}
        if int8 is not None:
            network, facts["int8"], speed = quantise(network, card, folder, int8)
            exported = Network(out, network, {}, card)
            compared["of"] += ", before int8"
            facts["int8"]["test_figures_of_floats"], facts["figures"] = facts["figures"], None  # int8 is not tested
            print(
                f"int8: {speed:.1f} times as fast as floats, {facts['int8']['bytes']:,} bytes; "
                f"probabilities differ by up to {facts['int8']['probabilities_differ_by_at_most']:g}"
            )
        known = measure(exported, card, folder, kept)
        facts |= {"parity": compared, "similar": known and known.model_dump(mode="json")}
        temporary.write_bytes(seal(network, facts))
    return out, difference


def parity(fault: str, ask: Ask, model: Model | Ensemble, images: NDArray[np.uint8]) -> float:
    """Return the largest difference between the probabilities that `ask` gives, (n, classes), and those of Keras.

    Raises `SourceError`, which begins with `fault`, where it is more than 1e-4.
    """
    step = images_at_once(images.shape[1])
    parts = [images[start : start + step] for start in range(0, len(images), step)]
    difference = float(np.max([np.abs(ask(part) - model.probabilities(part)).max() for part in parts]))
    if not difference <= LARGEST_DIFFERENCE:  # NaN, too
        raise SourceError(
            f"{fault} (by up to {difference:.2g}; {LARGEST_DIFFERENCE:g} is allowed), so it was not written."
        )
    return difference


def images_to_compare(root: Path, card: Card) -> tuple[NDArray[np.uint8], str]:
    """Return images as the network sees them, (n, views, size, size, 3), and what they are.

    Raises `DataError` where a prepared image is broken.
    """
    views, size = card.preparation.views, card.preparation.size
    try:
        tree, preparation = images_of(root, card.protocol, card.fold)
        files = images_in(tree) if preparation == card.preparation else []
    except BiopsyError:  # no such tree
        files = []
    chosen = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, min(IMAGES, len(files))).astype(int))]
    if chosen:
        return np.concatenate(list(chunks(chosen, card))), "prepared images"
    warn(
        "there are no prepared images of this model's kind here, so ONNX and Keras are compared on synthetic "
        "ones, which proves less. Run `dvc repro` or `dvc pull data/resized` first."
    )
    rng = np.random.default_rng(0)
    shades = rng.uniform(0, 255, (IMAGES, views, 1, 1, 3)) + rng.normal(0, 30, (IMAGES, views, size, size, 3))
    return shades.clip(0, 255).astype(np.uint8), "drawn images"


def _metadata(card: Card, about: Mapping[str, Any]) -> dict[str, Any]:
    """Say what the card does in entries of their own, for people and programs that read no card."""
    own = card.synthetic and card.params.get("model", {}).get("weights") == "none"
    return {
        "card": card.model_dump(mode="json"),
        "classes": card.classes,
        "positives": list(card.labels[card.task].positive),
        "preparation": card.preparation.model_dump(mode="json"),
        "threshold": card.threshold,
        "temperature": card.temperature,
        "protocol": card.protocol,
        "calibration": card.calibration and card.calibration.model_dump(mode="json"),
        "data": card.data,
        "synthetic": card.synthetic,
        "licence": LICENCE if own else card.terms or UNKNOWN,
        "figures": None,
        **about,
        "notice": NOTICE,
    }


def _network(model: Model | Ensemble) -> bytes:
    """Convert a model, or join what its members are converted to."""
    if isinstance(model, Model):
        return convert(model.network, model.card)
    made = join([convert(member.network, member.card) for member in model.models])
    rename(made.graph, {INPUT, OUTPUT})
    made.graph.name, made.graph.doc_string = f"{model.card.task}-{model.card.protocol}", NOTICE
    return bytes(made.SerializeToString(deterministic=True))
