"""Notebooks executed headless with checked parameters, one folder for each run."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "reruns": ["run_notebook"],
        "report": ["write_report"],
    },
)
