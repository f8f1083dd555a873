"""The two sides: torch (`Ours`) and TF1 (`Theirs`). Both are asked the same questions.

Questions and answers are arrays by name. Both sides use TF1's names and layouts, so their
answers can be compared directly. Parts of a state without a counterpart (`Unmapped`) are
stored in a `State`, but not compared. A reset gives them their initial values.
"""

from parity.sides.graph import Graph
from parity.sides.nudged import Nudged
from parity.sides.on_our_side import OnOurSide
from parity.sides.ours import Ours
from parity.sides.own_state import OwnState
from parity.sides.own_ways import OwnWays
from parity.sides.side import LOSS, Answer, Side, is_loss, returned, term_name
from parity.sides.steady import refuse_unsteady
from parity.sides.theirs import Theirs

__all__ = [
    "LOSS",
    "Answer",
    "Graph",
    "Nudged",
    "OnOurSide",
    "Ours",
    "OwnState",
    "OwnWays",
    "Side",
    "Theirs",
    "is_loss",
    "refuse_unsteady",
    "returned",
    "term_name",
]
