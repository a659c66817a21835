"""One file per family of optimisers; each ends in register(...), and this package imports them all.

In: the section `train`. Out: a Keras optimiser.
May import: core, networks.backend, training.accumulation.
"""

from biopsy.core.plugins import import_modules

import_modules(__name__, __path__)
