"""From a torch model to an fp32 graph that is checked against it."""
