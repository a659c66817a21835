"""Which of the processes of one training this is (`train.workers`), and so which rows of a batch it feeds."""

from dataclasses import dataclass


@dataclass
class Place:
    """Which of the processes of a training this is.

    Attributes
    ----------
    rank, count
        Its number and theirs.
    devices
        How many all of them have together.
    whole
        Whether each takes all rows of a batch for now, so that it has all answers.
    """

    rank: int = 0
    count: int = 1
    devices: int = 1
    whole: bool = False


HERE = Place()


def own_rows(n: int) -> range:
    """Return which rows of a batch of n are this process's: its part where all devices get equally many, else all."""
    each = n // HERE.count
    return range(n) if HERE.whole or n % HERE.devices else range(HERE.rank * each, (HERE.rank + 1) * each)
