"""Reading, checking and splitting labelled rows."""
