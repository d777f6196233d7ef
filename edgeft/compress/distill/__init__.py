"""A smaller student learns from its teacher."""
