"""What the figures depend on beside the subjects: noise, clock, what is installed."""
