"""Questions, conversations and operation over REST."""
