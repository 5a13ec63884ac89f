"""SNAC: a multi-scale neural codec (https://github.com/hubertsiuzdak/snac), streamed exactly."""
