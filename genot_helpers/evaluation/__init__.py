"""Scores: domains against labels, a generated slice against a real one, baselines beside both."""

from .carried_scores import (
    CarriedMaps,
    carried_maps,
    expression_around,
    flat_transfer,
    have_one_vocabulary,
    judge_genes,
    score_carried,
    score_carried_labels,
    score_levels,
    score_transfer,
    zeros_by_counting,
)
from .evaluation import (
    confidence_by_correctness,
    majority_domains,
    match_domains,
    recall_per_domain,
    reliability,
    score_coherence,
    score_domains,
)
from .gene_maps import gene_similarity, gene_similarity_by_domain
from .generated_scores import (
    baseline_slices,
    nearest_expression,
    score_generated,
    score_table,
)
from .matching import (
    agreement_in_place,
    domain_agreement,
    domain_markers,
    domain_similarity,
    marker_matches,
    match_domains_by_markers,
    name_domains_like,
    rename_domains,
    score_joint_domains,
)
from .measures import CutAgreement, cut_agreement, cut_offset, cut_strip
from .reading_scores import (
    beside_rivals,
    flat_scores,
    gap_closed,
    gap_in_words,
    with_spread,
)
from .stack_scores import score_stack
from .type_scores import ghost_layers

__all__ = [
    "CarriedMaps",
    "CutAgreement",
    "agreement_in_place",
    "baseline_slices",
    "beside_rivals",
    "carried_maps",
    "confidence_by_correctness",
    "cut_agreement",
    "cut_offset",
    "cut_strip",
    "domain_agreement",
    "domain_markers",
    "domain_similarity",
    "expression_around",
    "flat_scores",
    "flat_transfer",
    "gap_closed",
    "gap_in_words",
    "gene_similarity",
    "gene_similarity_by_domain",
    "ghost_layers",
    "have_one_vocabulary",
    "judge_genes",
    "majority_domains",
    "marker_matches",
    "match_domains",
    "match_domains_by_markers",
    "name_domains_like",
    "nearest_expression",
    "recall_per_domain",
    "reliability",
    "rename_domains",
    "score_carried",
    "score_carried_labels",
    "score_coherence",
    "score_domains",
    "score_generated",
    "score_joint_domains",
    "score_levels",
    "score_stack",
    "score_table",
    "score_transfer",
    "with_spread",
    "zeros_by_counting",
]
