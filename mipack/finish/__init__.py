"""The last step of a model that is to be deployed: fused ops and lower precision, each judged."""
