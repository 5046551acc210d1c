"""Secrets that somebody wrote into a text: found by their form or by their name, and taken out."""
