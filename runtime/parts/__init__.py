"""The four sides of a runtime, which `runtime.app` makes one object of."""
