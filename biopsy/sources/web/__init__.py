"""Files over HTTP: streamed, resumed, checked by their SHA-256; from any address, or from a hub of models.

In: an address. Out: a file.
May import: core.
"""
