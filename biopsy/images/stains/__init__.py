"""One file per method of stain normalisation; each ends in register(...), and this package imports them all.

In: pixels of tissue, (n, 1, 3) uint8. Out: what is measured on them, or pixels of another stain.
May import: core, images.looks, images.preparation.
"""

from biopsy.core.plugins import import_modules

import_modules(__name__, __path__)
