"""The training loop: batches, optimizer, precision, memory, processes, checkpoints, trackers."""
