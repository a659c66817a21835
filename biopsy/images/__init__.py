"""File to pixels to tree: decoding, resize, structure, stain, and the tree of prepared images.

In: image files and parameters. Out: uint8 RGB arrays, and data/resized and data/stained.
May import: core.
"""
