"""The bridge: conversations, messages and deliveries, behind one contract."""
