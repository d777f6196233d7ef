"""The stage list, the run folder, skip and resume: `edgeft.pipeline.run`."""
