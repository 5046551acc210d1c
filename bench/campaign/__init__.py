"""The fault campaign: everything that can be struck is struck at random while askers ask on."""
