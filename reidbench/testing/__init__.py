"""Contract checks for plugin authors: what an item of each kind must do, checked with numbers.

    from reidbench.testing import check_loss

    def test_contract():
        check_loss("my_loss(margin=0.2)")      # an installed item, as a spec
        check_loss(MyLoss, margin=0.2)         # or a factory with its options

There is one ``check_KIND`` for each kind of item. It returns the names of the checks that pass and raises ContractError
at the first one that fails. Options that do not fit raise OptionError, as they do on the command line.
"""

from reidbench.errors import ContractError as ContractError
from reidbench.testing.backbones import check_backbone as check_backbone
from reidbench.testing.items import check_dataset as check_dataset
from reidbench.testing.items import check_executor as check_executor
from reidbench.testing.items import check_protocol as check_protocol
from reidbench.testing.items import check_recipe as check_recipe
from reidbench.testing.items import check_reranker as check_reranker
from reidbench.testing.items import check_section as check_section
from reidbench.testing.items import check_synthesizer as check_synthesizer
from reidbench.testing.items import check_tracker as check_tracker
from reidbench.testing.losses import check_loss as check_loss
from reidbench.testing.metrics import check_metric as check_metric
