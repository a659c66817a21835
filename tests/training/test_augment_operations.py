"""What single augmentations do to pixels, by numbers worked out by hand or from the papers."""

from collections import Counter

import numpy as np
import pytest

from biopsy.networks.backend import tf
from biopsy.training.augment import affine, medaugment, randaugment, tone
from biopsy.training.augment.erasing import erase, rectangle
from biopsy.training.augment.randaugment import RandAugment, rand_augment
from biopsy.training.augment.sharpness import neighbours, sharpen
from biopsy.training.augment.stain import STAINS, UNMIX, density_of, image_of, stain_jitter

SEEDS = [tf.constant([5, draw]) for draw in range(60)]


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (24, 24, 3)).astype(np.float32)


def amounts_of(image: np.ndarray) -> np.ndarray:
    """Haematoxylin, eosin and the rest, (pixels, 3)."""
    return density_of(tf.constant(image)).numpy() @ UNMIX


def test_stains_unmixed_and_mixed_again_give_the_image_back(image: np.ndarray) -> None:
    np.testing.assert_allclose(image_of(amounts_of(image) @ STAINS, image.shape), image, atol=0.01)


def test_stain_jitter_of_strength_0_changes_nothing(image: np.ndarray) -> None:
    np.testing.assert_allclose(stain_jitter(tf.constant(image), SEEDS[0], 0.0), image, atol=0.01)


def test_a_pixel_of_pure_haematoxylin_unmixes_to_haematoxylin_alone() -> None:
    pixel = (256 * 10 ** (-0.5 * STAINS[0]) - 1)[None, None]
    np.testing.assert_allclose(amounts_of(pixel), [[0.5, 0, 0]], atol=1e-5)


def test_stain_jitter_keeps_its_bounds_in_optical_density_and_leaves_glass_and_the_rest_alone() -> None:
    purple = image_of(np.array([[0.4, 0.2, 0.02]], np.float32) @ STAINS, (1, 1, 3))
    moved = np.array([amounts_of(stain_jitter(purple, seed, 0.1).numpy())[0] for seed in SEEDS])
    for stain, amount in ((0, 0.4), (1, 0.2)):
        low, high = amount * 0.9 - 0.1, amount * 1.1 + 0.1
        assert (
            low - 1e-4 <= moved[:, stain].min() < amount - 0.05 < amount + 0.05 < moved[:, stain].max() <= high + 1e-4
        )
    assert abs(np.corrcoef(moved[:, 0], moved[:, 1])[0, 1]) < 0.5  # each on its own
    np.testing.assert_allclose(moved[:, 2], 0.02, atol=1e-4)
    glass = np.full((2, 2, 3), 255, np.float32)
    np.testing.assert_allclose(stain_jitter(tf.constant(glass), SEEDS[0], 0.1), glass, atol=0.01)


def test_sharpness_is_pillows(image: np.ndarray) -> None:
    from PIL import Image, ImageEnhance

    pillow = ImageEnhance.Sharpness(Image.fromarray(image.astype(np.uint8)))
    for factor in (0.0, 0.5, 1.9):
        ours, theirs = sharpen(image, factor).numpy(), np.asarray(pillow.enhance(factor), float)
        assert np.abs(ours - theirs)[1:-1, 1:-1].max() <= 2  # theirs rounds twice, and leaves the border as it is


def test_tones_are_pillows(image: np.ndarray) -> None:
    from PIL import Image, ImageEnhance

    picture = Image.fromarray(image.astype(np.uint8))
    for ours, theirs in (
        (tone.brighten, ImageEnhance.Brightness), (tone.stretch_contrast, ImageEnhance.Contrast),
        (tone.saturate, ImageEnhance.Color),
    ):  # fmt: skip
        for factor in (0.7, 1.3):
            assert np.abs(ours(image, factor).numpy() - np.asarray(theirs(picture).enhance(factor), float)).max() <= 2


def test_warps_move_by_whole_pixels_exactly_and_mirror_what_they_uncover(image: np.ndarray) -> None:
    right = affine.translate_x(image, 2 / 24).numpy()
    np.testing.assert_allclose(right[:, 2:], image[:, :-2], atol=1e-3)
    np.testing.assert_allclose(right[:, :2], image[:, 1::-1], atol=1e-3)
    np.testing.assert_allclose(affine.translate_y(image, 3 / 24).numpy()[3:], image[:-3], atol=1e-3)
    np.testing.assert_allclose(affine.rotate(image, 90.0), np.rot90(image), atol=0.05)
    np.testing.assert_allclose(affine.scale(image, 1.0), image, atol=1e-3)
    row = np.arange(24, dtype=np.float32)[None, :, None] * np.ones((24, 1, 3), np.float32)
    slanted = affine.shear_x(row, 0.2).numpy()[:, 12, 0]
    np.testing.assert_allclose(slanted, 12 + 0.2 * (np.arange(24) - 11.5), atol=1e-3)
    np.testing.assert_allclose(affine.scale(row, 2.0)[12, :, 0], 11.5 + (np.arange(24) - 11.5) / 2, atol=1e-3)


def test_erasing_hides_a_rectangle_of_the_papers_size_under_the_mean_colour(image: np.ndarray) -> None:
    erased = 0
    for seed in SEEDS:
        top, left, bottom, right = rectangle(seed, 256).numpy().tolist()
        assert 0 <= top < bottom <= 256
        assert 0 <= left < right <= 256
        assert 0.019 < (bottom - top) * (right - left) / 256**2 < 0.405
        assert 0.28 < (bottom - top) / (right - left) < 3.5
        found = erase(tf.constant(image), seed, 0.5).numpy()
        hidden = np.any(found != image, axis=-1)
        erased += hidden.any()
        assert not hidden.any() or np.allclose(found[hidden], image.mean((0, 1)), atol=0.01)
    assert 20 < erased < 40  # half of 60


def test_randaugment_applies_exactly_n_different_operations_of_its_table(image: np.ndarray) -> None:
    names, seen = list(randaugment.TABLE), Counter()
    for n in (1, 3):
        for seed in SEEDS[:15]:
            chosen, signs = randaugment.plan(seed, n)
            assert len(set(chosen.numpy().tolist())) == n == len(signs)
            by_hand = tf.constant(image)
            for step in range(n):
                name = names[int(chosen[step])]
                seen[name] += 1
                by_hand = randaugment.apply(name, by_hand, signs[step], 30.0, tf.random.fold_in(seed, step))
            np.testing.assert_array_equal(rand_augment(tf.constant(image), seed, RandAugment(n=n, m=30)), by_hand)
    assert len(seen) > 8  # of 11, in 60 draws


def test_randaugment_of_magnitude_0_changes_nothing(image: np.ndarray) -> None:
    for seed in SEEDS[:5]:
        np.testing.assert_allclose(rand_augment(image, seed, RandAugment(n=11, m=0)), image, atol=0.02)


def test_medaugment_draws_the_branches_of_the_paper_and_keeps_a_fifth_as_it_is() -> None:
    plans = tf.vectorized_map(medaugment.plan, tf.constant([[7, i] for i in range(3000)])).numpy()
    branches = Counter()
    for slots in plans.tolist():
        used = [slot for slot in slots if slot != medaugment.IDENTITY]
        assert len(set(used)) == len(used)
        branches[sum(slot < 6 for slot in used), sum(slot >= 6 for slot in used)] += 1
    assert set(branches) == {(1, 2), (0, 3), (0, 2), (1, 1), (0, 0)}
    assert all(500 < count < 700 for count in branches.values())  # each 600, standard deviation 22
    assert set(np.unique(plans)) == set(range(15))  # 6 pixel and 8 spatial operations, and none
    assert len(set(plans[:, 0])) == 15  # in any order


@pytest.mark.parametrize("level", [1, 5])
def test_medaugments_pixel_operations_keep_the_papers_bounds(level: int) -> None:
    flat = np.full((8, 8, 3), 100, np.float32)
    factors = [float(medaugment.brightness(flat, seed, level)[0, 0, 0]) / 100 for seed in SEEDS]
    assert 1 - 0.04 * level <= min(factors) < 1 - 0.02 * level
    assert 1 + 0.02 * level < max(factors) <= 1 + 0.04 * level
    bits = {1: 7, 5: 4}[level]
    ramp = np.arange(256, dtype=np.float32).reshape(16, 16, 1).repeat(3, 2)
    assert len(np.unique(medaugment.posterize(ramp, SEEDS[0], level))) == 2**bits
    spread = [
        float(tf.math.reduce_std(medaugment.noise(np.full((64, 64, 3), 128, np.float32), s, level))) for s in SEEDS
    ]
    assert 0.95 * np.sqrt(2 * level) < min(spread) < max(spread) < 1.05 * np.sqrt(10 * level)
    point = np.zeros((17, 17, 3), np.float32)
    point[8, 8] = 64
    peaks = {round(float(medaugment.blur(point, seed, level)[8, 8, 0]), 3) for seed in SEEDS}
    assert peaks == {16.0, 9.0} | ({5.062} if level == 5 else set())  # 64 times (1/2)^2, (3/8)^2, (9/32)^2
    soft = np.full((9, 9, 3), 100, np.float32)
    soft[4, 4] = 101
    alphas = [(float(medaugment.sharpen(soft, seed, level)[4, 4, 0]) - 101) / 8 for seed in SEEDS]
    assert 0.04 * level - 1e-3 <= min(alphas) < max(alphas) <= 0.1 * level + 1e-3


def test_medaugments_spatial_operations_keep_the_papers_bounds() -> None:
    level, side = 5, 33
    x = np.arange(side, dtype=np.float32)[None, :, None] * np.ones((side, 1, 3), np.float32)
    y = x.transpose(1, 0, 2)
    shifts = [16 - float(medaugment.translate_x(x, seed, level)[16, 16, 0]) for seed in SEEDS]
    assert 0 <= min(shifts) < max(shifts) <= 0.02 * level * side
    shifts = [16 - float(medaugment.translate_y(y, seed, level)[16, 16, 0]) for seed in SEEDS]
    assert 0 <= min(shifts) < max(shifts) <= 0.02 * level * side
    for shear, ramp, place in ((medaugment.shear_x, x, (24, 16)), (medaugment.shear_y, y, (16, 24))):
        slopes = [(float(shear(ramp, seed, level)[(*place, 0)]) - 16) / 8 for seed in SEEDS]
        assert -1e-3 <= min(slopes) < max(slopes) <= np.tan(np.radians(2 * level)) + 1e-3
    sizes = [8 / (float(medaugment.scale(x, seed, level)[16, 24, 0]) - 16) for seed in SEEDS]
    assert 1 - 0.04 * level - 1e-3 <= min(sizes) < 1 < max(sizes) <= 1 + 0.04 * level + 1e-3
    angles = [np.degrees(np.arcsin((float(medaugment.rotate(x, s, level)[24, 16, 0]) - 16) / 8)) for s in SEEDS]
    assert -4 * level - 0.1 <= min(angles) < -2 * level < 2 * level < max(angles) <= 4 * level + 0.1
    np.testing.assert_array_equal(medaugment.flip_x(x, SEEDS[0], level), x[:, ::-1])
    np.testing.assert_array_equal(medaugment.flip_y(y, SEEDS[0], level), y[::-1])


def test_medaugment_applies_each_operation_with_a_chance_of_a_fifth_of_its_level(image: np.ndarray) -> None:
    strength = medaugment.MedAugment(level=1)
    apply = tf.function(lambda seed: medaugment.med_augment(tf.constant(image), seed, strength))
    kept = np.mean([np.array_equal(apply(tf.constant([9, i])), image) for i in range(600)])
    # A fifth is the original; branches of 3, 3, 2 and 2 operations stay whole with 0.8 to that power (0.661 in all).
    assert kept == pytest.approx(0.2 + 0.2 * (2 * 0.8**3 + 2 * 0.8**2), abs=0.06)


def test_neighbours_are_a_mean_that_mirrors_the_border() -> None:
    row = np.arange(4, dtype=np.float32)[None, :, None] * np.ones((4, 1, 3), np.float32)
    np.testing.assert_allclose(neighbours(row)[0, :, 0], [1 / 3, 1, 2, 8 / 3], atol=1e-5)
