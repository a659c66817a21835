"""One file per source of images; each ends in register(...), and this package imports them all.

In: a source's own section of `data`. Out: metadata.csv and images/ in an empty folder, and facts for source.json.
May import: core, images.slides, tables.labels, sources.
"""

from biopsy.core.plugins import import_modules

import_modules(__name__, __path__)
