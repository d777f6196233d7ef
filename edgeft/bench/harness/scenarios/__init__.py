"""How a subject is asked: one text at a time, in batches, by arrivals, without a pause."""
