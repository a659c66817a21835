"""Comparing the words of tables: names of columns and labels as people spell them."""

import re


def plain(text: str) -> str:
    """Reduce a label to its letters and digits, so that `Ductal_Carcinoma` and `ductal carcinoma` are one.

    A label without letters and digits, such as `+`, stays as it is.
    """
    folded = text.casefold().strip()
    return re.sub(r"[\W_]+", "", folded) or folded
