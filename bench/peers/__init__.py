"""autopoll beside other queues for Python and the floor: one job, each as durable as it can be.

The job is an echo of 300 bytes by one worker, with the answer in the sender's hands. The contenders
take turns, so that one is up at a time; servers are started and ended with each turn.
"""
