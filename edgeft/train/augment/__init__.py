"""Further training rows: the stage, its ways to change a text, and the filter that keeps what means the same."""
