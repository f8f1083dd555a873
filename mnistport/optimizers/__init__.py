"""TF1's optimizers with TF1's arithmetic. All round their hyper-parameters to float32."""

from mnistport.optimizers.adadelta import Adadelta
from mnistport.optimizers.adagrad import Adagrad
from mnistport.optimizers.adam import Adam
from mnistport.optimizers.gradient_descent import GradientDescent
from mnistport.optimizers.momentum import Momentum
from mnistport.optimizers.rmsprop import RMSProp

__all__ = ["Adadelta", "Adagrad", "Adam", "GradientDescent", "Momentum", "RMSProp"]
