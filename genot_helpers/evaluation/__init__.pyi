# Public names, for editors, type checkers, and for the lazy loader that `__init__.py` starts.

from .carried_scores import (
    CarriedMaps as CarriedMaps,
    carried_maps as carried_maps,
    expression_around as expression_around,
    flat_transfer as flat_transfer,
    have_one_vocabulary as have_one_vocabulary,
    judge_genes as judge_genes,
    score_carried as score_carried,
    score_carried_labels as score_carried_labels,
    score_levels as score_levels,
    score_transfer as score_transfer,
    zeros_by_counting as zeros_by_counting,
)
from .evaluation import (
    CutAgreement as CutAgreement,
    confidence_by_correctness as confidence_by_correctness,
    cut_agreement as cut_agreement,
    cut_offset as cut_offset,
    cut_strip as cut_strip,
    majority_domains as majority_domains,
    match_domains as match_domains,
    recall_per_domain as recall_per_domain,
    reliability as reliability,
    score_coherence as score_coherence,
    score_domains as score_domains,
)
from .gene_maps import (
    gene_similarity as gene_similarity,
    gene_similarity_by_domain as gene_similarity_by_domain,
)
from .generated_scores import (
    baseline_slices as baseline_slices,
    nearest_expression as nearest_expression,
    score_generated as score_generated,
    score_stack as score_stack,
    score_table as score_table,
)
from .matching import (
    agreement_in_place as agreement_in_place,
    domain_agreement as domain_agreement,
    domain_markers as domain_markers,
    domain_similarity as domain_similarity,
    marker_matches as marker_matches,
    match_domains_by_markers as match_domains_by_markers,
    name_domains_like as name_domains_like,
    rename_domains as rename_domains,
    score_joint_domains as score_joint_domains,
)
from .measures import ghost_layers as ghost_layers
from .reading_scores import (
    above_ceiling as above_ceiling,
    beside_rivals as beside_rivals,
    flat_scores as flat_scores,
    gap_closed as gap_closed,
    gap_in_words as gap_in_words,
    with_spread as with_spread,
)
