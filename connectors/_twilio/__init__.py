"""What every channel on a Twilio account needs: signatures, the REST API, error codes.

Not a plugin (a leading underscore says so), but a library of the bundled connectors: one account
at Twilio serves two channels. See docs/decisions/0015-a-library-for-one-vendor.md.
"""
