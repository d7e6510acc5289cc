"""Optimizers of W+ codes. Each is a pure function of code, gradient and state, for each image of a batch on its own."""

from inversion_core.optimizers.adam import Adam, AdamState
from inversion_core.optimizers.protocol import Optimizer, State, restore_state, state_tensors

__all__ = ["OPTIMIZERS", "Adam", "AdamState", "Optimizer", "State", "restore_state", "state_tensors"]

OPTIMIZERS = {"adam": Adam}
"""Name, as options and pack.json spell it, to class; the settings in pack.json are its arguments."""
