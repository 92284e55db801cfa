"""What a run decides: a pure reducer over values, without a clock, a task or a channel."""
