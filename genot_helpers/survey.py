"""A survey of a reader's own slices, for notebook 10: roles, placements, and the report in words.

Nothing here computes domains or slices: it says which slices are asked for, which of them could be
laid onto the left one, and puts what was found into one page (``report.py``).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from .alignment.alignment import AlignmentError, align, apply_alignment
from .arguments import checked
from .datasets.datasets import own_slices
from .evaluation.evaluation import match_domains
from .report import write_report

if TYPE_CHECKING:
    from anndata import AnnData


_DEMO = {"left": "151673", "right": "151675", "held out": "151674"}


class Roles(NamedTuple):
    """Which slices a survey needs.

    Attributes
    ----------
    section
        Slice to find domains in.
    named
        "left", "right" and perhaps "held out" → name; empty for one slice.
    there
        Names in the reader's file or folder; empty for other sources.
    """

    section: str
    named: dict[str, str]
    there: list[str]

    @property
    def names(self) -> list[str]:
        """Every slice once, the section first."""
        return list(dict.fromkeys([self.section, *self.named.values()]))


@checked
def slice_roles(
    data_source: str,
    *,
    section: str | None = None,
    left: str | None = None,
    right: str | None = None,
    held_out: str | None = None,
    there: list[str] | None = None,
) -> Roles:
    """Say which slices to load, and what each is for.

    Parameters
    ----------
    data_source
        "demo", "local", "download", or the path of the reader's own file or folder.
    section, left, right, held_out
        Names, as far as they are given. Section: the left one if not given, or the first there is.
    there
        Names of the sections in a file that holds several; default: looked up.

    Returns
    -------
    Roles

    Raises
    ------
    ValueError
        If one of left and right is missing, or two roles are given to one slice.
    FileNotFoundError
        If there is no such file or folder, or nothing in it that can be read.
    """
    given = {"left": left, "right": right, "held out": held_out}
    named = {role: str(name) for role, name in given.items() if name}
    own = data_source not in ("demo", "local", "download")
    if data_source == "demo" and not named and section is None:
        named = dict(_DEMO)
    if named and not {"left", "right"} <= set(named):
        raise ValueError("Between two slices: give both left and right. One slice: section alone.")
    if len(set(named.values())) < len(named):
        raise ValueError(f"left, right and held_out are to be different slices, not {named}.")
    there = list(there) if there is not None else own_slices(data_source) if own else []
    first = there[0] if there else "151673"
    return Roles(str(section or named.get("left") or first), named, there)


@checked
def describe_domains(adata: AnnData, markers: pd.DataFrame) -> pd.DataFrame:
    """Say of each domain how large and how sure it is, and which genes mark it.

    Parameters
    ----------
    adata
        With ``obs["genot_domain"]`` and ``obs["genot_confidence"]``; with ``obs["domain_truth"]``
        also which annotated domain is most like it.
    markers
        From :func:`genot_helpers.evaluation.domain_markers`.

    Returns
    -------
    pandas.DataFrame
        Index ``domain``; columns ``spots``, ``confidence`` (its mean), ``markers``
        (names in one string) and, with an annotation, ``most like``.

    Raises
    ------
    KeyError
        If a column of ``obs`` is missing.
    """
    domains = adata.obs["genot_domain"]
    table = pd.DataFrame({"spots": domains.value_counts(sort=False)}).rename_axis("domain")
    table["confidence"] = adata.obs["genot_confidence"].groupby(domains, observed=False).mean()
    genes = markers.reset_index().groupby("domain", sort=False, observed=True)["gene"].agg(list)
    names = {str(name): list(found) for name, found in genes.items()}
    table["markers"] = [", ".join(names.get(str(name), ["none"])) for name in table.index]
    if "domain_truth" in adata.obs:
        like = match_domains(adata)
        table["most like"] = [like.get(name) or "–" for name in table.index]
    return table.round({"confidence": 2})


# -------------------------------------------------------------------------------------------------
# Placements.


class Placed(NamedTuple):
    """Slices in the frame of the left one.

    Attributes
    ----------
    moved
        Role → copy of the slice in that frame; without those that overlap nowhere.
    verdicts
        For each role, ``good`` (bool) and ``says`` (str): the figures and the problems.
    """

    moved: dict[str, AnnData]
    verdicts: pd.DataFrame

    @property
    def good(self) -> bool:
        """Whether there is a placement of every slice, and none has problems."""
        return bool(len(self.verdicts)) and bool(self.verdicts["good"].all())


@checked
def place_slices(left: AnnData, others: Mapping[str, AnnData], **options: Any) -> Placed:
    """Lay slices onto the left one, and say of each how good that is.

    Parameters
    ----------
    left, others
        The slice whose frame is taken, and role → slice. They get ``obsm["spatial_aligned"]`` where
        a placement was found.
    **options
        For :func:`genot_helpers.align`.

    Returns
    -------
    Placed

    Raises
    ------
    SliceError
        If a slice is unsound, or has no gene in common with the left one.
    """
    moved, rows = {}, {}
    for role, adata in others.items():
        try:
            found = align(left, adata, on_poor="return", **options)
        except AlignmentError as none:
            rows[role] = {"good": False, "says": str(none)}
            continue
        apply_alignment(adata, found)
        moved[role] = adata.copy()
        moved[role].obsm["spatial"] = moved[role].obsm["spatial_aligned"].copy()
        says = " ".join([found.summary() + ".", *found.problems])
        rows[role] = {"good": found.ok, "says": says}
    return Placed(moved, pd.DataFrame.from_dict(rows, orient="index", columns=["good", "says"]))


# -------------------------------------------------------------------------------------------------
# The report.

_CAPTIONS = {
    "depth": "How much was measured where.",
    "n_domains": "The criterion behind the suggestion.",
    "domains": "Domains, found without any annotation, beside the baseline.",
    "confidence": "Confidence: the share of a spot's surroundings that lie in its domain.",
    "markers": "Markers of each domain.",
    "genes": "Genes on the tissue.",
    "matched": "Domains of both slices, matched by markers.",
    "alignment": "The right slice in the frame of the left one.",
    "generated": "Labels of the real slices and of the generated one.",
    "scores": "The generated slice beside copies, mixture and ceiling.",
    "gene_similarity": "Similarity gene by gene; dashed: medians.",
}
_REFERENCES = (
    "Wang R, Liu X, Zhuo L et al. GenOT: generative optimal transport enables spatiotemporal "
    "interpolation and generation in cross-platform spatial transcriptomics. Genome Biology 2026, "
    "doi 10.1186/s13059-026-04166-z",
    "Palla G et al. Squidpy: a scalable framework for spatial omics analysis. Nature Methods 2022, "
    "doi 10.1038/s41592-021-01358-2",
)


@checked
def write_survey(
    folder: str | Path,
    title: str,
    roles: Roles,
    adata: AnnData,
    tables: Mapping[str, pd.DataFrame],
    facts: Mapping[str, Any],
    *,
    settings: Mapping[str, Any] | None = None,
    why: str = "",
) -> Path:
    """Write ``report.html``: what was found in a slice, and between two, with its figures.

    Parameters
    ----------
    folder
        With the figures (PNG) that the notebook has drawn; those that are not there are left out.
    title, roles, adata
        Heading; from :func:`slice_roles`; the slice with the domains.
    tables
        "checklist", "domains" and "scores"; where there are two slices also "partners" and
        "verdicts", and "compared" where a generated slice was scored.
    facts
        Of ``metrics.json``: ``n_domains``, ``ari_other_seed``, ``ari_of_both``, ``interpolated``,
        ``asked`` (whether the number of domains was given), ``at_an_end`` (whether the suggestion
        is at an end of the range).
    settings, why
        Parameters of the run; which model of domains was taken, in a sentence.

    Returns
    -------
    pathlib.Path
        The page.
    """
    folder = Path(folder)
    simulated = adata.uns.get("genot", {}).get("simulated", False)
    pages = _pages(folder, roles, tables, _in_short(roles, adata, tables, facts, why))
    return write_report(
        folder / "report.html",
        f"{title}: {'simulated tissue' if simulated else roles.section}",
        pages,
        subtitle=str(adata.uns.get("genot", {}).get("source", "")),
        parameters={"section": roles.section, **roles.named, **(settings or {})},
        caveats=_caveats(adata, tables, facts),
        references=_REFERENCES,
    )


def _in_short(roles: Roles, adata: AnnData, tables, facts, why: str) -> list[str]:
    """Say in sentences what a hurried reader should know."""
    number = "as asked for" if facts["asked"] else "a number that was computed as a suggestion"
    lines = [
        f"{adata.n_obs:,} spots and {adata.n_vars:,} genes; {facts['n_domains']} domains, "
        f"{number}.",
        *([why] if why else []),
        "Adjusted Rand index (1: the same domains) with another random seed "
        f"{facts['ari_other_seed']:.2f}, with the trivial baseline {facts['ari_of_both']:.2f}.",
    ]
    if "ari" in tables["scores"]:
        found = ", ".join(f"{name} {value:.2f}" for name, value in tables["scores"]["ari"].items())
        lines.append(f"Against the annotation: {found} (adjusted Rand index).")
    if "verdicts" in tables:
        for role, row in tables["verdicts"].iterrows():
            word = "good" if row["good"] else "POOR"
            lines.append(f"Alignment of the {role} slice is {word}: {row['says']}")
    if not facts["interpolated"]:
        reason = "the alignment is not good enough" if roles.named else "one slice was given"
        lines.append(f"No slice was generated: {reason}.")
    if "compared" in tables:
        compared = tables["compared"]["map"]
        rivals = compared[["copy_left", "copy_right", "union"]].max()
        lines.append(
            f"Map correlation with the measured {roles.named['held out']}: generated "
            f"{compared['genot']:.2f}, best copy or mixture {rivals:.2f}, ceiling "
            f"{compared['ceiling']:.2f}."
        )
    return lines


_ALWAYS = (
    "The number of domains is a resolution that was chosen, not a property that was measured.",
    "Markers are ranked by effect size; no test of significance would be valid here.",
    "Confidence is agreement between partitions of one embedding, no probability of being right.",
)
_SOMETIMES = (
    "There was no annotation: no domain was compared with a truth.",
    "The number of domains is at an end of the range that was tried.",
    "The generated slice was not scored: no measured slice lies in between.",
    "The data are simulated.",
)


def _caveats(adata: AnnData, tables, facts) -> list[str]:
    """Say in sentences what the results cannot tell."""
    holds = (
        "ari" not in tables["scores"],
        facts["at_an_end"] and not facts["asked"],
        facts["interpolated"] and "compared" not in tables,
        adata.uns.get("genot", {}).get("simulated", False),
    )
    lines = [*_ALWAYS, *itertools.compress(_SOMETIMES, holds)]
    checklist = tables["checklist"]
    left_open = checklist[
        (checklist["status"] != "ok") & ~checklist.index.isin(["image", "labels"])
    ]
    return lines + [f"{str(one).capitalize()}: {what}" for one, what in left_open["found"].items()]


def _pages(folder: Path, roles: Roles, tables, short: list[str]) -> dict[str, list]:
    """Heading → what stands below it."""

    def pictures(*names: str) -> list:
        files = {name: folder / f"{name}.png" for name in names}
        return [(file, _CAPTIONS[name]) for name, file in files.items() if file.is_file()]

    checklist = tables["checklist"][["status", "found"]]
    columns = [one for one in ("ari", "nmi", "macro_f1", "chaos", "pas") if one in tables["scores"]]
    scores = tables["scores"][columns].rename_axis("method")
    pages = {
        "In short": [short, *pictures("domains")],
        "The data": [checklist, *pictures("depth")],
        "Domains": [
            tables["domains"],
            scores,
            *pictures("confidence", "markers", "genes", "n_domains"),
        ],
    }
    if "partners" in tables:
        partners = tables["partners"].rename_axis(f"domain of {roles.named['right']}")
        pages["Two slices"] = [partners, *pictures("matched", "alignment")]
    pages["The slice in between"] = pictures("generated", "scores", "gene_similarity")
    return pages
