"""The conformance kit: what an item of a kind promises, checked with numbers; for our own tests and everybody's.

    from reidbench.testing import check_loss

    def test_it_keeps_its_promises():
        check_loss("my_loss(margin=0.2)")      # an installed item, as a spec
        check_loss(MyLoss, margin=0.2)         # or a factory with its options

Each check returns the names of the promises that hold and raises ContractError at the first one that does not. Options
that do not fit raise OptionError, as they do on the command line.
"""

from reidbench.errors import ContractError as ContractError
from reidbench.testing.backbones import check_backbone as check_backbone
from reidbench.testing.datasets import check_dataset as check_dataset
from reidbench.testing.declarations import check_protocol as check_protocol
from reidbench.testing.declarations import check_recipe as check_recipe
from reidbench.testing.declarations import check_synthesizer as check_synthesizer
from reidbench.testing.losses import check_loss as check_loss
from reidbench.testing.metrics import check_metric as check_metric
from reidbench.testing.rerankers import check_reranker as check_reranker
from reidbench.testing.sections import check_section as check_section

__all__ = [
    "ContractError",
    "check_backbone",
    "check_dataset",
    "check_loss",
    "check_metric",
    "check_protocol",
    "check_recipe",
    "check_reranker",
    "check_section",
    "check_synthesizer",
]
