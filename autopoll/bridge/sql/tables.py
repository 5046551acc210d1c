"""The tables of a bridge, in every engine."""

TABLES = (
    "answers", "audit_log", "budgets", "conversations", "deliveries", "denials", "keys",
    "messages", "pollers", "routes", "session_status", "usage",
)  # fmt: skip
