"""Helper module of the GenOT notebooks: `import genot_helpers as gh`.

From slices of spatial transcriptomics to spatial domains, and to the slice between two of them.
Each folder is one step, and its `__init__` lists what of it is public; the file with the name of
its folder is the one to read first. The steps of the method are here (`gh.align`), specialties in
their folder (`gh.alignment.align_icp`), or file (`gh.survey.place_slices`). Names load when
they are first used, so that importing the package stays quick; which names there are is written in
`__init__.pyi`, where editors find them.
"""

import lazy_loader

__version__ = "0.2.0"

# In the order the data flows; a room imports only from rooms before it.
_ROOMS = (
    *("slices", "simulation", "datasets", "preprocessing", "encoder", "domains", "transport"),
    *("alignment", "decoder", "interpolation", "evaluation", "plotting"),
)

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
