"""One file per family of networks; each ends in register(...), and this package imports them all.

In: pixels from 0 to 255. Out: a feature map.
May import: core, networks.backend, networks.encoder_file.
"""

from biopsy.core.plugins import import_modules

import_modules(__name__, __path__)
