"""A request/reply transport over a pair of named pipes that survives the death of either end."""
