"""Comparing the words of tables: names of columns and labels as people spell them."""

import re


def plain(text: str) -> str:
    """Reduce a label to its letters and digits, so that `Ductal_Carcinoma` and `ductal carcinoma` are one."""
    return re.sub(r"[\W_]+", "", text.casefold())
