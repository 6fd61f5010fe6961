"""Scores: domains against labels, a generated slice against a real one, baselines beside both."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "agreement": ["domain_agreement", "name_domains_like"],
        "carried_scores": ["carried_maps", "nearest_expression", "score_carried"],
        "transfer_scores": ["judge_genes", "score_transfer"],
        "evaluation": [
            "confidence_by_correctness",
            "match_domains",
            "recall_per_domain",
            "score_coherence",
            "score_domains",
        ],
        "markers": ["domain_markers"],
        "matching": [
            "agreement_in_place",
            "domain_similarity",
            "marker_matches",
            "match_domains_by_markers",
            "rename_domains",
        ],
        "similarity": ["gene_similarity", "gene_similarity_by_domain"],
        "generated_scores": ["baseline_slices", "score_generated", "score_table"],
        "score_reading": ["flat_scores", "gap_closed", "with_spread"],
        "levels": ["score_levels"],
    },
)
