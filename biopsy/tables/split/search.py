"""Assign whole groups to parts, stratified as well as the groups allow.

The best of several seeded random assignments, each improved by moving one group or swapping two until nothing helps.
"""

import numpy as np
from numpy.typing import NDArray

STARTS = 24
MAX_SWAPS = 4_000  # tried per step; all of them for up to some 85 groups

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def assign_groups(counts: Floats, shares: Floats, seed: int, fixed: Ints | None = None) -> Ints:
    """Assign each group to one part.

    Parameters
    ----------
    counts : array of shape (groups, classes)
        Images of each class in each group; every class has at least one.
    shares : array of shape (parts,)
        The wanted sizes, summing to 1, the most important part first.
    seed
        Of the random starts.
    fixed : array of shape (groups,)
        The part that a group keeps; -1 where it is assigned. None: all are assigned.

    Returns
    -------
    int array of shape (groups,)
        Index into `shares`: the tried assignment with the lowest `penalty`.
    """
    rng = np.random.default_rng(seed)
    fixed = np.full(len(counts), -1) if fixed is None else fixed
    best, least = np.zeros(len(counts), np.int64), np.inf
    for _ in range(STARTS):
        parts = rng.choice(len(shares), size=len(counts), p=shares / shares.sum())
        parts = np.where(fixed < 0, parts, fixed)
        parts, cost = _improve(parts, counts, shares, rng, np.flatnonzero(fixed < 0))
        if cost < least - 1e-12:
            best, least = parts, cost
    return best


def penalty(sizes: Floats, shares: Floats) -> Floats:
    """Judge assignments: first what is missing, in order of importance, then how far the shares are off.

    Parameters
    ----------
    sizes : array of shape (assignments, parts, classes)
        Images of each class in each part.
    shares : array of shape (parts,)

    Returns
    -------
    array of shape (assignments,)
        Lexicographic, as one number: classes missing in the first part; empty parts; classes missing in the second
        part; in the third; then, summed over the parts, |share - wanted| of all images plus its mean over classes.
    """
    classes = sizes.shape[2]
    missing = (sizes == 0).sum(axis=2)
    ranks = np.column_stack([missing[:, 0], (sizes.sum(axis=2) == 0).sum(axis=1), missing[:, 1:]])
    weights = float(10 * (classes + len(shares))) ** np.arange(ranks.shape[1], 0, -1)
    wanted = shares[None, :, None]
    per_class = np.abs(sizes / sizes.sum(axis=1, keepdims=True) - wanted).sum(axis=1).mean(axis=1)
    total = np.abs(sizes.sum(axis=2) / sizes.sum(axis=(1, 2))[:, None] - shares).sum(axis=1)
    return np.asarray(ranks @ weights + per_class + total)


def _improve(parts: Ints, counts: Floats, shares: Floats, rng: np.random.Generator, free: Ints) -> tuple[Ints, float]:
    """Take the best swap of `free` groups again and again until none lowers the penalty.

    One empty dummy group per part makes a move of one group a swap with a dummy.
    """
    groups = len(counts)
    movable = np.append(free, np.arange(groups, groups + len(shares)))
    counts = np.vstack([counts, np.zeros((len(shares), counts.shape[1]))])
    where = np.append(parts, np.arange(len(shares)))
    sizes = np.stack([counts[where == part].sum(axis=0) for part in range(len(shares))])
    cost = float(penalty(sizes[None], shares)[0])
    while True:
        left, right = (movable[places] for places in _pairs(len(free), len(shares), rng))
        differ = where[left] != where[right]
        left, right = left[differ], right[differ]
        if not len(left):
            return where[:groups], cost
        trial = np.repeat(sizes[None], len(left), axis=0)
        rows, change = np.arange(len(left)), counts[right] - counts[left]
        trial[rows, where[left]] += change
        trial[rows, where[right]] -= change
        costs = penalty(trial, shares)
        best = int(costs.argmin())
        if costs[best] >= cost - 1e-9:
            return where[:groups], cost
        one, other = left[best], right[best]
        where[one], where[other] = where[other], where[one] if other < groups else where[other]
        sizes, cost = trial[best], float(costs[best])


def _pairs(groups: int, dummies: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """List all pairs of a group with a later group or a dummy, or `MAX_SWAPS` random ones if there are more."""
    if groups * (groups - 1) // 2 + groups * dummies <= MAX_SWAPS:
        left, right = np.triu_indices(groups, 1, groups + dummies)
        return left, right
    left = rng.integers(0, groups, MAX_SWAPS)
    return left, rng.integers(0, groups + dummies, MAX_SWAPS)
