"""HTTP: health, metrics, twins."""
