"""HTTP on trio: one client behind one limiter, its pool, and what its connections speak."""
