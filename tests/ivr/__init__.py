"""The phone channel's tests; `fake_twilio` plays Twilio's voice side and the caller."""
