"""Whole slides: read in pieces, predicted tile by tile, answered with a table, regions for QuPath and a picture.

In: slide files and a model. Out: a folder of results a slide.
May import: core, images, networks, serving.
"""
