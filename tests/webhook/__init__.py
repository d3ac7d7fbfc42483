"""The webhook ticket backend, against the receiver of its own documentation."""
