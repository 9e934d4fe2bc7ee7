"""What the serving benchmark needs: a server to load, and the load."""
