"""The doors: REST, authentication, and the commands that run and administer a server."""
