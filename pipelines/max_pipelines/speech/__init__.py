"""Speech: text to prompt (`prompting`), tokens to sound (`sound`), many at once (`pipeline`)."""
