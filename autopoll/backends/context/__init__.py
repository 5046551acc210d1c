"""What backends share of the context files: reading, cutting, searching, citing."""
