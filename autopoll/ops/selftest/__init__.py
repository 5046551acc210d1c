"""The self-test that breaks a home of its own."""
