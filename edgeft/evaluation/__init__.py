"""How good an artifact is on a labelled file: metrics with intervals, slices and calibration; nothing is timed."""
