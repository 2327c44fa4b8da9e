"""Rules about several objectives in one loss."""
