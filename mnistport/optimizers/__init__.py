"""TF1's optimizers with TF1's arithmetic. All round their hyper-parameters to float32."""

from mnistport.optimizers.adam import Adam
from mnistport.optimizers.gradient_descent import GradientDescent
from mnistport.optimizers.rmsprop import RMSProp

__all__ = ["Adam", "GradientDescent", "RMSProp"]
