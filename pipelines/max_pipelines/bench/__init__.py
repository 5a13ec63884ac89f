"""What `maxpipe bench` measures. Figures are plain numbers by plain names, times in milliseconds."""
