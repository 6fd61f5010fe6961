"""Scores: domains against labels, a generated slice against a real one, baselines beside both."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "agreement": ["agreement_in_place", "domain_agreement"],
        "baselines": ["baseline_slices", "nearest_expression"],
        "carried_scores": ["carried_maps", "score_carried"],
        "coherence": ["score_coherence"],
        "transfer_scores": ["judge_genes", "score_transfer"],
        "evaluation": [
            "confidence_by_correctness",
            "match_domains",
            "recall_per_domain",
            "score_domains",
        ],
        "markers": ["domain_markers"],
        "matching": ["domain_similarity", "marker_matches", "match_domains_by_markers"],
        "naming": ["name_domains_like", "rename_domains"],
        "similarity": ["gene_similarity", "gene_similarity_by_domain"],
        "generated_scores": ["score_generated", "score_table"],
        "score_reading": ["flat_scores", "gap_closed", "with_spread"],
        "levels": ["score_levels"],
    },
)
