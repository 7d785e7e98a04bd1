"""The one place that speaks to AWS: sessions, endpoints, the hot calls, error code to our error."""
