"""Scores: domains against labels, a generated slice against a real one, baselines beside both."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "matching": [
            "agreement_in_place",
            "domain_agreement",
            "domain_markers",
            "domain_similarity",
            "marker_matches",
            "match_domains_by_markers",
            "name_domains_like",
            "rename_domains",
        ],
        "generated_scores": [
            "baseline_slices",
            "flat_scores",
            "gap_closed",
            "nearest_expression",
            "score_generated",
            "score_table",
            "with_spread",
        ],
        "carried_scores": [
            "carried_maps",
            "judge_genes",
            "score_carried",
            "score_levels",
            "score_transfer",
        ],
        "evaluation": [
            "confidence_by_correctness",
            "match_domains",
            "recall_per_domain",
            "score_coherence",
            "score_domains",
        ],
        "gene_maps": [
            "gene_similarity",
            "gene_similarity_by_domain",
        ],
    },
)
