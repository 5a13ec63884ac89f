"""How good a voice is, over the whole road: `maxpipe bench voice`."""
