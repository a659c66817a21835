"""What labels mean (the scheme), and what file names tell (a grammar per data set, registered by its module).

In: the section `labels`, and text of a table or a file name. Out: one LabelScheme, labels in one spelling.
May import: core.
"""

from biopsy.core.plugins import import_modules

import_modules(__name__, __path__)
