"""What the figures depend on beside the subjects: noise, clock, heat, what is installed."""
