"""Adding, removing and checking shards."""
