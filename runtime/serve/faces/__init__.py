"""Other forms in which the graphs of a service are served."""
