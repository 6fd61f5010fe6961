"""Figures: squidpy and matplotlib for slices, plotly where the reader should turn a thing."""

from .composition_plots import plot_composition
from .generated_plots import (
    plot_alignment,
    plot_coupling,
    plot_generated,
    plot_series,
    plot_sources,
    plot_warp,
)
from .plotting import (
    PALETTE,
    colour_domains,
    plot_confidence,
    plot_domains,
    plot_eigenvalues,
    plot_genes,
    plot_loss,
    plot_recall,
    plot_side_by_side,
    save_figure,
)
from .score_plots import (
    plot_by_depth,
    plot_depth,
    plot_gene_maps,
    plot_gene_similarity,
    plot_markers,
    plot_n_domains,
    plot_scores,
    plot_survival,
    plot_trend,
)
from .stack_film import film, film_as_html
from .stack_plots import embed_plotly, gene_along_stack, gene_flow_figure, stack_figure, write_page

__all__ = [
    "PALETTE",
    "colour_domains",
    "embed_plotly",
    "film",
    "film_as_html",
    "gene_along_stack",
    "gene_flow_figure",
    "plot_alignment",
    "plot_by_depth",
    "plot_composition",
    "plot_confidence",
    "plot_coupling",
    "plot_depth",
    "plot_domains",
    "plot_eigenvalues",
    "plot_gene_maps",
    "plot_gene_similarity",
    "plot_generated",
    "plot_genes",
    "plot_loss",
    "plot_markers",
    "plot_n_domains",
    "plot_recall",
    "plot_scores",
    "plot_series",
    "plot_side_by_side",
    "plot_sources",
    "plot_survival",
    "plot_trend",
    "plot_warp",
    "save_figure",
    "stack_figure",
    "write_page",
]
