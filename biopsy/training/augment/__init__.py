"""One file per augmentation; each ends in register(...), and this package imports them all.

In: float32 images, 0 to 255. Out: the same.
May import: core, networks.backend.
"""
