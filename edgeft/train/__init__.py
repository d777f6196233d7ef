"""The one training loop, fine-tuning methods, losses and metrics."""
