"""From arrays to answers, one module for each kind of task."""
