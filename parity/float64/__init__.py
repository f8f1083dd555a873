"""The same program in float64: a float32 graph, rewritten. It is never built twice.

Why: `tf.layers.batch_normalization` and others build other operations in float64, with
other results. Here every operation stays, and only its type changes:

- Every float32 type becomes float64. Constants keep their float32 value.
- An operation without a float64 kernel is computed by others that have one
  (`compositions`). Whether it has one is asked of TensorFlow.
- What is left stays in float32, with a cast before and after it. It is an *island*: a
  result that depends on it is only as exact as TF1. Random draws are islands as well, so
  that both precisions draw the same numbers.

Names do not change, so each tensor can be found and fed under its old name.
"""

from parity.float64.compositions import COMPOSITIONS
from parity.float64.rewrite import Rewritten, composed_in_float32, rewritten
from parity.float64.twin import Twin

__all__ = ["COMPOSITIONS", "Rewritten", "Twin", "composed_in_float32", "rewritten"]
