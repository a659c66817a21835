"""Where images come from: the drawn sample, a download, an archive, a folder.

In: parameters. Out: data/raw, with metadata.csv, images, source.json.
May import: core, images, tables.
"""
