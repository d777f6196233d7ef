"""The search for the best model inside a budget: `edgeft.search.budgeted.run`."""
