"""What every room stands on: errors, files, parameters, registries, layout of the folders, code digests, raw CSV.

In: paths and text. Out: checked parameters, whole files, one family of errors.
May import: nothing of biopsy but itself.
"""
