"""Notebooks executed headless with checked parameters, one folder for each run; sweeps of many.

Beside the helper module, which knows nothing of it: this package finds the notebooks, starts them
through papermill and Snakemake, and makes pages and tables of what they leave. The command line is
`genot`, or `python -m genot_helpers`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "notebooks": ["NotebookError", "copy_notebook", "find_notebook", "list_notebooks"],
        "parameters": ["SweepTableError", "notebook_parameters"],
        "run_folder": ["read_record"],
        "runs": ["NotebookRun", "run_notebook"],
        "sweep_tables": ["PlannedRun", "read_sweep"],
        "sweeps": ["SweepResult", "run_sweep"],
        "sweep_results": ["collect_results"],
        "sweep_summary": [
            "plot_score_by_parameter",
            "plot_seed_spread",
            "sweep_scores",
            "varied_parameters",
        ],
    },
)
