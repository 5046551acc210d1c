"""How to ask: what every front door does with a home."""
