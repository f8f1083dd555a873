"""Named arrays in, named arrays out: the same questions put to TF1 (`Theirs`) and to torch (`Ours`).

Both answer in TF1's names and layouts, so that an answer of one can be laid on an answer of the other. State is a
mapping of weights ("W_conv1"), slots ("W_conv1/m") and the optimizer's own scalars ("beta1_power"). What has no
counterpart (`Unmapped`) is in no answer; a reset puts it back to its own initial value.
"""

from parity.runners.ours import Ours
from parity.runners.runner import LOSS, Answer, Runner, returned
from parity.runners.theirs import Theirs

__all__ = ["LOSS", "Answer", "Ours", "Runner", "Theirs", "returned"]
