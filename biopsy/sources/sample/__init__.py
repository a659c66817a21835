"""Synthetic slides, drawn from a seed.

In: a number of images and a seed. Out: images with a table of slides.
May import: core, tables.
"""
