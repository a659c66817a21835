"""Whole slides, read a region at a time: which files are slides, their layouts, their tissue, the tiles on it.

In: slide files. Out: regions and tiles as uint8 RGB arrays.
May import: core, images.
"""
