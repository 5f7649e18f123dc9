"""How abnormal images are: scores, calibration, thresholds, maps, detection tables."""
