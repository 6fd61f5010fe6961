# Public names, for editors, type checkers, and for the lazy loader that `__init__.py` starts.

from . import (
    alignment as alignment,
    datasets as datasets,
    decoder as decoder,
    domains as domains,
    encoder as encoder,
    evaluation as evaluation,
    interpolation as interpolation,
    plotting as plotting,
    preprocessing as preprocessing,
    report as report,
    simulation as simulation,
    slices as slices,
    survey as survey,
    transport as transport,
)
from .alignment import (
    Alignment as Alignment,
    AlignmentError as AlignmentError,
    align as align,
    apply_alignment as apply_alignment,
    weighted_procrustes as weighted_procrustes,
)
from .datasets import (
    list_slices as list_slices,
    load_slice as load_slice,
    load_slices as load_slices,
    own_slices as own_slices,
)
from .decoder import Decoder as Decoder, train_decoder as train_decoder
from .domains import (
    CompositionDomains as CompositionDomains,
    Consensus as Consensus,
    FoundDomains as FoundDomains,
    choose_n_compositions as choose_n_compositions,
    choose_n_domains as choose_n_domains,
    cluster_composition as cluster_composition,
    cluster_mixture as cluster_mixture,
    find_domains as find_domains,
    neighbour_agreement as neighbour_agreement,
    refine_domains as refine_domains,
)
from .encoder import (
    EncoderConfiguration as EncoderConfiguration,
    EncoderTraining as EncoderTraining,
    embed as embed,
    load_encoder as load_encoder,
    save_encoder as save_encoder,
    spectral_embedding as spectral_embedding,
    train_encoder as train_encoder,
)
from .evaluation import (
    beside_rivals as beside_rivals,
    flat_scores as flat_scores,
    gap_closed as gap_closed,
    gap_in_words as gap_in_words,
    nearest_expression as nearest_expression,
    recall_per_domain as recall_per_domain,
    rename_domains as rename_domains,
    score_coherence as score_coherence,
    score_domains as score_domains,
    score_generated as score_generated,
    score_stack as score_stack,
    score_table as score_table,
    with_spread as with_spread,
)
from .files import (
    check_output_dir as check_output_dir,
    write_json as write_json,
    write_slice as write_slice,
)
from .interpolation import (
    Interpolation as Interpolation,
    carry_by_expression as carry_by_expression,
    carry_expression as carry_expression,
    interpolate as interpolate,
    interpolate_many as interpolate_many,
    interpolate_stack as interpolate_stack,
    load_alignment as load_alignment,
    load_interpolation as load_interpolation,
    position_between as position_between,
    prepare_interpolation as prepare_interpolation,
    save_interpolation as save_interpolation,
)
from .plotting import (
    PALETTE as PALETTE,
    colour_domains as colour_domains,
    plot_alignment as plot_alignment,
    plot_composition as plot_composition,
    plot_confidence as plot_confidence,
    plot_coupling as plot_coupling,
    plot_domains as plot_domains,
    plot_eigenvalues as plot_eigenvalues,
    plot_generated as plot_generated,
    plot_genes as plot_genes,
    plot_n_domains as plot_n_domains,
    plot_recall as plot_recall,
    plot_scores as plot_scores,
    plot_series as plot_series,
    plot_side_by_side as plot_side_by_side,
    plot_sources as plot_sources,
    plot_trend as plot_trend,
    plot_warp as plot_warp,
    save_figure as save_figure,
)
from .preprocessing import (
    joint_components as joint_components,
    normalise as normalise,
    pool_spots as pool_spots,
    preprocess as preprocess,
    row_normalised as row_normalised,
    select_by_gaussian_process as select_by_gaussian_process,
    select_by_moran as select_by_moran,
    select_highly_variable as select_highly_variable,
    smooth as smooth,
    smooth_components as smooth_components,
    spatial_graph as spatial_graph,
)
from .results import (
    finish_run as finish_run,
    peak_memory_mb as peak_memory_mb,
    real_scores as real_scores,
    real_scores_table as real_scores_table,
)
from .simulation import simulate_cortex as simulate_cortex
from .slices import (
    SliceError as SliceError,
    check_genes as check_genes,
    check_slice as check_slice,
    inspect_slice as inspect_slice,
    join_results as join_results,
    micrometres_per_unit as micrometres_per_unit,
    split_sections as split_sections,
    spot_spacing as spot_spacing,
)
from .transport import (
    Coupling as Coupling,
    entropic_coupling as entropic_coupling,
    fused_gromov_wasserstein_barycenter as fused_gromov_wasserstein_barycenter,
    sparse_coupling as sparse_coupling,
)
