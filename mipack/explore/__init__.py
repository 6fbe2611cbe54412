"""Several cuts of one model from one calibration, kept in a folder: `mipack sweep`."""
