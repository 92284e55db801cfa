"""DSPy on trio: its language model, its signatures and modules, and message types filled through them."""
