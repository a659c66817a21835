"""Which layers a probe sees: all together, or the mean of one probe a layer, as one dense layer on all features."""

import numpy as np
import pytest

from biopsy.core.sections.model import Probe
from biopsy.networks.model_file import ProbeChoice
from biopsy.training.probe import FALLBACK, fit_probe
from biopsy.training.probe_layers import EXTRA, Part, fit_layers, refit_layers

CASES = np.repeat(np.arange(16), np.arange(16) % 3 + 1)
AVERAGED = Probe(C=[10.0, 100.0], layers="averaged")
WIDTHS = {"early": 16, "middle": 3, "late": 20}


def layers(targets: np.ndarray) -> dict[str, np.ndarray]:
    """Three layers that tell the classes, each with noise of its own by case."""
    rng = np.random.default_rng(1)
    return {
        name: rng.normal(size=(16, width))[CASES] + rng.normal(size=(len(CASES), width)) * 0.1 + targets[:, None]
        for name, width in WIDTHS.items()
    }


@pytest.mark.parametrize("classes", [2, 3])
def test_averaged_is_the_mean_of_the_logits_of_a_probe_of_each_layer(classes: int) -> None:
    targets = CASES % classes
    features = layers(targets)
    found = fit_layers(features, targets, CASES, classes, AVERAGED)
    single = {name: fit_probe(seen, targets, CASES, classes, AVERAGED) for name, seen in features.items()}
    logits = np.mean([np.log(one.probabilities(features[name])) for name, one in single.items()], axis=0)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    every = np.concatenate(list(features.values()), axis=1)
    np.testing.assert_allclose(found.probabilities(every), expected, atol=1e-9)
    assert [one.C for one in single.values()] == found.strengths()
    inner = [one.inner for one in single.values()]
    mean = np.mean([np.log(answers) for answers in inner if answers is not None], axis=0)
    assert found.inner is not None
    np.testing.assert_array_equal(found.inner.argmax(axis=1), mean.argmax(axis=1))
    np.testing.assert_allclose(np.diff(np.log(found.inner)), np.diff(mean), atol=1e-9)
    assert found.figures() == {f"C_{name}": one.C for name, one in single.items()} | {
        "inner_macro_f1": pytest.approx(np.mean([one.scores[one.C] for one in single.values()]))
    }


def test_averaging_holds_better_for_new_cases_than_the_mean_layer() -> None:
    """Sixty cases of three noisy layers, learnt from 16: the figures of one draw, far enough apart."""
    rng = np.random.default_rng(5)
    targets = np.arange(76) % 2
    features = {name: rng.normal(size=(76, 30)) + 0.25 * targets[:, None] for name in WIDTHS}
    known, asked = np.arange(16), np.arange(16, 76)
    found = fit_layers({k: v[known] for k, v in features.items()}, targets[known], known, 2, AVERAGED)

    def right(given: np.ndarray) -> float:
        return float((given.argmax(axis=1) == targets[asked]).mean())

    alone = [
        right(one.probabilities(features[name][asked])) for part, one in found.probes.items() for name in part.layers
    ]
    every = np.concatenate(list(features.values()), axis=1)
    assert right(found.probabilities(every[asked])) > np.mean(alone) + 0.03


@pytest.mark.parametrize("settings", [AVERAGED, Probe(C=[10.0, 100.0])])
@pytest.mark.parametrize("parents", [[0, 0, 1, 1], [0, 1, 2, 2]])
def test_the_logits_of_the_parent_classes_are_added(settings: Probe, parents: list[int]) -> None:
    targets, above = CASES % 4, np.array(parents)
    features = layers(targets)
    every = np.concatenate(list(features.values()), axis=1)
    settings = settings.model_copy(update={"parent": True})
    found = fit_layers(features, targets, CASES, 4, settings, 0, above)
    own = fit_layers(features, targets, CASES, 4, settings)
    parent = fit_layers(features, above[targets], CASES, max(parents) + 1, settings)

    def product(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        both = one * other[:, above]
        return np.asarray(both / both.sum(axis=1, keepdims=True))

    expected = product(own.probabilities(every), parent.probabilities(every))
    np.testing.assert_allclose(found.probabilities(every), expected, atol=1e-9)
    assert (found.strengths(), found.strengths(parent=True)) == (own.strengths(), parent.strengths())
    assert found.inner is not None
    assert own.inner is not None
    assert parent.inner is not None
    np.testing.assert_allclose(found.inner, product(own.inner, parent.inner), atol=1e-9)
    figures = found.figures()
    assert figures["inner_macro_f1"] == own.figures()["inner_macro_f1"]
    assert len([name for name in figures if name.endswith("_parent")]) == len(parent.strengths())
    again = refit_layers(features, targets, CASES, 4, settings, found)
    np.testing.assert_allclose(again.probabilities(every), expected, atol=1e-9)


def test_a_parent_task_that_says_nothing_is_left_out() -> None:
    targets, settings = CASES % 3, AVERAGED.model_copy(update={"parent": True})
    features = layers(targets)
    plain = fit_layers(features, targets, CASES, 3, AVERAGED).kernel
    one_parent = np.array([0, 0, 0, 1])  # the fourth class is not among these images
    np.testing.assert_array_equal(fit_layers(features, targets, CASES, 3, settings, 0, one_parent).kernel, plain)
    np.testing.assert_array_equal(fit_layers(features, targets, CASES, 3, settings).kernel, plain)
    np.testing.assert_array_equal(
        fit_layers(features, targets, CASES, 3, AVERAGED, 0, np.array([0, 0, 1])).kernel, plain
    )


def test_together_is_one_probe_and_what_is_beside_the_pixels_is_always_seen() -> None:
    targets = CASES % 2
    features = layers(targets)
    every = np.concatenate(list(features.values()), axis=1)
    together = fit_layers(features, targets, CASES, 2, Probe(C=[10.0]))
    np.testing.assert_array_equal(together.kernel, fit_probe(every, targets, CASES, 2, Probe(C=[10.0])).kernel)
    assert list(together.probes) == [Part(("early", "middle", "late"))]
    assert together.figures() == {"C": 10.0}
    assert together.inner is None
    beside = features | {EXTRA: np.eye(2)[targets]}
    found = fit_layers(beside, targets, CASES, 2, AVERAGED)
    assert [len(one.kernel) for one in found.probes.values()] == [width + 2 for width in WIDTHS.values()]
    np.testing.assert_allclose(found.kernel[-2:], np.mean([one.kernel[-2:] for one in found.probes.values()], axis=0))
    np.testing.assert_allclose(found.centre[-2:], [0.5, 0.5])  # classes weigh the same


@pytest.mark.parametrize("settings", [AVERAGED, Probe(C=[10.0, 100.0])])
def test_the_second_fit_keeps_each_c(settings: Probe) -> None:
    targets = CASES % 2
    features, rows = layers(targets), CASES < 12
    first = fit_layers({name: found[rows] for name, found in features.items()}, targets[rows], CASES[rows], 2, settings)
    again = refit_layers(features, targets, CASES, 2, settings, first)
    assert (list(again.probes), again.strengths()) == (list(first.probes), first.strengths())
    assert not np.array_equal(again.kernel, first.kernel)
    assert not any(one.scores for one in again.probes.values())


def test_too_few_cases_are_said_once() -> None:
    rows, targets = CASES < 4, CASES % 2
    few = {name: found[rows] for name, found in layers(targets).items()}
    found = fit_layers(few, targets[rows], CASES[rows], 2, AVERAGED)
    assert found.strengths() == [FALLBACK] * 3
    assert [note.split(":")[0] for note in found.notes] == ["C is 100, not chosen"]


def test_the_card_of_an_earlier_version_whose_c_is_a_number_is_read() -> None:
    assert ProbeChoice.model_validate({"layers": ["last"], "C": 10.0}).C == [10.0]
    for wrong in (0.0, "x", [10.0, float("nan")]):
        with pytest.raises(ValueError, match="C"):
            ProbeChoice.model_validate({"layers": ["last"], "C": wrong})
