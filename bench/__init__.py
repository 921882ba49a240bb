"""The speed card: what each operation costs, measured as a client sees it."""
