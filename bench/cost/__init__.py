"""What a question costs beyond the model, beside the floor that the machine allows.

Every section yields figures; each is the median of rounds in which the things compared take turns,
so that whatever else the machine does meets all of them alike.
"""
