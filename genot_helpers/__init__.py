"""Helper module of the GenOT notebooks: `import genot_helpers as gh`.

From slices of spatial transcriptomics to spatial domains, and to the slice between two of them.
Each folder is a room that does one thing; its `__init__.py` says what, and lists what of it is
public. The file with the name of its folder is the one to read first. The rooms below stand in the
order the data flows, and a room imports only from rooms above it. Names load when they are first
used, so that importing the package (and the command line) stays quick.
"""

import lazy_loader

from . import (  # isort: skip
    slices,
    simulation,
    datasets,
    preprocessing,
    encoder,
    domains,
    transport,
    alignment,
    decoder,
    interpolation,
    evaluation,
    plotting,
)

__version__ = "0.2.0"

_ROOMS = (
    *(slices, simulation, datasets, preprocessing, encoder, domains, transport),
    *(alignment, decoder, interpolation, evaluation, plotting),
)
_FILES = ["check_output_dir", "write_json", "write_slice"]
_RESULTS = ["finish_run", "peak_memory_mb"]

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={room.__name__.rpartition(".")[2]: room.__all__ for room in _ROOMS}
    | {"files": _FILES, "report": ["write_report"], "results": _RESULTS},
)
