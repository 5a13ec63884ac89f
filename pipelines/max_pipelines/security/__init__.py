"""Who may reach a server from another host: keys, the list of those that are allowed, and the gate that holds to it."""
