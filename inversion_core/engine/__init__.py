"""Many inversions at once: slots in one batch, which requests join and leave between two iterations."""

from inversion_core.engine.core import EngineConfig
from inversion_core.engine.engine import Engine
from inversion_core.engine.precision import Precision
from inversion_core.engine.request import Request
from inversion_core.engine.stop import StopReason, StopRules
from inversion_core.engine.ticket import ImageStep, Ticket

__all__ = ["Engine", "EngineConfig", "ImageStep", "Precision", "Request", "StopReason", "StopRules", "Ticket"]
