"""Notebooks executed headless with checked parameters, one folder for each run; sweeps of many."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "reruns": [
            "run_notebook",
        ],
        "sweep_tables": [
            "read_sweep",
        ],
        "sweeps": [
            "run_sweep",
        ],
        "results": [
            "collect_results",
        ],
        "sweep_summary": [
            "plot_score_by_parameter",
            "plot_seed_spread",
            "sweep_scores",
            "varied_parameters",
        ],
        "report": [
            "write_report",
        ],
    },
)
