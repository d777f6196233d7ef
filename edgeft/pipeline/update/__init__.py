"""An update of a finished run with new rows, and what it forgot."""
