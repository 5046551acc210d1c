"""What is measured of each contender, in the order of the table."""

ONE = "one outstanding"
RESTED = "after 8 s idle"
SINGLY = "1,000 one by one"
TOGETHER = "64 outstanding"
PROCESSOR = "processor time a question"
IDLE = "idle processor"
MEMORY = "memory"
UNITS = {
    ONE: "us",
    RESTED: "us",
    SINGLY: "per_s",
    TOGETHER: "per_s",
    PROCESSOR: "us",
    IDLE: "percent",
    MEMORY: "bytes",
}
NO_RATIO = (IDLE, MEMORY)  # the floor does next to nothing there
