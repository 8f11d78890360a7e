"""What operators see: one list of metrics, one access log, one recorder that feeds both from each outcome."""
