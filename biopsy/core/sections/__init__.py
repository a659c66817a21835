"""The sections of `params.yaml`: which keys there are, of which type, within which bounds.

In: nothing. Out: one class for each section.
May import: core.
"""
