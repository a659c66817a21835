"""Where a model looks in an image, by several methods, and pictures of it.

In: a model and images. Out: a map each, on one colour scale.
May import: core, images, networks, serving.
"""
