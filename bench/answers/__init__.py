"""How often the right passage is found on real documentation, beside what else one would take."""
