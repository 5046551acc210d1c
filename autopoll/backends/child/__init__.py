"""What backends share that run a program of their own, and the backend `command`."""
