"""The HTTP service: `registry` loads classifiers from disk, `service` answers requests, `api` has the routes."""
