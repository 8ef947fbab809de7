"""The audit log: one record a decision, chained, written before the answer."""
