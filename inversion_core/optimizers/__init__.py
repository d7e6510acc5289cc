"""Optimizers of latents. Each is a pure function of latent, evaluation and state, for each image on its own."""

from inversion_core.optimizers.adam import Adam, AdamState
from inversion_core.optimizers.adaptive import Adagrad, RMSProp
from inversion_core.optimizers.catalogue import CLASSIC, OPTIMIZERS, build_optimizer
from inversion_core.optimizers.evaluation import Evaluation, Look
from inversion_core.optimizers.lbfgs import LBFGS
from inversion_core.optimizers.protocol import AnyOptimizer, Optimizer, State, looks, restore_state, state_tensors
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
    "AnyOptimizer",
    "Evaluation",
    "Look",
    "Optimizer",
    "RMSProp",
    "Schedule",
    "Scheduled",
    "State",
    "build_optimizer",
    "looks",
    "restore_state",
    "state_tensors",
]
