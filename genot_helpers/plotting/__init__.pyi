# Public names, for editors, type checkers, and for the lazy loader that `__init__.py` starts.

from .domain_plots import (
    join_halves as join_halves,
    plot_composition as plot_composition,
    plot_cut as plot_cut,
    plot_eigenvalues as plot_eigenvalues,
    plot_loss as plot_loss,
    plot_markers as plot_markers,
    plot_n_domains as plot_n_domains,
    plot_recall as plot_recall,
    plot_side_by_side as plot_side_by_side,
    plot_stripes as plot_stripes,
)
from .generated_plots import (
    plot_alignment as plot_alignment,
    plot_coupling as plot_coupling,
    plot_generated as plot_generated,
    plot_series as plot_series,
    plot_sources as plot_sources,
    plot_warp as plot_warp,
)
from .plotting import (
    PALETTE as PALETTE,
    colour_domains as colour_domains,
    plot_confidence as plot_confidence,
    plot_depth as plot_depth,
    plot_domains as plot_domains,
    plot_genes as plot_genes,
    save_figure as save_figure,
)
from .score_plots import (
    plot_by_depth as plot_by_depth,
    plot_gene_levels as plot_gene_levels,
    plot_gene_maps as plot_gene_maps,
    plot_gene_similarity as plot_gene_similarity,
    plot_scores as plot_scores,
    plot_survival as plot_survival,
    plot_trend as plot_trend,
)
from .stack_plots import (
    embed_plotly as embed_plotly,
    film as film,
    film_as_html as film_as_html,
    gene_along_stack as gene_along_stack,
    gene_flow_figure as gene_flow_figure,
    stack_figure as stack_figure,
    write_page as write_page,
)
