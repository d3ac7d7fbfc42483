"""Notifications: consent, quiet hours, caps; pure, in a planner, and through a whole hub."""
