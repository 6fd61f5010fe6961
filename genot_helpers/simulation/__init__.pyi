# Public names, for editors, type checkers, and for the lazy loader that `__init__.py` starts.

from .brain_regions import (
    simulate_hippocampus as simulate_hippocampus,
    simulate_hypothalamus as simulate_hypothalamus,
    simulate_olfactory_bulb as simulate_olfactory_bulb,
)
from .embryo import (
    simulate_embryo as simulate_embryo,
    simulate_embryo_cells as simulate_embryo_cells,
)
from .high_resolution import simulate_high_resolution as simulate_high_resolution
from .visium_sections import (
    simulate_cortex as simulate_cortex,
    simulate_sagittal_brain as simulate_sagittal_brain,
)
