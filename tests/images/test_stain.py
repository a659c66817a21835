"""Stain normalisation: tissue takes the target's stain, glass stays, and what cannot be normalised says why."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stained import EOSIN, HAEMATOXYLIN, tissue
from torchstain.numpy.normalizers import NumpyMacenkoNormalizer, NumpyReinhardNormalizer
from torchstain.numpy.utils import rgb2lab

from biopsy.images.decode import read_rgb
from biopsy.images.looks.tissue import tissue_weight
from biopsy.images.preparation.record import Stains
from biopsy.images.resize import resize_rgb
from biopsy.images.stain import mean_of, measure, normalise
from biopsy.images.stains.registry import METHODS, NotNormalised, Pixels, StainMethod, numbers


def lab(image: np.ndarray) -> np.ndarray:
    """Mean and deviation of L*, a*, b* of the tissue, as torchstain computes them."""
    found = rgb2lab(image[tissue_weight(image) == 1][:, None].astype(np.float32) / 255)[:, 0]
    found = (found - [0, 128, 128]) / [2.55, 1, 1]
    return np.concatenate([found.mean(0), found.std(0)])


def test_glass_is_told_from_tissue_whatever_its_tint() -> None:
    image = tissue()
    for glass in ((236, 240, 234), (205, 212, 204), (250, 243, 228), (255, 255, 255)):
        image[:19] = glass
        weight = tissue_weight(image)
        assert weight[:19].max() == 0
        assert weight[19:].min() > 0.9


def test_reinhard_brings_mean_and_deviation_of_the_tissue_to_the_target() -> None:
    target, other = tissue(1), tissue(2, strength=0.7, hue=0.06)
    assert np.abs(lab(other) - lab(target)).max() > 3
    changed = normalise(other, measure(target, "reinhard"))
    np.testing.assert_allclose(lab(changed), lab(target), atol=1.0)


def test_macenko_brings_stains_and_their_amounts_to_the_target() -> None:
    target, other = tissue(1), tissue(2, strength=0.7, hue=0.06)
    wanted, before = measure(target, "macenko"), measure(other, "macenko")
    after = measure(normalise(other, wanted), "macenko")
    np.testing.assert_allclose(after.directions, wanted.directions, atol=0.05)
    np.testing.assert_allclose(after.spreads, wanted.spreads, rtol=0.05)
    assert np.abs(np.subtract(before.spreads, wanted.spreads)).min() > 0.15


def test_macenko_finds_the_stains_that_an_image_was_drawn_with() -> None:
    found = np.array(measure(tissue(strength=1.8), "macenko").directions).reshape(2, 3)
    for stain, drawn in zip(found, (HAEMATOXYLIN, EOSIN), strict=True):
        assert stain @ drawn / np.linalg.norm(drawn) > 0.98


@pytest.mark.parametrize("method", METHODS)
def test_glass_stays_as_it_is_and_the_image_s_own_stain_changes_next_to_nothing(method: str) -> None:
    image = tissue()
    changed = normalise(image, measure(tissue(2, strength=0.6), method))
    np.testing.assert_array_equal(changed[:19], image[:19])
    assert np.abs(changed[19:].astype(int) - image[19:]).mean() > 5
    same = normalise(image, measure(image, method))
    assert np.abs(same.astype(int) - image).mean() < 3


@pytest.mark.parametrize(
    ("method", "reference"), [("macenko", NumpyMacenkoNormalizer), ("reinhard", NumpyReinhardNormalizer)]
)
def test_tissue_becomes_what_torchstain_makes_of_it(method: str, reference: Any) -> None:
    """It truncates to whole levels where we round, and measures each image twice."""
    image, other = (tissue(seed, strength)[20:] for seed, strength in ((1, 0.9), (2, 0.6)))
    assert tissue_weight(image).min() == 1
    theirs = reference()
    theirs.fit(other)
    wanted = theirs.normalize(image)
    wanted = wanted[0] if method == "macenko" else wanted
    ours = normalise(image, measure(other, method))
    np.testing.assert_allclose(ours, wanted, atol=1)


@pytest.mark.filterwarnings("error")
def test_stains_that_are_hard_to_separate_overflow_nothing() -> None:
    """Such as fluorescence, bright on black: levels of any kind appear, in amounts without a bound."""
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    near = np.array([[0.6, 0.6, 0.52], [0.6, 0.6, 0.56]])
    own = Stains(method="macenko", directions=numbers(near.ravel()), spreads=(0.1, 0.1))
    changed = METHODS["macenko"].apply(image, own, measure(tissue(), "macenko"))
    assert 0 <= changed.min() < changed.max() < 255.5  # rounded to a level afterwards


def test_a_stain_is_measured_on_a_part_of_many_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    image, seen = tissue(1), list[int]()
    whole, real = measure(image, "macenko"), METHODS["macenko"]

    def spy(pixels: Pixels) -> Stains:
        seen.append(len(pixels))
        return real.measure(pixels)

    monkeypatch.setitem(METHODS, "macenko", dataclasses.replace(real, measure=spy))
    monkeypatch.setattr("biopsy.images.stain.SAMPLE", 1000)
    sampled = measure(image, "macenko")
    assert 500 < seen[0] <= 1000
    np.testing.assert_allclose(sampled.directions, whole.directions, atol=0.05)
    np.testing.assert_allclose(sampled.spreads, whole.spreads, rtol=0.05)


def test_a_method_of_ones_own_need_not_measure_a_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that only shifts each channel ended in a traceback: max() of an empty sequence."""

    def measure_mean(pixels: Pixels) -> Stains:
        return Stains(method="shift", directions=numbers(pixels.reshape(-1, 3).mean(0)), spreads=())

    def shift(image: np.ndarray, own: Stains, target: Stains) -> np.ndarray:
        return (image + np.subtract(target.directions, own.directions)).clip(0, 255)

    monkeypatch.setitem(METHODS, "shift", StainMethod("shift", measure_mean, shift, "Mean of each channel."))
    target = mean_of([measure(tissue(seed, 0.6), "shift") for seed in (1, 2)])
    changed = measure(normalise(tissue(3), target), "shift")
    np.testing.assert_allclose(changed.directions, target.directions, atol=3)


def test_the_mean_over_images_is_the_mean_of_their_numbers_and_stains_keep_their_length() -> None:
    several = [measure(tissue(seed, strength), "reinhard") for seed, strength in enumerate((0.6, 0.8, 1.0))]
    mean = mean_of(several)
    assert mean.directions[0] == pytest.approx(np.mean([m.directions[0] for m in several]))
    assert mean.spreads[2] == pytest.approx(np.mean([m.spreads[2] for m in several]))
    stains = mean_of([measure(tissue(0), "macenko"), measure(tissue(1, hue=0.1), "macenko")])
    np.testing.assert_allclose(np.linalg.norm(np.reshape(stains.directions, (2, 3)), axis=1), 1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.full((64, 64, 3), 255, np.uint8), "no tissue"),
        (np.full((64, 64, 3), (214, 220, 212), np.uint8), "no tissue"),
        (np.full((64, 64, 3), (150, 80, 140), np.uint8), "no spread of colour|cannot be separated"),
        (np.zeros((64, 64, 3), np.uint8), "no spread of colour|cannot be separated"),
        (
            np.repeat(np.random.default_rng(0).integers(0, 200, (64, 64, 1), np.uint8), 3, 2),
            "no spread|cannot be separated",
        ),
    ],
    ids=["white", "grey glass", "one colour", "black", "grey"],
)
@pytest.mark.filterwarnings("error")
def test_an_image_without_a_stain_is_refused_with_a_reason(method: str, image: np.ndarray, reason: str) -> None:
    with pytest.raises(NotNormalised, match=reason):
        measure(image, method)
    with pytest.raises(NotNormalised, match=reason):
        normalise(image, measure(tissue(), method))


def test_a_contrast_that_would_have_to_be_enlarged_more_than_fourfold_is_not() -> None:
    image = tissue()
    own = measure(image, "reinhard")
    for gain in (3.9, 4.1):
        target = Stains(method="reinhard", directions=own.directions, spreads=(*own.spreads[:2], gain * own.spreads[2]))
        if gain < 4:
            normalise(image, target)
        else:
            with pytest.raises(NotNormalised, match="too faint"):
                normalise(image, target)


@pytest.mark.parametrize("method", METHODS)
def test_real_images_of_different_slides_come_closer_and_their_glass_stays(method: str, real_data: Path) -> None:
    slides = {path.name.split("-")[2]: path for path in sorted(real_data.rglob("*.png"))}
    images = [resize_rgb(read_rgb(path, 10**7), 128, "stretch") for path in list(slides.values())[::3]]
    target = mean_of([measure(image, method) for image in images])
    changed = [normalise(image, target) for image in images]
    before, after = (np.array([lab(i)[:3] for i in group]).std(0) for group in (images, changed))
    assert after.sum() < 0.6 * before.sum()
    for old, new in zip(images, changed, strict=True):
        glass = tissue_weight(old) == 0
        np.testing.assert_array_equal(new[glass], old[glass])
