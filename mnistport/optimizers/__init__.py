"""TF1's optimizers with TF1's arithmetic. One file each; all take float32-rounded hyper-parameters."""

from mnistport.optimizers.adam import Adam
from mnistport.optimizers.gradient_descent import GradientDescent
from mnistport.optimizers.rmsprop import RMSProp

__all__ = ["Adam", "GradientDescent", "RMSProp"]
