"""Optimizers of W+ codes. Each is a pure function of code, gradient and state, for each image of a batch on its own."""

from inversion_core.optimizers.adam import Adam, AdamState
from inversion_core.optimizers.adaptive import Adagrad, RMSProp
from inversion_core.optimizers.catalogue import CLASSIC, OPTIMIZERS, build_optimizer
from inversion_core.optimizers.lbfgs import LBFGS
from inversion_core.optimizers.protocol import Optimizer, State, restore_state, state_tensors
from inversion_core.optimizers.schedule import Schedule, Scheduled
from inversion_core.optimizers.sgd import NAG, SGD

__all__ = [
    "CLASSIC",
    "LBFGS",
    "NAG",
    "OPTIMIZERS",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamState",
    "Optimizer",
    "RMSProp",
    "Schedule",
    "Scheduled",
    "State",
    "build_optimizer",
    "restore_state",
    "state_tensors",
]
