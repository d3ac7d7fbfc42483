"""The checks of the connector contract, a module for each side of a connector."""
