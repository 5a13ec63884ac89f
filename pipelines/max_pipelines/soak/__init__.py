"""`maxpipe soak`: load for minutes or hours, and a look at what does not come back to where it was.

The load runs in rounds with a rest after each, in which nothing is under way: only rests are compared, for what a
server holds while it works is no leak. The first rounds settle; in some, workers are killed; the last are calm.
"""
