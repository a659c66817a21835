"""CSV to labelled, split rows: reading and checking the table, gaps filled, labels, slides, splits.

In: the CSV and the image files. Out: one table, a row per image, keyed by image_id.
May import: core, images.
"""
