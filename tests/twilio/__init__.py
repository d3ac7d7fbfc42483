"""The library that channels on a Twilio account share."""
