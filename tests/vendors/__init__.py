"""What all channels of vendors share: simulated vendors, and many pushes at once."""
