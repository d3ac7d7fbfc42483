"""Old conversations: read, taken in as history, and taken back."""
