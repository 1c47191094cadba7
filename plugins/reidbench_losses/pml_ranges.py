"""What a study searches of the losses of pytorch-metric-learning: at most three options each, the same on all data.

Written by hand. A range holds the library's default and, where they differ, the values of the papers and of a second
implementation ("Roth": the code of Roth et al. 2020, "Revisiting Training Strategies and Generalization Performance in
Deep Metric Learning"; "PML": the library's own pages on the papers' settings). Apart from these the rules are ours: the
factor before a cosine in a softmax (scale, or 1 / temperature) is searched over about a factor of 16, on a log scale,
and a margin over most of what distances or cosines of unit vectors can make use of. Losses without an entry have no
such option, or none with a default.
"""

from __future__ import annotations

from collections.abc import Mapping

from reidbench import Searched

COSINE_SCALE = Searched(8.0, 128.0, log=True)  # 64 in ArcFace and CosFace, 16 in Roth's ArcFace
TEMPERATURE = Searched(0.02, 0.5, log=True)  # 0.07 in MoCo, 0.1 in SupCon (PML), 0.05 in NormalizedSoftmax and Roth
ANGLE = Searched(5.0, 50.0)  # degrees; 28.6 are the paper's 0.5
NEGATIVE_MARGIN = Searched(0.2, 2.0, log=True)  # 1 in PML and Roth; distances of unit vectors are at most 2
POSITIVE_MARGIN = Searched(0.0, 0.5)  # 0 in PML and Roth
PROXY_SCALE = Searched(0.5, 32.0, log=True)  # squared distances of unit vectors are at most 4: at 1 nearly flat
MULTIPLE = Searched(choices=(2, 3, 4))  # of the angle; a whole number by the definition of both losses
RAW_SCALE = Searched(1.0, 64.0, log=True)  # 1, for embeddings of any length; the library scales them to unit length
EPSILON = Searched(0.001, 0.1, log=True)  # 0.01 in PML, a tenth to ten times

RANGES: Mapping[str, Mapping[str, Searched]] = {
    "AngularLoss": {"alpha": Searched(30.0, 60.0)},  # degrees; 45 in Roth
    "ArcFaceLoss": {"margin": ANGLE, "scale": COSINE_SCALE},
    # 0.25 and 256 for faces, 0.4 and 80 for retrieval in the paper (PML); 0.35 and 64 in fast-reid's SBS
    "CircleLoss": {"m": Searched(0.1, 0.6), "gamma": Searched(16.0, 512.0, log=True)},
    "ContrastiveLoss": {"pos_margin": POSITIVE_MARGIN, "neg_margin": NEGATIVE_MARGIN},
    "CosFaceLoss": {"margin": Searched(0.05, 0.5), "scale": COSINE_SCALE},
    "FastAPLoss": {"num_bins": Searched(choices=(5, 10, 20))},  # half and twice the default
    # of both lifted losses only the difference of the margins enters the value
    "GeneralizedLiftedStructureLoss": {"neg_margin": NEGATIVE_MARGIN},
    "IntraPairVarianceLoss": {"pos_eps": EPSILON, "neg_eps": EPSILON},
    "LargeMarginSoftmaxLoss": {"margin": MULTIPLE, "scale": RAW_SCALE},
    "LiftedStructureLoss": {"neg_margin": NEGATIVE_MARGIN},
    "MarginLoss": {"margin": Searched(0.05, 0.5, log=True), "beta": Searched(0.6, 1.4)},  # 0.2 and 1.2 in PML and Roth
    "MultiSimilarityLoss": {
        "alpha": Searched(0.5, 8.0, log=True),
        "beta": Searched(10.0, 100.0, log=True),  # 40 in Roth
        "base": Searched(0.0, 1.0),  # 1 in the paper (PML)
    },
    "NCALoss": {"softmax_scale": PROXY_SCALE},
    "NTXentLoss": {"temperature": TEMPERATURE},
    "NormalizedSoftmaxLoss": {"temperature": TEMPERATURE},
    "PNPLoss": {"anneal": Searched(0.003, 0.1, log=True)},
    "ProxyAnchorLoss": {"margin": Searched(0.0, 0.5), "alpha": Searched(8.0, 128.0, log=True)},
    "ProxyNCALoss": {"softmax_scale": PROXY_SCALE},
    "SignalToNoiseRatioContrastiveLoss": {"pos_margin": POSITIVE_MARGIN, "neg_margin": NEGATIVE_MARGIN},
    "SoftTripleLoss": {
        "la": Searched(4.0, 80.0, log=True),  # 8 in Roth
        "gamma": Searched(0.02, 0.5, log=True),
        "margin": Searched(0.0, 0.1),
    },
    "SphereFaceLoss": {"margin": MULTIPLE, "scale": RAW_SCALE},
    "SubCenterArcFaceLoss": {"margin": ANGLE, "scale": COSINE_SCALE},
    "SupConLoss": {"temperature": TEMPERATURE},
    "ThresholdConsistentMarginLoss": {"margin_plus": Searched(0.7, 0.95), "margin_minus": Searched(0.3, 0.7)},
    "TripletMarginLoss": {"margin": Searched(0.02, 0.5, log=True)},  # 0.2 in Roth
    "TupletMarginLoss": {"margin": Searched(0.0, 15.0), "scale": COSINE_SCALE},  # degrees
}
