"""The parts of a bridge whose SQL is the same in every engine, over one connection.

Methods of the contract are documented in `autopoll.bridge.protocols`.
"""
