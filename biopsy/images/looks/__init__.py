"""How an image looks, in a few numbers: where it is tissue, and its stain, focus, brightness and size.

In: pixels as a network sees them. Out: a look of each image, and the ranges of many, which a model card holds.
May import: core.
"""
