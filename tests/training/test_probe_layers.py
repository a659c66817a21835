"""Which layers a probe sees: chosen on cases that the inner fits did not see, as one dense layer on all features."""

from typing import Any

import numpy as np
import pytest

from biopsy.core.errors import ParamsError
from biopsy.core.params import parse_params
from biopsy.core.sections.model import Probe
from biopsy.training import probe
from biopsy.training.probe import fit_probe, grouped_folds
from biopsy.training.probe_layers import EXTRA, fit_layers, refit_layers

CASES = np.repeat(np.arange(16), np.arange(16) % 3 + 1)
TARGETS = CASES % 2
CHOSEN = Probe(C=[10.0, 100.0], layers="chosen")


def layers(planted: str) -> dict[str, np.ndarray]:
    """Three layers of which one tells the classes; the others know the case alone, which looks as good in training."""
    rng = np.random.default_rng(1)
    found: dict[str, np.ndarray] = {}
    for name, width in (("early", 16), ("middle", 3), ("late", 20)):
        noise = rng.normal(size=(16, width))[CASES] + rng.normal(size=(len(CASES), width)) * 0.1
        found[name] = noise + 4 * TARGETS[:, None] if name == planted else noise
    return found


@pytest.mark.parametrize("planted", ["early", "middle", "late"])
def test_the_layer_that_holds_for_new_cases_is_chosen_and_the_others_weigh_nothing(planted: str) -> None:
    features = layers(planted)
    found = fit_layers(features, TARGETS, CASES, 2, CHOSEN)
    assert found.layers == (planted,)
    alone = fit_probe(features[planted], TARGETS, CASES, 2, CHOSEN)
    every = np.concatenate(list(features.values()), axis=1)
    np.testing.assert_allclose(found.probabilities(every), alone.probabilities(features[planted]), atol=1e-9)
    assert (found.C, found.scores) == (alone.C, alone.scores)
    assert np.count_nonzero(found.kernel) == features[planted].shape[1]


def test_layers_that_need_each_other_are_taken_together() -> None:
    rng = np.random.default_rng(0)
    told = (2 * TARGETS - 1)[:, None]  # the first layer tells half of the cases, the second the other half
    features = {"one": told * (CASES < 8)[:, None], "other": told * (CASES >= 8)[:, None]}
    features["third"] = rng.normal(size=(16, 1))[CASES] * 0.01
    assert fit_layers(features, TARGETS, CASES, 2, CHOSEN).layers == ("one", "other", "third")


def test_the_choice_sees_no_image_beyond_the_training_rows_and_scores_no_case_that_an_inner_fit_saw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[int, float]] = []
    regress = probe.regress

    def spy(known: np.ndarray, targets: np.ndarray, weights: np.ndarray, *rest: Any) -> Any:
        seen.append((len(known), round(float(weights.sum()), 6)))  # the number of cases
        return regress(known, targets, weights, *rest)

    monkeypatch.setattr(probe, "regress", spy)
    fit_layers(layers("late"), TARGETS, CASES, 2, CHOSEN)
    folds = grouped_folds(TARGETS, CASES, 5, 0)
    inner = [(int((folds != fold).sum()), len(set(CASES[folds != fold]))) for fold in range(5) for _ in CHOSEN.C]
    assert seen == [*inner, (len(CASES), 16)] * 4


def test_a_fixed_c_and_together_stay_as_they_were_and_what_is_beside_the_pixels_is_always_seen() -> None:
    features = layers("late")
    every = np.concatenate(list(features.values()), axis=1)
    together = fit_layers(features, TARGETS, CASES, 2, Probe(C=[10.0]))
    np.testing.assert_array_equal(together.kernel, fit_probe(every, TARGETS, CASES, 2, Probe(C=[10.0])).kernel)
    beside = features | {EXTRA: np.eye(2)[TARGETS]}
    one = fit_layers(beside, TARGETS, CASES, 2, Probe(C=[10.0], layers="chosen"))
    assert len(one.layers) == 1
    assert one.kernel[-2:].all()
    assert one.scores  # one C is no choice, and layers are one


def test_the_second_fit_keeps_layers_and_c() -> None:
    features = layers("middle")
    rows = CASES < 12
    first = fit_layers({name: found[rows] for name, found in features.items()}, TARGETS[rows], CASES[rows], 2, CHOSEN)
    again = refit_layers(features, TARGETS, CASES, 2, CHOSEN, first)
    assert (again.layers, again.C) == (("middle",), first.C)
    assert np.count_nonzero(again.kernel) == 3
    assert not np.array_equal(again.kernel, first.kernel)


def test_too_few_cases_take_all_layers_and_say_so() -> None:
    rows = CASES < 4
    few = {name: found[rows] for name, found in layers("late").items()}
    found = fit_layers(few, TARGETS[rows], CASES[rows], 2, CHOSEN)
    assert found.layers == ("early", "middle", "late")
    assert "layers are taken together, not chosen: 4 cases in training are fewer" in found.notes[0]
    assert "inner folds chose" not in " ".join(found.notes)


def test_a_choice_of_one_layer_is_one_sentence() -> None:
    head = {"kind": "probe", "feature_norm": False, "units": 0, "unit_norm": False, "batch_norm": False}
    model = {"weights": "a.h5", "trainable": "none", "head": head, "probe": {"layers": "chosen"}}
    with pytest.raises(ParamsError, match=r"names one layer alone\. Name several, or set model\.probe\.layers to"):
        parse_params({"model": model})
