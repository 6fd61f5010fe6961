"""Figures: squidpy and matplotlib for slices, plotly where the reader should turn a thing."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "plotting": [
            "plot_confidence",
            "plot_domains",
            "plot_eigenvalues",
            "plot_genes",
            "plot_loss",
            "plot_recall",
            "plot_side_by_side",
            "save_figure",
        ],
        "generated_plots": [
            "plot_alignment",
            "plot_coupling",
            "plot_generated",
            "plot_series",
            "plot_sources",
            "plot_warp",
        ],
        "score_plots": [
            "plot_by_depth",
            "plot_depth",
            "plot_gene_maps",
            "plot_gene_similarity",
            "plot_markers",
            "plot_n_domains",
            "plot_scores",
            "plot_survival",
            "plot_trend",
        ],
        "stack_plots": [
            "embed_plotly",
            "gene_along_stack",
            "gene_flow_figure",
            "stack_figure",
            "write_page",
        ],
        "stack_film": [
            "film",
            "film_as_html",
        ],
    },
)
