"""The channels, one folder each; a folder's name is the channel's name."""
