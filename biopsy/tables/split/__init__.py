"""Which image is in which part, once per protocol; and the rows of one task with their part.

In: the labelled table. Out: train, val or test per image, and what leaks.
May import: core, tables.labels.
"""
