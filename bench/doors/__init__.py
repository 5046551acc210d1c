"""What a question costs through each door of a home, beside what its libraries cost alone."""
