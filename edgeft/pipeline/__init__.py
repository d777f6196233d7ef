"""The stage list, the run folder, skip and resume."""

from edgeft.pipeline.run import plan, run_pipeline

__all__ = ["plan", "run_pipeline"]
