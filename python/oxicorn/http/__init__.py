"""The request and response objects of hooks, and what applications find in their environ."""
