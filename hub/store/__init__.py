"""The only code that speaks to MongoDB: driver seam, embedded server, and the store on top."""
