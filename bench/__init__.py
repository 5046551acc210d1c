"""Measurements of autopoll, run from a checkout: `python -m bench.cost`, `bench.soak`, …"""
