"""Everything pluggable that is not a channel: ticket backends, feed sinks, service behaviours."""
