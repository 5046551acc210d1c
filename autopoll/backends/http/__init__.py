"""What backends share that speak HTTP to a model."""
