"""What the simulated tissues are made of: cell types, where they live, and their marker genes.

That of the sagittal brain is with its shape, in sagittal.py.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["BULB", "CORTEX", "EMBRYO", "HIPPOCAMPUS", "Recipe"]


class Recipe(NamedTuple):
    """What a tissue is made of.

    Attributes
    ----------
    domains
        Names and relative UMIs per spot, in the order of the codes of a Shape.
    cell_types
        A line each: name | kind | share in each domain, in % | marker genes, the clearest first.
        Types of one kind have a programme in common.
    gradient
        Genes that rise along ``Shape.gradient``, with no step at the border of a domain.
    ramp
        Cell type -> (steepness, place): its share also grows along ``Shape.gradient``.
    strength
        Kind -> how far its programme lies from that of the others (1 where it is not named).
    own
        How far the types of one kind differ from each other.
    """

    domains: dict[str, float]
    cell_types: str
    gradient: str
    ramp: dict[str, tuple[float, float]]
    strength: dict[str, float]
    own: float


# --- what the tissues are made of ---------------------------------------------------------------

CORTEX = Recipe(
    domains=dict(L1=0.32, L2=1.15, L3=1.35, L4=1.22, L5=1.2, L6=0.8, WM=0.9),
    cell_types="""
    Excitatory L2 | neuron | L1 4, L2 45, L3 12, L4 3 | HPCAL1 CUX1 LAMP5 CARTPT CCDC68 C1QL2 PDGFD
    Excitatory L3 | neuron | L2 15, L3 45, L4 18, L5 4 | FREM3 CUX2 ADCYAP1 COL5A2 LINC00507 CBLN2
    Excitatory L4 | neuron | L2 2, L3 8, L4 38, L5 11, L6 1 | RORB NEFH SCN1B VAMP1 TRABD2A GABRA1
    Excitatory L5 | neuron | L3 3, L4 12, L5 45, L6 10 | PCP4 TMSB10 FEZF2 BCL11B HTR2C TRIB2 ETV1
    Excitatory L6 | neuron | L4 2, L5 9, L6 42, WM 4 | KRT17 NR4A2 THEMIS SYT6 TLE4 DIRAS2 NTNG2
    Inhibitory | neuron | L6 9, WM 4, elsewhere 12 | GAD1 GAD2 SLC32A1 SST VIP PVALB NPY CCK CALB2
    Astrocyte | astroglia | L1 58, L2 14, L6 13, WM 20, elsewhere 9 | AQP4 RELN GFAP GJA1 SLC1A3 MT3
    Oligodendrocyte | myelin | L4 7, L5 12, L6 35, WM 50, elsewhere 5 | MBP MOBP PLP1 MAG MOG MAL
    Microglia | immune | L1 10, elsewhere 7 | C3 CSF1R C1QA C1QB CX3CR1 P2RY12 TYROBP
    Endothelial | vascular | L1 9, elsewhere 6 | CLDN5 FLT1 PECAM1 ITM2A SLC2A1
    """,
    gradient="HOPX CAMK2N1 ENC1 NEFL NEFM SNAP25 NRGN VSNL1 THY1 STMN2 UCHL1 SYT1",
    ramp={"Oligodendrocyte": (14.0, 0.68)},
    strength={"myelin": 3.0},
    own=0.25,
)
EMBRYO = Recipe(
    domains={
        **{"Mesenchyme": 0.8, "Brain": 1.2, "Spinal cord": 1.2, "Heart": 1.1, "Liver": 1.4},
        **{"Somite": 0.9, "Branchial arch": 0.9, "Limb bud": 0.9, "Gut": 1, "Lung": 1},
        "Dorsal root ganglion": 1.1,
    },
    cell_types="""
    Neural progenitor | neural | Brain 45, Spinal cord 38, elsewhere 1 | Sox2 Nes Pax6 Hes5 Fabp7
    Brain neuron | neural | Brain 28, Spinal cord 4 | Tbr1 Neurod1 Otx2 Foxg1 En2
    Spinal neuron | neural | Spinal cord 32, Brain 3 | Isl1 Lhx3 Chat Hoxb8 Hoxc6
    Sensory neuron | neural | Dorsal root ganglion 50, elsewhere 1 | Ntrk1 Pou4f1 Prph Six1 Sox10
    Cardiomyocyte | muscle | Heart 60, elsewhere 1 | Myh6 Myh7 Myl4 Myl7 Tnnt2 Nppa
    Myotome | muscle | Somite 40, Limb bud 5, elsewhere 2 | Myog Myf5 Meox1 Tcf15
    Hepatoblast | endoderm | Liver 42, Gut 5 | Afp Alb Apoa1 Fgb
    Gut epithelium | endoderm | Gut 40, Lung 6, elsewhere 1 | Cdx2 Shh Foxa1 Epcam
    Lung epithelium | endoderm | Lung 40, Gut 5 | Nkx2-1 Sftpc Etv5 Foxf1
    Erythroid | blood | Liver 36, Heart 12, elsewhere 6 | Hbb-y Hba-x Alas2 Gypa
    Limb mesenchyme | mesenchyme | Limb bud 55, elsewhere 2 | Prrx1 Tbx5 Hoxd13 Lhx9
    Arch mesenchyme | mesenchyme | Branchial arch 55, elsewhere 2 | Dlx5 Dlx2 Hand2 Barx1
    Chondroprogenitor | mesenchyme | Somite 25, Limb bud 15, elsewhere 5 | Sox9 Pax1 Col2a1 Nkx3-2
    Fibroblast | mesenchyme | Mesenchyme 70, elsewhere 18 | Col1a1 Col3a1 Dcn Postn Pdgfra
    Endothelial | vascular | elsewhere 9 | Cdh5 Pecam1 Kdr Emcn Cldn5
    """,
    gradient="Hoxa5 Hoxa7 Hoxb9 Hoxc9 Hoxd9 Hoxa10 Cdx4",
    ramp={},
    strength={"neural": 1.5, "blood": 1.5},
    own=0.35,
)
HIPPOCAMPUS = Recipe(
    domains={
        **{"Cortex": 1.1, "Corpus callosum": 0.8, "CA1": 1.6, "CA3": 1.5, "Dentate gyrus": 1.5},
        **{"Hippocampal neuropil": 0.8, "Thalamus": 1.1, "Third ventricle": 0.9},
    },
    cell_types="""
    CA1 neuron | neuron | CA1 62, CA3 4, Hippocampal neuropil 8 | Wfs1 Fibcd1 Mpped1 Satb2 Pou3f1
    CA3 neuron | neuron | CA3 62, CA1 4, Hippocampal neuropil 6 | Cpne4 Nptx1 Chgb Iyd Grik4 Hs3st4
    Granule neuron | neuron | Dentate gyrus 66, Hippocampal neuropil 6 | Prox1 C1ql2 Stxbp6 Dsp Rfx3
    Cortical neuron | neuron | Cortex 44, Corpus callosum 3 | Lamp5 Rorb Cux2 Fezf2 Tbr1 Nrn1
    Thalamic neuron | neuron | Thalamus 45 | Tcf7l2 Prkcd Lef1 Zic1 Rgs16
    Interneuron | neuron | Cortex 12, elsewhere 7 | Gad1 Gad2 Sst Pvalb Vip Npy
    Astrocyte | astroglia | Hippocampal neuropil 34, elsewhere 13 | Gfap Aqp4 Slc1a3 Gja1 Aldoc Cst3
    Oligodendrocyte | myelin | Corpus callosum 58, Thalamus 16, elsewhere 8 | Mbp Plp1 Mobp Mag Mog
    Microglia | immune | elsewhere 6 | C1qa C1qb Csf1r Cx3cr1 P2ry12 Hexb
    Endothelial | vascular | elsewhere 8 | Cldn5 Flt1 Pecam1 Itm2a Slc2a1
    Ependymal | ependyma | Third ventricle 60 | Ccdc153 Tmem212 Foxj1 Ttr
    """,
    gradient="Nrgn Ncdn Camk2n1 Snap25 Syt1 Thy1 Atp1b1 Chn1",
    ramp={},
    strength={"neuron": 1.5, "myelin": 2.0, "ependyma": 2.0, "astroglia": 1.5},
    own=0.6,
)
BULB = Recipe(
    domains={
        **{"Nerve layer": 0.7, "Glomerular layer": 1.1, "External plexiform layer": 0.8},
        **{"Mitral cell layer": 1.4, "Internal plexiform layer": 0.9, "Granule cell layer": 1.3},
        "Migratory stream": 1.1,
    },
    cell_types="""
    Ensheathing glia | glia | Nerve layer 70, elsewhere 3 | Apod Frzb Omp Sparc
    Periglomerular neuron | inhibitory | Glomerular layer 36, elsewhere 3 | Th Calb1 Calb2 Kctd12
    Tufted neuron | excitatory | Glomerular layer 18, External plexiform layer 26 |\
    Cdhr1 Barhl2 Slc17a7 Lbhd2
    Mitral neuron | excitatory | Mitral cell layer 50, elsewhere 3 | Tbx21 Eomes Nrsn1 Snca
    Granule neuron | inhibitory | Granule cell layer 60, Internal plexiform layer 36,\
    Mitral cell layer 20, Migratory stream 15, elsewhere 4 | Penk Meis2 Synpr Tshz1 Gad1
    Neuroblast | neuroblast | Migratory stream 55, elsewhere 2 | Dcx Sox11 Cd24a Dlx1 Dlx2
    Astrocyte | glia | External plexiform layer 34, elsewhere 16 | Gfap Aqp4 Slc1a3 Gja1
    Oligodendrocyte | myelin | Internal plexiform layer 20, elsewhere 7 | Mbp Plp1 Mobp Mag Mog
    Microglia | immune | elsewhere 6 | C1qa C1qb Csf1r Cx3cr1 P2ry12
    Endothelial | vascular | elsewhere 7 | Cldn5 Flt1 Pecam1 Itm2a
    """,
    gradient="Nrgn Camk2n1 Snap25 Syt1 Thy1 Atp1b1 Nrp1",
    ramp={},
    strength={"inhibitory": 2.0, "excitatory": 2.0, "neuroblast": 2.0, "glia": 1.5, "myelin": 1.5},
    own=0.6,
)
