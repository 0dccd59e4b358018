"""Real-world degradation: the papers' tables, their steps, and the operations of the steps."""
