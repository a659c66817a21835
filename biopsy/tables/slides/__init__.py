"""Facts about slides that a model takes beside the image.

In: slides.csv and magnifications. Out: an array, a row per image.
May import: core, tables.labels.
"""
