"""The side of a host: what runs in the processes of a place."""
