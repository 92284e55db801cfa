"""What bounds model calls: accounts, budgets, allowances, retries, hedges, kept answers.

Begin at ``retry.py`` (when a call is made again, how long a 429 is waited for), ``account.py`` (what all calls of one model
wait for) and ``budget.py`` (what may be spent); ``quota.py`` has limits per minute, ``cache.py`` kept answers.
"""
