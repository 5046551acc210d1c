"""Walks every hop of a question, in its order, and names the first that is broken and its mend.

Looking changes nothing. Each hop has a file of its own and some seconds: what hangs, as a disk
that is gone, is named as that.
"""
