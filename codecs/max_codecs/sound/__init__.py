"""Sound on its way to somebody who hears it: at another rate, at another speed, in a file format. All of it streams."""
