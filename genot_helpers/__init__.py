"""Helper module of the GenOT notebooks: `import genot_helpers as gh`.

From slices of spatial transcriptomics to spatial domains, and to the slice between two of them.
The table below is the public interface, room by room, in the order the data flows; each name loads
when it is first used, so that importing the package (and the command line) stays quick.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "slices": ["SliceError", "check_slice", "find_labels", "holds_counts"],
        "simulation": [
            "simulate_cortex",
            "simulate_embryo",
            "simulate_hippocampus",
            "simulate_olfactory_bulb",
        ],
        "sagittal": ["simulate_sagittal_brain"],
        "datasets": ["list_slices", "load_slice", "load_slices"],
        "preprocessing": ["joint_components", "normalise", "preprocess", "smooth_components"],
        "spatial_genes": [
            "select_by_gaussian_process",
            "select_by_moran",
            "select_highly_variable",
        ],
        "graph": ["grid_graph", "nearest_neighbour_graph", "spatial_graph"],
        "configuration": ["EncoderConfiguration"],
        "encoder": ["GenOTEncoder"],
        "training": ["embed", "train_encoder"],
        "checkpoints": ["load_encoder", "save_encoder"],
        "spectral": ["spectral_embedding"],
        "domains": ["choose_n_domains", "cluster_mixture", "refine_domains"],
        "clusterers": ["cluster_leiden", "cluster_louvain", "cluster_mclust", "cluster_with"],
        "evaluation": [
            "confidence_by_correctness",
            "match_domains",
            "recall_per_domain",
            "score_coherence",
            "score_domains",
        ],
        "alignment": ["Alignment", "AlignmentError", "align", "apply_alignment"],
        "alignment_published": ["align_icp", "align_partial_gromov"],
        "transforms": ["SimilarityTransform", "weighted_procrustes"],
        "transport": ["NotConvergedError", "entropic_coupling", "sparse_coupling"],
        "couplings": ["Coupling", "barycentric_targets", "coupling_pairs"],
        "gromov": [
            "fused_gromov_wasserstein_coupling",
            "partial_fused_gromov_wasserstein_coupling",
        ],
        "gromov_barycenter": ["fused_gromov_wasserstein_barycenter"],
        "warp": ["SmoothWarp", "fit_warp"],
        "decoder": ["train_decoder"],
        "interpolation": [
            "interpolate",
            "interpolate_many",
            "position_between",
            "prepare_interpolation",
        ],
        "platforms": ["carry_expression"],
        "generated_scores": [
            "baseline_slices",
            "flat_scores",
            "gap_closed",
            "score_generated",
            "score_table",
        ],
        "plotting": [
            "plot_confidence",
            "plot_domains",
            "plot_eigenvalues",
            "plot_genes",
            "plot_loss",
            "plot_recall",
            "save_figure",
        ],
        "generated_plots": ["plot_generated", "plot_series", "plot_sources"],
        "coupling_plots": ["plot_alignment", "plot_coupling", "plot_warp"],
        "score_plots": ["plot_scores", "plot_trend"],
        "stacks": ["gene_along_stack"],
        "stack_plots": ["embed_plotly", "gene_flow_figure", "stack_figure", "write_page"],
        "stack_film": ["film", "film_as_html"],
        "files": ["check_output_dir", "write_json", "write_slice"],
        "reruns": ["run_notebook"],
    },
)
