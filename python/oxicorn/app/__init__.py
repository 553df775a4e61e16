"""Programs that run applications: the command line and the classes it is made of."""
