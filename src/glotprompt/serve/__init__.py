"""The HTTP service: `registry` keeps classifiers on disk, `service` answers, `api` has the routes."""
