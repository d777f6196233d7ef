"""Artifact -> predictions, without torch. This is also what an edge app embeds: `edgeft.load("artifact")`."""

from edgeft.runtime.loading import load
from edgeft.runtime.model import Model
from edgeft.runtime.verify import Replay, replay

__all__ = ["Model", "Replay", "load", "replay"]
