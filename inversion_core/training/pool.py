"""Pictures on their way, at different steps: what a staggered training goes on with from batch to batch.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from inversion_core.optimizers import restore_state, state_tensors
from inversion_core.optimizers.seen import AnyOptimizer
from inversion_core.training.pairs import Pairs

STATE = "state."


class Pool:
    """Targets with their truth, codes and optimizer states, one row for each picture."""

    def __init__(self, optimizer: AnyOptimizer, pairs: Pairs):
        self._optimizer = optimizer
        self.truth_BLD, self.target_BCHW, self.w_BLD = pairs.w_BLD, pairs.target_BCHW, pairs.start_BLD
        self.state = optimizer.init(pairs.start_BLD)

    def replace(self, rows: Sequence[int], pairs: Pairs) -> None:
        """Begin anew in these rows, with the pictures of the same rows of `pairs`."""
        fresh = Pool(self._optimizer, pairs).tensors()
        is_new_B = torch.zeros(len(self.w_BLD), dtype=torch.bool, device=self.w_BLD.device)
        is_new_B[list(rows)] = True
        self.load({key: _chosen(is_new_B, fresh[key], value) for key, value in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """Everything, batch first."""
        state = {STATE + key: value for key, value in state_tensors(self.state).items()}
        return {"truth_BLD": self.truth_BLD, "target_BCHW": self.target_BCHW, "w_BLD": self.w_BLD} | state

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take what `tensors` gave."""
        self.truth_BLD, self.target_BCHW, self.w_BLD = (tensors[key] for key in ("truth_BLD", "target_BCHW", "w_BLD"))
        state = {key.removeprefix(STATE): value for key, value in tensors.items() if key.startswith(STATE)}
        self.state = restore_state(self.state, state)


def _chosen(is_new_B: Tensor, fresh: Tensor, old: Tensor) -> Tensor:
    return torch.where(is_new_B.view(-1, *[1] * (old.ndim - 1)), fresh, old)
