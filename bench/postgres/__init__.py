"""autopoll on PostgreSQL beside other queues on the same server, and what a claim costs there."""
