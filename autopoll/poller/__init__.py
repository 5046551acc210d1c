"""The process that takes questions off the bridge and writes answers back."""
