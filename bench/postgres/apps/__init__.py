"""What is asked: homes on the server, and a queue that bench/peers does not have."""
