"""Named arrays in, named arrays out: the same questions put to torch (`Ours`) and to TF1 (`Theirs`).

Both answer in TF1's names and layouts, so that an answer of one can be laid on an answer of the other. What has no
counterpart (`Unmapped`) is carried in a `State` and compared with nothing; a reset puts it back to its initial value.
"""

from parity.sides.ours import Ours
from parity.sides.own_state import OwnState
from parity.sides.side import LOSS, Answer, Side, returned
from parity.sides.theirs import Theirs

__all__ = ["LOSS", "Answer", "Ours", "OwnState", "Side", "Theirs", "returned"]
