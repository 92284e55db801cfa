"""What bounds model calls: accounts, budgets, allowances, retries, hedges, kept answers."""
