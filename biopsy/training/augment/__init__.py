"""One file per augmentation; each ends in register(...), and this package imports them all.

In: float32 images, 0 to 255. Out: the same.
May import: core, networks.backend, training.tensors.
"""

from biopsy.core.plugins import import_modules

import_modules(__name__, __path__)
